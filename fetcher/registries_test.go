package fetcher

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// world is one registry under its own name, and a fetcher that reaches it.
type world struct {
	t        *testing.T
	profile  fetchertest.Profile
	internet *fetchertest.Internet
	registry *fetchertest.Registry
	fetcher  *Fetcher
	events   []Event // of the last fetch
	trace    bool    // … each request and decision among them
}

func newWorld(t *testing.T, p fetchertest.Profile) *world {
	t.Helper()
	w := &world{t: t, profile: p, internet: fetchertest.NewInternet(t)}
	w.registry = w.internet.Add(t, p)
	transport := registry.NewTransport(&tls.Config{RootCAs: w.internet.CertPool()})
	transport.Proxy = http.ProxyURL(w.internet.Proxy())
	t.Cleanup(transport.CloseIdleConnections)
	var err error
	if w.fetcher, err = New(Config{Transport: transport}); err != nil {
		t.Fatal(err)
	}
	return w
}

// put fills a place with an image of three layers.
func (w *world) put(place fetchertest.Place) fetchertest.Pushed {
	return w.registry.PutImage(place.Repository, place.Tag, threeLayers(place.URI))
}

func threeLayers(seed string) fetchertest.Image {
	return fetchertest.Image{Layers: [][]byte{[]byte("1" + seed), []byte("2" + seed), []byte("3" + seed)}}
}

// fetch fetches the very URI that a user writes.
func (w *world) fetch(place fetchertest.Place, config DockerConfig) (string, error) {
	w.t.Helper()
	w.internet.Reset()
	w.events = nil
	ref, err := scheme.Parse(place.URI)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	_, err = w.fetcher.Fetch(w.t.Context(), Request{
		URI: ref.URI(), Directory: dir, Config: config, Platform: &Platform{OS: "linux", Architecture: "amd64"},
		Observe: func(e Event) { w.events = append(w.events, e) }, Trace: w.trace,
	})
	return dir, err
}

// fetched fetches, and the image must be there.
func (w *world) fetched(place fetchertest.Place, config DockerConfig, image fetchertest.Pushed, more ...string) {
	w.t.Helper()
	dir, err := w.fetch(place, config)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, strings.Join(w.requests(), "\n"))
	}
	want := slices.Concat([]string{"manifest", image.ConfigDigest}, image.LayerDigests, more)
	slices.Sort(want)
	if diff := cmp.Diff(want, filesIn(w.t, dir)); diff != "" {
		w.t.Errorf("files (-want +got):\n%s", diff)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "manifest")); err != nil || string(got) != string(image.Manifest) {
		w.t.Errorf("manifest: %v\n%s", err, got)
	}
}

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// requests are what came in, each as a line such as
// "quay.io manifest bearer"; the blobs, which come side by side, are sorted.
func (w *world) requests() []string {
	var lines, blobs []string
	for _, q := range w.internet.Requests() {
		if line := requestLine(q); q.Endpoint == fetchertest.Blob || q.Endpoint == fetchertest.CDN {
			blobs = append(blobs, line)
		} else {
			lines = append(lines, line)
		}
	}
	slices.Sort(blobs)
	return append(lines, blobs...)
}

// requestLine names host, endpoint and the kind of credential; plain http and POST
// are shown where they occur.
func requestLine(q fetchertest.Request) string {
	words := []string{q.Host, string(q.Endpoint)}
	if q.Method != http.MethodGet {
		words = append(words, q.Method)
	}
	if q.Scheme != "https" {
		words = append(words, q.Scheme)
	}
	form, _ := url.ParseQuery(q.Form)
	kind, _, _ := strings.Cut(q.Authorization, " ")
	words = append(words, strings.ToLower(kind), form.Get("grant_type"))
	return strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), " ")
}

func (w *world) asked(what string, want []string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.requests()); diff != "" {
		w.t.Errorf("%s: requests (-want +got):\n%s", what, diff)
	}
}

func (w *world) warnings() (texts []string) {
	for _, e := range w.events {
		if warning, ok := e.(Warning); ok {
			texts = append(texts, warning.Text)
		}
	}
	return texts
}

// dockerConfig is what docker login leaves, for the profile's registry.
func dockerConfig(t *testing.T, p fetchertest.Profile, c fetchertest.Credential) DockerConfig {
	t.Helper()
	type entry struct {
		Username      string `json:"username,omitempty"`
		Password      string `json:"password,omitempty"`
		IdentityToken string `json:"identitytoken,omitempty"`
	}
	config, err := json.Marshal(map[string]map[string]entry{"auths": {p.Key: entry(c)}})
	if err != nil {
		t.Fatal(err)
	}
	return DockerConfig{JSON: config}
}

