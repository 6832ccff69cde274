package registry

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is one request that a server got.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	// Scheme is the auth-scheme of the Authorization header in lower case,
	// such as basic or bearer; empty without the header.
	Scheme string
}

// Server is a running HTTP server: a registry, or a front of one.
type Server struct {
	Host string // 127.0.0.1:PORT

	http    *http.Server
	release func() error

	// serving is held for reading by each request, so that Close can wait for
	// those that still write when their connection is gone.
	serving sync.RWMutex
	closed  bool

	mu       sync.Mutex
	requests []Request
}

// listen opens a free loopback port.
func listen() (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
}

// serve starts a server; its Close calls release at last.
func serve(listener net.Listener, handler http.Handler, release func() error) *Server {
	s := &Server{Host: listener.Addr().String(), release: release}
	s.http = &http.Server{
		Handler:           s.record(handler),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { _ = s.http.Serve(listener) }() // ends with Close
	return s
}

// at serves one path with a handler and all others with another. Unlike
// http.ServeMux it leaves the paths as they are.
func at(path string, handler, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			handler.ServeHTTP(w, r)
		} else {
			others.ServeHTTP(w, r)
		}
	})
}

// record notes each request before handler answers it.
func (s *Server) record(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.RLock()
		defer s.serving.RUnlock()
		if s.closed {
			return
		}
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		s.mu.Lock()
		s.requests = append(s.requests, Request{
			Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Scheme: strings.ToLower(scheme),
		})
		s.mu.Unlock()
		handler.ServeHTTP(w, r)
	})
}

// limit slows down the answers of handler to rate bytes a second, if not 0.
func limit(rate int, handler http.Handler) http.Handler {
	if rate <= 0 {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(&slowWriter{ResponseWriter: w, done: r.Context().Done(), rate: rate}, r)
	})
}

// slowWriter writes rate bytes a second, in parts.
type slowWriter struct {
	http.ResponseWriter
	done <-chan struct{} // the client is gone
	rate int
}

func (w *slowWriter) Write(data []byte) (written int, err error) {
	const partsPerSecond = 50
	for part := range slices.Chunk(data, max(1, w.rate/partsPerSecond)) {
		select {
		case <-w.done:
			return written, io.ErrClosedPipe
		case <-time.After(time.Duration(len(part)) * time.Second / time.Duration(w.rate)):
		}
		n, err := w.ResponseWriter.Write(part)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Requests returns the requests since the start or the last Forget, in the
// order of their arrival. It may be called while the server runs.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Forget drops the recorded requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// Close ends the server and its connections, and removes what it stored.
func (s *Server) Close() error {
	err := s.http.Close()
	s.serving.Lock()
	defer s.serving.Unlock()
	s.closed = true
	return errors.Join(err, s.release())
}

// Front starts a reverse proxy before s whose base, /v2/, is open: it answers
// 200 to everybody, while all the rest gets the answer of s. Registries behind
// such fronts exist, so a client must not conclude from /v2/ what a repository
// asks for. A realm in a challenge is that of s, another host than the front.
// The caller closes both.
func (s *Server) Front() (*Server, error) {
	listener, err := listen()
	if err != nil {
		return nil, err
	}
	open := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	proxy := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: s.Host}) },
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return serve(listener, at("/v2/", open, proxy), func() error { return nil }), nil
}
