package registry_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

var (
	agent  = registry.User{Name: "agent", Password: "pass:word", Grants: registry.Grants{"demo/hello": {"pull"}}}
	author = registry.User{Name: "author", Password: "write", Grants: registry.Grants{"*": {"pull", "push"}}}
)

func start(t *testing.T, config registry.Config) *registry.Server {
	t.Helper()
	config.Users = []registry.User{agent, author}
	s, err := registry.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// get sends GET to target with the Authorization header set, unless it is
// empty, and returns the answer and its body.
func get(t *testing.T, target, authorization string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	return do(t, request)
}

func do(t *testing.T, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// basic returns the Authorization header of a user.
func basic(user registry.User) string {
	request := http.Request{Header: http.Header{}}
	request.SetBasicAuth(user.Name, user.Password)
	return request.Header.Get("Authorization")
}

// token asks the token server of s for a token.
func token(t *testing.T, s *registry.Server, authorization string, query url.Values) (*http.Response, string) {
	t.Helper()
	response, body := get(t, "http://"+s.Host+"/token?"+query.Encode(), authorization)
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		IssuedAt    string `json:"issued_at"`
	}
	if response.StatusCode != http.StatusOK {
		return response, ""
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Token == "" || answer.Token != answer.AccessToken || answer.ExpiresIn != 300 || answer.IssuedAt == "" {
		t.Errorf("token, access_token, expires_in and issued_at are %+v", answer)
	}
	return response, answer.Token
}

func TestEachModeAsksForItsCredential(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		auth   registry.Auth
		status int
		want   func(*registry.Server) string
	}{
		{registry.Anonymous, http.StatusNotFound, func(*registry.Server) string { return "" }},
		{registry.Basic, http.StatusUnauthorized, func(*registry.Server) string { return `Basic realm="integration"` }},
		{registry.Token, http.StatusUnauthorized, func(s *registry.Server) string {
			return `Bearer realm="http://` + s.Host + `/token",service="integration-registry",scope="repository:demo/hello:pull"`
		}},
	} {
		t.Run(string(test.auth), func(t *testing.T) {
			t.Parallel()
			s := start(t, registry.Config{Auth: test.auth})
			response, _ := get(t, "http://"+s.Host+"/v2/demo/hello/manifests/1", "")
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
			if got, want := response.Header.Get("WWW-Authenticate"), test.want(s); got != want {
				t.Errorf("challenge %s, want %s", got, want)
			}
		})
	}
}

func TestBasicRegistryChecksThePassword(t *testing.T) {
	t.Parallel()
	s := start(t, registry.Config{Auth: registry.Basic})
	for _, test := range []struct {
		name string
		user registry.User
		want int
	}{
		{"right password", agent, http.StatusNotFound},
		{"wrong password", registry.User{Name: "agent", Password: "guess"}, http.StatusUnauthorized},
		{"unknown user", registry.User{Name: "eve", Password: "pass:word"}, http.StatusUnauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if response, _ := get(t, "http://"+s.Host+"/v2/demo/hello/tags/list", basic(test.user)); response.StatusCode != test.want {
				t.Errorf("status %d, want %d", response.StatusCode, test.want)
			}
		})
	}
}

func TestTokenGrantsWhatIsAskedAndAllowed(t *testing.T) {
	t.Parallel()
	const allowed, refused = http.StatusNotFound, http.StatusUnauthorized // the repositories are empty
	for _, algorithm := range []string{"ES256", "RS256"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := start(t, registry.Config{
				Auth: registry.Token, Algorithm: algorithm,
				Public: registry.Grants{"demo/public": {"pull"}},
			})
			for _, test := range []struct {
				name          string
				authorization string
				scopes        []string
				repository    string
				want          int
			}{
				{"a user pulls his repository", basic(agent), []string{"repository:demo/hello:pull"}, "demo/hello", allowed},
				{"two scopes in one parameter", basic(agent), []string{"repository:x:pull repository:demo/hello:pull"}, "demo/hello", allowed},
				{"two scope parameters", basic(agent), []string{"repository:x:pull", "repository:demo/hello:pull"}, "demo/hello", allowed},
				{"a user does not pull another's repository", basic(agent), []string{"repository:demo/other:pull"}, "demo/other", refused},
				{"a user granted all pulls any repository", basic(author), []string{"repository:demo/other:pull"}, "demo/other", allowed},
				{"a token holds for its scope only", basic(author), []string{"repository:demo/hello:pull"}, "demo/other", refused},
				{"a token without scope grants nothing", basic(agent), nil, "demo/hello", refused},
				{"a scope of push only does not pull", basic(author), []string{"repository:demo/hello:push"}, "demo/hello", refused},
				{"everybody pulls a public repository", "", []string{"repository:demo/public:pull"}, "demo/public", allowed},
				{"nobody else pulls a private one", "", []string{"repository:demo/hello:pull"}, "demo/hello", refused},
			} {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					_, bearer := token(t, s, test.authorization, url.Values{"service": {registry.Service}, "scope": test.scopes})
					response, _ := get(t, "http://"+s.Host+"/v2/"+test.repository+"/tags/list", "Bearer "+bearer)
					if response.StatusCode != test.want {
						t.Errorf("status %d, want %d", response.StatusCode, test.want)
					}
				})
			}
		})
	}
}

func TestTokenOfAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	one, other := start(t, registry.Config{Auth: registry.Token}), start(t, registry.Config{Auth: registry.Token})
	_, bearer := token(t, other, basic(agent), url.Values{"service": {registry.Service}, "scope": {"repository:demo/hello:pull"}})
	if response, _ := get(t, "http://"+one.Host+"/v2/demo/hello/tags/list", "Bearer "+bearer); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", response.StatusCode)
	}
}

func TestTokenServerRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, registry.Config{Auth: registry.Token})
	scope := url.Values{"service": {registry.Service}, "scope": {"repository:demo/hello:pull"}}
	for _, test := range []struct {
		name, method, authorization string
		query                       url.Values
		want                        int
	}{
		{"a wrong password", "GET", basic(registry.User{Name: "agent", Password: "guess"}), scope, 401},
		{"a token as credential", "GET", "Bearer abc", scope, 401},
		{"another service", "GET", basic(agent), url.Values{"service": {"other"}}, 400},
		{"no service", "GET", basic(agent), nil, 400},
		{"a scope that is none", "GET", basic(agent), url.Values{"service": {registry.Service}, "scope": {"pull"}}, 400},
		{"another method", "POST", basic(agent), scope, 405},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+s.Host+"/token?"+test.query.Encode(), nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", test.authorization)
			response, body := do(t, request)
			if response.StatusCode != test.want {
				t.Errorf("status %d, want %d: %s", response.StatusCode, test.want, body)
			}
			if challenge := response.Header.Get("WWW-Authenticate"); (test.want == 401) != (challenge != "") {
				t.Errorf("status %d has the challenge %q", test.want, challenge)
			}
		})
	}
}

func TestFrontOpensTheBaseAndNothingElse(t *testing.T) {
	t.Parallel()
	origin := start(t, registry.Config{Auth: registry.Basic})
	front, err := origin.Front()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = front.Close() })

	for path, want := range map[string]int{"/v2/": 200, "/v2/demo/hello/tags/list": 401} {
		if response, _ := get(t, "http://"+front.Host+path, ""); response.StatusCode != want {
			t.Errorf("GET %s: status %d, want %d", path, response.StatusCode, want)
		}
	}
	if response, _ := get(t, "http://"+front.Host+"/v2/demo/hello/tags/list", basic(agent)); response.StatusCode != http.StatusNotFound {
		t.Errorf("status %d with the password, want 404", response.StatusCode)
	}
}

func TestRateSlowsAnswersDown(t *testing.T) {
	t.Parallel()
	s := start(t, registry.Config{Rate: 1000})
	begin := time.Now()
	_, body := get(t, "http://"+s.Host+"/v2/demo/hello/tags/list", "")
	if least := time.Duration(len(body)) * time.Millisecond; len(body) < 50 || time.Since(begin) < least {
		t.Errorf("%d bytes took %v, want %v at least", len(body), time.Since(begin), least)
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	t.Parallel()
	s := start(t, registry.Config{})
	get(t, "http://"+s.Host+"/v2/", "forgotten")
	s.Forget()
	get(t, "http://"+s.Host+"/v2/", "")
	get(t, "http://"+s.Host+"/v2/demo/hello/tags/list?n=1", basic(agent))
	get(t, "http://"+s.Host+"/v2/", "bearer abc")
	want := []registry.Request{
		{Method: "GET", Path: "/v2/", Query: url.Values{}},
		{Method: "GET", Path: "/v2/demo/hello/tags/list", Query: url.Values{"n": {"1"}}, Scheme: "basic"},
		{Method: "GET", Path: "/v2/", Query: url.Values{}, Scheme: "bearer"},
	}
	if diff := cmp.Diff(want, s.Requests()); diff != "" {
		t.Error(diff)
	}
}

func TestCloseRemovesEverythingStored(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, auth := range []registry.Auth{registry.Anonymous, registry.Basic, registry.Token} {
		s, err := registry.Start(registry.Config{Auth: auth, Users: []registry.User{agent}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestCloseEndsAnswersInFlight(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s, err := registry.Start(registry.Config{Rate: 1}) // minutes for an answer
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		response, err := http.Get("http://" + s.Host + "/v2/demo/hello/tags/list")
		if err == nil {
			_ = response.Body.Close()
		}
		failed <- err
	}()
	for len(s.Requests()) == 0 {
		runtime.Gosched()
	}
	begin := time.Now()
	if err := s.Close(); err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("closed in %v: %v", time.Since(begin), err)
	}
	if <-failed == nil {
		t.Error("the answer came")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStartRefusesAMistake(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, test := range []struct {
		name   string
		config registry.Config
		want   string
	}{
		{"of authentication", registry.Config{Auth: "kerberos"}, `start the registry: unknown authentication "kerberos"`},
		{"of the algorithm", registry.Config{Auth: registry.Token, Algorithm: "none"}, `start the registry: unknown signature algorithm "none": use ES256 or RS256`},
		{
			"of a password too long for bcrypt", registry.Config{Auth: registry.Basic, Users: []registry.User{{Name: "long", Password: string(make([]byte, 73))}}},
			"start the registry: hash the password of long: bcrypt: password length exceeds 72 bytes",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := registry.Start(test.config)
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDockerConfigHoldsTheCredential(t *testing.T) {
	t.Parallel()
	want := `{"auths":{"127.0.0.1:5000":{"auth":"YWdlbnQ6cGFzczp3b3Jk"}}}`
	if got := string(agent.DockerConfig("127.0.0.1:5000")); got != want {
		t.Errorf("config %s, want %s", got, want)
	}
}
