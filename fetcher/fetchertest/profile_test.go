package fetchertest_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// play makes an internet with one registry that holds the profile's images.
func play(t *testing.T, p fetchertest.Profile) (*fetchertest.Internet, *fetchertest.Registry, client) {
	t.Helper()
	n := fetchertest.NewInternet(t)
	r := n.Add(t, p)
	for _, place := range []fetchertest.Place{p.Public, p.Private} {
		if place.Repository != "" {
			r.PutImage(place.Repository, place.Tag, fetchertest.Image{Layers: [][]byte{[]byte("a layer of " + place.URI)}})
		}
	}
	return n, r, surfer(t, n)
}

func manifestURL(p fetchertest.Profile, place fetchertest.Place) string {
	return "https://" + p.Host + "/v2/" + place.Repository + "/manifests/" + place.Tag
}

// rightToken is the address for a token, as the specification has it.
func rightToken(t *testing.T, p fetchertest.Profile, place fetchertest.Place) string {
	t.Helper()
	server := p.TokenServers[0]
	realm, err := (&url.URL{Scheme: "https", Host: p.Host}).Parse(server.Realm)
	if err != nil {
		t.Fatal(err)
	}
	query := url.Values{"scope": {"repository:" + place.Repository + ":pull"}}
	if len(server.Scopes) > 0 {
		query.Set("scope", server.Scopes[0])
	}
	if len(server.Services) > 0 {
		query.Set("service", server.Services[0])
	}
	realm.Scheme, realm.RawQuery = "https", query.Encode()
	return realm.String()
}

// bearer reads the token of an answer, under either name.
func bearer(t *testing.T, a answer) string {
	t.Helper()
	fields := decode[map[string]any](t, a.body)
	for _, name := range []string{"token", "access_token"} {
		if token, ok := fields[name].(string); ok && a.status == http.StatusOK {
			return "Bearer " + token
		}
	}
	t.Fatalf("no token: %d %s", a.status, a.body)
	return ""
}

// refusedAs compares an answer with the profile's refusal; nil is none.
func refusedAs(t *testing.T, what string, got answer, want *fetchertest.Refusal, repository string) {
	t.Helper()
	if want == nil {
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
		return
	}
	status := want.Status
	if status == 0 {
		status = http.StatusUnauthorized
	}
	line := strings.ReplaceAll(want.Challenge, "{repository}", repository)
	if got.status != status || got.header.Get("WWW-Authenticate") != line || want.Body != "" && got.body != want.Body {
		t.Errorf("%s: %d, challenge %s\n%s", what, got.status, got.header.Get("WWW-Authenticate"), got.body)
	}
}

func TestAProfileChallengesAsItsRowSays(t *testing.T) {
	t.Parallel()
	for _, p := range fetchertest.Profiles {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			_, _, c := play(t, p)
			if p.ContentIsRegistry {
				return // it redirects first
			}
			refusedAs(t, "the root", c.get("https://"+p.Host+"/v2/"), p.Root, "")
			for _, place := range []fetchertest.Place{p.Public, p.Private} {
				if place.Repository == "" {
					continue
				}
				refusedAs(t, "cold", c.get(manifestURL(p, place)), p.Cold, place.Repository)
				stale := p.Stale
				if stale == nil {
					stale = p.Cold
				}
				refusedAs(t, "stale", c.get(manifestURL(p, place), "Authorization", "Bearer stale"), stale, place.Repository)
			}
		})
	}
}

func TestAProfileGrantsPublicContentToAnybodyAndPrivateContentToItsCredential(t *testing.T) {
	t.Parallel()
	for _, p := range fetchertest.Profiles {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			_, r, c := play(t, p)
			secret := p.Credential.Password + p.Credential.IdentityToken // it has one of them
			credential := basic(p.Credential.Username + ":" + secret)
			switch {
			case p.Basic:
				if got := c.get(manifestURL(p, p.Private), "Authorization", credential).status; got != http.StatusOK {
					t.Errorf("private content with Basic: %d", got)
				}
			case p.Private.Repository != "":
				if got := c.get(manifestURL(p, p.Private), "Authorization", credential).status; got != http.StatusUnauthorized {
					t.Errorf("Basic at a registry that wants tokens: %d", got)
				}
			}
			if len(p.TokenServers) == 0 {
				return
			}
			if p.Public.Repository != "" {
				token := bearer(t, c.get(rightToken(t, p, p.Public)))
				if got := c.get(manifestURL(p, p.Public), "Authorization", token).status; got != http.StatusOK {
					t.Errorf("public content with an anonymous token: %d", got)
				}
				r.RevokeTokens()
				if got := c.get(manifestURL(p, p.Public), "Authorization", token).status; got != http.StatusUnauthorized {
					t.Errorf("public content with a revoked token: %d", got)
				}
			}
			if p.Private.Repository != "" {
				token := bearer(t, c.get(rightToken(t, p, p.Private), "Authorization", credential))
				if got := c.get(manifestURL(p, p.Private), "Authorization", token).status; got != http.StatusOK {
					t.Errorf("private content with its token: %d", got)
				}
				if a := c.get(rightToken(t, p, p.Private)); a.status == http.StatusOK {
					if got := c.get(manifestURL(p, p.Private), "Authorization", bearer(t, a)).status; got < 400 {
						t.Errorf("private content with an anonymous token: %d", got)
					}
				}
			}
		})
	}
}

