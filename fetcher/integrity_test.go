package fetcher_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// What a fetch makes of bytes that are not those that were asked for. Transfers
// that go wrong in parts are in transfer_test.go, damage in the cache is in
// cache_test.go.

const mediaTypeOfManifest = "application/vnd.oci.image.manifest.v1+json"

// shop serves what a test puts at each path, of any digest and with any header.
type shop struct {
	testing.TB
	url string

	mu    sync.Mutex
	pages map[string]page
	asked []string // the paths
}

type page struct {
	body   []byte
	header http.Header
}

func newShop(tb testing.TB) *shop {
	s := &shop{TB: tb, pages: map[string]page{}}
	server := httptest.NewServer(s)
	tb.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p, there := s.pages[strings.TrimPrefix(r.URL.Path, "/v2/app/")]
	s.asked = append(s.asked, r.URL.Path)
	s.mu.Unlock()
	if !there {
		http.NotFound(w, r)
		return
	}
	maps.Copy(w.Header(), p.header)
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", mediaTypeOfManifest)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.body))
}

// put serves a body under a name below the repository.
func (s *shop) put(name string, body []byte, header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[name] = page{body, header}
}

// blob serves a blob by a digest of this algorithm, and returns its descriptor.
func (s *shop) blob(algorithm digest.Algorithm, body string) descriptor {
	d := algorithm.FromString(body)
	s.put("blobs/"+d.String(), []byte(body), nil)
	return descriptor{Digest: d.String(), Size: int64(len(body))}
}

// descriptor may say anything.
type descriptor struct {
	MediaType string            `json:"mediaType,omitempty"`
	Digest    string            `json:"digest"`
	Size      int64             `json:"size"`
	Platform  *fetcher.Platform `json:"platform,omitempty"`
}

func manifestOf(tb testing.TB, config descriptor, layers ...descriptor) []byte {
	return encoded(tb, map[string]any{"schemaVersion": 2, "config": config, "layers": layers})
}

func encoded(tb testing.TB, document any) []byte {
	tb.Helper()
	body, err := json.Marshal(document)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

// requests returns the paths that were asked for and hold this.
func (s *shop) requests(what string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.asked {
		if strings.Contains(path, what) {
			n++
		}
	}
	return n
}

// request is one for the shop, of a message that nobody has checked yet.
func (s *shop) request(kind, query string) fetcher.Request {
	s.Helper()
	var port int32
	if _, err := fmt.Sscanf(s.url, "http://127.0.0.1:%d", &port); err != nil {
		s.Fatal(err)
	}
	return fetcher.Request{
		URI:       scheme.URI{Scheme: kind, Host: new("127.0.0.1"), Port: &port, Path: "app", Query: &query, Fragment: new("http")},
		Directory: s.TempDir(), Platform: &fetcher.Platform{OS: "linux", Architecture: "amd64"},
	}
}

// refuses fails the test unless a fetch fails for that reason and in these
// words, and leaves these files only.
func refuses(tb testing.TB, f *fetcher.Fetcher, req fetcher.Request, reason fetcher.Reason, words string, left map[string][]byte) {
	tb.Helper()
	_, err := f.Fetch(tb.Context(), req)
	var failure *fetcher.Error
	if !errors.As(err, &failure) || failure.Reason != reason || !strings.Contains(failure.Text, words) {
		tb.Errorf("got %v; want %s: %s", err, reason, words)
	}
	holds(tb, req.Directory, left)
}

func TestWhatAProxyPackedOnItsWayIsRefusedByTheNameOfItsEncoding(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(bytes.Repeat([]byte("a"), 1<<20))
	_ = z.Close()
	for name, match := range map[string]fetchertest.Match{
		"a manifest":                   {Endpoint: fetchertest.Manifest},
		"a blob":                       {Endpoint: fetchertest.Blob},
		"a blob of the content host's": {Endpoint: fetchertest.CDN},
	} {
		for _, encoding := range []string{"gzip", "br", "x-gzip", "gzip, identity"} {
			t.Run(name+" as "+encoding, func(t *testing.T) {
				t.Parallel()
				redirect := match.Endpoint == fetchertest.CDN
				p := newPull(t, setting{registry: fetchertest.Config{Redirect: redirect}, layers: [][]byte{[]byte("one")}})
				p.registry.Inject(fetchertest.Fault{Match: match, Header: http.Header{"Content-Encoding": {encoding}}, Body: packed.Bytes()})
				left := map[string][]byte{"manifest": p.image.Manifest}
				if match.Endpoint == fetchertest.Manifest {
					left = nil
				}
				req := fetcher.Request{URI: p.uri("docker", "latest"), Directory: p.dir}
				refuses(t, p.fetcher, req, fetcher.RegistryUnreachable, fmt.Sprintf("came with Content-Encoding %q", encoding), left)
			})
		}
	}
}

func TestAContentEncodingThatSaysNothingWasDoneDoesNotMatter(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{layers: [][]byte{[]byte("one")}})
	p.registry.Inject(fetchertest.Fault{Header: http.Header{"Content-Encoding": {"identity"}}})
	p.fetchedOnce()
}

