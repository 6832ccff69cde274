package auth

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

// Doer sends token requests. It follows redirects and repeats what failed for a
// passing reason, an answer that broke off among that.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Session keeps what one credential has been granted by one registry. It is
// never shared between credentials, so that no tenant uses another's token.
// Safe for concurrent use; no lock is held over I/O.
type Session struct {
	doer       Doer
	registry   *url.URL
	credential credential.Credential

	mu      sync.Mutex
	kept    map[string]Step // by repository: SendBasic, or the Exchange whose token served
	tokens  map[Grant]token
	posts   map[string]bool // realms at which POST worked
	refused map[string]bool // repositories that refused the registry token
	flights map[Step]*flight
}

// flight is one exchange that several callers wait for.
type flight struct {
	done     chan struct{} // closed when what follows is set
	token    string
	err      error
	panicked any // what the request panicked with, and its stack
	waiting  int // callers; the last one that leaves cancels
	cancel   context.CancelFunc
}

// NewSession returns an empty session for the registry at this URL.
func NewSession(doer Doer, registry *url.URL, c credential.Credential) *Session {
	return &Session{
		doer: doer, registry: registry, credential: c,
		kept: map[string]Step{}, tokens: map[Grant]token{}, posts: map[string]bool{},
		refused: map[string]bool{}, flights: map[Step]*flight{},
	}
}

// Facts returns what Next needs to know for a request to this repository.
func (s *Session) Facts(repository string) Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	facts := Facts{
		Repository: repository,
		Password:   s.credential.Username != "" || s.credential.Password != "",
		Identity:   s.credential.IdentityToken != "",
		Given:      s.credential.RegistryToken != "" && !s.refused[repository],
		Posts:      maps.Clone(s.posts),
	}
	switch step, ok := s.kept[repository]; {
	case !ok:
	case step.Action == SendBasic:
		facts.Kept = SendBasic
	case s.tokens[step.Grant].fresh(time.Now()):
		facts.Kept = SendKept
	default:
		facts.Kept, facts.Renewal = Exchange, step
	}
	return facts
}

// Authorization returns the header value for a step that sends what the session
// has, "" for none. That of SendToken is what Exchange returned.
func (s *Session) Authorization(repository string, step Step) string {
	switch step.Action {
	case SendBasic:
		pair := s.credential.Username + ":" + s.credential.Password
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	case SendGiven:
		return "Bearer " + s.credential.RegistryToken
	case SendKept:
		s.mu.Lock()
		defer s.mu.Unlock()
		if value := s.tokens[s.kept[repository].Grant].value; value != "" {
			return "Bearer " + value
		}
	}
	return ""
}

// Accepted remembers that step served the repository, so that the next request
// begins with it.
func (s *Session) Accepted(repository string, step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) >= maxKept {
		clear(s.kept)
	}
	switch step.Action {
	case SendBasic:
		s.kept[repository] = step
	case SendToken:
		s.kept[repository] = Step{Action: Exchange, Grant: step.Grant, Post: s.posts[step.Realm]}
	case SendPlain:
		delete(s.kept, repository)
	}
}

// Refused forgets what a repository refused with this status, with or without
// error= in the challenge, and leaves a token alone that replaced it meanwhile.
// A new token that is refused by 403 may serve another repository; one that
// served this repository before has gone bad. What it says for people is why,
// where the token itself tells: it granted nothing.
func (s *Session) Refused(repository, authorization string, status int) (why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, bearer := strings.CutPrefix(authorization, "Bearer ")
	kept := s.kept[repository]
	served := kept.Action == SendBasic && strings.HasPrefix(authorization, "Basic ") || bearer && s.tokens[kept.Grant].value == value
	if served {
		delete(s.kept, repository)
	}
	if !bearer {
		return ""
	}
	if value == s.credential.RegistryToken && len(s.refused) < maxKept {
		s.refused[repository] = true
	}
	for grant, t := range s.tokens {
		if t.value != value {
			continue
		}
		why = grantedNothing(value, grant.Scope, repository)
		if served || status != http.StatusForbidden {
			delete(s.tokens, grant)
		}
	}
	return why
}

