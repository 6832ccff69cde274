package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

// Doer sends token requests. It follows redirects and retries on its own.
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
	kept    map[string]kept // by repository
	tokens  map[Step]granted
	flights map[Step]*flight
}

// kept is what served a repository last.
type kept struct {
	action Action // SendBasic or SendToken
	step   Step   // the exchange, for SendToken
}

type granted struct {
	token
	lifetime time.Duration
}

// flight is one exchange that several callers wait for.
type flight struct {
	done    chan struct{} // closed when err is set
	err     error
	waiting int // callers; the last one that leaves cancels
	cancel  context.CancelFunc
}

// NewSession returns an empty session for the registry at this URL.
func NewSession(doer Doer, registry *url.URL, c credential.Credential) *Session {
	return &Session{
		doer: doer, registry: registry, credential: c,
		kept: map[string]kept{}, tokens: map[Step]granted{}, flights: map[Step]*flight{},
	}
}

// Facts returns what Next needs to know for a request to this repository.
func (s *Session) Facts(repository string) Facts {
	facts := Facts{
		Repository: repository,
		Password:   s.credential.Username != "" || s.credential.Password != "",
		Given:      s.credential.RegistryToken != "",
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch k := s.kept[repository]; {
	case k.action == SendBasic:
		facts.Kept = SendBasic
	case k.action == SendToken && s.fresh(k.step) != "":
		facts.Kept = SendKept
	}
	return facts
}

// fresh returns the token that an exchange brought, while it holds. The caller has s.mu.
func (s *Session) fresh(exchange Step) string {
	if g := s.tokens[exchange]; g.fresh(time.Now(), g.lifetime) {
		return g.value
	}
	return ""
}

// Authorization returns the header value for a step that sends, "" for none.
func (s *Session) Authorization(repository string, step Step) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var value string
	switch step.Action {
	case SendBasic:
		pair := s.credential.Username + ":" + s.credential.Password
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	case SendGiven:
		value = s.credential.RegistryToken
	case SendKept:
		value = s.tokens[s.kept[repository].step].value
	case SendToken:
		step.Action = Exchange
		value = s.tokens[step].value
	}
	if value == "" {
		return ""
	}
	return "Bearer " + value
}

// Accepted remembers that step served the repository, so that the next request
// begins with it.
func (s *Session) Accepted(repository string, step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch step.Action {
	case SendBasic:
		s.kept[repository] = kept{action: SendBasic}
	case SendToken:
		step.Action = Exchange
		s.kept[repository] = kept{SendToken, step}
	}
}

// Refused forgets the token that was refused, with or without error= in the
// challenge, and leaves one alone that replaced it meanwhile.
func (s *Session) Refused(authorization string) {
	value, bearer := strings.CutPrefix(authorization, "Bearer ")
	if !bearer {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for step, g := range s.tokens {
		if g.value == value {
			delete(s.tokens, step)
		}
	}
}

// Exchange sees to a token for step: one that is kept and fresh, or a new one.
// Callers with the same step share one request, which goes on until the last
// of them has gone.
func (s *Session) Exchange(ctx context.Context, step Step) error {
	s.mu.Lock()
	if s.fresh(step) != "" {
		s.mu.Unlock()
		return nil
	}
	f := s.flights[step]
	if f == nil {
		f = s.start(ctx, step)
	}
	f.waiting++
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		s.leave(step, f)
		return ctx.Err()
	}
}

// start begins a flight. The caller has s.mu.
func (s *Session) start(ctx context.Context, step Step) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	s.flights[step] = f
	go func() {
		defer cancel()
		t, life, err := s.request(ctx, step)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			s.prune()
			s.tokens[step] = granted{t, life}
		}
		if s.flights[step] == f {
			delete(s.flights, step)
		}
		f.err = err
		close(f.done)
	}()
	return f
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

// prune drops tokens that expired, so that a long life with many repositories
// does not grow. The caller has s.mu.
func (s *Session) prune() {
	now := time.Now()
	for step, g := range s.tokens {
		if now.After(g.expires) {
			delete(s.tokens, step)
		}
	}
	for repository, k := range s.kept {
		if _, ok := s.tokens[k.step]; !ok && k.action == SendToken {
			delete(s.kept, repository)
		}
	}
}

// request asks the realm for a token.
func (s *Session) request(ctx context.Context, step Step) (token, time.Duration, error) {
	realm, err := realmURL(step.Realm, s.registry)
	if err != nil {
		return token{}, 0, &TokenError{URL: "of " + s.registry.Host, Err: err, realm: true}
	}
	for attempt := 1; ; attempt++ {
		t, life, err := s.ask(ctx, realm, step)
		// The doer repeats requests, but it can't know that an answer broke off.
		if !errors.Is(err, io.ErrUnexpectedEOF) || attempt == maxBroken {
			return t, life, err
		}
	}
}

// maxBroken is how many answers of a token server may break off in a row.
const maxBroken = 3

func (s *Session) ask(ctx context.Context, realm *url.URL, step Step) (token, time.Duration, error) {
	at := realm.Scheme + "://" + realm.Host + realm.EscapedPath()
	req, err := tokenRequest(ctx, realm, step, s.credential)
	if err != nil {
		return token{}, 0, &TokenError{URL: at, Err: err}
	}
	now := time.Now()
	resp, err := s.doer.Do(req)
	if err != nil {
		return token{}, 0, &TokenError{URL: at, Err: err}
	}
	defer resp.Body.Close()
	return readToken(resp, at, now)
}
