// Package registry speaks the distribution API, read side, to one repository
// of one registry.
//
// Three loops, each in a function of its own: authorize (registry.go) climbs
// the ladder of package auth for one request; retry (retry.go) repeats what
// failed for a passing reason; follow (redirect.go) goes after redirects.
package registry

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// Client holds connections, and the sessions of all registries and
// credentials. Safe for concurrent use.
type Client struct {
	transport http.RoundTripper
	userAgent string

	mu       sync.Mutex
	sessions map[sessionKey]*auth.Session
	plain    map[string]bool // loopback registries: do they speak plain http?
}

// sessionKey keeps tenants apart: one registry and one credential.
type sessionKey struct {
	registry   string
	credential [sha256.Size]byte
}

// New returns a client that sends through transport; nil: NewTransport(nil).
func New(transport http.RoundTripper, userAgent string) *Client {
	if transport == nil {
		transport = NewTransport(nil)
	}
	return &Client{
		transport: transport, userAgent: userAgent,
		sessions: map[sessionKey]*auth.Session{}, plain: map[string]bool{},
	}
}

// Repository is one repository as one credential sees it. Safe for concurrent use.
type Repository struct {
	client     *Client
	registry   *url.URL // scheme and host
	name       string
	session    *auth.Session
	credential credential.Match
}

// Repository returns the repository that ref is in. It does no I/O, except
// that it asks a loopback registry whose scheme nobody said which one it speaks.
func (c *Client) Repository(ctx context.Context, ref scheme.Reference, m credential.Match) *Repository {
	u := &url.URL{Scheme: ref.RegistryScheme, Host: ref.Host()}
	if u.Scheme == "" {
		u.Scheme = "https"
		if ref.Loopback() && c.speaksPlain(ctx, ref) {
			u.Scheme = "http"
		}
	}
	return &Repository{
		client: c, registry: u, name: ref.Repository, credential: m,
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
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[key]
	if s == nil {
		s = auth.NewSession(c, registry, cred)
		c.sessions[key] = s
	}
	return s
}

// get sends GET for a path below /v2/NAME/ with the authorization that the
// registry asks for, and returns its answer of 200 or 206.
func (r *Repository) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	u := r.registry.JoinPath("v2", r.name, path)
	resp, err := r.authorize(ctx, u, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return nil, r.refusal(resp, nil)
	}
	return resp, nil
}

// authorize is the one loop that answers a 401, for manifests, blobs, parts
// and resumes alike.
func (r *Repository) authorize(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	facts := r.session.Facts(r.name)
	var past []auth.Outcome
	var last error
	for {
		step := auth.Next(facts, past)
		outcome := auth.Outcome{Step: step}
		switch step.Action {
		case auth.GiveUp:
			return nil, r.gaveUp(last, past)
		case auth.Exchange:
			err := r.session.Exchange(ctx, step)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			outcome.Granted = err == nil
			if err != nil {
				last = r.tokenRefusal(u, err)
			}
		case auth.ProbeRoot:
			outcome.Challenges = r.probe(ctx)
		default:
			resp, err := r.send(ctx, u, header, step)
			if err != nil || resp.StatusCode != http.StatusUnauthorized {
				return resp, err
			}
			outcome.Status = resp.StatusCode
			outcome.Challenges = auth.ParseChallenges(resp.Header.Values("WWW-Authenticate"))
			last = r.refusal(resp, nil)
		}
		past = append(past, outcome)
	}
}

// send sends one request as step says, and tells the session what came of it.
func (r *Repository) send(ctx context.Context, u *url.URL, header http.Header, step auth.Step) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	authorization := r.session.Authorization(r.name, step)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := r.client.Do(req)
	switch {
	case err != nil:
		return nil, r.failure(ctx, u, err)
	case resp.StatusCode == http.StatusUnauthorized:
		r.session.Refused(authorization)
	case resp.StatusCode < 300:
		r.session.Accepted(r.name, step)
	}
	return resp, nil
}

// probe asks GET /v2/ for a challenge. What goes wrong there does not matter:
// the endpoint's own answer is the one to report.
func (r *Repository) probe(ctx context.Context) []auth.Challenge {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.registry.String()+"/v2/", nil)
	if err != nil {
		return nil
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil
	}
	discard(resp)
	return auth.ParseChallenges(resp.Header.Values("WWW-Authenticate"))
}

// Do sends req and returns the first answer that is not a redirect and not a
// passing failure. It implements auth.Doer.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", c.userAgent)
	return retry(req, c.follow)
}

// redact returns a URL as messages may show it: presigned queries and user
// names are secrets.
func redact(u *url.URL) string {
	return strings.TrimSuffix((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), "?")
}
