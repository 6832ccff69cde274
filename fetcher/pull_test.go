package fetcher_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// TestMain fails where a fetch leaves a goroutine or an open file behind.
func TestMain(m *testing.M) {
	before := fetchertest.OpenFiles()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := fetchertest.FilesLeft(before); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

const (
	kibibyte = 1 << 10
	mebibyte = 1 << 20

	// largeSize is that of a layer which is asked for by ranges, be the host near
	// or far. A far host is asked for it in parts of partSize.
	largeSize  = 8 * mebibyte
	partSize   = 512 * kibibyte
	largeParts = largeSize / partSize
)

var large = sync.OnceValue(func() []byte { return fetchertest.RandomLayer(1, largeSize) })

// setting says what is fetched from whom. The zero value is an image of one
// large layer in a near registry that behaves well.
type setting struct {
	registry fetchertest.Config
	fetcher  fetcher.Config
	link     *link // nil: loopback as it is, which is near
	layers   [][]byte
	cached   bool // through a cache of its own
	alone    bool // the first layer is fetched by docker-blob, so that nobody says its size
	stall    time.Duration
}

// far is a link that is long enough for a fetcher to use many connections,
// whatever this machine is.
func far() *link { return &link{roundTrip: 4 * time.Millisecond} }

// pull is what is fetched, and who fetches it.
type pull struct {
	testing.TB
	setting
	registry *fetchertest.Registry
	image    fetchertest.Pushed
	fetcher  *fetcher.Fetcher
	dir      string
	observe  func(fetcher.Event)
}

func newPull(tb testing.TB, s setting) *pull {
	tb.Helper()
	return pullFrom(tb, fetchertest.New(tb, s.registry), s)
}

// pullFrom is newPull with a registry that is there.
func pullFrom(tb testing.TB, r *fetchertest.Registry, s setting) *pull {
	tb.Helper()
	if s.layers == nil {
		s.layers = [][]byte{large()}
	}
	if s.cached {
		s.fetcher.CacheDir = newCache(tb)
	}
	if s.link != nil {
		s.fetcher.Transport = s.link.transport()
	}
	p := &pull{TB: tb, setting: s, registry: r, dir: tb.TempDir(), fetcher: newFetcher(tb, s.fetcher)}
	p.image = r.PutImage("team/app", "latest", fetchertest.Image{Layers: s.layers})
	return p
}

func newFetcher(tb testing.TB, config fetcher.Config) *fetcher.Fetcher {
	tb.Helper()
	f, err := fetcher.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func (p *pull) uri(kind, identifier string) scheme.URI {
	p.Helper()
	return uri(p, p.registry, kind, "team/app", identifier)
}

func uri(tb testing.TB, r *fetchertest.Registry, kind, repository, identifier string) scheme.URI {
	tb.Helper()
	ref, err := scheme.Parse(kind + "://" + r.Host() + "/" + repository + "?" + identifier + "#http")
	if err != nil {
		tb.Fatal(err)
	}
	return ref.URI()
}

// inject makes requests for the layer go wrong.
func (p *pull) inject(faults ...fetchertest.Fault) {
	for _, f := range faults {
		f.Match.Identifier = p.layer()
		p.registry.Inject(f)
	}
}

func (p *pull) layer() string { return p.image.LayerDigests[0] }

func (p *pull) fetch(ctx context.Context) (fetcher.Result, error) {
	p.Helper()
	req := fetcher.Request{
		URI: p.uri("docker", "latest"), Directory: p.dir, StallTimeout: p.stall,
		Observe: p.observe, ProgressInterval: time.Millisecond,
	}
	if p.alone {
		req.URI = p.uri("docker-blob", p.layer())
	}
	return p.fetcher.Fetch(ctx, req)
}

func (p *pull) must(r fetcher.Result, err error) fetcher.Result {
	p.Helper()
	if err != nil {
		p.Fatalf("%v\n%s", err, strings.Join(p.asked(), "\n"))
	}
	return r
}

// fetched fetches, and every byte must be there and nothing else.
func (p *pull) fetched() fetcher.Result {
	p.Helper()
	result := p.must(p.fetch(p.Context()))
	want := map[string][]byte{}
	if !p.alone {
		want["manifest"], want[p.image.ConfigDigest] = p.image.Manifest, p.image.Config
	}
	for i, layer := range p.layers {
		want[p.image.LayerDigests[i]] = layer
	}
	holds(p, p.dir, want)
	return result
}

// fetchedOnce fetches, and no byte may be taken twice.
func (p *pull) fetchedOnce() {
	p.Helper()
	want := int64(0)
	for _, layer := range p.layers {
		want += int64(len(layer))
	}
	if !p.alone {
		want += int64(len(p.image.Config))
	}
	if got := p.fetched().BytesTransferred; got != want {
		p.Errorf("%d bytes came into files, want %d\n%s", got, want, strings.Join(p.asked(), "\n"))
	}
}

// failed fetches, which must fail for that reason and in these words, and leave
// nothing of the layer.
func (p *pull) failed(reason fetcher.Reason, words string) *fetcher.Error {
	p.Helper()
	_, err := p.fetch(p.Context())
	var failure *fetcher.Error
	if !errors.As(err, &failure) || failure.Reason != reason || !strings.Contains(failure.Text, words) {
		p.Fatalf("got %v; want %s: %s\n%s", err, reason, words, strings.Join(p.asked(), "\n"))
	}
	p.incomplete()
	return failure
}

// incomplete fails the test unless the directory has what comes before the
// layer, or some of it.
func (p *pull) incomplete() {
	p.Helper()
	want := map[string][]byte{}
	for name, data := range map[string][]byte{"manifest": p.image.Manifest, p.image.ConfigDigest: p.image.Config} {
		if _, err := os.Lstat(filepath.Join(p.dir, name)); err == nil {
			want[name] = data
		}
	}
	holds(p, p.dir, want)
}

// holds fails the test unless the directory has these files and no other, hidden
// ones among them.
func holds(tb testing.TB, dir string, files map[string][]byte) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		switch want, known := files[e.Name()]; {
		case !known:
			tb.Errorf("%s holds %s of %d bytes, want no such file", dir, e.Name(), len(data))
		case !bytes.Equal(data, want):
			tb.Errorf("%s holds other bytes as %s: %d, sha256 %x; want %d", dir, e.Name(), len(data), sha256.Sum256(data), len(want))
		}
	}
	if len(entries) < len(files) {
		tb.Errorf("%s holds %v, want %v", dir, entries, slices.Sorted(maps.Keys(files)))
	}
}

