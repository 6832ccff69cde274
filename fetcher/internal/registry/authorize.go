package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
)

// attempt is one request on its way up the ladder.
type attempt struct {
	*Repository
	*request
	facts   auth.Facts
	past    []auth.Outcome
	granted string // the Authorization that the last exchange brought
	refusal *Error // the most telling one so far
}

// climb sends a request, and goes up the ladder with it.
func (r *Repository) climb(ctx context.Context, q *request) (*http.Response, error) {
	return (&attempt{Repository: r, request: q, facts: r.session.Facts(r.name)}).climb(ctx)
}

// climb is the one loop that answers a 401 or 403, for manifests, blobs, parts
// and resumes alike.
func (a *attempt) climb(ctx context.Context) (*http.Response, error) {
	for {
		var resp *http.Response
		var err error
		a.decided(ctx)
		switch step := auth.Next(a.facts, a.past); step.Action {
		case auth.GiveUp:
			return nil, a.gaveUp()
		case auth.Exchange:
			err = a.exchange(ctx, step)
		case auth.ProbeRoot:
			err = a.probe(ctx, step)
		default:
			resp, err = a.send(ctx, step)
		}
		if resp != nil || err != nil {
			return resp, err
		}
	}
}

// send sends the request as step says. A 401 or 403 goes into the past.
func (a *attempt) send(ctx context.Context, step auth.Step) (*http.Response, error) {
	authorization := a.granted
	if step.Action != auth.SendToken {
		authorization = a.session.Authorization(a.name, step)
	}
	header := a.header
	if authorization != "" {
		header = maps.Clone(header)
		header["Authorization"] = []string{authorization}
	}
	req := (&http.Request{Method: a.method, URL: a.url, Header: header}).WithContext(ctx)
	resp, err := a.outgoing.send(req, &a.throttled)
	if err != nil {
		return nil, a.failure(ctx, a.method, a.url, err)
	}
	if !refusing(resp, a.registry, step) {
		if resp.StatusCode < 300 {
			a.accepted(step)
		}
		return resp, nil
	}
	challenges := auth.ParseChallenges(resp.Header.Values("WWW-Authenticate"))
	e, err := a.Repository.refusal(ctx, resp)
	if err != nil {
		return nil, err
	}
	e.explain(challenges, a.session.Refused(a.name, authorization, e.Status))
	e.Message = a.session.Redact(e.Message)
	a.refused(ctx, auth.Outcome{Step: step, Status: e.Status, Challenges: challenges}, e)
	return nil, nil
}

// refusing reports whether an answer takes part in the ladder. That of another
// host, where a redirect led, is none of the registry's. ECR Public answers 400,
// without a challenge, to a token that expired (aws/containers-roadmap#2835).
func refusing(resp *http.Response, registry *url.URL, step auth.Step) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return sameOrigin(resp.Request.URL, registry)
	case http.StatusBadRequest:
		return sameOrigin(resp.Request.URL, registry) && step.Action == auth.SendKept
	}
	return false
}

// exchange asks for a token. Who needs one has connections to make for what the
// token is for.
func (a *attempt) exchange(ctx context.Context, step auth.Step) error {
	a.Warm(a.Ahead)
	// A blob of a mirror may take minutes; the token for it may not.
	limited, cancel := context.WithTimeoutCause(ctx, answerBudget, lateError(answerBudget))
	defer cancel()
	granted, err := a.session.Exchange(limited, step)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && limited.Err() != nil {
		err = &auth.TokenError{URL: bare(step.Realm), Err: context.Cause(limited)}
	}
	outcome := auth.Outcome{Step: step, Verdict: auth.Granted}
	if err == nil {
		a.granted = granted
		a.told(ctx, step)
		a.past = append(a.past, outcome)
		return nil
	}
	var e *Error
	outcome.Verdict, e = a.tokenRefusal(a.method, a.url, err)
	a.refused(ctx, outcome, e)
	return nil
}

