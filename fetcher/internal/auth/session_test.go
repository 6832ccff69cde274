package auth

import (
	"context"
	"errors"
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

var step = exchange("https://auth.example/token", "registry.example", pull)

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
			step:   exchange("https://auth.example/token", "SUSE Linux:1", "repository:a/b:pull"),
			method: "GET", url: "https://auth.example/token?scope=repository%3Aa%2Fb%3Apull&service=SUSE+Linux%3A1",
		},
		"no service where it is unknown": {
			step: exchange("https://nvcr.io/proxy_auth", "", pull), method: "GET",
			url: "https://nvcr.io/proxy_auth?scope=repository%3Ateam%2Fapp%3Apull",
		},
		"the realm's own query kept, its scope replaced": {
			step: exchange("https://nvcr.io/proxy_auth?account=x&scope=repository:team/app:pull,push", "", pull), method: "GET",
			url: "https://nvcr.io/proxy_auth?account=x&scope=repository%3Ateam%2Fapp%3Apull",
		},
		"several scopes as several parameters": {
			step: exchange("https://a.example/t", "", "aws "+pull), method: "GET",
			url: "https://a.example/t?scope=aws&scope=repository%3Ateam%2Fapp%3Apull",
		},
		"the password by Basic": {
			credential: login, step: exchange("https://a.example/t", "", "aws"), method: "GET", url: "https://a.example/t?scope=aws", basic: true,
		},
		"an identity token by POST, not in the URL": {
			credential: credential.Credential{IdentityToken: "idt"}, step: exchange("https://a.example/t", "s", "aws"),
			method: "POST", url: "https://a.example/t",
			body: "client_id=docker-fetcher&grant_type=refresh_token&refresh_token=idt&scope=aws&service=s",
		},
		"a relative realm from the registry": {
			step: exchange("/zot/auth/token", "", "*"), method: "GET", url: "https://registry.example/zot/auth/token?scope=%2A",
		},
		"an http realm of an https registry by https": {
			step: exchange("http://auth.example/token", "", "*"), method: "GET", url: "https://auth.example/token?scope=%2A",
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
			if err := s.Exchange(t.Context(), test.step); err != nil {
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
		err := s.Exchange(t.Context(), exchange(realm, "", pull))
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
		"an empty token":                 {200, `{"token":""}`, "the answer holds no token"},
		"a token with a line break":      {200, `{"token":"a\r\nX: y"}`, "the answer holds no token"},
		"HTML":                           {200, `<html>`, "the answer is not the JSON of a token"},
		"nothing":                        {200, ``, "the answer is not the JSON of a token"},
		"too much":                       {200, `{"token":"` + strings.Repeat("x", 128<<10) + `"}`, "the answer is larger than 128 KiB"},
		"the token server's own refusal": {401, `{"details":"incorrect username or password"}`, "401 Unauthorized: incorrect username or password"},
		"the spec's error list":          {403, `{"errors":[{"code":"DENIED","message":"no"}]}`, "403 Forbidden: DENIED: no"},
		"a refusal without words":        {401, ``, "401 Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := session(func(*http.Request) (int, string) { return test.status, test.body }, credential.Credential{})
			err := s.Exchange(t.Context(), step)
			send := step
			send.Action = SendToken
			got := s.Authorization(repo, send)
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
			if err := s.Exchange(t.Context(), step); err != nil {
				t.Fatal(err)
			}
			send := step
			send.Action = SendToken
			s.Accepted(repo, send)
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
		if got := s.Facts(repo).Kept; got != SendPlain {
			t.Errorf("Kept is %v though the token is about to expire", got)
		}
		if exchange(); asked != 2 {
			t.Errorf("asked %d times, want a second time before the end of the lifetime", asked)
		}
	})
}

func TestARefusedTokenIsForgottenButNotTheOneThatReplacedIt(t *testing.T) {
	t.Parallel()
	n := 0
	s := session(func(*http.Request) (int, string) { n++; return 200, `{"token":"t` + string(rune('0'+n)) + `"}` }, credential.Credential{})
	send := step
	send.Action = SendToken
	must := func(want string) {
		t.Helper()
		if err := s.Exchange(t.Context(), step); err != nil {
			t.Fatal(err)
		}
		if got := s.Authorization(repo, send); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	must("Bearer t1")
	s.Refused("Bearer t1")
	must("Bearer t2")
	s.Refused("Bearer t1") // another request learns of it late
	must("Bearer t2")
	if n != 2 {
		t.Errorf("asked %d times, want 2", n)
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
				if err := s.Exchange(t.Context(), step); err != nil {
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
		all.Go(func() { errs[0] = s.Exchange(first, step) })
		all.Go(func() { errs[1] = s.Exchange(second, step) })
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
	if err := s.Exchange(t.Context(), step); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("the error is %v", err)
	}
}
