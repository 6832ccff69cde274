package fetchertest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

const unauthorized = `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`

func TestBasicAdmitsOneCredential(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "jo", Password: "p:w"}})
	r.PutManifest("a/b", "1", v2Type, []byte("{}"))
	c := newClient(t, r)
	for authorization, status := range map[string]int{
		"":               401,
		basic("jo:p:w"):  200,
		"basic am86cDp3": 200,
		basic("jo:p"):    401,
		basic("jo"):      401,
		basic(":"):       401,
		"Basic jo:p:w":   401,
		"Basic":          401,
		"Bearer jo:p:w":  401,
	} {
		for _, path := range []string{"/v2/", "/v2/a/b/manifests/1"} {
			got := c.get(r.URL()+path, "Authorization", authorization)
			if got.status != status {
				t.Errorf("%s with %q: %d", path, authorization, got.status)
			}
			if status == 401 && (got.body != unauthorized || got.header.Get("WWW-Authenticate") != `Basic realm="fetchertest"`) {
				t.Errorf("%s with %q: %q, %s", path, authorization, got.header.Values("WWW-Authenticate"), got.body)
			}
		}
	}
}

func TestAChallengeSaysWhatTheTokenServerWants(t *testing.T) {
	t.Parallel()
	const manifest = "/v2/a/b/manifests/1"
	tests := map[string]struct {
		auth          fetchertest.Auth
		path          string
		authorization string
		want          func(token string) []string
	}{
		"the root has no scope": {
			fetchertest.Auth{Service: "reg"}, "/v2/", "",
			func(token string) []string { return []string{`Bearer realm="` + token + `",service="reg"`} },
		},
		"a repository has one": {
			fetchertest.Auth{Service: "reg"}, manifest, "",
			func(token string) []string {
				return []string{`Bearer realm="` + token + `",service="reg",scope="repository:a/b:pull"`}
			},
		},
		"no service": {
			fetchertest.Auth{}, manifest, "",
			func(token string) []string {
				return []string{`Bearer realm="` + token + `",scope="repository:a/b:pull"`}
			},
		},
		"a realm with its own query": {
			fetchertest.Auth{RealmQuery: "account=x"}, "/v2/", "",
			func(token string) []string { return []string{`Bearer realm="` + token + `?account=x"`} },
		},
		"a service that needs quoting": {
			fetchertest.Auth{Service: `a "b" \c`}, "/v2/", "",
			func(token string) []string { return []string{`Bearer realm="` + token + `",service="a \"b\" \\c"`} },
		},
		"a token that isn't one": {
			fetchertest.Auth{}, manifest, "Bearer nonsense",
			func(token string) []string {
				return []string{`Bearer realm="` + token + `",scope="repository:a/b:pull",error="invalid_token"`}
			},
		},
		"a challenge of the test's own, for repositories": {
			fetchertest.Auth{Challenge: func(repository, proper string) []string {
				return []string{"Negotiate", proper, `Basic realm="` + repository + `"`}
			}}, manifest, "",
			func(token string) []string {
				return []string{"Negotiate", `Bearer realm="` + token + `",scope="repository:a/b:pull"`, `Basic realm="a/b"`}
			},
		},
		"but not for the root": {
			fetchertest.Auth{Challenge: func(_, _ string) []string { return nil }}, "/v2/", "",
			func(token string) []string { return []string{`Bearer realm="` + token + `"`} },
		},
		"no challenge at all": {
			fetchertest.Auth{Challenge: func(_, _ string) []string { return nil }}, manifest, "",
			func(string) []string { return nil },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.auth.Scheme = fetchertest.Bearer
			r := fetchertest.New(t, fetchertest.Config{Auth: test.auth})
			got := newClient(t, r).get(r.URL()+test.path, "Authorization", test.authorization)
			if diff := cmp.Diff(test.want(r.TokenURL()), got.header.Values("WWW-Authenticate")); got.status != 401 || diff != "" {
				t.Errorf("%d (-want +got):\n%s", got.status, diff)
			}
		})
	}
}

func TestAnOpenRootAdmitsAnybodyThoughRepositoriesAsk(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{fetchertest.Basic, fetchertest.Bearer} {
		r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: scheme, Username: "u", Password: "p", OpenRoot: true}})
		c := newClient(t, r)
		if root, manifest := c.get(r.URL()+"/v2/").status, c.get(r.URL()+"/v2/a/manifests/1").status; root != 200 || manifest != 401 {
			t.Errorf("%s: root %d, manifest %d", scheme, root, manifest)
		}
	}
}

func TestNobodyLearnsWhatExistsWithoutBeingAdmitted(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p"}})
	c := newClient(t, r)
	digest := r.PutBlob("a", []byte("x"))
	for _, path := range []string{"/v2/a/blobs/" + digest, "/v2/a/blobs/sha256:00", "/v2/none/manifests/1"} {
		if got := c.get(r.URL() + path); got.status != 401 || got.body != unauthorized {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := c.get(r.URL()+"/v2/a/blobs/"+digest, "Authorization", basic("u:p")); got.status != 307 {
		t.Errorf("with the credential: %d", got.status)
	}
}

func TestARegistryTokenIsABearerAtOnce(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, RegistryToken: "long-lived"}})
	r.PutManifest("a", "1", v2Type, []byte("{}"))
	c := newClient(t, r)
	for authorization, status := range map[string]int{"Bearer long-lived": 200, "bearer  long-lived": 200, "Bearer long": 401, "Bearer ": 401, "": 401} {
		if got := c.get(r.URL()+"/v2/a/manifests/1", "Authorization", authorization).status; got != status {
			t.Errorf("%q: %d", authorization, got)
		}
	}
	if got := c.get(r.TokenURL() + "?scope=repository:a:pull").status; got != 401 {
		t.Errorf("an anonymous token: %d", got)
	}
}
