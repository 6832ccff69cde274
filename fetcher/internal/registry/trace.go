package registry

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
)

// Event is something that happened on the way to an answer: Asked, Decided,
// Granted, Refused, Waiting or Skipped. None holds a secret.
type Event interface{ event() }

// Asked is one HTTP request, and the answer that it got.
type Asked struct {
	Method string
	// URL has neither query nor user; of where the registry redirected to it is
	// scheme and host alone.
	URL           string
	Token         bool          // it asked for a token
	Redirected    bool          // the registry redirected here
	Authorization string        // how it was authorized: Basic, Bearer; "": it was not
	Range         string        // the Range field; "": none
	Status        int           // 0: there was no answer
	Challenges    []string      // the WWW-Authenticate fields as they came
	Location      string        // where it redirects to: scheme and host; "": nowhere
	RetryAfter    string        // the field as it came
	Err           string        // why there was no answer
	Elapsed       time.Duration // until the answer's header was there
}

// Decided is what is done next, and why: auth.Explain in words.
type Decided struct {
	Repository string
	Action     string // auth.Action
	Step       string // what the rung of the ladder is about
	When       string // what has to be the case
	Notes      []string
	// Of a token request: whom it goes to, and what for.
	Realm, Service, Scope string
	Method                string // GET or POST; "": no token request
	Key                   string // of the credential that is shown; "": none is
}

// Refused is what a registry or a token server said with its no.
type Refused struct{ Message string }

// Granted is the answer of a token server, or a token that was there already.
type Granted struct {
	Realm, Scope string
	Lasts        time.Duration
	Access       []string // what the token says it is good for; nil: it does not say
}

// Waiting is the time until a request is repeated.
type Waiting struct {
	Host string
	For  time.Duration
}

// Skipped is a mirror that is not asked.
type Skipped struct{ Host, Why string }

func (Asked) event()   {}
func (Decided) event() {}
func (Granted) event() {}
func (Refused) event() {}
func (Waiting) event() {}
func (Skipped) event() {}

// traceKey finds who is told in a context.
type traceKey struct{}

// WithTrace has tell called for all that is done with the context, from any
// goroutine. Requests that several callers share are told to the one who began
// them.
func WithTrace(ctx context.Context, tell func(Event)) context.Context {
	return context.WithValue(ctx, traceKey{}, tell)
}

// traced returns who is told, nil for nobody.
func traced(ctx context.Context) func(Event) {
	tell, _ := ctx.Value(traceKey{}).(func(Event))
	return tell
}

// redacted has what peers say searched for the credential and its tokens.
func (r *Repository) redacted(ctx context.Context) context.Context {
	tell := traced(ctx)
	if tell == nil {
		return ctx
	}
	return WithTrace(ctx, func(e Event) {
		switch said := e.(type) {
		case Asked:
			said.Challenges = r.redactAll(said.Challenges)
			for i, c := range said.Challenges {
				said.Challenges[i] = withoutUser(c)
			}
			r.redact(&said.URL, &said.Location, &said.RetryAfter, &said.Err)
			e = said
		case Decided:
			said.Notes = r.redactAll(said.Notes)
			r.redact(&said.Realm, &said.Service, &said.Scope)
			e = said
		case Granted:
			said.Access = r.redactAll(said.Access)
			r.redact(&said.Realm, &said.Scope)
			e = said
		case Refused:
			r.redact(&said.Message)
			e = said
		}
		tell(e)
	})
}

func (r *Repository) redact(texts ...*string) {
	for _, text := range texts {
		*text = r.session.Redact(*text)
	}
}

func (r *Repository) redactAll(texts []string) []string {
	texts = slices.Clone(texts)
	for i := range texts {
		r.redact(&texts[i])
	}
	return texts
}

// withoutUser masks the users and passwords of the URLs in a text.
func withoutUser(text string) string {
	before, rest, found := strings.Cut(text, "//")
	if !found {
		return text
	}
	end := strings.IndexAny(rest, `/?#", `)
	if end < 0 {
		end = len(rest)
	}
	if at := strings.LastIndexByte(rest[:end], '@'); at >= 0 {
		rest = "[redacted]" + rest[at:]
	}
	return before + "//" + withoutUser(rest)
}

// tell tells of a request that was answered, or not. req is as it was sent.
func (o outgoing) tell(req *http.Request, redirected bool, begin time.Time, resp *http.Response, err error) {
	tell := traced(req.Context())
	if tell == nil {
		return
	}
	scheme, _, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	a := Asked{
		Method: req.Method, URL: redact(req.URL), Token: o.token, Redirected: redirected && !sameOrigin(req.URL, o.registry),
		Authorization: scheme, Range: req.Header.Get("Range"), Elapsed: time.Since(begin),
	}
	if a.Redirected {
		a.URL = origin(req.URL)
	}
	if err != nil {
		a.Err = err.Error()
		tell(a)
		return
	}
	a.Status, a.Challenges = resp.StatusCode, resp.Header.Values("WWW-Authenticate")
	a.RetryAfter = resp.Header.Get("Retry-After")
	if to, err := resp.Location(); err == nil && resp.StatusCode >= 300 && resp.StatusCode < 400 {
		a.Location = origin(to)
	}
	tell(a)
}

// bare is a realm as messages may show it; "": it is no URL.
func bare(realm string) string {
	u, err := url.Parse(realm)
	if err != nil {
		return ""
	}
	return redact(u)
}

// origin is scheme, host and port.
func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// decided tells of a step before it is done.
func (a *attempt) decided(ctx context.Context) {
	tell := traced(ctx)
	if tell == nil {
		return
	}
	e := auth.Explain(a.facts, a.past)
	d := Decided{Repository: a.name, Action: e.Step.Action.String(), Step: e.Rung.Step, When: e.Rung.When, Notes: e.Notes}
	switch e.Step.Action {
	case auth.Exchange:
		d.Realm, d.Service, d.Scope, d.Method = bare(e.Step.Realm), e.Step.Service, e.Step.Scope, http.MethodGet
		if e.Step.Post {
			d.Method = http.MethodPost
		}
		if e.Step.Credentialed(a.facts) {
			d.Key = a.credential.Key
		}
	case auth.SendBasic, auth.SendGiven:
		d.Key = a.credential.Key
	}
	tell(d)
}

// told tells of a token.
func (a *attempt) told(ctx context.Context, step auth.Step) {
	tell := traced(ctx)
	if tell == nil {
		return
	}
	lasts, access := a.session.Granted(a.granted)
	tell(Granted{Realm: bare(step.Realm), Scope: step.Scope, Lasts: lasts, Access: access})
}

// skipped tells of a mirror that is left alone.
func (r *Repository) skipped(ctx context.Context, why string) {
	if tell := traced(ctx); tell != nil {
		tell(Skipped{Host: r.String(), Why: why})
	}
}
