package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

const name = "team/app"

var login = credential.Match{Credential: credential.Credential{Username: "u", Password: "p"}, Key: "registry.example"}

// open returns a repository of the registry as a new process would see it.
func open(t *testing.T, r *fetchertest.Registry, m credential.Match) *Repository {
	t.Helper()
	return repository(t, client(t, r), r, m)
}

func client(t *testing.T, r *fetchertest.Registry) *Client {
	t.Helper()
	config := &tls.Config{}
	if strings.HasPrefix(r.URL(), "https") {
		config.RootCAs = r.CertPool()
	}
	c := New(NewTransport(config), "docker-fetcher/test")
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func repository(t *testing.T, c *Client, r *fetchertest.Registry, m credential.Match) *Repository {
	t.Helper()
	registryScheme, _, _ := strings.Cut(r.URL(), "://")
	ref, err := scheme.Parse("docker://" + r.Host() + "/" + name + "?latest#" + registryScheme)
	if err != nil {
		t.Fatal(err)
	}
	return c.Repository(t.Context(), ref, m, func(text string) { t.Errorf("unexpected warning: %s", text) })
}

// asked says in one line each what a registry and its token server were asked.
func asked(r *fetchertest.Registry) []string {
	var lines []string
	for _, q := range r.Requests() {
		kind, _, _ := strings.Cut(q.Authorization, " ")
		lines = append(lines, strings.TrimSpace(string(q.Endpoint)+" "+kind))
	}
	return lines
}

func body(t *testing.T, r *Repository, d string, offset int64) string {
	t.Helper()
	content, err := r.Blob(digest.Digest(d)).Open(t.Context(), transfer.Request{Offset: offset})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAuthenticationTakesTheFewestRequests(t *testing.T) {
	t.Parallel()
	bare := func(_, proper string) []string { // nvcr.io: neither service nor scope (MESOS-10092)
		realm, _, _ := strings.Cut(strings.TrimPrefix(proper, `Bearer realm="`), `"`)
		return []string{`Bearer realm="` + realm + `"`}
	}
	for title, test := range map[string]struct {
		auth       fetchertest.Auth
		credential credential.Match
		want       []string // for a manifest and then a blob
	}{
		"an open registry is asked without credentials": {
			fetchertest.Auth{}, login, []string{"manifest", "blob"},
		},
		"one token serves manifest and blob": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, Service: "registry.docker.io"}, credential.Match{},
			[]string{"manifest", "token", "manifest Bearer", "blob Bearer"},
		},
		"the token server gets the password, the registry the token": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p", TokenField: "access_token"}, login,
			[]string{"manifest", "token Basic", "manifest Bearer", "blob Bearer"},
		},
		"nvcr.io: a realm with its own query, without service and scope": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, RealmQuery: "account=x", Challenge: bare}, credential.Match{},
			[]string{"manifest", "token", "manifest Bearer", "blob Bearer"},
		},
		"an open /v2/ before a closed repository is not asked (Bearer)": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p", OpenRoot: true}, login,
			[]string{"manifest", "token Basic", "manifest Bearer", "blob Bearer"},
		},
		"an open /v2/ before a closed repository is not asked (Basic)": {
			fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p", OpenRoot: true}, login,
			[]string{"manifest", "manifest Basic", "blob Basic"},
		},
		"an identity token is exchanged by POST": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, IdentityToken: "idt"},
			credential.Match{Credential: credential.Credential{IdentityToken: "idt"}, Key: "k"},
			[]string{"manifest", "token", "manifest Bearer", "blob Bearer"},
		},
		"a registry token is sent at once": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, RegistryToken: "rt"},
			credential.Match{Credential: credential.Credential{RegistryToken: "rt"}, Key: "k"},
			[]string{"manifest Bearer", "blob Bearer"},
		},
		"a 401 without a challenge leads to /v2/": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, Challenge: func(_, _ string) []string { return nil }}, credential.Match{},
			[]string{"manifest", "root", "token", "manifest Bearer", "blob Bearer"},
		},
		"Negotiate and Basic in two lines": {
			fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p", Challenge: func(_, proper string) []string {
				return []string{"Negotiate", proper}
			}}, login,
			[]string{"manifest", "manifest Basic", "blob Basic"},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Auth: test.auth})
			image := r.PutImage(name, "latest", fetchertest.Image{Layers: [][]byte{[]byte("layer")}})
			repository := open(t, r, test.credential)
			m, err := repository.Manifest(t.Context(), "latest")
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Body) != string(image.Manifest) || m.ContentType != image.MediaType {
				t.Errorf("got %s %q", m.ContentType, m.Body)
			}
			if got := body(t, repository, image.LayerDigests[0], 0); got != "layer" {
				t.Errorf("the blob is %q", got)
			}
			if diff := cmp.Diff(test.want, asked(r)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARefusalSaysWhatWasTriedAndWhatToDo(t *testing.T) {
	t.Parallel()
	wrong := credential.Match{Credential: credential.Credential{Username: "u", Password: "c4n4ry"}, Key: "https://registry.example/v1/"}
	bearer := fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p", Service: "s"}
	basic := fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p"}
	for title, test := range map[string]struct {
		auth       fetchertest.Auth
		credential credential.Match
		reason     string
		text       []string
	}{
		"no credential, Basic": {basic, credential.Match{}, "AUTH_REQUIRED", []string{
			"GET URL/v2/team/app/manifests/latest: 401 Unauthorized: UNAUTHORIZED", "tried no credentials", `add a credential for "HOST" to the docker config`,
		}},
		"wrong password, Basic": {basic, wrong, "AUTH_FAILED", []string{
			"401 Unauthorized", "tried no credentials, then username and password", `renew the credential of key "https://registry.example/v1/"`,
		}},
		"no credential, Bearer": {bearer, credential.Match{}, "AUTH_REQUIRED", []string{
			"token server TOKEN: 401 Unauthorized", `to get a token by GET for "repository:team/app:pull"`, "add a credential",
		}},
		"wrong password, Bearer": {bearer, wrong, "AUTH_FAILED", []string{
			"token server TOKEN: 401 Unauthorized: incorrect username or password",
			`tried no credentials, then to get a token by GET with the credential for "repository:team/app:pull", then to get a token by POST with the credential, then to get an anonymous token by GET; `,
			"renew the credential",
		}},
		"a token that grants nothing": {
			fetchertest.Auth{Scheme: fetchertest.Bearer, GrantsNothing: func(string, string) bool { return true }}, credential.Match{},
			"AUTH_REQUIRED", []string{
				"401 Unauthorized", `the token server granted nothing for "repository:team/app:pull"`, `then a token for "repository:team/app:pull"`,
			},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Auth: test.auth})
			r.PutImage(name, "latest", fetchertest.Image{})
			_, err := open(t, r, test.credential).Manifest(t.Context(), "latest")
			var e *Error
			if !errors.As(err, &e) || e.Reason != test.reason {
				t.Fatalf("got %v, want reason %s", err, test.reason)
			}
			text := strings.NewReplacer(r.URL(), "URL", r.Host(), "HOST").Replace(err.Error())
			if test.auth.Scheme == fetchertest.Bearer {
				text = strings.ReplaceAll(text, r.TokenURL(), "TOKEN")
			}
			for _, want := range test.text {
				if !strings.Contains(text, want) {
					t.Errorf("the error misses %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "c4n4ry") {
				t.Errorf("the error shows the password: %s", text)
			}
		})
	}
}

