package auth

import (
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

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

const (
	maxTokenAnswer = 128 << 10
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

// token is a granted access token.
type token struct {
	value   string
	expires time.Time // by our own monotonic clock
}

// fresh reports whether t will still hold when a request that is sent now
// arrives: a tenth of the lifetime is kept in reserve, five seconds at most.
func (t token) fresh(now time.Time, lifetime time.Duration) bool {
	return t.value != "" && now.Before(t.expires.Add(-min(lifetime/10, 5*time.Second)))
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
	values := u.Query()
	if step.Service != "" {
		values.Set("service", step.Service)
	}
	values["scope"] = strings.Fields(step.Scope)
	if c.IdentityToken != "" {
		values.Set("grant_type", "refresh_token")
		values.Set("refresh_token", c.IdentityToken)
		values.Set("client_id", clientID)
		values.Set("scope", step.Scope)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(values.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req, nil
	}
	asked := *u
	asked.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, asked.String(), nil)
	if err != nil {
		return nil, err
	}
	if c.Username != "" || c.Password != "" {
		req.SetBasicAuth(c.Username, c.Password)
	}
	return req, nil
}

// readToken reads the answer, leniently: token or access_token, expires_in as
// number or text (distribution#1746), issued_at not at all: the lifetime counts
// from now, when it was asked for, so that no clock but ours matters.
func readToken(resp *http.Response, at string, now time.Time) (token, time.Duration, error) {
	fail := func(message string) (token, time.Duration, error) {
		return token{}, 0, &TokenError{
			URL: at, Status: resp.StatusCode, Message: message, RetryAfter: resp.Header.Get("Retry-After"),
		}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer+1))
	if err != nil {
		return token{}, 0, &TokenError{URL: at, Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		return fail(Message(body))
	}
	if len(body) > maxTokenAnswer {
		return fail("the answer is larger than 128 KiB")
	}
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fail("the answer is not the JSON of a token")
	}
	value := answer.Token
	if value == "" {
		value = answer.AccessToken
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fail("the answer holds no token")
	}
	life := lifetime(answer.ExpiresIn)
	return token{value: value, expires: now.Add(life)}, life, nil
}

func lifetime(raw json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err != nil || seconds <= 0 || seconds > float64(24*time.Hour/time.Second) {
		return defaultLifetime
	}
	return time.Duration(seconds * float64(time.Second))
}

// Message finds the words for people in an error body: the distribution-spec's
// error list, the details, error or message of token servers, else nothing.
// It is bounded; control characters are the caller's to escape.
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
	_ = json.Unmarshal(body, &doc)
	var words []string
	for _, e := range doc.Errors {
		words = append(words, strings.Trim(e.Code+": "+e.Message, ": "))
	}
	for _, s := range []string{doc.Details, doc.Message, doc.Description, doc.Error} {
		if s != "" && len(words) == 0 {
			words = append(words, s)
		}
	}
	text := strings.Join(words, ", ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}