func TestAProfileHasItsRegistrysWays(t *testing.T) {
	t.Parallel()
	const scope = "scope=repository:"
	wrong := basic("jo:wrong")
	post := func(pairs ...string) url.Values {
		form := url.Values{"client_id": {"x"}}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		return form
	}
	// login is right in all but that it comes by POST.
	login := func(service, repository string) url.Values {
		return post("grant_type", "password", "username", "jo", "password", "p:wörd", "service", service, "scope", "repository:"+repository+":pull")
	}
	tests := []struct {
		profile, title string
		address        string
		authorization  string
		form           url.Values // of a POST
		status         int
		body           string   // a part of it
		reads          []string // the repositories that the token's access claim has; nil: there is no token
	}{
		{"Docker Hub", "a known repository", "https://auth.docker.io/token?service=registry.docker.io&" + scope + "library/alpine:pull", "", nil, 200, `"access_token"`, []string{"library/alpine"}},
		{"Docker Hub", "another service grants nothing", "https://auth.docker.io/token?service=index.docker.io&" + scope + "library/alpine:pull", "", nil, 200, "", []string{}},
		{"Docker Hub", "no library/ grants nothing", "https://auth.docker.io/token?service=registry.docker.io&" + scope + "alpine:pull", "", nil, 200, "", []string{}},
		{"Docker Hub", "an unknown extra scope is left out", "https://auth.docker.io/token?service=registry.docker.io&" + scope + "library/alpine:pull&scope=repository:x/y:pull", "", nil, 200, "", []string{"library/alpine"}},
		{"Docker Hub", "push is left out", "https://auth.docker.io/token?service=registry.docker.io&" + scope + "library/alpine:pull,push", "", nil, 200, "", []string{"library/alpine"}},
		{"Docker Hub", "a wrong password", "https://auth.docker.io/token?service=registry.docker.io&" + scope + "library/alpine:pull", wrong, nil, 401, `{"details":"incorrect username or password"}`, nil},

		{"nvcr.io in 2020", "the scope in the realm", "https://nvcr.io/proxy_auth?" + scope + "nvidia/k8s/cuda-sample:pull,push", "", nil, 200, `"expires_in":600`, []string{"nvidia/k8s/cuda-sample"}},
		{"nvcr.io in 2022", "an empty service", "https://nvcr.io/proxy_auth?service=&" + scope + "nvidia/k8s/cuda-sample:pull", "", nil, 200, "", []string{"nvidia/k8s/cuda-sample"}},
		{"nvcr.io in 2026", "any service", "https://nvcr.io/proxy_auth?service=nvcr.io&" + scope + "nvidia/k8s/cuda-sample:pull", "", nil, 200, "", []string{"nvidia/k8s/cuda-sample"}},
		{"nvcr.io in 2026", "the other realm is closed", "https://authn.nvidia.com/token?service=registry&" + scope + "nvidia/k8s/cuda-sample:pull", "", nil, 401, "", nil},

		{"GitHub Container Registry", "the right scope alone", "https://ghcr.io/token?service=ghcr.io&" + scope + "org/app:pull", "", nil, 200, "", []string{"org/app"}},
		{"GitHub Container Registry", "the root's placeholder", "https://ghcr.io/token?service=ghcr.io&" + scope + "user/image:pull", "", nil, 401, "UNAUTHORIZED", nil},
		{"GitHub Container Registry", "a union with it", "https://ghcr.io/token?service=ghcr.io&" + scope + "org/app:pull&scope=repository:user/image:pull", "", nil, 401, "UNAUTHORIZED", nil},
		{"GitHub Container Registry", "push", "https://ghcr.io/token?service=ghcr.io&" + scope + "org/app:pull,push", "", nil, 401, "UNAUTHORIZED", nil},
		{"GitHub Container Registry", "private content for anybody", "https://ghcr.io/token?service=ghcr.io&" + scope + "jo/secret:pull", "", nil, 401, "UNAUTHORIZED", nil},
		{"GitHub Container Registry", "a wrong password", "https://ghcr.io/token?service=ghcr.io&" + scope + "org/app:pull", wrong, nil, 403, "DENIED", nil},

		{"Google Container Registry", "POST", "https://gcr.io/v2/token", "", login("gcr.io", "distroless/static"), 404, "", nil},
		{"Google Artifact Registry", "an unknown extra scope", "https://us-docker.pkg.dev/v2/token?" + scope + "project/public/app:pull+repository:x/y:pull", "", nil, 400, "", nil},

		{"Amazon ECR", "an expired password", "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/v2/team/app/manifests/1.0", basic("AWS:expired"), nil, 403, "Your Authorization Token has expired", nil},
		{"Amazon ECR Public", "its own scope", "https://public.ecr.aws/token/?service=public.ecr.aws&scope=aws", "", nil, 200, "", []string{"docker/library/busybox"}},
		{"Amazon ECR Public", "no scope", "https://public.ecr.aws/token/?service=public.ecr.aws", "", nil, 400, "", nil},
		{"Amazon ECR Public", "a repository's scope", "https://public.ecr.aws/token/?service=public.ecr.aws&" + scope + "docker/library/busybox:pull", "", nil, 400, "", nil},
		{"Amazon ECR Public", "the realm without its slash", "https://public.ecr.aws/token?service=public.ecr.aws&scope=aws", "", nil, 404, "", nil},
		{"Amazon ECR Public", "an expired password", "https://public.ecr.aws/token/?service=public.ecr.aws&scope=aws", basic("AWS:expired"), nil, 200, "", []string{}},

		{"Azure Container Registry", "an identity token", "https://team.azurecr.io/oauth2/token", "", post("grant_type", "refresh_token", "refresh_token", "refresh-me", "service", "team.azurecr.io", "scope", "repository:secret:pull"), 200, `{"access_token":`, []string{"secret"}},
		{"Azure Container Registry", "a wrong identity token", "https://team.azurecr.io/oauth2/token", "", post("grant_type", "refresh_token", "refresh_token", "no", "service", "team.azurecr.io", "scope", "repository:secret:pull"), 401, "", nil},
		{"Azure Container Registry", "an identity token by GET", "https://team.azurecr.io/oauth2/token?service=team.azurecr.io&" + scope + "secret:pull", basic("00000000-0000-0000-0000-000000000000:refresh-me"), nil, 200, "", []string{"secret"}},
		{"Azure Container Registry with a password", "POST", "https://team.azurecr.io/oauth2/token", "", login("team.azurecr.io", "secret"), 400, "", nil},

		{"GitLab", "POST", "https://gitlab.com/jwt/auth", "", login("container_registry", "group/secret/image"), 404, "<!DOCTYPE html>", nil},
		{"Harbor", "POST", "https://harbor.example.com/service/token", "", login("harbor-registry", "library/app"), 405, "", nil},
		{"Harbor", "a wrong password", "https://harbor.example.com/service/token?service=harbor-registry&" + scope + "library/app:pull", wrong, nil, 200, "", []string{}},
		{"Artifactory", "POST", "https://team.jfrog.io/artifactory/api/docker/docker-local/v2/token", "", login("team.jfrog.io", "docker-local/secret"), 401, "", nil},
		{"DigitalOcean", "POST", "https://api.digitalocean.com/v2/registry/auth", "", login("registry.digitalocean.com", "team/secret"), 405, "", nil},
		{"Mirantis MSR", "POST", "https://msr.example.com/auth/token", "", login("msr.example.com", "team/secret"), 500, "", nil},
		{"Pulp", "POST", "https://pulp.example.com/token/", "", login("localhost:24817", "team/secret"), 405, "", nil},
		{"zot", "POST", "https://zot.example.com/zot/auth/token", "", login("zot.example.com", "team/secret"), 200, "", []string{"team/secret"}},

		{"Codeberg", "everything", "https://codeberg.org/v2/token?service=container_registry&scope=*", "", nil, 200, "", []string{"forgejo/forgejo"}},
		{"Codeberg", "one repository", "https://codeberg.org/v2/token?service=codeberg.org&" + scope + "forgejo/forgejo:pull", "", nil, 200, "", []string{"forgejo/forgejo"}},
		{"IBM Container Registry", "anonymous", "https://cp.icr.io/oauth/token?service=registry&" + scope + "cp/ibm-ceph/ceph-8-rhel9:pull", "", nil, 401, "The requested authentication method is not supported", nil},
		{"Alibaba ACR", "the service half escaped", "https://dockerauth.aliyuncs.com/auth?service=registry.aliyuncs.com%3Acn-hangzhou:26842&" + scope + "acs/app:pull", "", nil, 200, "", []string{"acs/app"}},
		{"SUSE", "the service cut at its space", "https://registry.suse.com/auth?service=SUSE&" + scope + "bci/bci-base:pull", "", nil, 400, "", nil},
		{"distribution with a token server of one's own", "numbers and times", "https://auth.example.com/token?service=registry.example.com&" + scope + "team/app:pull", "", nil, 200, `"expires_in":"300","issued_at":1456000000`, []string{"team/app"}},
		{"Harbor behind a TLS proxy", "by http", "http://harbor.example.com/service/token?service=harbor-registry&" + scope + "library/app:pull", "", nil, 200, "", []string{"library/app"}},
		{"Harbor", "not by http", "http://harbor.example.com/service/token?service=harbor-registry&" + scope + "library/app:pull", "", nil, 404, "", nil},
	}
	for _, test := range tests {
		t.Run(test.profile+": "+test.title, func(t *testing.T) {
			t.Parallel()
			n, _, c := play(t, profile(t, test.profile))
			header := []string{"Authorization", test.authorization}
			if test.authorization == "" {
				header = nil
			}
			got := answer{}
			if test.form != nil {
				got = c.post(test.address, test.form)
			} else {
				got = c.get(test.address, header...)
			}
			if got.status != test.status || !strings.Contains(got.body, test.body) {
				t.Errorf("%d %s", got.status, got.body)
			}
			if test.reads != nil {
				if diff := cmp.Diff(test.reads, accessOf(t, got)); diff != "" {
					t.Errorf("access (-want +got):\n%s", diff)
				}
			}
			if q := n.Requests()[0]; !strings.HasPrefix(test.address, q.Scheme+"://"+q.Host+"/") {
				t.Errorf("noted as %s://%s", q.Scheme, q.Host)
			}
		})
	}
}

