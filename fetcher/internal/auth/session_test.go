package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

// tokenServer answers token requests in process.
type tokenServer func(*http.Request) (status int, body string)

func (s tokenServer) Do(req *http.Request) (*http.Response, error) {
	status, body := s(req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

func session(s tokenServer, c credential.Credential) *Session {
	return NewSession(s, &url.URL{Scheme: "https", Host: "registry.example"}, c)
}

var step = get("https://auth.example/token", "registry.example", pull)

func TestExchangeComposesTheRequest(t *testing.T) {
	t.Parallel()
	login := credential.Credential{Username: "u", Password: "p:ä"}
	for name, test := range map[string]struct {
		credential credential.Credential
		step       Step
		method     string
		url        string
		body       string
		basic      bool
	}{
		"service and scope in the query, escaped": {
			step:   get("https://auth.example/token", "SUSE Linux:1", "repository:a/b:pull"),
			method: "GET", url: "https://auth.example/token?scope=repository%3Aa%2Fb%3Apull&service=SUSE+Linux%3A1",
		},
		"no service where it is unknown": {
			step: get("https://nvcr.io/proxy_auth", "", pull), method: "GET",
			url: "https://nvcr.io/proxy_auth?scope=repository%3Ateam%2Fapp%3Apull",
		},
		"the realm's own query kept, its scope replaced": {
			step: get("https://nvcr.io/proxy_auth?account=x&scope=repository:team/app:pull,push", "", pull), method: "GET",
			url: "https://nvcr.io/proxy_auth?account=x&scope=repository%3Ateam%2Fapp%3Apull",
		},
		"several scopes as several parameters": {
			step: get("https://a.example/t", "", "aws "+pull), method: "GET",
			url: "https://a.example/t?scope=aws&scope=repository%3Ateam%2Fapp%3Apull",
		},
		"the password by Basic": {
			credential: login, step: get("https://a.example/t", "", "aws"), method: "GET", url: "https://a.example/t?scope=aws", basic: true,
		},
		"an identity token by POST, not in the URL": {
			credential: credential.Credential{IdentityToken: "idt"}, step: post(get("https://a.example/t?x=y&scope=z", "s", "aws")),
			method: "POST", url: "https://a.example/t?x=y",
			body: "client_id=docker-fetcher&grant_type=refresh_token&refresh_token=idt&scope=aws&service=s",
		},
		"a password by POST, not in the URL": {
			credential: login, step: post(get("https://a.example/t", "", "aws")), method: "POST", url: "https://a.example/t",
			body: "client_id=docker-fetcher&grant_type=password&password=p%3A%C3%A4&scope=aws&username=u",
		},
		"nothing of the credential where it goes anonymously": {
			credential: login, step: anonymously(get("https://a.example/t", "", "aws")), method: "GET", url: "https://a.example/t?scope=aws",
		},
		"a relative realm from the registry": {
			step: get("/zot/auth/token", "", "*"), method: "GET", url: "https://registry.example/zot/auth/token?scope=%2A",
		},
		"an http realm of an https registry by https": {
			step: get("http://auth.example/token", "", "*"), method: "GET", url: "https://auth.example/token?scope=%2A",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := session(func(req *http.Request) (int, string) {
				if req.Method != test.method || req.URL.String() != test.url {
					t.Errorf("sent %s %s, want %s %s", req.Method, req.URL, test.method, test.url)
				}
				user, password, ok := req.BasicAuth()
				if ok != test.basic || ok && (user != "u" || password != "p:ä") {
					t.Errorf("Authorization is %q", req.Header.Get("Authorization"))
				}
				if req.Body != nil {
					body, _ := io.ReadAll(req.Body)
					if string(body) != test.body {
						t.Errorf("body is %q, want %q", body, test.body)
					}
				}
				return 200, `{"token":"t"}`
			}, test.credential)
			if _, err := s.Exchange(t.Context(), test.step); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARealmThatIsNoTokenEndpointIsRefused(t *testing.T) {
	t.Parallel()
	for _, realm := range []string{"file:///etc/passwd", "https://u:canary@a.example/", "ftp://a.example", "https:///token", "://", "\x00"} {
		s := session(func(req *http.Request) (int, string) {
			t.Errorf("realm %q was asked", realm)
			return 500, ""
		}, credential.Credential{})
		var token *TokenError
		_, err := s.Exchange(t.Context(), get(realm, "", pull))
		if !errors.As(err, &token) || token.Refused() || token.Unreachable() {
			t.Errorf("realm %q: %v", realm, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestExchangeReadsTheAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		want   string // Authorization, or the error behind the URL
	}{
		"token":                          {200, `{"token":"t"}`, "Bearer t"},
		"access_token":                   {200, `{"access_token":"a"}`, "Bearer a"},
		"both":                           {200, `{"access_token":"a","token":"t"}`, "Bearer t"},
		"expires_in as text":             {200, `{"token":"t","expires_in":"300","issued_at":1234}`, "Bearer t"},
		"expires_in as a fraction":       {200, `{"token":"t","expires_in":299.5,"issued_at":""}`, "Bearer t"},
		"no token":                       {200, `{}`, "the answer holds no token"},
		"a token that is an object":      {200, `{"token":{"token":"t"}}`, "the answer is not the JSON of a token"},
		"a tower of brackets":            {200, strings.Repeat("[", 100_000), "the answer is not the JSON of a token"},
		"an empty token":                 {200, `{"token":""}`, "the answer holds no token"},
		"a token with a line break":      {200, `{"token":"a\r\nX: y"}`, "the answer holds no token"},
		"HTML":                           {200, `<html>`, "the answer is not the JSON of a token"},
		"nothing":                        {200, ``, "the answer is not the JSON of a token"},
		"too much":                       {200, `{"token":"` + strings.Repeat("x", 128<<10) + `"}`, "the answer is larger than 128 KiB"},
		"the token server's own refusal": {401, `{"details":"incorrect username or password"}`, "401 Unauthorized: incorrect username or password"},
		"the spec's error list":          {403, `{"errors":[{"code":"DENIED","message":"no"}]}`, "403 Forbidden: DENIED: no"},
		"a plain text":                   {403, "Your Authorization Token has expired.\r\nmore", "403 Forbidden: Your Authorization Token has expired"},
		"a page of HTML":                 {403, "<html><body>no", "403 Forbidden"},
		"a refusal without words":        {401, ``, "401 Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := session(func(*http.Request) (int, string) { return test.status, test.body }, credential.Credential{})
			got, err := s.Exchange(t.Context(), step)
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "token server https://auth.example/token: ")
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestATokenServesUntilShortlyBeforeItExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := session(func(*http.Request) (int, string) { asked++; return 200, `{"token":"t","expires_in":100}` }, credential.Credential{})
		exchange := func() {
			if _, err := s.Exchange(t.Context(), step); err != nil {
				t.Fatal(err)
			}
			s.Accepted(repo, send(step))
		}
		exchange()
		time.Sleep(94 * time.Second)
		if exchange(); asked != 1 {
			t.Errorf("asked %d times within the lifetime", asked)
		}
		if got := s.Facts(repo).Kept; got != SendKept {
			t.Errorf("Kept is %v within the lifetime", got)
		}
		time.Sleep(2 * time.Second)
		if got := s.Facts(repo).Kept; got != Exchange {
			t.Errorf("Kept is %v though the token is about to expire", got)
		}
		if exchange(); asked != 2 {
			t.Errorf("asked %d times, want a second time before the end of the lifetime", asked)
		}
	})
}

// A time that has a monotonic reading is compared by that (package time): a wall
// clock that is set, by hours and either way, makes no token expire or live on.
func TestAJumpOfTheClockChangesNoTokensLifetime(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{`{"token":"t","expires_in":100,"issued_at":"2001-01-01T00:00:00Z"}`, `{"token":"t"}`, `{"token":"` + jwt(`{"iat":1,"exp":101}`) + `"}`} {
		s := session(func(*http.Request) (int, string) { return 200, answer }, credential.Credential{})
		if _, err := s.Exchange(t.Context(), step); err != nil {
			t.Fatal(err)
		}
		if expires := s.tokens[step.Grant].expires; !strings.Contains(expires.String(), " m=") || time.Until(expires) > 100*time.Second {
			t.Errorf("%s: expires %v", answer, expires)
		}
	}
}

func TestARefusedTokenIsForgottenButNotTheOneThatReplacedIt(t *testing.T) {
	t.Parallel()
	n := 0
	s := session(func(*http.Request) (int, string) { n++; return 200, `{"token":"t` + string(rune('0'+n)) + `"}` }, credential.Credential{})
	must := func(want string) {
		t.Helper()
		if got, err := s.Exchange(t.Context(), step); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	must("Bearer t1")
	s.Refused(repo, "Bearer t1", 401)
	must("Bearer t2")
	s.Refused(repo, "Bearer t1", 401) // another request learns of it late
	must("Bearer t2")
	if n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestATokenForbiddenToOneRepositoryServesTheOthers(t *testing.T) {
	t.Parallel()
	n := 0
	s := session(func(*http.Request) (int, string) { n++; return 200, `{"token":"t"}` }, credential.Credential{})
	shared := get("https://a.example/t", "", "*")
	for range 3 {
		if _, err := s.Exchange(t.Context(), shared); err != nil {
			t.Fatal(err)
		}
		s.Accepted("good/one", send(shared))
		s.Refused("bad/one", "Bearer t", 403)
	}
	if n != 1 || s.Facts("good/one").Kept != SendKept {
		t.Errorf("%d tokens, kept %v", n, s.Facts("good/one").Kept)
	}
}

func TestATokenThatServedARepositoryAndIsForbiddenToItIsNotSentAgain(t *testing.T) {
	t.Parallel()
	n := 0
	s := session(func(*http.Request) (int, string) { n++; return 200, fmt.Sprintf(`{"token":"t%d"}`, n) }, credential.Credential{})
	for _, want := range []string{"Bearer t1", "Bearer t2"} {
		got, err := s.Exchange(t.Context(), step)
		if err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		s.Accepted(repo, send(step))
		s.Refused(repo, got, 403)
	}
}

func TestAPeersEchoOfASecretIsRedacted(t *testing.T) {
	t.Parallel()
	s := session(func(*http.Request) (int, string) { return 200, `{"token":"access"}` },
		credential.Credential{Username: "u", Password: "pass/word", IdentityToken: "idt", RegistryToken: "given"})
	if _, err := s.Exchange(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	got := s.Redact("no: u/pass/word, pass%2Fword, Basic dTpwYXNzL3dvcmQ=, Bearer access, idt, given")
	want := "no: u/[redacted], [redacted], Basic [redacted], Bearer [redacted], [redacted], [redacted]"
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestCallersShareOneExchange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		answer := make(chan struct{})
		s := session(func(*http.Request) (int, string) { asked.Add(1); <-answer; return 200, `{"token":"t"}` }, credential.Credential{})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := s.Exchange(t.Context(), step); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(answer)
		all.Wait()
		if asked.Load() != 1 {
			t.Errorf("the token server was asked %d times", asked.Load())
		}
	})
}

func TestOneCallersCancelLeavesTheOthersAndTheLastOnesEndsTheExchange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		s := session(func(req *http.Request) (int, string) { <-req.Context().Done(); ended.Store(true); return 0, "" }, credential.Credential{})
		first, cancelFirst := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		var errs [2]error
		var all sync.WaitGroup
		all.Go(func() { _, errs[0] = s.Exchange(first, step) })
		all.Go(func() { _, errs[1] = s.Exchange(second, step) })
		synctest.Wait()
		cancelFirst()
		synctest.Wait()
		if errs[0] == nil || ended.Load() {
			t.Fatalf("after the first cancel: %v, exchange ended: %v", errs[0], ended.Load())
		}
		cancelSecond()
		all.Wait()
		synctest.Wait()
		if diff := cmp.Diff([2]bool{true, true}, [2]bool{errors.Is(errs[0], context.Canceled), errors.Is(errs[1], context.Canceled)}); diff != "" {
			t.Error(diff)
		}
		if !ended.Load() {
			t.Error("the exchange goes on though nobody waits")
		}
	})
}

func TestNoTextShowsACredential(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ry"
	c := credential.Credential{Username: "u", Password: canary, IdentityToken: canary, RegistryToken: canary}
	s := session(func(*http.Request) (int, string) { return 401, `nope` }, c)
	if _, err := s.Exchange(t.Context(), step); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("the error is %v", err)
	}
}

func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestATokenThatGrantsNothingIsToldApart(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		jwt(`{"access":[]}`): `the token server granted nothing for "repository:alpine:pull"; did you mean library/alpine?`,
		jwt(`{"access":[{"type":"repository","name":"alpine","actions":["push"]}]}`): `the token server granted nothing for "repository:alpine:pull"; did you mean library/alpine?`,
		jwt(`{"access":[{"type":"repository","name":"alpine","actions":["pull"]}]}`): "",
		jwt(`{"access":null}`): "", jwt(`{}`): "", jwt(`[`): "", "opaque": "", "a.b.c": "", "..": "",
	} {
		s := session(func(*http.Request) (int, string) { return 200, `{"token":"` + token + `"}` }, credential.Credential{})
		exchange := get("https://a.example/t", "", "repository:alpine:pull")
		if _, err := s.Exchange(t.Context(), exchange); err != nil {
			t.Fatal(err)
		}
		if got := s.Refused("alpine", "Bearer "+token, 401); got != want {
			t.Errorf("%s: got %q, want %q", token, got, want)
		}
	}
}

func TestAJWTTellsHowLongItLastsWhereTheAnswerDoesNot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		expiresIn, token string
		want             time.Duration
	}{
		{`300`, jwt(`{"iat":1000,"exp":1600}`), 5 * time.Minute},
		{``, jwt(`{"iat":1000,"exp":1600}`), 10 * time.Minute}, // by a clock of 1970
		{`null`, jwt(`{"iat":1000,"exp":1600}`), 10 * time.Minute},
		{``, jwt(`{"iat":1600,"exp":1000}`), defaultLifetime},
		{``, jwt(`{"exp":1000}`), defaultLifetime},
		{``, "opaque", defaultLifetime},
		{`1e300`, "opaque", defaultLifetime},
		{`"-5"`, "opaque", defaultLifetime},
	} {
		if got := lifetime([]byte(test.expiresIn), test.token); got != test.want {
			t.Errorf("lifetime(%s, %s) = %v, want %v", test.expiresIn, test.token, got, test.want)
		}
	}
}

