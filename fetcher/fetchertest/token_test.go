package fetchertest_test

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

type claims struct {
	Subject string `json:"sub"`
	Service string `json:"aud"`
	Expires int64  `json:"exp"`
	Issued  int64  `json:"iat"`
	Access  []claim
}

type claim struct {
	Type, Name string
	Actions    []string
}

// tokenIn returns the token of an answer and its claims.
func tokenIn(t *testing.T, a answer, field string) (string, claims) {
	t.Helper()
	token, _ := decode[map[string]any](t, a.body)[field].(string)
	parts := strings.Split(token, ".")
	if a.status != 200 || len(parts) != 3 {
		t.Fatalf("no token: %d %s", a.status, a.body)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	return token, decode[claims](t, string(payload))
}

func TestATokenIsGoodForTheRepositoriesItWasAskedFor(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Service: "reg"}})
	for _, name := range []string{"a", "b/c", "d"} {
		r.PutManifest(name, "1", v2Type, []byte("{}"))
	}
	c := newClient(t, r)
	tests := map[string]struct {
		query string
		want  []claim
		reads map[string]int // status by repository
	}{
		"one": {"&scope=repository:a:pull", []claim{{"repository", "a", []string{"pull"}}},
			map[string]int{"a": 200, "b/c": 401, "d": 401}},
		"two, repeated": {"&scope=repository:a:pull&scope=repository:b/c:pull",
			[]claim{{"repository", "a", []string{"pull"}}, {"repository", "b/c", []string{"pull"}}},
			map[string]int{"a": 200, "b/c": 200, "d": 401}},
		"two, separated by a space": {"&scope=repository:a:pull+repository:d:pull",
			[]claim{{"repository", "a", []string{"pull"}}, {"repository", "d", []string{"pull"}}},
			map[string]int{"a": 200, "b/c": 401, "d": 200}},
		"pull out of pull and push": {"&scope=repository:a:push,pull", []claim{{"repository", "a", []string{"pull"}}},
			map[string]int{"a": 200}},
		"push alone is nothing":      {"&scope=repository:a:push", []claim{}, map[string]int{"a": 401}},
		"no scope is nothing":        {"", []claim{}, map[string]int{"a": 401}},
		"a host with a port":         {"&scope=repository:h:5000/a:pull", []claim{{"repository", "h:5000/a", []string{"pull"}}}, map[string]int{"a": 401}},
		"an empty scope is no scope": {"&scope=", []claim{}, map[string]int{"a": 401}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			token, got := tokenIn(t, c.get(r.TokenURL()+"?service=reg"+test.query), "token")
			if diff := cmp.Diff(test.want, got.Access); diff != "" {
				t.Errorf("access (-want +got):\n%s", diff)
			}
			if got.Service != "reg" || got.Expires-got.Issued != 300 {
				t.Errorf("claims %+v", got)
			}
			for repository, status := range test.reads {
				got := c.get(r.URL()+"/v2/"+repository+"/manifests/1", "Authorization", "Bearer "+token)
				if got.status != status {
					t.Errorf("%s: %d", repository, got.status)
				}
				if challenge := got.header.Get("WWW-Authenticate"); status == 401 && !strings.HasSuffix(challenge, `,error="insufficient_scope"`) {
					t.Errorf("%s: challenge %s", repository, challenge)
				}
			}
			if got := c.get(r.URL()+"/v2/", "Authorization", "Bearer "+token).status; got != 200 {
				t.Errorf("the root: %d", got)
			}
		})
	}
}