// accessOf returns the repositories in the access claim of an answer's token.
func accessOf(t *testing.T, a answer) []string {
	t.Helper()
	field := "token"
	if !strings.Contains(a.body, `"token":`) {
		field = "access_token"
	}
	_, got := tokenIn(t, a, field)
	names := []string{}
	for _, claim := range got.Access {
		names = append(names, claim.Name)
	}
	return names
}

func TestATokenWithoutAccessIsRefusedAsTheRowSays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		token     string
		login     string
		status    int
		challenge string
		body      string
	}{
		"Docker Hub": {"https://auth.docker.io/token?service=registry.docker.io&scope=repository:alpine:pull", "jo:p:wörd", 401,
			`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull",error="insufficient_scope"`, "UNAUTHORIZED"},
		"Harbor":            {"https://harbor.example.com/service/token?service=harbor-registry", "jo:wrong", 401, `Basic realm="harbor"`, "UNAUTHORIZED"},
		"Amazon ECR Public": {"https://public.ecr.aws/token/?service=public.ecr.aws&scope=aws", "AWS:expired", 403, "", "Your authorization token has expired. Reauthenticate and try again."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := profile(t, name)
			_, _, c := play(t, p)
			token := bearer(t, c.get(test.token, "Authorization", basic(test.login)))
			got := c.get(manifestURL(p, p.Public), "Authorization", token)
			if got.status != test.status || got.header.Get("WWW-Authenticate") != test.challenge || !strings.Contains(got.body, test.body) {
				t.Errorf("%d, challenge %s\n%s", got.status, got.header.Get("WWW-Authenticate"), got.body)
			}
		})
	}
}