func FuzzAccessOfATokenNeverPanics(f *testing.F) {
	f.Add("e30.eyJhY2Nlc3MiOltdfQ.c2ln")
	f.Add("..")
	f.Fuzz(func(_ *testing.T, token string) { grantedNothing(token, "s", "r") })
}

func TestTheMethodThatWorkedAtARealmIsRemembered(t *testing.T) {
	t.Parallel()
	s := session(func(*http.Request) (int, string) { return 200, `{"access_token":"t"}` }, credential.Credential{Username: "u", Password: "p"})
	if _, err := s.Exchange(t.Context(), post(step)); err != nil {
		t.Fatal(err)
	}
	if !s.Facts("another/repository").Posts[step.Realm] {
		t.Error("POST is not remembered")
	}
}

func TestARefusedRegistryTokenIsNotSentAgain(t *testing.T) {
	t.Parallel()
	s := session(nil, credential.Credential{RegistryToken: "rt"})
	if !s.Facts(repo).Given {
		t.Fatal("the registry token is not sent at all")
	}
	s.Refused(repo, "Bearer rt", 401)
	if s.Facts(repo).Given {
		t.Error("the refused registry token is sent again")
	}
	if !s.Facts("another/repository").Given {
		t.Error("another repository pays for the refusal")
	}
}