func TestTheTokenServerChecksWhatItIsAsked(t *testing.T) {
	t.Parallel()
	const scope = "scope=repository:a:pull"
	private := fetchertest.Auth{Username: "jo", Password: "p:w", IdentityToken: "refresh-me", Service: "my reg"}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"refresh-me"}, "client_id": {"x"}, "service": {"my reg"}}
	password := url.Values{"grant_type": {"password"}, "username": {"jo"}, "password": {"p:w"}, "client_id": {"x"}, "service": {"my reg"}}
	but := func(form url.Values, name string, values ...string) url.Values {
		changed := url.Values{name: values}
		for k, v := range form {
			if k != name {
				changed[k] = v
			}
		}
		return changed
	}
	tests := map[string]struct {
		auth          fetchertest.Auth
		query         string
		authorization string
		form          url.Values // of a POST
		status        int
		details       string // of a refusal; the token's field otherwise
	}{
		"GET, anonymous, public":                     {fetchertest.Auth{}, scope, "", nil, 200, "token"},
		"GET, wrong credential, public":              {fetchertest.Auth{}, scope, basic("jo:p:w"), nil, 401, "incorrect username or password"},
		"GET, an empty credential, public":           {fetchertest.Auth{}, scope, basic(":"), nil, 401, "incorrect username or password"},
		"GET, a field of its own":                    {fetchertest.Auth{TokenField: "access_token"}, scope, "", nil, 200, "access_token"},
		"GET, any service if none is named":          {fetchertest.Auth{}, scope + "&service=x&service=y", "", nil, 200, "token"},
		"GET, right credential":                      {private, "service=my%20reg&" + scope, basic("jo:p:w"), nil, 200, "token"},
		"GET, wrong password":                        {private, "service=my%20reg&" + scope, basic("jo:p"), nil, 401, "incorrect username or password"},
		"GET, anonymous, private":                    {private, "service=my%20reg&" + scope, "", nil, 401, "incorrect username or password"},
		"GET, the credential in the query":           {private, "service=my%20reg&username=jo&password=p:w&" + scope, "", nil, 401, "incorrect username or password"},
		"GET, no service":                            {private, scope, basic("jo:p:w"), nil, 400, `unknown service ""`},
		"GET, another service":                       {private, "service=reg&" + scope, basic("jo:p:w"), nil, 400, `unknown service "reg"`},
		"GET, the service twice":                     {private, "service=my%20reg&service=my%20reg", basic("jo:p:w"), nil, 400, `unknown service "my reg my reg"`},
		"GET, a scope that isn't one":                {fetchertest.Auth{}, "scope=repository:a", "", nil, 400, `invalid scope "repository:a"`},
		"GET, a scope without a name":                {fetchertest.Auth{}, "scope=repository::pull", "", nil, 400, `invalid scope "repository::pull"`},
		"GET, another type of scope":                 {fetchertest.Auth{}, "scope=registry:catalog:*", "", nil, 400, `invalid scope "registry:catalog:*"`},
		"GET, the realm's query":                     {fetchertest.Auth{RealmQuery: "account=x&n=1"}, "account=x&n=1&" + scope, "", nil, 200, "token"},
		"GET, without the realm's query":             {fetchertest.Auth{RealmQuery: "account=x"}, scope, "", nil, 400, "the realm's parameter account is missing, changed or repeated"},
		"GET, the realm's query twice":               {fetchertest.Auth{RealmQuery: "account=x"}, "account=x&account=x", "", nil, 400, "the realm's parameter account is missing, changed or repeated"},
		"GET, a second question mark":                {fetchertest.Auth{RealmQuery: "account=x"}, "account=x?" + scope, "", nil, 400, "the realm's parameter account is missing, changed or repeated"},
		"GET, the realm's scope set anew":            {fetchertest.Auth{RealmQuery: "scope=repository:a:pull,push"}, scope, "", nil, 200, "token"},
		"POST, refresh token":                        {private, "", "", refresh, 200, "access_token"},
		"POST, a field of its own":                   {fetchertest.Auth{IdentityToken: "refresh-me", TokenField: "token"}, "", "", refresh, 200, "token"},
		"POST, wrong refresh token":                  {private, "", "", but(refresh, "refresh_token", "x"), 401, "incorrect username or password"},
		"POST, no identity token is known":           {fetchertest.Auth{}, "", "", but(refresh, "refresh_token", ""), 401, "incorrect username or password"},
		"POST, password":                             {private, "", "", password, 200, "access_token"},
		"POST, wrong password":                       {private, "", "", but(password, "password", "p"), 401, "incorrect username or password"},
		"POST, another grant":                        {private, "", "", but(password, "grant_type", "client_credentials"), 401, "incorrect username or password"},
		"POST, no client_id":                         {private, "", "", but(password, "client_id"), 400, "client_id is missing"},
		"POST, another service":                      {private, "", "", but(password, "service", "reg"), 400, `unknown service "reg"`},
		"POST, parameters in the address don't help": {private, "service=my%20reg", "", but(password, "service"), 400, `unknown service ""`},
		"POST, with the realm's query in the address": {
			fetchertest.Auth{IdentityToken: "refresh-me", RealmQuery: "account=x"}, "account=x", "", refresh, 200, "access_token"},
		"POST, with the realm's query in the form only": {
			fetchertest.Auth{IdentityToken: "refresh-me", RealmQuery: "account=x"}, "", "", but(refresh, "account", "x"),
			400, "the realm's parameter account is missing, changed or repeated"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.auth.Scheme = fetchertest.Bearer
			r := fetchertest.New(t, fetchertest.Config{Auth: test.auth})
			c, address := newClient(t, r), r.TokenURL()
			if test.query != "" {
				address += "?" + test.query
			}
			var got answer
			if test.form == nil && test.authorization == "" {
				got = c.get(address)
			} else if test.form == nil {
				got = c.get(address, "Authorization", test.authorization)
			} else {
				got = c.post(address, test.form)
			}
			if got.status != test.status {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if test.status == 200 {
				tokenIn(t, got, test.details)
			} else if details := decode[map[string]string](t, got.body)["details"]; details != test.details {
				t.Errorf("details %q", details)
			}
			if form := r.Requests()[0].Form; form != test.form.Encode() {
				t.Errorf("the form was noted as %q", form)
			}
		})
	}
}