func TestTheNoOfATokenServerIsReportedNotThatItKnowsNoPOST(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "other"}})
	r.PutImage(name, "latest", fetchertest.Image{})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Token, Method: "POST"}, Status: 405})
	_, err := open(t, r, login).Manifest(t.Context(), "latest")
	var e *Error
	if !errors.As(err, &e) || e.Reason != "AUTH_FAILED" || !strings.Contains(err.Error(), "incorrect username or password") {
		t.Errorf("got %v", err)
	}
}

func TestTenantsNeverShareAToken(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p"}})
	r.PutImage(name, "latest", fetchertest.Image{})
	c := client(t, r)
	if _, err := repository(t, c, r, login).Manifest(t.Context(), "latest"); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	for _, other := range []credential.Match{{}, {Credential: credential.Credential{Username: "u", Password: "q"}, Key: "k"}} {
		if _, err := repository(t, c, r, other).Manifest(t.Context(), "latest"); err == nil {
			t.Errorf("%q got in with the token of another", other.Key)
		}
	}
	if got := r.Requests()[0].Authorization; got != "" {
		t.Errorf("the first request of another tenant carries %q", got)
	}
}

func TestATokenThatExpiredIsRenewedInTheMiddle(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	d := r.PutBlob(name, []byte("0123456789"))
	repository := open(t, r, credential.Match{})
	body(t, repository, d, 0)
	r.RevokeTokens()
	r.Reset()
	if got := body(t, repository, d, 4); got != "456789" {
		t.Errorf("got %q", got)
	}
	if diff := cmp.Diff([]string{"blob Bearer", "token", "blob Bearer"}, asked(r)); diff != "" {
		t.Error(diff)
	}
}