// The shapes of a fetch, by what the registry asks for.
type ask int

const (
	asksNothing     ask = iota // open content
	asksBasic                  // Basic at the registry
	asksToken                  // a token by the endpoint's challenge
	asksTokenAtRoot            // a token by the challenge of /v2/ only
)

// rows are the least requests of each profile.
var rows = map[string]struct {
	ask   ask
	token string // the host of the token server
}{
	"Docker Hub":                {asksToken, "auth.docker.io"},
	"Docker Hardened Images":    {asksToken, "dhi.io"},
	"nvcr.io in 2020":           {asksToken, "nvcr.io"},
	"nvcr.io in 2022":           {asksToken, "nvcr.io"},
	"nvcr.io in 2026":           {asksToken, "nvcr.io"},
	"GitHub Container Registry": {asksToken, "ghcr.io"},
	"Quay":                      {asksToken, "quay.io"},
	"Google Container Registry": {asksToken, "gcr.io"},
	"Google Container Registry without challenges for manifests": {asksTokenAtRoot, "gcr.io"},
	"Google Artifact Registry":                                   {asksToken, "us-docker.pkg.dev"},
	"Amazon ECR":                                                 {asksBasic, ""},
	"Amazon ECR Public":                                          {asksToken, "public.ecr.aws"},
	"Azure Container Registry":                                   {asksToken, "team.azurecr.io"},
	"Azure Container Registry with a password":                   {asksToken, "team.azurecr.io"},
	"Microsoft Container Registry":                               {asksNothing, ""},
	"registry.k8s.io":                                            {asksNothing, ""},
	"GitLab":                                                     {asksToken, "gitlab.com"},
	"Harbor":                                                     {asksToken, "harbor.example.com"},
	"Harbor behind a TLS proxy":                                  {asksToken, "harbor.example.com"},
	"Artifactory":                                                {asksToken, "team.jfrog.io"},
	"Artifactory with Basic":                                     {asksBasic, ""},
	"Nexus":                                                      {asksBasic, ""},
	"Gitea":                                                      {asksToken, "gitea.example.com"},
	"Codeberg":                                                   {asksToken, "codeberg.org"},
	"DigitalOcean":                                               {asksToken, "api.digitalocean.com"},
	"Oracle OCIR":                                                {asksToken, "fra.ocir.io"},
	"IBM Container Registry":                                     {asksToken, "cp.icr.io"},
	"Alibaba ACR":                                                {asksToken, "dockerauth.aliyuncs.com"},
	"registry.redhat.io":                                         {asksToken, "registry.redhat.io"},
	"registry.access.redhat.com":                                 {asksNothing, ""},
	"SUSE":                                                       {asksToken, "registry.suse.com"},
	"Cloudflare":                                                 {asksBasic, ""},
	"Mirantis MSR":                                               {asksToken, "msr.example.com"},
	"Pulp":                                                       {asksToken, "pulp.example.com"},
	"zot":                                                        {asksToken, "zot.example.com"},
	"distribution with a token server of one's own": {asksToken, "auth.example.com"},
}

// needs is how many requests of each kind the content itself needs.
type needs struct{ manifests, blobs int }

var (
	oneImage   = needs{1, 4} // the config and three layers
	oneOfIndex = needs{2, 4}
)

// least returns the least requests for content: 1+L for open content (one
// more for an index), 3+L with a token, 2+L with Basic, 1+L when warm. A
// redirect adds the request to where it leads.
func least(p fetchertest.Profile, credential fetchertest.Credential, warm bool, n needs) []string {
	row := rows[p.Name]
	var lines []string
	if !warm && row.ask != asksNothing {
		lines = append(lines, p.Host+" manifest")
	}
	if !warm && row.ask == asksTokenAtRoot {
		lines = append(lines, p.Host+" root")
	}
	kind := map[ask]string{asksBasic: " basic", asksToken: " bearer", asksTokenAtRoot: " bearer"}[row.ask]
	if !warm && row.token != "" {
		lines = append(lines, row.token+" token"+tokenKind(credential))
	}
	for range n.manifests {
		lines = append(lines, p.Host+" manifest"+kind)
		if p.ContentIsRegistry {
			lines = append(lines, p.Content+" manifest")
		}
	}
	var blobs []string
	for range n.blobs {
		blobs = append(blobs, p.Host+" blob"+kind)
		switch {
		case p.ContentIsRegistry:
			blobs = append(blobs, p.Content+" blob")
		case p.Content != "":
			blobs = append(blobs, p.Content+" cdn")
		}
	}
	slices.Sort(blobs)
	return append(lines, blobs...)
}