// requests are those for the layer, to the registry and to its content host.
func (p *pull) requests() []fetchertest.Request {
	return slices.DeleteFunc(p.registry.Requests(), func(q fetchertest.Request) bool { return q.Identifier != p.layer() })
}

// served counts the bytes that were sent of the layer.
func (p *pull) served() (n int64) {
	for _, q := range p.requests() {
		n += q.BodyBytes
	}
	return n
}

// asked is what the requests were.
func (p *pull) asked() (lines []string) {
	for _, q := range p.requests() {
		lines = append(lines, line(q))
	}
	return lines
}

// line is a request in a few words, such as "from 0: 206" or "whole: 200". Where
// a range ends is the far host's to matter: see inParts.
func line(q fetchertest.Request) string {
	what := "whole"
	if first, ok := strings.CutPrefix(q.Range, "bytes="); ok {
		what = "from " + first[:strings.IndexByte(first, '-')]
	}
	if q.Method != http.MethodGet {
		what = q.Method
	}
	if q.Endpoint == fetchertest.CDN {
		what = "content host, " + what
	}
	return fmt.Sprintf("%s: %d", what, q.Status)
}

// wants fails the test unless the layer was asked for like this.
func (p *pull) wants(lines ...string) {
	p.Helper()
	if diff := cmp.Diff(lines, p.asked()); diff != "" {
		p.Errorf("requests (-want +got):\n%s", diff)
	}
}

// inParts fails the test unless the far host was asked for each part of the large
// layer, the last one without an end, in any order. It returns the other requests.
func (p *pull) inParts() (others []string) {
	p.Helper()
	missing := map[string]bool{fmt.Sprintf("bytes=%d-", largeSize-partSize): true}
	for at := 0; at < largeSize-partSize; at += partSize {
		missing[fmt.Sprintf("bytes=%d-%d", at, at+partSize-1)] = true
	}
	for _, q := range p.requests() {
		if !missing[q.Range] || q.Status != http.StatusPartialContent {
			others = append(others, line(q))
			continue
		}
		delete(missing, q.Range)
	}
	if len(missing) > 0 {
		p.Errorf("never asked for %v\n%s", missing, strings.Join(p.asked(), "\n"))
	}
	return others
}

// atMost fails the test where the layer took more requests.
func (p *pull) atMost(n int) {
	p.Helper()
	if lines := p.asked(); len(lines) > n {
		p.Errorf("%d requests, want at most %d\n%s", len(lines), n, strings.Join(lines, "\n"))
	}
}