func TestWrongBytesAfterAContinuedConnectionAreFound(t *testing.T) {
	t.Parallel()
	cut := fetchertest.Fault{CutAt: mebibyte, Times: 1}
	t.Run("and the layer is fetched once more", func(t *testing.T) {
		t.Parallel()
		p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}})
		p.inject(cut, fetchertest.Fault{Match: ranged, Corrupt: true, Times: 1})
		p.fetched()
		p.wants("whole: 200", "from 1048576: 206", "whole: 200")
	})
	t.Run("and the first bytes may be the wrong ones", func(t *testing.T) {
		t.Parallel()
		p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}})
		cut.Replaced, cut.Header = true, http.Header{"Etag": nil}
		p.inject(cut)
		p.fetched()
		p.wants("whole: 200", "from 1048576: 206", "whole: 200")
	})
	t.Run("and reported where they stay wrong", func(t *testing.T) {
		t.Parallel()
		p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}, alone: true})
		p.inject(fetchertest.Fault{CutAt: mebibyte, Times: 1}, fetchertest.Fault{Corrupt: true})
		p.failed(fetcher.DigestMismatch, "wrong digest")
	})
}

func TestNoByteBeyondTheSizeComesIntoAFile(t *testing.T) {
	t.Parallel()
	const size = 300_000
	p := newPull(t, setting{layers: [][]byte{fetchertest.RandomLayer(3, size)}})
	p.inject(fetchertest.Fault{Extra: 1 << 40, Chunked: true})
	most := int64(0)
	p.observe = func(e fetcher.Event) {
		if progress, ok := e.(fetcher.Progress); ok {
			most = max(most, progress.BytesDone)
		}
	}
	p.failed(fetcher.SizeMismatch, "wrong size")
	if all := int64(size + len(p.image.Manifest) + len(p.image.Config)); most > all {
		t.Errorf("%d bytes were written, want at most %d", most, all)
	}
}

func TestAManifestIsHeldToWhatNamedIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		query  func(right []byte) string
		served func(right []byte) []byte // nil: the right one
		header http.Header
		reason fetcher.Reason // "": it is taken
	}{
		"by digest, another byte":                       {query: ofSHA256, served: tamperedWith, reason: fetcher.DigestMismatch},
		"by digest, another document":                   {query: ofSHA256, served: func([]byte) []byte { return []byte(`{"schemaVersion":2,"manifests":[]}`) }, reason: fetcher.DigestMismatch},
		"by digest, no document":                        {query: ofSHA256, served: func([]byte) []byte { return []byte("<html>") }, reason: fetcher.DigestMismatch},
		"by digest, nothing":                            {query: ofSHA256, served: func([]byte) []byte { return nil }, reason: fetcher.DigestMismatch},
		"by digest, with a blank after it":              {query: ofSHA256, served: func(right []byte) []byte { return append(bytes.Clone(right), '\n') }, reason: fetcher.DigestMismatch},
		"by digest, cut":                                {query: ofSHA256, served: func(right []byte) []byte { return right[:len(right)-1] }, reason: fetcher.DigestMismatch},
		"by digest, and a header that vouches for it":   {query: ofSHA256, served: tamperedWith, header: named(digest.FromString("x").String()), reason: fetcher.DigestMismatch},
		"by digest, whatever another header says":       {query: ofSHA256, header: named(digest.FromString("x").String())},
		"by sha512 digest, another byte":                {query: ofSHA512, served: tamperedWith, reason: fetcher.DigestMismatch},
		"by sha512 digest, whatever a sha256 one says":  {query: ofSHA512, header: named(digest.FromString("x").String())},
		"by tag, with the header of another document":   {query: tagged, header: named(digest.FromString("x").String()), reason: fetcher.DigestMismatch},
		"by tag, with the sha512 of another document":   {query: tagged, header: named(digest.SHA512.FromString("x").String()), reason: fetcher.DigestMismatch},
		"by tag, without a header":                      {query: tagged},
		"by tag, with a header that is no digest":       {query: tagged, header: named("W/\"x\"")},
		"by tag, with a header of an unknown algorithm": {query: tagged, header: named("md5:d41d8cd98f00b204e9800998ecf8427e")},
		"by tag, with a header of sha384":               {query: tagged, header: named(digest.SHA384.FromString("x").String())},
		"by tag, with a header that leads elsewhere":    {query: tagged, header: named("sha256:../../../etc/passwd")},
		"by tag, with a header in capitals":             {query: tagged, header: named(strings.ToUpper(digest.FromString("x").String()))},
		"by tag, cut, without a header":                 {query: tagged, served: func(right []byte) []byte { return right[:len(right)-1] }, reason: fetcher.ManifestInvalid},
	} {
		for cached, config := range map[string]bool{"": false, ", with a cache": true} {
			t.Run(name+cached, func(t *testing.T) {
				t.Parallel()
				s := newShop(t)
				right := manifestOf(t, s.blob(digest.SHA256, "config"), s.blob(digest.SHA256, "layer"))
				body, query := right, test.query(right)
				if test.served != nil {
					body = test.served(right)
				}
				s.put("manifests/"+query, body, test.header)
				f := fetcher.Config{}
				if config {
					f.CacheDir = newCache(t)
				}
				for range 2 {
					req := s.request("docker", query)
					if test.reason != "" {
						refuses(t, newFetcher(t, f), req, test.reason, "", nil)
						continue
					}
					if _, err := newFetcher(t, f).Fetch(t.Context(), req); err != nil {
						t.Fatal(err)
					}
					holds(t, req.Directory, map[string][]byte{
						"manifest": right, digest.FromString("config").String(): []byte("config"), digest.FromString("layer").String(): []byte("layer"),
					})
				}
				if test.reason != "" && s.requests("/blobs/") > 0 {
					t.Error("blobs were asked for")
				}
			})
		}
	}
}

func ofSHA256(right []byte) string { return digest.FromBytes(right).String() }
func ofSHA512(right []byte) string { return digest.SHA512.FromBytes(right).String() }
func tagged([]byte) string         { return "latest" }

func named(d string) http.Header { return http.Header{"Docker-Content-Digest": {d}} }

// tamperedWith changes a byte of a digest, so that the document means something else.
func tamperedWith(right []byte) []byte {
	wrong := bytes.Clone(right)
	i := bytes.Index(wrong, []byte("sha256:")) + 10
	wrong[i] = '0' + '1' - min(max(wrong[i], '0'), '1')
	return wrong
}

