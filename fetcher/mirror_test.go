package fetcher_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// mirrored is a registry, a mirror that has the same image, and a fetcher with a
// hosts.toml for the registry.
type mirrored struct {
	*pull
	mirror *fetchertest.Registry
	hosts  string // the hosts directory
}

// newMirrored writes text as hosts.toml; ORIGIN and MIRROR in it are the servers' URLs.
func newMirrored(t *testing.T, s setting, mirror fetchertest.Config, text string) *mirrored {
	t.Helper()
	origin := fetchertest.New(t, s.registry)
	m := &mirrored{mirror: fetchertest.New(t, mirror), hosts: t.TempDir()}
	m.says(t, origin, text)
	s.fetcher.HostsDir = m.hosts
	m.pull = pullFrom(t, origin, s)
	m.mirror.PutImage("team/app", "latest", fetchertest.Image{Layers: m.layers})
	return m
}

func (m *mirrored) says(t *testing.T, origin *fetchertest.Registry, text string) {
	t.Helper()
	dir := filepath.Join(m.hosts, origin.Host())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text = strings.NewReplacer("ORIGIN", origin.URL(), "MIRROR", m.mirror.URL(), "DIR", dir).Replace(text)
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// spoil makes the mirror's answers for the layer go wrong.
func (m *mirrored) spoil(f fetchertest.Fault) {
	f.Match.Identifier = m.layer()
	m.mirror.Inject(f)
}

// counts are the requests of each for manifests and blobs.
func (m *mirrored) counts(originManifests, originBlobs, mirrorManifests, mirrorBlobs int) {
	m.Helper()
	got := [4]int{
		m.registry.Count(fetchertest.Manifest), m.registry.Count(fetchertest.Blob),
		m.mirror.Count(fetchertest.Manifest), m.mirror.Count(fetchertest.Blob),
	}
	if want := [4]int{originManifests, originBlobs, mirrorManifests, mirrorBlobs}; got != want {
		m.Errorf("manifests and blobs asked of origin and mirror: %v, want %v", got, want)
	}
}

// warned collects the warnings of the fetches to come.
func (m *mirrored) warned() func() []string {
	var warnings []string
	m.observe = func(e fetcher.Event) {
		if w, ok := e.(fetcher.Warning); ok {
			warnings = append(warnings, w.Text)
		}
	}
	return func() []string { return warnings }
}

const oneMirror = `
server = "ORIGIN"
[host."MIRROR"]
`

var smallLayer = [][]byte{fetchertest.RandomLayer(9, 200_000)}

func TestAMirrorServesInPlaceOfTheRegistryAndIsToldWhoseContentIsMeant(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror)
	m.fetched()
	m.counts(0, 0, 1, 2)
	for _, q := range m.mirror.Requests() {
		if q.Query != "ns="+strings.ReplaceAll(m.registry.Host(), ":", "%3A") || !strings.HasPrefix(q.Path, "/v2/team/app/") {
			t.Errorf("asked %s?%s", q.Path, q.Query)
		}
	}
}

func TestAMirrorThatMayOnlyPullIsNotAskedForTags(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror+`capabilities = ["pull"]`)
	m.fetched()
	m.counts(1, 0, 0, 2)
}

func TestWhatAMirrorDoesNotServeRightTheNextHostDoes(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		fault fetchertest.Fault
		from  string // the range that the origin is asked for
	}{
		"it has not got it":               {fetchertest.Fault{Status: http.StatusNotFound}, ""},
		"it answers 500, as Kraken does":  {fetchertest.Fault{Status: http.StatusInternalServerError}, ""},
		"it answers 503":                  {fetchertest.Fault{Status: http.StatusServiceUnavailable}, ""},
		"it wants another credential":     {fetchertest.Fault{Status: http.StatusForbidden}, ""},
		"it closes the connection":        {fetchertest.Fault{CutAt: 1}, "bytes=1-"},
		"its bytes are wrong":             {fetchertest.Fault{Corrupt: true}, ""},
		"it has too few bytes":            {fetchertest.Fault{Truncate: 10}, ""},
		"it has too many bytes":           {fetchertest.Fault{Extra: 10}, ""},
		"it breaks off in the middle":     {fetchertest.Fault{CutAt: 100_000}, "bytes=100000-"},
		"it stands still in the middle":   {fetchertest.Fault{StallAt: 100_000}, "bytes=100000-"},
		"the answer ends without warning": {fetchertest.Fault{ShortAt: 100_000}, "bytes=100000-"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m := newMirrored(t, setting{layers: smallLayer, stall: 200 * time.Millisecond}, fetchertest.Config{}, oneMirror)
			m.spoil(test.fault)
			m.fetched()
			m.counts(0, 1, 1, 2) // nothing is repeated at a mirror
			for _, q := range m.registry.Requests() {
				if q.Range != test.from {
					t.Errorf("the origin is asked for the range %q, want %q", q.Range, test.from)
				}
			}
		})
	}
}