// tokenKind is the kind of token request that a credential needs.
func tokenKind(c fetchertest.Credential) string {
	switch {
	case c.IdentityToken != "":
		return " POST refresh_token"
	case c.Username != "":
		return " basic"
	}
	return ""
}

func TestTheLeastRequestsAreAsManyAsThePlanSays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[bool][]string{ // by warm
		"Microsoft Container Registry": {
			false: {"mcr.microsoft.com manifest", "mcr.microsoft.com blob", "mcr.microsoft.com blob", "mcr.microsoft.com blob", "mcr.microsoft.com blob"},
		},
		"nvcr.io in 2026": {
			false: {"nvcr.io manifest", "nvcr.io token", "nvcr.io manifest bearer", "nvcr.io blob bearer", "nvcr.io blob bearer", "nvcr.io blob bearer", "nvcr.io blob bearer"},
			true:  {"nvcr.io manifest bearer", "nvcr.io blob bearer", "nvcr.io blob bearer", "nvcr.io blob bearer", "nvcr.io blob bearer"},
		},
		"Nexus": {
			false: {"nexus.example.com manifest", "nexus.example.com manifest basic", "nexus.example.com blob basic", "nexus.example.com blob basic", "nexus.example.com blob basic", "nexus.example.com blob basic"},
			true:  {"nexus.example.com manifest basic", "nexus.example.com blob basic", "nexus.example.com blob basic", "nexus.example.com blob basic", "nexus.example.com blob basic"},
		},
	} {
		for warm, lines := range want {
			if diff := cmp.Diff(lines, least(registryNamed(t, name), fetchertest.Credential{}, warm, oneImage)); diff != "" {
				t.Errorf("%s, warm %t (-want +got):\n%s", name, warm, diff)
			}
		}
	}
	if len(rows) != len(fetchertest.Profiles) {
		t.Errorf("%d rows for %d profiles", len(rows), len(fetchertest.Profiles))
	}
}

func registryNamed(t *testing.T, name string) fetchertest.Profile {
	t.Helper()
	i := slices.IndexFunc(fetchertest.Profiles, func(p fetchertest.Profile) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no profile %q", name)
	}
	return fetchertest.Profiles[i]
}

func TestEveryRegistryServesAnybodyItsPublicContentInTheLeastRequests(t *testing.T) {
	t.Parallel()
	for _, p := range fetchertest.Profiles {
		if p.Public.URI == "" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w, none := newWorld(t, p), fetchertest.Credential{}
			image := w.put(p.Public)
			w.fetched(p.Public, DockerConfig{}, image)
			w.asked("cold", least(p, none, false, oneImage))
			w.fetched(p.Public, DockerConfig{}, image)
			w.asked("warm", least(p, none, true, oneImage))
		})
		t.Run(p.Name+", an index", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, p)
			index := w.registry.PutIndex(p.Public.Repository, p.Public.Tag, true, fetchertest.PlatformImage{
				Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: threeLayers("amd64"),
			}, fetchertest.PlatformImage{
				Platform: fetchertest.Platform{OS: "linux", Architecture: "arm64"}, Image: threeLayers("arm64"),
			})
			w.fetched(p.Public, DockerConfig{}, index.Images[0], "index")
			w.asked("cold", least(p, fetchertest.Credential{}, false, oneOfIndex))
		})
	}
}

func TestEveryRegistryServesItsPrivateContentToTheCredentialInTheLeastRequests(t *testing.T) {
	t.Parallel()
	for _, p := range fetchertest.Profiles {
		if p.Private.URI == "" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w, config := newWorld(t, p), dockerConfig(t, p, p.Credential)
			image := w.put(p.Private)
			w.fetched(p.Private, config, image)
			w.asked("cold", least(p, p.Credential, false, oneImage))
			w.fetched(p.Private, config, image)
			w.asked("warm", least(p, p.Credential, true, oneImage))
			if texts := w.warnings(); texts != nil {
				t.Errorf("warnings %q", texts)
			}
			if _, err := w.fetch(p.Private, DockerConfig{}); !errors.Is(err, ErrUnauthorized) {
				t.Errorf("without the credential: %v", err)
			}
		})
	}
}

func TestDockerHubIsOneRegistryWhicheverWayItIsWritten(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"docker://docker.io/alpine?3.20", "docker://docker.io/library/alpine?3.20",
		"docker://index.docker.io/alpine?3.20", "docker://registry-1.docker.io/library/alpine?3.20",
		"docker://registry-1.docker.io:443/alpine?3.20#https",
	} {
		p := registryNamed(t, "Docker Hub")
		p.Public.URI = uri
		w := newWorld(t, p)
		w.fetched(p.Public, DockerConfig{}, w.put(p.Public))
		w.asked(uri, least(p, fetchertest.Credential{}, false, oneImage))
	}
}

