package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// tokenLife and linkLife are how long a token, and a presigned link, is good
	// for: longer than the worst latency takes, shorter than many a fetch.
	tokenLife = 6 * time.Second
	linkLife  = 4 * time.Second
)

// front stands between a door and the registry. Seen from the door, the token
// server is behind it too, tokens expire soon, and the blobs of one repository
// are elsewhere.
type front struct {
	registry string // HOST:PORT
	door     string
	content  string // the door to the blobs
	counts   *counts

	mu     sync.Mutex
	tokens map[string]time.Time // when they expire
}

// handler answers what comes through the door.
func (f *front) handler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: f.registry}) },
		ModifyResponse: f.modify,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.counts.request(r)
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if bearer && f.expired(token) {
			r.Header.Del("Authorization") // so the registry itself asks for another
			r = r.WithContext(context.WithValue(r.Context(), expiredKey{}, true))
			f.counts.expired()
		}
		proxy.ServeHTTP(w, r)
	})
}

// expiredKey marks the context of a request whose token has expired.
type expiredKey struct{}

// modify makes the registry's answer one of the front.
func (f *front) modify(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		challenge := resp.Header.Get("WWW-Authenticate")
		challenge = strings.ReplaceAll(challenge, "http://"+f.registry, "http://"+f.door)
		if resp.Request.Context().Value(expiredKey{}) != nil {
			challenge += `,error="invalid_token"` // as the registry says of a token that has expired by itself
		}
		resp.Header.Set("WWW-Authenticate", challenge)
	case resp.Request.URL.Path == "/token" && resp.StatusCode == http.StatusOK:
		return f.shorten(resp)
	case strings.HasPrefix(resp.Request.URL.Path, "/v2/"+redirected+"/blobs/") && resp.StatusCode/100 == 2:
		f.redirect(resp)
	}
	return nil
}

// shorten makes a token expire soon. Of every second one the answer says so; the
// others are refused without a warning.
func (f *front) shorten(resp *http.Response) error {
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	token, _ := answer["token"].(string)
	f.mu.Lock()
	now := time.Now()
	for token, expiry := range f.tokens {
		if expiry.Before(now) {
			delete(f.tokens, token)
		}
	}
	f.tokens[token] = now.Add(tokenLife)
	honest := len(f.tokens)%2 == 0
	f.mu.Unlock()
	if honest {
		answer["expires_in"] = int(tokenLife.Seconds())
	}
	body, err := json.Marshal(answer)
	replaceBody(resp, body)
	return err
}

// expired reports whether a token is not good any more.
func (f *front) expired(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !time.Now().Before(f.tokens[token])
}

// redirect leads to the blob's content, by a link that expires.
func (f *front) redirect(resp *http.Response) {
	expires := time.Now().Add(linkLife).UnixMilli()
	link := fmt.Sprintf("http://%s/%s?expires=%d", f.content, path.Base(resp.Request.URL.Path), expires)
	resp.Header = http.Header{"Location": {link}}
	resp.StatusCode, resp.Status = http.StatusTemporaryRedirect, ""
	replaceBody(resp, nil)
}

func replaceBody(resp *http.Response, body []byte) {
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// contents serves blobs by links that expire, as the storage of a registry does.
func contents(blobs map[string][]byte, counts *counts) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counts.request(r)
		expires, _ := strconv.ParseInt(r.URL.Query().Get("expires"), 10, 64)
		name := path.Base(r.URL.Path)
		blob, found := blobs[name]
		switch {
		case r.Header.Get("Authorization") != "":
			http.Error(w, "a credential for another host", http.StatusBadRequest)
			counts.leak(r)
		case time.Now().UnixMilli() > expires:
			counts.expired()
			http.Error(w, "the link has expired", http.StatusForbidden)
		case !found:
			http.NotFound(w, r)
		default:
			w.Header().Set("ETag", `"`+name+`"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
		}
	})
}

// listen serves handler, which is set before the first request comes, on a free
// loopback port. The caller closes the server.
func listen(ctx context.Context, handler http.Handler) (address string, server *http.Server, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }() // ends with Close
	return listener.Addr().String(), server, nil
}