func TestAStaleTokenIsRefusedAsTheRowSays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Docker Hardened Images": "",
		"nvcr.io in 2026":        `Bearer realm="https://authn.nvidia.com/token",service="registry",error="invalid_token"`,
		"Azure Container Registry": `Bearer realm="https://team.azurecr.io/oauth2/token",service="team.azurecr.io",` +
			`scope="repository:samples/hello-world:pull",error="invalid_token"`,
	} {
		p := profile(t, name)
		_, _, c := play(t, p)
		got := c.get(manifestURL(p, p.Public), "Authorization", "Bearer stale")
		if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != want {
			t.Errorf("%s: %d, challenge %s", name, got.status, got.header.Get("WWW-Authenticate"))
		}
	}
}

func TestContentIsWhereTheRowSays(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{
		"Docker Hub": "production.cloudflare.docker.com",
		"Amazon ECR": "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com",
	} {
		p := profile(t, name)
		_, r, c := play(t, p)
		authorization := basic("AWS:twelve-hours")
		if len(p.TokenServers) > 0 {
			authorization = bearer(t, c.get(rightToken(t, p, p.Private), "Authorization", basic("jo:p:wörd")))
		}
		digest := r.PutBlob(p.Private.Repository, []byte("a blob"))
		got := c.get("https://"+p.Host+"/v2/"+p.Private.Repository+"/blobs/"+digest, "Authorization", authorization)
		location := got.header.Get("Location")
		if got.status != http.StatusTemporaryRedirect || !strings.HasPrefix(location, "https://"+host+"/") || r.CDNHost() != host {
			t.Fatalf("%s: %d to %s", name, got.status, location)
		}
		if got := c.get(location); got.body != "a blob" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if got := c.get(location, "Authorization", authorization); got.status != http.StatusBadRequest {
			t.Errorf("%s: with Authorization: %d %s", name, got.status, got.body)
		}
	}
}