func TestWrongBytesBelowAContinuedBlobAreFetchedAgainFromTheOrigin(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror)
	m.spoil(fetchertest.Fault{Replaced: true, CutAt: 50_000})
	m.fetched()
	m.counts(0, 2, 1, 2)
}

func TestAWrongManifestOfAMirrorIsLeftForTheNextHost(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror)
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Body: []byte("<html>log in</html>")})
	m.fetched()
	m.counts(1, 0, 1, 2)
}

func TestMirrorsAreAskedInTheOrderOfTheFile(t *testing.T) {
	t.Parallel()
	second := fetchertest.New(t, fetchertest.Config{})
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror+"[host.\""+second.URL()+"\"]\n")
	second.PutImage("team/app", "latest", fetchertest.Image{Layers: smallLayer})
	m.spoil(fetchertest.Fault{Status: http.StatusNotFound})
	m.fetched()
	m.counts(0, 0, 1, 2)
	if n := second.Count(fetchertest.Any); n != 1 {
		t.Errorf("the second mirror was asked %d times", n)
	}
}

// silent accepts connections and closes them, and counts them.
func silent(t *testing.T) (url string, calls *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Int64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return "http://" + listener.Addr().String(), calls
}

func TestAMirrorThatIsDownIsAskedOnce(t *testing.T) {
	t.Parallel()
	down, calls := silent(t)
	m := newMirrored(t, setting{}, fetchertest.Config{}, "server = \"ORIGIN\"\n[host.\""+down+"\"]\n")
	warnings := m.warned()
	for range 3 {
		m.dir = t.TempDir()
		m.fetched()
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	if w := warnings(); len(w) != 1 || !strings.Contains(w[0], "the mirror "+down+" does not answer") {
		t.Errorf("warned of %q", w)
	}
}

func TestARegistryThatIsClosedIsNotAskedWhateverItsMirrorsSay(t *testing.T) {
	t.Parallel()
	closed := "server = \"ORIGIN\"\ncapabilities = []\n[host.\"MIRROR\"]\n"
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, closed)
	m.fetched()
	m.dir = t.TempDir()
	m.spoil(fetchertest.Fault{Status: http.StatusNotFound})
	m.failed(fetcher.BlobNotFound, m.mirror.URL()+"/v2/team/app/blobs/")
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: http.StatusInternalServerError})
	m.failed(fetcher.Registry5xx, "500")
	if n := m.registry.Count(fetchertest.Any); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestAnErrorNamesWhatEachHostSaid(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror)
	m.spoil(fetchertest.Fault{Status: http.StatusInternalServerError})
	m.inject(fetchertest.Fault{Status: http.StatusNotFound})
	e := m.failed(fetcher.BlobNotFound, "404 Not Found")
	if !strings.Contains(e.Text, "asked before: "+m.mirror.URL()+" (GET "+m.mirror.URL()) || !strings.Contains(e.Text, "500") {
		t.Error(e.Text)
	}
}

func TestWhatFailsHereIsNoMirrorsFault(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror)
	if err := os.Mkdir(filepath.Join(m.dir, m.layer()), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := m.fetch(t.Context()); !errors.Is(err, fetcher.ErrInvalid) {
		t.Error(err)
	}
	if n := m.registry.Count(fetchertest.Any); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

func TestCredentialsReachAMirrorOnlyIfTheyAreItsOwnOrTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	auth := fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "of-the-origin"}
	theirs := fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "of-the-mirror"}
	for title, test := range map[string]struct {
		mirror fetchertest.Auth
		more   string // in the mirror's table
		known  bool   // the config has a credential for the mirror
		serves bool   // the mirror does
	}{
		"the mirror asks for nothing":           {fetchertest.Auth{}, "", false, true},
		"it asks, and nobody gave it one":       {auth, "", false, false},
		"it asks, and the config has its own":   {theirs, "", true, true},
		"it asks, and gets the origin's":        {auth, "docker-fetcher = {credentials = true}", false, true},
		"the origin's goes before one it knows": {auth, "docker-fetcher = {credentials = true}", true, true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m := newMirrored(t, setting{layers: smallLayer, registry: fetchertest.Config{Auth: auth}},
				fetchertest.Config{Auth: test.mirror}, oneMirror+test.more)
			config := fmt.Sprintf(`%q:{"username":"u","password":"of-the-origin"}`, m.registry.Host())
			if test.known {
				config += fmt.Sprintf(`,%q:{"username":"u","password":"of-the-mirror"}`, m.mirror.Host())
			}
			_, err := m.fetcher.Fetch(t.Context(), fetcher.Request{
				URI: m.uri("docker", "latest"), Directory: m.dir, Config: fetcher.DockerConfig{JSON: []byte(`{"auths":{` + config + `}}`)},
			})
			if err != nil {
				t.Fatal(err)
			}
			if served := m.registry.Count(fetchertest.Any) == 0; served != test.serves {
				t.Errorf("the mirror serves: %v", served)
			}
			leaked := !test.known && test.more == ""
			for _, q := range m.mirror.Requests() {
				if leaked && q.Authorization != "" {
					t.Errorf("the mirror got %s", q.Authorization)
				}
			}
		})
	}
}