func TestARedirectTargetGetsNoAuthorization(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true, TLS: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	d := r.PutBlob(name, []byte("blob"))
	if got := body(t, open(t, r, credential.Match{}), d, 1); got != "lob" {
		t.Errorf("got %q", got)
	}
	if diff := cmp.Diff([]string{"blob", "token", "blob Bearer", "cdn"}, asked(r)); diff != "" {
		t.Error(diff)
	}
	if last := r.Requests()[3]; last.Range != "bytes=1-" || last.AcceptEncoding != "identity" {
		t.Errorf("the target was asked for %q with %q", last.Range, last.AcceptEncoding)
	}
}

func TestAPassingFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	for title, fault := range map[string]fetchertest.Fault{
		"503":                      {Status: 503, Times: 2},
		"429 with Retry-After":     {Status: 429, Times: 1, Header: map[string][]string{"Retry-After": {"0.01"}}},
		"a connection that broke":  {Drop: true, Times: 2},
		"a manifest that broke":    {CutAt: 10, Times: 1},
		"500 of the token server":  {Status: 500, Times: 1, Match: fetchertest.Match{Endpoint: fetchertest.Token}},
		"a token that broke":       {CutAt: 5, Times: 1, Match: fetchertest.Match{Endpoint: fetchertest.Token}},
		"a token that was reset":   {CutAt: 5, Reset: true, Times: 1, Match: fetchertest.Match{Endpoint: fetchertest.Token}},
		"token server unreachable": {Drop: true, Times: 1, Match: fetchertest.Match{Endpoint: fetchertest.Token}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
			image := r.PutImage(name, "latest", fetchertest.Image{})
			r.Inject(fault)
			m, err := open(t, r, credential.Match{}).Manifest(t.Context(), "latest")
			if err != nil || string(m.Body) != string(image.Manifest) {
				t.Errorf("got %q, %v", m.Body, err)
			}
		})
	}
}

func TestAWaitThatIsTooLongIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []fetchertest.Endpoint{fetchertest.Manifest, fetchertest.Token} {
		r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
		r.Inject(fetchertest.Fault{
			Match: fetchertest.Match{Endpoint: endpoint}, Status: 429, Header: map[string][]string{"Retry-After": {"86400"}},
		})
		_, err := open(t, r, credential.Match{}).Manifest(t.Context(), "latest")
		var e *Error
		if !errors.As(err, &e) || e.Reason != "RATE_LIMITED" || e.RetryAfter != 24*time.Hour ||
			e.Throttled() {
			t.Errorf("%s: got %#v", endpoint, err)
		}
		if n := r.Count(endpoint); n != 1 {
			t.Errorf("%s: asked %d times", endpoint, n)
		}
	}
}

