package fetchertest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Request is one request that came in, and what it got.
type Request struct {
	Endpoint   Endpoint
	Repository string // of a manifest or blob
	Identifier string // the tag or digest of a manifest or blob

	Method         string
	Scheme         string // https or http
	Proto          string // HTTP/1.1 or HTTP/2.0
	Host           string // as it was sent
	Path           string // as it was sent, escapes kept
	Query          string // as it was sent, without the question mark
	Form           string // the parameters in the body of a POST, sorted by name
	Range          string
	IfRange        string
	Authorization  string // the whole value, with its scheme
	Accept         string // all its lines, joined by commas
	AcceptEncoding string
	UserAgent      string
	// Connection is the client's end of the TCP connection, host and port:
	// requests with the same one came by the same connection.
	Connection string

	// Status is what was answered; 0 where nothing was, or not yet.
	Status int
	// BodyBytes counts the body of the answer as it was handed to the
	// connection: when a client has read a byte, it is counted.
	BodyBytes int64
}

func newRequest(req *http.Request, t target) Request {
	return Request{
		Endpoint: t.endpoint, Repository: t.repository, Identifier: t.identifier,
		Method: req.Method, Scheme: schemeOf(req), Proto: req.Proto, Host: req.Host,
		Path:           req.URL.EscapedPath(),
		Query:          req.URL.RawQuery,
		Form:           req.PostForm.Encode(),
		Range:          req.Header.Get("Range"),
		IfRange:        req.Header.Get("If-Range"),
		Authorization:  req.Header.Get("Authorization"),
		Accept:         strings.Join(req.Header.Values("Accept"), ", "),
		AcceptEncoding: req.Header.Get("Accept-Encoding"),
		UserAgent:      req.UserAgent(),
		Connection:     req.RemoteAddr,
	}
}

// Requests returns what came in since the start or the last Reset, in order of arrival.
func (r *Registry) Requests() []Request {
	return r.journal.requests(func(n *note) bool { return n.registry == r })
}

// Count returns how many requests to the endpoint came in since the start or
// the last Reset.
func (r *Registry) Count(endpoint Endpoint) int {
	return len(slices.DeleteFunc(r.Requests(), func(q Request) bool {
		return endpoint != Any && q.Endpoint != endpoint
	}))
}

// Reset forgets the requests and the load. Content, tokens and faults stay.
func (r *Registry) Reset() {
	for _, g := range r.gates {
		g.forget()
	}
	r.journal.forget(func(n *note) bool { return n.registry == r })
}

// journal holds what came in.
type journal struct {
	mu    sync.Mutex
	notes []*note
}

// note is a request in the journal, completed while it is answered.
type note struct {
	mu       *sync.Mutex // the journal's
	registry *Registry   // who answers; nil: nobody plays the host
	request  Request
}

func (j *journal) add(r *Registry, q Request) *note {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := &note{&j.mu, r, q}
	j.notes = append(j.notes, n)
	return n
}

func (j *journal) requests(want func(*note) bool) []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	requests := make([]Request, 0, len(j.notes))
	for _, n := range j.notes {
		if want(n) {
			requests = append(requests, n.request)
		}
	}
	return requests
}

func (j *journal) forget(which func(*note) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = slices.DeleteFunc(j.notes, which)
}

func schemeOf(req *http.Request) string {
	if req.TLS == nil {
		return "http"
	}
	return "https"
}

func (n *note) status(status int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.request.Status = status
}

func (n *note) body(bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.request.BodyBytes += bytes
}