// ghcr.io refuses a scope of another repository, alone or beside the right one.
func TestAScopeOfAnotherRepositoryIsNeverAskedFor(t *testing.T) {
	t.Parallel()
	github := registryNamed(t, "GitHub Container Registry")
	for title, cold := range map[string]*fetchertest.Refusal{
		"the endpoint names the placeholder":                  github.Root,
		"the endpoint names nothing and /v2/ the placeholder": {},
	} {
		p, least := github, []string{"ghcr.io manifest", "ghcr.io token", "ghcr.io manifest bearer"}
		if p.Cold = cold; cold.Challenge == "" {
			least = slices.Insert(least, 1, "ghcr.io root")
		}
		w := newWorld(t, p)
		w.fetched(p.Public, DockerConfig{}, w.put(p.Public))
		if diff := cmp.Diff(least, w.requests()[:len(least)]); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", title, diff)
		}
	}
}

func TestATokenThatWentStaleInAWarmProcessIsReplaced(t *testing.T) {
	t.Parallel()
	for _, p := range fetchertest.Profiles {
		if rows[p.Name].ask != asksToken || p.Public.URI == "" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, p)
			image := w.put(p.Public)
			w.fetched(p.Public, DockerConfig{}, image)
			w.registry.RevokeTokens()
			w.fetched(p.Public, DockerConfig{}, image)
			cold := least(p, fetchertest.Credential{}, false, oneImage)
			stale := p.Host + " manifest bearer"
			switch p.Name {
			case "Docker Hardened Images": // no challenge: what a cold request gets
				w.asked("stale", append([]string{stale}, cold...))
			case "nvcr.io in 2026": // the other realm, in vain, and what a cold request gets
				w.asked("stale", append([]string{stale, "authn.nvidia.com token"}, cold...))
			default: // the challenge is as good as that of a cold request
				w.asked("stale", append([]string{stale}, cold[1:]...))
			}
		})
	}
}

// What is refused to a login that went stale is fetched without it, and the
// operator is told.
func TestAStaleLoginDoesNotKeepAnybodyFromPublicContent(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"GitHub Container Registry", // 403 from the token server
		"Amazon ECR Public",         // 403 from the registry
		"Docker Hub",                // 401 from the token server
		"Harbor",                    // a token that grants nothing
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registryNamed(t, name)
			w := newWorld(t, p)
			image := w.put(p.Public)
			stale := fetchertest.Credential{Username: p.Credential.Username, Password: "c4n4ry"}
			w.fetched(p.Public, dockerConfig(t, p, stale), image)
			texts := strings.Join(w.warnings(), "\n")
			if !strings.Contains(texts, p.Key) || strings.Contains(texts, "c4n4ry") {
				t.Errorf("warnings %q", texts)
			}
			// Beside the cold fetch: the token request with the credential by
			// GET and by POST, and the request with what they bring.
			got, cold := w.requests(), least(p, fetchertest.Credential{}, false, oneImage)
			if most := len(cold) + 4; len(got) > most {
				t.Errorf("%d requests, want %d at most:\n%s", len(got), most, strings.Join(got, "\n"))
			}
			w.fetched(p.Public, dockerConfig(t, p, stale), image)
			w.asked("warm", least(p, fetchertest.Credential{}, true, oneImage))
		})
	}
}

func TestAStaleLoginForPrivateContentIsExplainedInTheRegistrysWords(t *testing.T) {
	t.Parallel()
	for name, words := range map[string]string{
		"Amazon ECR":                "Your Authorization Token has expired",
		"Docker Hub":                "incorrect username or password",
		"GitHub Container Registry": "denied",
		"IBM Container Registry":    "The requested authentication method is not supported",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registryNamed(t, name)
			w := newWorld(t, p)
			w.put(p.Private)
			_, err := w.fetch(p.Private, dockerConfig(t, p, fetchertest.Credential{Username: p.Credential.Username, Password: "c4n4ry"}))
			if !errors.Is(err, ErrUnauthorized) && !errors.Is(err, ErrDenied) {
				t.Fatalf("got %v", err)
			}
			if text := err.Error(); !strings.Contains(text, words) || !strings.Contains(text, p.Key) || strings.Contains(text, "c4n4ry") {
				t.Errorf("got %s", text)
			}
		})
	}
}
