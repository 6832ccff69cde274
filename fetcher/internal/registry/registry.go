// Package registry speaks the distribution API, read side, to one repository
// of one registry.
//
// Three loops, each in a function of its own: climb (authorize.go) goes up the
// ladder of package auth for one request; retry (retry.go) repeats what
// failed for a passing reason; follow (redirect.go) goes after redirects. What a
// blob's source learns of its hosts is in blob.go, connections that are made
// before a request needs them in warm.go.
package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// Client holds connections, and the sessions of registries and credentials.
// Safe for concurrent use.
type Client struct {
	transports
	userAgent []string

	roots  sync.Once
	health health

	mu       sync.Mutex
	pools    map[*Host]*transports
	sessions map[sessionKey]*used
	plain    map[string]bool // loopback registries: do they speak plain http?
	internal map[string]bool // registries: did they answer from an internal address?
}

// sessionKey keeps tenants apart: one registry, or mirror, and one credential.
type sessionKey struct {
	registry   string
	host       *Host
	credential [sha256.Size]byte
}

// used is a session and when it was last asked for.
type used struct {
	*auth.Session
	at time.Time
}

const (
	// Each task may bring a secret of its own, and passwords rotate: what is
	// idle for long is forgotten, and secrets with it.
	maxSessions = 1000
	idleSession = time.Hour
	maxHosts    = 10_000
)

// New returns a client that sends through a clone of transport, if that is an
// *http.Transport, or through transport itself; nil: NewTransport(nil).
func New(transport http.RoundTripper, userAgent string) *Client {
	return &Client{
		transports: newTransports(transport), userAgent: []string{userAgent},
		pools: map[*Host]*transports{}, sessions: map[sessionKey]*used{}, plain: map[string]bool{}, internal: map[string]bool{},
	}
}

// Repository is one repository as one credential sees it. Safe for concurrent use.
type Repository struct {
	// Ahead is how many connections to Warm as soon as a request turns out to
	// need a token: they are made while that is asked for. Set it before use.
	Ahead int
	// File is the hosts.toml, or the directory in docker's form, that says how to
	// ask: errors name it. "": none. Set it before use.
	File string

	outgoing
	configured *Host  // nil: the registry, of which no file says anything
	place      *place // of a foreign layer, which is asked there alone; nil: it is none
	ns         string // the registry that a mirror is asked for; "": it is none
	name       string
	identity   string
	session    *auth.Session
	credential credential.Match
	warn       func(string)
}

// Repository returns the repository that ref is in; warn is told what the
// operator should know though a request succeeds. It does no I/O, except that
// it asks a loopback registry whose scheme nobody said which one it speaks.
func (c *Client) Repository(ctx context.Context, ref scheme.Reference, m credential.Match, warn func(string)) *Repository {
	u := &url.URL{Scheme: ref.RegistryScheme, Host: ref.Host()}
	if u.Scheme == "" {
		u.Scheme = "https"
		if ref.Loopback() && c.speaksPlain(ctx, ref) {
			u.Scheme = "http"
		}
	}
	return c.repository(ref, u, nil, true, m, warn)
}

// RepositoryAt is Repository at a host that files name for its registry. last:
// no other host comes after it.
func (c *Client) RepositoryAt(h *Host, last bool, ref scheme.Reference, m credential.Match, warn func(string)) *Repository {
	return c.repository(ref, &url.URL{Scheme: h.URL.Scheme, Host: h.URL.Host}, h, last, m, warn)
}

