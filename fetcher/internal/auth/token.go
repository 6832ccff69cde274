package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

const (
	maxTokenAnswer = 128 << 10
	// maxToken is how long a token may be. It goes into a header, of which servers
	// take 8 to 64 KiB.
	maxToken   = 48 << 10
	maxMessage = 500 // bytes of a peer's words in an error
	// defaultLifetime is what the distribution token specification says of an
	// answer without expires_in.
	defaultLifetime = 60 * time.Second
	clientID        = "docker-fetcher"
)

// TokenError is a token server's refusal, or an answer that holds no token.
// It must not look like the registry's own: a 401 means something else there.
type TokenError struct {
	URL     string // without query
	Status  int    // 0: there was no usable answer
	Message string // the server's own, or what was wrong with the answer
	// RetryAfter is the field of the answer as it came, "" for none.
	RetryAfter string
	Err        error // the transport's, or what is wrong with the realm, where there was no answer
	realm      bool  // Err is about the realm: nothing was sent
}

func (e *TokenError) Error() string {
	words := []string{"token server " + e.URL}
	if e.Status != 0 && e.Status != http.StatusOK {
		words = append(words, fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	}
	if e.Message != "" {
		words = append(words, e.Message)
	}
	if e.Err != nil {
		words = append(words, e.Err.Error())
	}
	return strings.Join(words, ": ")
}

func (e *TokenError) Unwrap() error { return e.Err }

// Refused reports whether the server understood and said no.
func (e *TokenError) Refused() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// Unreachable reports whether the server gave no answer.
func (e *TokenError) Unreachable() bool { return e.Status == 0 && !e.realm }

// Verdict tells Next what an exchange came to. An answer without a token and
// one that says "not this way" (400, 404, 405, 501, 5xx) are refusals of the
// form: ACR, Artifactory, gcr.io, GitLab, Harbor and MSR each have their own.
func (e *TokenError) Verdict() Verdict {
	switch {
	case e.realm:
		return BadRealm
	case e.Status == 0, e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests:
		return Unanswered
	}
	return Refused
}

// token is a granted access token.
type token struct {
	value   string
	expires time.Time     // by our own monotonic clock
	reserve time.Duration // how long before that it is renewed
}

// fresh reports whether t will still hold when a request that is sent now arrives.
func (t token) fresh(now time.Time) bool {
	return t.value != "" && now.Before(t.expires.Add(-t.reserve))
}

// realmURL resolves a realm against the registry's own URL and refuses what
// can't be a token endpoint. A credential never goes out in clear because a
// registry behind a TLS proxy names its own http address: such a realm is asked
// by https (harbor#3114).
func realmURL(realm string, registry *url.URL) (*url.URL, error) {
	u, err := registry.Parse(realm)
	switch {
	case err != nil:
		return nil, fmt.Errorf("realm %.100q is not a URL", realm)
	case u.User != nil:
		return nil, errors.New("realm holds a user name, which is refused")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("realm %.100q is not an http or https URL", realm)
	}
	if registry.Scheme == "https" {
		u.Scheme = "https"
	}
	u.Fragment = ""
	return u, nil
}

// tokenRequest composes the request for a token. The realm's own query is
// kept; service and scope are set in it (nvcr.io's realm carried a scope).
func tokenRequest(ctx context.Context, u *url.URL, step Step, c credential.Credential) (*http.Request, error) {
	if step.Post {
		return oauth(ctx, u, step, c)
	}
	values := u.Query()
	if step.Service != "" {
		values.Set("service", step.Service)
	}
	values["scope"] = strings.Fields(step.Scope)
	asked := *u
	asked.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, asked.String(), nil)
	if err != nil {
		return nil, err
	}
	switch {
	case step.Anonymous:
	case c.IdentityToken != "": // the way of ACR, whose user names nobody
		req.SetBasicAuth(cmp.Or(c.Username, "00000000-0000-0000-0000-000000000000"), c.IdentityToken)
	case c.Username != "" || c.Password != "":
		req.SetBasicAuth(c.Username, c.Password)
	}
	return req, nil
}

// oauth is the form of the distribution project's OAuth2 specification. The
// realm's own query stays where it is; what is secret goes into the body only.
func oauth(ctx context.Context, u *url.URL, step Step, c credential.Credential) (*http.Request, error) {
	form := url.Values{"client_id": {clientID}, "scope": {step.Scope}}
	if step.Service != "" {
		form.Set("service", step.Service)
	}
	if c.IdentityToken != "" {
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", c.IdentityToken)
	} else {
		form.Set("grant_type", "password")
		form.Set("username", c.Username)
		form.Set("password", c.Password)
	}
	asked := *u
	query := asked.Query()
	query.Del("scope") // ours alone counts
	asked.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, asked.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

// readToken reads the answer, leniently: token or access_token, expires_in as
// number or text (distribution#1746), issued_at not at all: the lifetime counts
// from now, when it was asked for, so that no clock but ours matters.
func readToken(resp *http.Response, at string, now time.Time) (token, error) {
	fail := func(message string) (token, error) {
		return token{}, &TokenError{
			URL: at, Status: resp.StatusCode, Message: message, RetryAfter: resp.Header.Get("Retry-After"),
		}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer+1))
	if err != nil {
		return token{}, &TokenError{URL: at, Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		return fail(Message(body))
	}
	if len(body) > maxTokenAnswer {
		return fail(fmt.Sprintf("the answer is larger than %d KiB", maxTokenAnswer>>10))
	}
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fail("the answer is not the JSON of a token")
	}
	value := cmp.Or(answer.Token, answer.AccessToken)
	if len(value) > maxToken {
		return fail(fmt.Sprintf("the token is longer than %d KiB", maxToken>>10))
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fail("the answer holds no token")
	}
	life := lifetime(answer.ExpiresIn, value)
	return token{value: value, expires: now.Add(life), reserve: min(life/10, 5*time.Second)}, nil
}

// lifetime is expires_in or, where that is missing or odd, what a JWT says of
// itself: not when it ends, for that would be by the server's clock, but how
// long it lasts.
func lifetime(raw json.RawMessage, token string) time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err != nil || seconds <= 0 {
		seconds = claimsOf(token).lasts()
	}
	if seconds <= 0 || seconds > (24*time.Hour).Seconds() {
		return defaultLifetime
	}
	return time.Duration(seconds * float64(time.Second))
}

// Message finds the words for people in an error body: the distribution-spec's
// error list, the details, error or message of token servers, the first line of
// a plain text (Amazon ECR, IBM); of a page of HTML nothing. It is bounded;
// control characters are the caller's to escape.
func Message(body []byte) string {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details     string `json:"details"`
		Message     string `json:"message"`
		Description string `json:"error_description"`
		Error       string `json:"error"`
	}
	// One field of an unexpected type must not lose the others.
	if err := json.Unmarshal(body, &doc); err != nil && !json.Valid(body) {
		return bounded(plain(body))
	}
	var words []string
	for _, e := range doc.Errors {
		words = append(words, strings.Trim(e.Code+": "+e.Message, ": "))
	}
	if len(words) == 0 {
		words = append(words, cmp.Or(doc.Details, doc.Message, doc.Description, doc.Error))
	}
	return bounded(strings.Join(words, ", "))
}

// plain is the first line of a text that is no markup.
func plain(body []byte) string {
	text := strings.TrimSpace(string(body))
	if strings.HasPrefix(text, "<") || strings.HasPrefix(text, "{") || !utf8.ValidString(text) {
		return ""
	}
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

func bounded(text string) string {
	text = strings.TrimRight(text, ". ")
	if len(text) > maxMessage {
		return strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