func TestAllOfKubernetesIsElsewhere(t *testing.T) {
	t.Parallel()
	p := profile(t, "registry.k8s.io")
	_, _, c := play(t, p)
	for _, path := range []string{"/v2/", "/v2/pause/manifests/3.10"} {
		got := c.get("https://registry.k8s.io" + path)
		if want := "https://europe-west1-docker.pkg.dev" + path; got.status != http.StatusTemporaryRedirect || got.header.Get("Location") != want {
			t.Errorf("%s: %d to %s", path, got.status, got.header.Get("Location"))
		}
		if got := c.get(got.header.Get("Location")); got.status != http.StatusOK {
			t.Errorf("%s, elsewhere: %d", path, got.status)
		}
	}
}

func TestAManifestHasTheFieldsThatTheRowSays(t *testing.T) {
	t.Parallel()
	p := profile(t, "registry.access.redhat.com")
	_, r, c := play(t, p)
	got := c.get(manifestURL(p, p.Public))
	if _, has := got.header["Docker-Content-Digest"]; has || got.header.Get("Content-Type") != "text/plain" {
		t.Errorf("header %v", got.header)
	}
	blob := r.PutBlob(p.Public.Repository, []byte("a blob"))
	if got := c.get("https://" + p.Host + "/v2/" + p.Public.Repository + "/blobs/" + blob); got.header.Get("Docker-Content-Digest") != blob {
		t.Errorf("a blob's header %v", got.header)
	}
}

func TestATokenAnswerHasTheFieldsThatTheRowSays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"Quay":                     {"expires_in", "issued_at", "token"},
		"Docker Hub":               {"access_token", "expires_in", "issued_at", "token"},
		"Azure Container Registry": {"access_token"},
	} {
		p := profile(t, name)
		_, _, c := play(t, p)
		fields := decode[map[string]any](t, c.get(rightToken(t, p, p.Public)).body)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(fields))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAScopeThatIsOnlyAWordGrantsAllAndOthersGrantNothing(t *testing.T) {
	t.Parallel()
	p := profile(t, "Gitea")
	p.TokenServers = []fetchertest.TokenServer{{Realm: p.TokenServers[0].Realm, Scopes: []string{"*"}}}
	_, _, c := play(t, p)
	for scope, want := range map[string][]string{"*": {"org/app"}, "repository:org/app:pull": {}, "**": {}, "": {}} {
		got := accessOf(t, c.get(p.TokenServers[0].Realm+"?scope="+url.QueryEscape(scope)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", scope, diff)
		}
	}
}

func TestAProfileIsOnlyRead(t *testing.T) {
	t.Parallel()
	p := profile(t, "GitLab")
	_, _, c := play(t, p)
	token := bearer(t, c.get(rightToken(t, p, p.Public)))
	for _, address := range []string{rightToken(t, p, p.Public), manifestURL(p, p.Public), "https://registry.gitlab.com/v2/"} {
		if got := c.do(http.MethodDelete, address, "", "Authorization", token); got.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", address, got.status)
		}
	}
}