func TestASessionsMemoryIsBounded(t *testing.T) {
	t.Parallel()
	s := session(func(*http.Request) (int, string) { return 200, `{"token":"t","expires_in":3600}` }, credential.Credential{})
	for i := range 3 * maxKept {
		name := fmt.Sprintf("team/app%d", i)
		exchange := get("https://a.example/t", "", "repository:"+name+":pull")
		if _, err := s.Exchange(t.Context(), exchange); err != nil {
			t.Fatal(err)
		}
		s.Accepted(name, send(exchange))
	}
	if len(s.tokens) > maxKept || len(s.kept) > maxKept+1 {
		t.Errorf("%d tokens and %d repositories are kept", len(s.tokens), len(s.kept))
	}
}

func FuzzATokenAnswerIsAnErrorOrAUsableToken(f *testing.F) {
	f.Add(200, `{"token":"t","expires_in":300,"issued_at":"2026-11-21T00:00:00Z"}`)
	f.Add(200, `{"access_token":"e30.eyJpYXQiOjEsImV4cCI6Mn0.c2ln","expires_in":"1e9"}`)
	f.Add(401, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`)
	f.Add(500, "plain\ntext")
	f.Fuzz(func(t *testing.T, status int, body string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
		now := time.Now()
		got, err := readToken(resp, "https://a.example/t", now)
		var failed *TokenError
		switch {
		case err != nil && (!errors.As(err, &failed) || len(failed.Message) > 510):
			t.Errorf("got %v", err)
		case err != nil:
		case got.value == "" || strings.ContainsAny(got.value, " \r\n\x00") || !got.expires.After(now) || got.expires.Sub(now) > 24*time.Hour:
			t.Errorf("got token %q until %v", got.value, got.expires)
		}
	})
}

type panicking struct{}

func (panicking) Do(*http.Request) (*http.Response, error) { panic("a defect") }

func TestAPanicInASharedRequestIsThatOfEachCallerWhoWaits(t *testing.T) {
	t.Parallel()
	s := NewSession(panicking{}, &url.URL{Scheme: "https", Host: "registry.example"}, credential.Credential{})
	for range 2 { // the second is not kept from trying by the first
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, "a defect") || !strings.Contains(p, "session_test.go") {
					t.Errorf("recovered %q", p)
				}
			}()
			_, err := s.Exchange(t.Context(), Step{Grant: Grant{Realm: "https://registry.example/token"}})
			t.Errorf("returned %v", err)
		}()
	}
}