// Redact takes what is secret out of a peer's words, should it repeat them.
func (s *Session) Redact(text string) string {
	c := s.credential
	secrets := []string{c.Password, c.IdentityToken, c.RegistryToken}
	if c.Password != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password)))
	}
	s.mu.Lock()
	for _, t := range s.tokens {
		secrets = append(secrets, t.value)
	}
	s.mu.Unlock()
	for _, secret := range secrets {
		if len(secret) < 3 {
			continue // every text holds it
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			text = strings.ReplaceAll(text, form, "[redacted]")
		}
	}
	return text
}

// Exchange returns the Authorization for step: by a token that is kept and
// fresh, or a new one. Callers with the same step share one request, which goes
// on until the last of them has gone. Its own errors are *TokenError.
func (s *Session) Exchange(ctx context.Context, step Step) (authorization string, err error) {
	s.mu.Lock()
	if t := s.tokens[step.Grant]; t.fresh(time.Now()) {
		s.mu.Unlock()
		return "Bearer " + t.value, nil
	}
	f := s.flights[step]
	if f == nil {
		f = s.start(ctx, step)
	}
	f.waiting++
	s.mu.Unlock()

	select {
	case <-f.done:
		if f.panicked != nil {
			panic(f.panicked) // in a goroutine of the caller, who may recover it
		}
		return "Bearer " + f.token, f.err
	case <-ctx.Done():
		s.leave(step, f)
		return "", ctx.Err()
	}
}

// Granted says of a token that Exchange returned how long it lasts from now on,
// and what it says of itself that it is good for: nil where it says nothing.
func (s *Session) Granted(authorization string) (lasts time.Duration, access []string) {
	value := strings.TrimPrefix(authorization, "Bearer ")
	s.mu.Lock()
	for _, t := range s.tokens {
		if t.value == value {
			lasts = time.Until(t.expires)
		}
	}
	s.mu.Unlock()
	return lasts, claimsOf(value).scopes()
}

// start begins a flight. The caller has s.mu.
func (s *Session) start(ctx context.Context, step Step) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	s.flights[step] = f
	go func() {
		defer cancel()
		t, panicked, err := s.safely(ctx, step)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil && panicked == nil {
			s.prune()
			s.tokens[step.Grant] = t
			s.posts[step.Realm] = step.Post
		}
		if s.flights[step] == f {
			delete(s.flights, step)
		}
		f.token, f.err, f.panicked = t.value, err, panicked
		close(f.done)
	}()
	return f
}

// safely is request, with a panic and its stack as a value.
func (s *Session) safely(ctx context.Context, step Step) (t token, panicked any, err error) {
	defer func() {
		if p := recover(); p != nil {
			panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	t, err = s.request(ctx, step)
	return t, nil, err
}

// leave ends a flight that nobody waits for any more, and makes room for the next.
func (s *Session) leave(step Step, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	if s.flights[step] == f {
		delete(s.flights, step)
	}
}

// maxKept is how many tokens, and how many repositories, a session knows: a
// plugin lives long, and a registry may have many.
const maxKept = 1000

// prune drops tokens that expired, and all where they are too many: a new one
// costs a request. The caller has s.mu.
func (s *Session) prune() {
	now := time.Now()
	maps.DeleteFunc(s.tokens, func(_ Grant, t token) bool { return now.After(t.expires) })
	if len(s.tokens) >= maxKept || len(s.posts) >= maxKept {
		clear(s.tokens)
		clear(s.posts)
	}
}

// request asks the realm for a token.
func (s *Session) request(ctx context.Context, step Step) (token, error) {
	realm, err := realmURL(step.Realm, s.registry)
	if err != nil {
		return token{}, &TokenError{URL: "of " + s.registry.Host, Err: err, realm: true}
	}
	at := realm.Scheme + "://" + realm.Host + realm.EscapedPath()
	req, err := tokenRequest(ctx, realm, step, s.credential)
	if err != nil {
		return token{}, &TokenError{URL: at, Err: err}
	}
	now := time.Now()
	resp, err := s.doer.Do(req)
	if err != nil {
		return token{}, &TokenError{URL: at, Err: err}
	}
	defer resp.Body.Close()
	return readToken(resp, at, now)
}
