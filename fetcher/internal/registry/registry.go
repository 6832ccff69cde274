// Package registry speaks the distribution API, read side, to one repository
// of one registry.
//
// Three loops, each in a function of its own: climb (authorize.go) goes up the
// ladder of package auth for one request; retry (retry.go) repeats what
// failed for a passing reason; follow (redirect.go) goes after redirects.
package registry

import (
	"context"
	"crypto/sha256"
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
	userAgent string

	mu       sync.Mutex
	sessions map[sessionKey]*used
	plain    map[string]bool // loopback registries: do they speak plain http?
	internal map[string]bool // registries: did they answer from an internal address?
}

// sessionKey keeps tenants apart: one registry and one credential.
type sessionKey struct {
	registry   string
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

// New returns a client that sends through transport; nil: NewTransport(nil).
func New(transport http.RoundTripper, userAgent string) *Client {
	return &Client{
		transports: newTransports(transport), userAgent: userAgent,
		sessions: map[sessionKey]*used{}, plain: map[string]bool{}, internal: map[string]bool{},
	}
}

// Repository is one repository as one credential sees it. Safe for concurrent use.
type Repository struct {
	client     *Client
	registry   *url.URL // scheme and host
	name       string
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
	return &Repository{
		client: c, registry: u, name: ref.Repository, credential: m, warn: warn,
		session: c.session(u, m.Credential),
	}
}

func (c *Client) session(registry *url.URL, cred credential.Credential) *auth.Session {
	h := sha256.New()
	for _, part := range []string{cred.Username, cred.Password, cred.IdentityToken, cred.RegistryToken} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	key := sessionKey{registry: registry.String(), credential: [sha256.Size]byte(h.Sum(nil))}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[key]
	if s == nil {
		maps.DeleteFunc(c.sessions, func(_ sessionKey, s *used) bool { return now.Sub(s.at) > idleSession })
		if len(c.sessions) >= maxSessions {
			clear(c.sessions)
		}
		s = &used{Session: auth.NewSession(outgoing{c, registry}, registry, cred)}
		c.sessions[key] = s
	}
	s.at = now
	return s.Session
}

// note keeps a fact about a host. The caller has c.mu.
func note(facts map[string]bool, host string, fact bool) {
	if len(facts) >= maxHosts {
		clear(facts)
	}
	facts[host] = fact
}

// get sends GET for a path below /v2/NAME/ with the authorization that the
// registry asks for, and returns its answer of 200 or 206. missing is the
// reason if there is no such thing.
func (r *Repository) get(ctx context.Context, path, missing string, header http.Header) (*http.Response, error) {
	u := r.registry.JoinPath("v2", r.name, path)
	resp, err := r.authorize(ctx, u, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		e, err := r.refusal(ctx, resp)
		if err != nil {
			return nil, err
		}
		if e.Status == http.StatusNotFound || e.Status == http.StatusGone {
			e.Reason, e.Hint = missing, missingHints[missing]
		}
		return nil, e
	}
	return resp, nil
}

// redact returns a URL as messages may show it: presigned queries and user
// names are secrets.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