// probe asks GET /v2/ for a challenge. What goes wrong there does not matter:
// the endpoint's own answer is the one to report.
func (a *attempt) probe(ctx context.Context, step auth.Step) error {
	outcome := auth.Outcome{Step: step}
	limited, cancel := context.WithTimeout(ctx, answerBudget)
	defer cancel()
	req := (&http.Request{Method: http.MethodGet, URL: a.at(""), Header: a.fields(nil)}).WithContext(limited)
	resp, err := a.outgoing.send(req, new(bool))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		discard(resp)
		outcome.Status = resp.StatusCode
		outcome.Challenges = auth.ParseChallenges(resp.Header.Values("WWW-Authenticate"))
	}
	a.past = append(a.past, outcome)
	return nil
}

// refused notes an outcome, and the refusal if it tells more than that before.
func (a *attempt) refused(ctx context.Context, outcome auth.Outcome, e *Error) {
	if tell := traced(ctx); tell != nil && e.Message != "" {
		tell(Refused{Message: e.Message})
	}
	if a.refusal == nil || a.tellsMore(outcome, e) {
		a.refusal = e
	}
	a.past = append(a.past, outcome)
}

// tellsMore reports whether a refusal is the one to report. It is the last that
// the credential met, or that of a token server that can't be reached: what is
// tried after that only confirms it. And a server that says no to one form of a
// request tells more than the same that does not know the other form.
func (a *attempt) tellsMore(outcome auth.Outcome, e *Error) bool {
	if e.Reason == "TOKEN_SERVER_REFUSED" && a.refusal.Reason == "AUTH_FAILED" {
		return false
	}
	told := auth.CredentialRefused(a.past) || slices.ContainsFunc(a.past, func(o auth.Outcome) bool {
		return o.Step.Action == auth.Exchange && o.Verdict == auth.Unanswered
	})
	return !told || outcome.Step.Credentialed(a.facts)
}

// accepted remembers what served, and warns where it was not the credential.
func (a *attempt) accepted(step auth.Step) {
	a.session.Accepted(a.name, step)
	if auth.CredentialRefused(a.past) && !step.Credentialed(a.facts) {
		a.warn(fmt.Sprintf("the credential of key %q was refused (%s); fetched from %s anonymously",
			a.credential.Key, a.refusal.told(), a.registry.Host))
	}
}

func (a *attempt) gaveUp() error {
	a.refusal.Tried = a.session.Redact(auth.Tried(a.facts, a.past)) // scopes are a peer's words
	return a.refusal
}

// outgoing sends the requests that a registry leads to: its own, those to its
// token servers and to where it redirects. It implements auth.Doer.
type outgoing struct {
	client   *Client
	registry *url.URL    // scheme and host
	pool     *transports // of its connections
	once     bool        // nothing is repeated: there is a next host
	anywhere bool        // it may lead to internal addresses
	led      bool        // already the first request goes where the registry led
	token    bool        // what is asked for is a token
}

// Do sends a token request and returns the first answer that is not a redirect
// and not a passing failure. Its body has come: to break off is such a failure.
func (o outgoing) Do(req *http.Request) (*http.Response, error) {
	req.Header["User-Agent"] = o.client.userAgent
	o.token = true
	ask := func(req *http.Request) (*http.Response, error) {
		resp, err := o.follow(req, false)
		if err != nil {
			return nil, err
		}
		return whole(resp)
	}
	if o.once {
		return ask(req)
	}
	return retry(req, ask)
}

// whole is an answer with its body in memory, as much of it as may be a token's.
func whole(resp *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, auth.MaxTokenAnswer+1))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}

// send sends req and returns the first answer that is not a redirect and not a
// passing failure. It notes whether there was a 429.
func (o outgoing) send(req *http.Request, throttled *bool) (*http.Response, error) {
	if o.once {
		return o.follow(req, o.led)
	}
	return retry(req, func(req *http.Request) (*http.Response, error) {
		resp, err := o.follow(req, o.led)
		*throttled = *throttled || err == nil && resp.StatusCode == http.StatusTooManyRequests
		return resp, err
	})
}