func TestAMirrorsWaitForTheFirstByteIsItsOwn(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror+`docker-fetcher = {wait = "100ms"}`)
	m.spoil(fetchertest.Fault{Hold: make(chan struct{})})
	m.fetched()
	m.counts(0, 1, 1, 2)
}

func TestAMirrorsCertificateIsHeldToTheFileThatItsTableNames(t *testing.T) {
	t.Parallel()
	for title, ca := range map[string]bool{"with its CA": true, "without": false} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			text := oneMirror
			if ca {
				text += `ca = "ca.pem"`
			}
			m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{TLS: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}}, text)
			if err := os.WriteFile(filepath.Join(m.hosts, m.registry.Host(), "ca.pem"), m.mirror.CA(), 0o644); err != nil {
				t.Fatal(err)
			}
			m.fetched()
			if ca {
				m.counts(0, 0, 2, 2) // and its token server is held to it too
				return
			}
			m.counts(1, 2, 0, 0)
		})
	}
}

func TestAHostsFileThatDoesNotHoldIsAnErrorAndNothingIsAsked(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror+`skip_verify = "yes"`)
	_, err := m.fetch(t.Context())
	var e *fetcher.Error
	if !errors.As(err, &e) || e.Reason != fetcher.HostsInvalid || !strings.Contains(e.Text, "hosts.toml:4: ") {
		t.Errorf("got %v", err)
	}
	m.counts(0, 0, 0, 0)
	m.says(t, m.registry, oneMirror+"answer = 42\n")
	warnings := m.warned()
	m.fetched()
	if w := warnings(); len(w) != 1 || !strings.Contains(w[0], "hosts.toml:4") {
		t.Errorf("warned of %q", w)
	}
}

func TestTheCacheIsTheRegistrysWhoeverServed(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer, cached: true}, fetchertest.Config{}, oneMirror)
	m.fetched()
	m.dir = t.TempDir()
	m.fetched()
	m.counts(0, 0, 2, 2)
}

func TestWhatTheOperatorHasSentToAHostReachesNoContentHost(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{registry: fetchertest.Config{Redirect: true}}, fetchertest.Config{},
		"server = \"ORIGIN\"\n[header]\nAuthorization = \"Basic of-the-operator\"\n")
	m.inject(fetchertest.Fault{CutAt: largeSize / 2, Times: 1}) // continued straight at the content host
	m.fetched()
	straight := 0
	for _, q := range m.registry.Requests() {
		switch {
		case q.Endpoint == fetchertest.CDN && q.Authorization != "":
			t.Errorf("the content host got %s", q.Authorization)
		case q.Endpoint == fetchertest.CDN:
			straight++
		case q.Authorization != "Basic of-the-operator":
			t.Errorf("the registry got %q", q.Authorization)
		}
	}
	if straight < 3 { // config, layer, and the layer's rest
		t.Errorf("%d requests to the content host", straight)
	}
}