func (c *Client) repository(ref scheme.Reference, u *url.URL, h *Host, last bool, m credential.Match, warn func(string)) *Repository {
	key := sessionKey{
		registry: u.String(), host: h,
		credential: sum(m.Credential.Username, m.Credential.Password, m.Credential.IdentityToken, m.Credential.RegistryToken),
	}
	identity := sum(key.registry, string(key.credential[:]), ref.Repository)
	if u.Scheme == "https" {
		c.roots.Do(readRoots)
	}
	r := &Repository{
		outgoing: outgoing{client: c, registry: u, pool: c.pool(h)}, configured: h,
		name: ref.Repository, identity: hex.EncodeToString(identity[:]), credential: m, warn: warn,
	}
	if h != nil {
		r.anywhere = h.PrivateRedirects
	}
	r.once = r.Mirror() && !last // for its token requests; for all else a Route decides
	if r.Mirror() {
		r.ns = ref.Authority()
	}
	r.session = c.session(key, r.outgoing, m.Credential)
	return r
}

// sum is a hash of the parts, of which none runs into the next.
func sum(parts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range parts {
		s := sha256.Sum256([]byte(part))
		h.Write(s[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (c *Client) session(key sessionKey, o outgoing, cred credential.Credential) *auth.Session {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[key]
	if s == nil {
		maps.DeleteFunc(c.sessions, func(_ sessionKey, s *used) bool { return now.Sub(s.at) > idleSession })
		if len(c.sessions) >= maxSessions {
			clear(c.sessions)
		}
		s = &used{Session: auth.NewSession(o, o.registry, cred)}
		c.sessions[key] = s
	}
	s.at = now
	return s.Session
}

// note keeps a fact about a host. The caller has the lock of facts.
func note[T any](facts map[string]T, host string, fact T) {
	if len(facts) >= maxHosts {
		clear(facts)
	}
	facts[host] = fact
}

// Registry names the registry by scheme and host, as a file name may be.
func (r *Repository) Registry() string { return r.registry.Scheme + "_" + r.registry.Host }

// Identity names registry, repository and credential, in 64 hexadecimal digits:
// who has the same may read the same. It shows no secret, but a guess at a weak
// password can be checked by it: keep it where others don't read.
func (r *Repository) Identity() string { return r.identity }

// request is what a caller wants of a repository, and what is noted on the way.
type request struct {
	method    string
	url       *url.URL
	header    http.Header   // shared by all that is sent for it, and never changed
	missing   string        // the reason where there is no such thing
	throttled bool          // there was a 429
	spent     time.Duration // of its budget, by answers that broke off
}

// request returns one for a path below /v2/NAME/.
func (r *Repository) request(method, path, missing string, header http.Header) *request {
	return &request{method: method, url: r.at(r.name + "/" + path), header: r.fields(header), missing: missing}
}

// fields adds to header those that each request to the host has. What a request
// asks for is not theirs to change.
func (r *Repository) fields(header http.Header) http.Header {
	all := http.Header{"User-Agent": r.client.userAgent}
	if r.configured != nil {
		maps.Copy(all, r.configured.Header)
	}
	maps.Copy(all, header)
	return all
}

// at is a URL of the API. A mirror is told whose content is meant, as containerd does.
func (r *Repository) at(path string) *url.URL {
	u := *r.registry
	u.Path = "/v2/" + path
	if r.configured != nil {
		prefix := r.configured.URL.Path
		if !r.configured.Override {
			prefix += "/v2"
		}
		u.Path = prefix + "/" + path
	}
	if r.ns != "" {
		u.RawQuery = url.Values{"ns": {r.ns}}.Encode()
	}
	return &u
}

// ask sends a request with the authorization that the registry asks for, and
// returns its answer if that served.
func (r *Repository) ask(ctx context.Context, q *request) (*http.Response, error) {
	send := r.askPlace
	if r.place == nil {
		send = r.climb
	}
	resp, err := send(r.redacted(ctx), q)
	if err != nil || served(resp) {
		return resp, err
	}
	e, err := r.refusal(ctx, resp)
	if err != nil {
		return nil, err
	}
	if e.Status == http.StatusNotFound || e.Status == http.StatusGone {
		e.Reason, e.Hint = q.missing, missingHints[q.missing]
	}
	return nil, e
}

// served reports whether an answer is what was asked for.
func served(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent
}

// redact returns a URL as messages may show it: presigned queries and user
// names are secrets.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