func TestATokenAnswerHasItsLifetime(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, TokenTTL: time.Minute}})
	c := newClient(t, r)
	got := c.get(r.TokenURL() + "?scope=repository:a:pull")
	token, claims := tokenIn(t, got, "token")
	fields := decode[map[string]any](t, got.body)
	if fields["expires_in"] != 60.0 || claims.Expires-claims.Issued != 60 || len(fields) != 3 {
		t.Errorf("%v, %+v", fields, claims)
	}
	if _, err := time.Parse(time.RFC3339, fields["issued_at"].(string)); err != nil {
		t.Error(err)
	}
	if again, _ := tokenIn(t, c.get(r.TokenURL()+"?scope=repository:a:pull"), "token"); again == token {
		t.Error("two tokens are equal")
	}
}

func TestATokenIsRefusedAfterItsTime(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ttl    time.Duration
		revoke bool
		status int
	}{
		"within its lifetime": {0, false, 200},
		"expired":             {time.Nanosecond, false, 401},
		"revoked":             {0, true, 401},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, TokenTTL: test.ttl}})
			r.PutManifest("a", "1", v2Type, []byte("{}"))
			c := newClient(t, r)
			token, _ := tokenIn(t, c.get(r.TokenURL()+"?scope=repository:a:pull"), "token")
			if test.revoke {
				r.RevokeTokens()
			}
			got := c.get(r.URL()+"/v2/a/manifests/1", "Authorization", "Bearer "+token)
			if challenge := got.header.Get("WWW-Authenticate"); got.status != test.status || (test.status == 401) != strings.HasSuffix(challenge, `,error="invalid_token"`) {
				t.Errorf("%d, challenge %q", got.status, challenge)
			}
		})
	}
}

func TestATokenServerCanGrantNothing(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, GrantsNothing: func(scope, service string) bool {
		return scope == "repository:a:pull repository:b:pull" && service == "s"
	}}})
	r.PutManifest("a", "1", v2Type, []byte("{}"))
	c := newClient(t, r)
	token, got := tokenIn(t, c.get(r.TokenURL()+"?service=s&scope=repository:a:pull&scope=repository:b:pull"), "token")
	if got.Access == nil || len(got.Access) != 0 {
		t.Errorf("access %v", got.Access)
	}
	if got := c.get(r.URL()+"/v2/a/manifests/1", "Authorization", "Bearer "+token); got.status != 401 {
		t.Errorf("the registry: %d", got.status)
	}
	if _, got := tokenIn(t, c.get(r.TokenURL()+"?service=t&scope=repository:a:pull"), "token"); len(got.Access) != 1 {
		t.Errorf("another service: access %v", got.Access)
	}
}

func TestTheTokenServerHasOneAddressAndTwoMethods(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{TLS: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	c := newClient(t, r)
	if got := c.do("PUT", r.TokenURL(), ""); got.status != 405 {
		t.Errorf("PUT: %d", got.status)
	}
	if got := c.get(r.TokenURL() + "/x"); got.status != 404 {
		t.Errorf("another address: %d", got.status)
	}
	if !strings.HasPrefix(r.TokenURL(), "https://127.0.0.1:") || strings.Contains(r.TokenURL(), r.Host()) {
		t.Errorf("the token server is at %s, the registry at %s", r.TokenURL(), r.Host())
	}
	if r.Count(fetchertest.Token) != 1 || r.Count(fetchertest.Other) != 1 {
		t.Errorf("counts: %d, %d", r.Count(fetchertest.Token), r.Count(fetchertest.Other))
	}
}