func TestARedirectLoopIsFollowedToTheBoundAndOnce(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.Inject(fetchertest.Fault{Status: 307, Header: map[string][]string{"Location": {"/v2/" + name + "/manifests/latest"}}})
	_, err := open(t, r, credential.Match{}).Manifest(t.Context(), "latest")
	if err == nil || !strings.Contains(err.Error(), "stopped after 10 redirects") {
		t.Errorf("got %v", err)
	}
	if n := r.Count(fetchertest.Any); n != 10 {
		t.Errorf("%d requests", n)
	}
}

func TestAMissingBlobIsOneWhereverTheRegistryLeads(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("blob"))
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Status: 404})
	_, err := open(t, r, credential.Match{}).Blob(digest.Digest(d)).Open(t.Context(), transfer.Request{})
	var e *Error
	if !errors.As(err, &e) || e.Reason != "BLOB_NOT_FOUND" {
		t.Errorf("got %v", err)
	}
}

func TestSessionsOfRotatingPasswordsAreForgotten(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := client(t, r)
	for i := range 3 * maxSessions {
		repository(t, c, r, credential.Match{Credential: credential.Credential{Username: "u", Password: itoa(int64(i))}, Key: "k"})
	}
	if len(c.sessions) > maxSessions {
		t.Errorf("%d sessions are kept", len(c.sessions))
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		status int
		reason string
	}{
		"404": {404, "MANIFEST_NOT_FOUND"}, "403": {403, "REGISTRY_DENIED"}, "418": {418, "REGISTRY_UNREACHABLE"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			r.Inject(fetchertest.Fault{Status: test.status})
			_, err := open(t, r, credential.Match{}).Manifest(t.Context(), "latest")
			var e *Error
			if !errors.As(err, &e) || e.Reason != test.reason || e.Status != test.status {
				t.Errorf("got %#v, want reason %s", err, test.reason)
			}
		})
	}
}

func TestAnUnknownAuthorityIsReportedWithTheWayOut(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{TLS: true})
	c := New(NewTransport(nil), "test")
	_, err := repository(t, c, r, credential.Match{}).Manifest(t.Context(), "latest")
	var e *Error
	if !errors.As(err, &e) || e.Reason != "TLS_FAILED" || !strings.Contains(err.Error(), "SSL_CERT_FILE") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyALoopbackRegistryMaySpeakPlainHTTPUnasked(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		tls  bool
		want string
	}{"plain": {false, "http"}, "TLS": {true, "https"}} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{TLS: test.tls})
			ref, err := scheme.Parse("docker://" + r.Host() + "/" + name + "?latest")
			if err != nil {
				t.Fatal(err)
			}
			if got := client(t, r).Repository(t.Context(), ref, credential.Match{}, nil).registry.Scheme; got != test.want {
				t.Errorf("the scheme is %s, want %s", got, test.want)
			}
		})
	}
	ref, err := scheme.Parse("docker://registry.example/" + name + "?latest")
	if err != nil {
		t.Fatal(err)
	}
	if got := New(nil, "").Repository(t.Context(), ref, credential.Match{}, nil).registry.Scheme; got != "https" {
		t.Errorf("the scheme is %s", got)
	}
}

func TestCancelEndsARequest(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	r.Inject(fetchertest.Fault{Status: 200, Hold: make(chan struct{}), Notice: func(fetchertest.Request) { cancel() }})
	_, err := open(t, r, credential.Match{}).Manifest(ctx, "latest")
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %#v, want the context's error alone", err)
	}
}