func TestAPlatformsManifestIsHeldToItsIndex(t *testing.T) {
	t.Parallel()
	linux := &fetcher.Platform{OS: "linux", Architecture: "amd64"}
	for name, test := range map[string]struct {
		size   int64 // more than there are
		served func([]byte) []byte
		reason fetcher.Reason
		words  string
	}{
		"as it should be":           {},
		"another byte":              {served: tamperedWith, reason: fetcher.DigestMismatch, words: "wrong digest"},
		"a byte more":               {served: func(b []byte) []byte { return append(bytes.Clone(b), ' ') }, reason: fetcher.SizeMismatch, words: "the index says"},
		"a size that is wrong":      {size: 1, reason: fetcher.SizeMismatch, words: "the index says"},
		"a size that is enormous":   {size: 1 << 61, reason: fetcher.SizeMismatch, words: "the index says"},
		"the index in its place":    {served: func([]byte) []byte { return []byte(`{"schemaVersion":2,"manifests":[]}`) }, reason: fetcher.SizeMismatch, words: "the index says"},
		"a manifest of another one": {served: func(b []byte) []byte { return bytes.Repeat([]byte(" "), len(b)) }, reason: fetcher.DigestMismatch, words: "wrong digest"},
	} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			t.Run(name+" by "+algorithm.String(), func(t *testing.T) {
				t.Parallel()
				s := newShop(t)
				right := manifestOf(t, s.blob(algorithm, "config"))
				body := right
				if test.served != nil {
					body = test.served(right)
				}
				d := algorithm.FromBytes(right)
				s.put("manifests/"+d.String(), body, nil)
				index := encoded(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{
					{MediaType: mediaTypeOfManifest, Digest: d.String(), Size: int64(len(right)) + test.size, Platform: linux},
				}})
				s.put("manifests/latest", index, nil)
				req, f := s.request("docker", "latest"), newFetcher(t, fetcher.Config{})
				if test.reason != "" {
					refuses(t, f, req, test.reason, test.words, nil)
					return
				}
				if _, err := f.Fetch(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				holds(t, req.Directory, map[string][]byte{"manifest": right, "index": index, algorithm.FromString("config").String(): []byte("config")})
			})
		}
	}
}

func TestAnIndexThatLeadsToItselfOrOnWithoutEndIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	next := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for range 5 {
		d := digest.FromBytes(next)
		s.put("manifests/"+d.String(), next, nil)
		next = encoded(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{{Digest: d.String(), Size: int64(len(next))}}})
	}
	s.put("manifests/latest", next, nil)
	f := newFetcher(t, fetcher.Config{})
	refuses(t, f, s.request("docker", "latest"), fetcher.ManifestInvalid, "more than 2 indexes lie between the reference and a manifest", nil)
	if n := s.requests("/manifests/"); n != 3 {
		t.Errorf("%d manifests were asked for, want 3", n)
	}
	self := digest.FromString("an index can't hold its own digest").String()
	body := encoded(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{{Digest: self, Size: 100}}})
	s.put("manifests/self", body, nil)
	s.put("manifests/"+self, body, nil)
	refuses(t, f, s.request("docker", "self"), fetcher.SizeMismatch, "the index says 100", nil)
}

func TestAnImageMayBeOfSHA512Throughout(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ config, layer digest.Algorithm }{
		"all by sha512": {digest.SHA512, digest.SHA512},
		"mixed":         {digest.SHA256, digest.SHA512},
	} {
		for _, header := range []http.Header{nil, named(digest.FromString("x").String())} {
			t.Run(fmt.Sprint(name, header), func(t *testing.T) {
				t.Parallel()
				s := newShop(t)
				big := string(large()[:mebibyte])
				right := manifestOf(t, s.blob(test.config, "config"), s.blob(test.layer, big))
				query := ofSHA512(right)
				s.put("manifests/"+query, right, header)
				want := map[string][]byte{
					"manifest": right, test.config.FromString("config").String(): []byte("config"), test.layer.FromString(big).String(): []byte(big),
				}
				f := newFetcher(t, fetcher.Config{CacheDir: newCache(t)})
				for _, f := range []*fetcher.Fetcher{newFetcher(t, fetcher.Config{}), f, f} {
					req := s.request("docker", query)
					result, err := f.Fetch(t.Context(), req)
					if err != nil || result.Manifest.Digest.String() != query {
						t.Fatalf("%v, %v", result.Manifest, err)
					}
					holds(t, req.Directory, want)
				}
				if n := s.requests("/blobs/"); n != 4 {
					t.Errorf("%d blobs were asked for, want 2 without the cache and 2 for it", n)
				}
				layer := test.layer.FromString(big).String()
				req := s.request("docker-blob", layer)
				s.put("blobs/"+layer, tamperedWith([]byte(strings.Replace(big, big[:7], "sha256:", 1))), nil)
				refuses(t, newFetcher(t, fetcher.Config{}), req, fetcher.DigestMismatch, "want "+layer, nil)
			})
		}
	}
}