func TestATenantHasNothingByAnothersCredentialForAMirror(t *testing.T) {
	t.Parallel()
	auth := fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p"}
	m := newMirrored(t, setting{layers: smallLayer, cached: true, registry: fetchertest.Config{Auth: auth}}, fetchertest.Config{Auth: auth}, oneMirror)
	fetch := func(config string) error {
		for _, kind := range []string{"docker", "docker-blob"} {
			what := m.image.ManifestDigest
			if kind == "docker-blob" {
				what = m.layer()
			}
			_, err := m.fetcher.Fetch(t.Context(), fetcher.Request{
				URI: m.uri(kind, what), Directory: t.TempDir(), Config: fetcher.DockerConfig{JSON: []byte(config)},
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := fetch(fmt.Sprintf(`{"auths":{%q:{"username":"u","password":"p"}}}`, m.mirror.Host())); err != nil {
		t.Fatal(err)
	}
	if err := fetch(`{}`); !errors.Is(err, fetcher.ErrUnauthorized) {
		t.Errorf("another tenant got %v", err)
	}
	if err := fetch(fmt.Sprintf(`{"auths":{%q:{"username":"u","password":"p"}}}`, m.mirror.Host())); err != nil {
		t.Errorf("the mirror is left alone for the refusal of another: %v", err)
	}
}

func TestAMirrorThatHangsIsWaitedForOnceWhateverTheNumberOfBlobs(t *testing.T) {
	t.Parallel()
	var many [][]byte
	for i := range 40 {
		many = append(many, fetchertest.RandomLayer(uint64(i), 1000))
	}
	m := newMirrored(t, setting{layers: many}, fetchertest.Config{}, oneMirror+"capabilities = [\"pull\"]\ndocker-fetcher = {wait = \"200ms\"}")
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Hold: make(chan struct{})})
	m.fetched()
	asked := m.mirror.Count(fetchertest.Blob)
	if asked > 20 {
		t.Errorf("it was asked %d times", asked)
	}
	m.dir = t.TempDir()
	m.fetched()
	if again := m.mirror.Count(fetchertest.Blob); again != asked {
		t.Errorf("the next fetch asks it %d times", again-asked)
	}
}

func TestAMirrorThatIsTheLastToAskIsAskedAgainAsARegistryIs(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, "server = \"MIRROR\"\n")
	m.spoil(fetchertest.Fault{CutAt: 1000, Times: 1})
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: http.StatusServiceUnavailable, Times: 1})
	m.fetched()
	m.counts(0, 0, 2, 3)
}

func TestAManifestThatAMirrorCutsOffIsAskedOfTheNextHost(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror)
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, CutAt: 10})
	m.fetched()
	m.counts(1, 2, 1, 0) // and such a mirror is left alone
}

func TestAMirrorsWordForASizeIsNotTheRegistrys(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer, cached: true, alone: true}, fetchertest.Config{}, oneMirror)
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Truncate: 1000})
	m.fetched()
}

func TestBytesAreKeptThoughTheNextHostAnswersSomethingElse(t *testing.T) {
	t.Parallel()
	second := fetchertest.New(t, fetchertest.Config{})
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, oneMirror+"[host.\""+second.URL()+"\"]\n")
	m.spoil(fetchertest.Fault{CutAt: 150_000})
	second.PutImage("team/app", "latest", fetchertest.Image{Layers: smallLayer})
	second.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, IgnoreRange: true, Body: []byte("<html>log in</html>")})
	m.fetched()
	for _, q := range m.registry.Requests() {
		if q.Identifier == m.layer() && q.Range != "bytes=150000-" {
			t.Errorf("the registry is asked for the range %q", q.Range)
		}
	}
}

func TestAnErrorNamesTheMirrorsThatAreLeftAlone(t *testing.T) {
	t.Parallel()
	down, _ := silent(t)
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{}, "server = \"ORIGIN\"\n[host.\""+down+"\"]\n")
	m.fetched()
	m.dir = t.TempDir()
	m.inject(fetchertest.Fault{Status: http.StatusNotFound})
	e := m.failed(fetcher.BlobNotFound, "404 Not Found")
	if !strings.Contains(e.Text, "; left alone, as they did not answer: "+down+" (GET ") {
		t.Error(e.Text)
	}
}

func TestAMirrorsTokenServerIsAskedOnceForEachRequest(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer}, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}}, oneMirror)
	m.mirror.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Token}, Status: http.StatusServiceUnavailable})
	m.fetched()
	if n := m.mirror.Count(fetchertest.Token); n > 6 { // two forms for each of three
		t.Errorf("%d token requests", n)
	}
	m.counts(1, 2, 1, 2)
}

func TestTheLittlePatienceOfOneCallDoesNotSilenceAMirrorForOthers(t *testing.T) {
	t.Parallel()
	m := newMirrored(t, setting{layers: smallLayer, stall: 100 * time.Millisecond}, fetchertest.Config{}, oneMirror)
	m.spoil(fetchertest.Fault{StallAt: 1000, Times: 1})
	m.fetched()
	m.counts(0, 1, 1, 2)
	m.dir = t.TempDir()
	m.fetched()
	m.counts(0, 1, 2, 4)
}