func TestAManifestIsBounded(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutManifest(name, "latest", "application/json", make([]byte, 4<<20+1))
	_, err := open(t, r, credential.Match{}).Manifest(t.Context(), "latest")
	if err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestARefusedCredentialLeavesAPublicImageWithAWarning(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}}) // anybody gets in, but with nothing wrong in hand
	image := r.PutImage(name, "latest", fetchertest.Image{Layers: [][]byte{[]byte("layer")}})
	var warnings []string
	repository := open(t, r, credential.Match{Credential: credential.Credential{Username: "u", Password: "c4n4ry"}, Key: "the key"})
	repository.warn = func(text string) { warnings = append(warnings, text) }
	if _, err := repository.Manifest(t.Context(), "latest"); err != nil {
		t.Fatal(err)
	}
	if got := body(t, repository, image.LayerDigests[0], 0); got != "layer" {
		t.Errorf("the blob is %q", got)
	}
	if diff := cmp.Diff([]string{"manifest", "token Basic", "token", "token", "manifest Bearer", "blob Bearer"}, asked(r)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], `"the key" was refused`) || !strings.Contains(warnings[0], "anonymously") ||
		strings.Contains(warnings[0], "c4n4ry") {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestAnAddressWhoseSignatureExpiredIsSignedAnew(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("blob"))
	for _, status := range []int{400, 403} {
		r.Reset()
		r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Status: status, Times: 1})
		if got := body(t, open(t, r, login), d, 0); got != "blob" {
			t.Errorf("got %q", got)
		}
		if diff := cmp.Diff([]string{"blob", "cdn", "blob", "cdn"}, asked(r)); diff != "" {
			t.Errorf("%d: requests (-want +got):\n%s", status, diff)
		}
	}
}

func TestTheRefusalOfAContentHostIsNotThatOfTheRegistry(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("blob"))
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Status: 403})
	_, err := open(t, r, login).Blob(digest.Digest(d)).Open(t.Context(), transfer.Request{})
	var e *Error
	if !errors.As(err, &e) || e.Reason != "REGISTRY_UNREACHABLE" || strings.Contains(err.Error(), "credential") {
		t.Errorf("got %v", err)
	}
}

func TestAnIdentityIsOfRegistryRepositoryAndCredential(t *testing.T) {
	t.Parallel()
	identity := func(uri string, c credential.Credential) string {
		ref, err := scheme.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		return New(nil, "").Repository(t.Context(), ref, credential.Match{Credential: c, Key: "k"}, nil).Identity()
	}
	const uri = "docker://registry.example/team/app?latest"
	base := identity(uri, credential.Credential{Username: "u", Password: "c4n4ry"})
	if len(base) != 64 || strings.Contains(base, "c4n4ry") {
		t.Errorf("the identity is %s", base)
	}
	if again := identity("docker://registry.example/team/app?other", credential.Credential{Username: "u", Password: "c4n4ry"}); again != base {
		t.Error("it differs for another tag")
	}
	seen := map[string]string{base: "the first"}
	for title, other := range map[string]string{
		"no credential":  identity(uri, credential.Credential{}),
		"another user":   identity(uri, credential.Credential{Username: "v", Password: "c4n4ry"}),
		"moved border":   identity(uri, credential.Credential{Username: "uc", Password: "4n4ry"}),
		"identity token": identity(uri, credential.Credential{IdentityToken: "c4n4ry"}),
		"registry token": identity(uri, credential.Credential{RegistryToken: "c4n4ry"}),
		"a repository":   identity("docker://registry.example/team/app2?latest", credential.Credential{Username: "u", Password: "c4n4ry"}),
		"a registry":     identity("docker://registry.example:444/team/app?latest", credential.Credential{Username: "u", Password: "c4n4ry"}),
		"another scheme": identity(uri+"#http", credential.Credential{Username: "u", Password: "c4n4ry"}),
	} {
		if same, ok := seen[other]; ok {
			t.Errorf("%s has the identity of %s", title, same)
		}
		seen[other] = title
	}
}