// malformed are no digests that could make the name of a file.
func malformed() map[string]string {
	hex := digest.FromString("x").Encoded()
	return map[string]string{
		"md5":                        "md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha1":                       "sha1:" + hex[:40],
		"sha384":                     digest.SHA384.FromString("x").String(),
		"an unknown algorithm":       "blake3:" + hex,
		"63 digits":                  "sha256:" + hex[:63],
		"65 digits":                  "sha256:" + hex + "0",
		"sha512 of 64 digits":        "sha512:" + hex,
		"digits in capitals":         "sha256:" + strings.ToUpper(hex[:63]) + "A",
		"an algorithm in capitals":   "SHA256:" + hex,
		"a way out":                  "sha256:../../x",
		"a way out as long as a sum": "sha256:" + strings.Repeat("../", 21) + "x",
		"an escaped way out":         "sha256:" + strings.Repeat("%2e%2e%2f", 7) + "x",
		"an algorithm that is a way": "../../sha256:" + hex,
		"a way alone":                "../../../etc/passwd:",
		"nothing":                    "",
		"no digits":                  "sha256:",
		"no algorithm":               ":" + hex,
		"another form":               "sha256+b64:" + hex,
		"another form, empty":        "sha256+b64:",
		"a NUL":                      "sha256:" + hex[:63] + "\x00",
		"a NUL after it":             "sha256:" + hex + "\x00",
		"a line feed after it":       "sha256:" + hex + "\n",
		"a blank before it":          " sha256:" + hex,
		"a separator after it":       "sha256:" + hex + "/..",
		"a query after it":           "sha256:" + hex + "?x",
		"100,000 digits":             "sha256:" + strings.Repeat("a", 100_000),
	}
}

func TestADigestThatIsNoneIsRefusedBeforeAnyRequest(t *testing.T) {
	t.Parallel()
	for name, d := range malformed() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			f := newFetcher(t, fetcher.Config{})
			skipping := s.request("docker", "latest")
			skipping.SkipDigests = []digest.Digest{digest.FromString("x"), digest.Digest(d)}
			for what, req := range map[string]fetcher.Request{
				"a blob": s.request("docker-blob", d), "an image": s.request("docker", d), "a manifest": s.request("docker-manifest", d), "to skip": skipping,
			} {
				_, err := f.Fetch(t.Context(), req)
				var failure *fetcher.Error
				switch {
				case !errors.As(err, &failure) || !errors.Is(err, fetcher.ErrInvalid) || failure.Phase != fetcher.Prepare:
					t.Errorf("%s: got %v", what, err)
				case what == "to skip" && failure.Reason != fetcher.DigestInvalid:
					t.Errorf("%s: got %s", what, failure.Reason)
				case len(failure.Text) > 1000 || strings.ContainsAny(failure.Text, "\x00\n"):
					t.Errorf("%s: the error is %q", what, failure.Text)
				}
				holds(t, req.Directory, nil)
			}
			if n := s.requests(""); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func TestADigestThatIsNoneInAManifestIsRefusedBeforeAnyBlobIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, d := range malformed() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			f := newFetcher(t, fetcher.Config{})
			right, wrong := s.blob(digest.SHA256, "right"), descriptor{Digest: d, Size: 1}
			for what, body := range map[string][]byte{
				"layer":    manifestOf(t, right, right, wrong),
				"config":   manifestOf(t, wrong, right),
				"index":    encoded(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{right, wrong}}),
				"fs-layer": encoded(t, map[string]any{"schemaVersion": 1, "fsLayers": []map[string]string{{"blobSum": right.Digest}, {"blobSum": d}}}),
			} {
				s.put("manifests/"+what, body, nil)
				refuses(t, f, s.request("docker", what), fetcher.ManifestInvalid, "invalid manifest", nil)
			}
			if n := s.requests(""); n != 4 {
				t.Errorf("%d requests were sent, want 4 for the documents", n)
			}
		})
	}
}
