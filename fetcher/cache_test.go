package fetcher_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// What the shared cache saves, and to whom it gives what. How it keeps blobs,
// package content specifies.

// shelf is a cache, and a registry whose images are fetched through it.
type shelf struct {
	testing.TB
	registry *fetchertest.Registry
	cache    string
	fetcher  *fetcher.Fetcher
	config   fetcher.DockerConfig
	blobs    map[string][]byte // by digest, as they should be
}

func newShelf(tb testing.TB, config fetchertest.Config) *shelf {
	tb.Helper()
	s := &shelf{TB: tb, registry: fetchertest.New(tb, config), cache: newCache(tb), blobs: map[string][]byte{}}
	s.restart()
	return s
}

// newCache returns a directory that a cache may be made at.
func newCache(tb testing.TB) string {
	tb.Helper()
	if runtime.GOOS == "windows" {
		tb.Skip("Windows has no cache")
	}
	return filepath.Join(tb.TempDir(), "cache")
}

// restart makes a fetcher that knows no more than a new process.
func (s *shelf) restart() {
	s.Helper()
	s.fetcher = newFetcher(s, fetcher.Config{CacheDir: s.cache})
}

// put has the registry hold an image of these layers.
func (s *shelf) put(repository, tag string, layers ...string) fetchertest.Pushed {
	return s.know(s.registry.PutImage(repository, tag, imageOf(layers...)), layers)
}

// know notes what the blobs of an image are.
func (s *shelf) know(image fetchertest.Pushed, layers []string) fetchertest.Pushed {
	s.blobs[image.ConfigDigest] = image.Config
	for i, layer := range layers {
		s.blobs[image.LayerDigests[i]] = []byte(layer)
	}
	return image
}

func imageOf(layers ...string) fetchertest.Image {
	image := fetchertest.Image{Config: []byte(`{"layers":"` + strings.Join(layers, " ") + `"}`)}
	for _, layer := range layers {
		image.Layers = append(image.Layers, []byte(layer))
	}
	return image
}

// fetch fetches into a directory of its own.
func (s *shelf) fetch(kind, repository, identifier string) (dir string, err error) {
	s.Helper()
	dir = s.TempDir()
	_, err = s.fetcher.Fetch(s.Context(), fetcher.Request{
		URI: uri(s, s.registry, kind, repository, identifier), Directory: dir, Config: s.config,
		Platform: &fetcher.Platform{OS: "linux", Architecture: "amd64"},
	})
	return dir, err
}

// fetched fetches an image, which must be there, with these files besides.
func (s *shelf) fetched(image fetchertest.Pushed, repository, identifier string, besides map[string][]byte) (dir string) {
	s.Helper()
	dir, err := s.fetch("docker", repository, identifier)
	if err != nil {
		s.Fatal(err)
	}
	s.has(dir, image, besides)
	return dir
}

// has fails the test unless the directory has the image, whole, and these files besides.
func (s *shelf) has(dir string, image fetchertest.Pushed, besides map[string][]byte) {
	s.Helper()
	want := map[string][]byte{"manifest": image.Manifest, image.ConfigDigest: image.Config}
	for _, digest := range image.LayerDigests {
		want[digest] = s.blobs[digest]
	}
	maps.Copy(want, besides)
	holds(s, dir, want)
}

// blob is the path of a blob in the cache.
func (s *shelf) blob(digest string) string {
	return filepath.Join(s.of(s.registry), "v1", "blobs", digest)
}

// of is the part of the cache that a registry has.
func (s *shelf) of(r *fetchertest.Registry) string { return cacheOf(s.cache, r) }

func cacheOf(cache string, r *fetchertest.Registry) string {
	scheme, host, _ := strings.Cut(r.URL(), "://")
	return filepath.Join(cache, scheme+"_"+host)
}

// cost fails the test unless these were the requests since the last call, in any order.
func (s *shelf) cost(want ...string) {
	s.Helper()
	var got []string
	for _, q := range s.registry.Requests() {
		got = append(got, fmt.Sprintf("%s %s: %d", q.Method, q.Endpoint, q.Status))
	}
	s.registry.Reset()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("requests (-want +got):\n%s", diff)
	}
}

var bearer = fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "tenant", Password: "p"}}

// tenant returns a docker config for the registry.
func (s *shelf) tenant(username, password string) fetcher.DockerConfig {
	return fetcher.DockerConfig{JSON: fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, s.registry.Host(), username, password)}
}

const (
	manifest = "GET manifest: 200"
	layer    = "GET blob: 200"
	look     = "HEAD blob: 200"
)

// login is what a registry's first request costs.
var login = []string{"GET manifest: 401", "GET token: 200"}

func TestAWarmFetchAsksForTheTagAlone(t *testing.T) {
	t.Parallel()
	s := newShelf(t, bearer)
	s.config = s.tenant("tenant", "p")
	image := s.put("team/app", "latest", "one", "two")
	s.fetched(image, "team/app", "latest", nil)
	s.cost(append(login, manifest, layer, layer, layer)...)
	s.fetched(image, "team/app", "latest", nil)
	s.cost(manifest)
	s.fetched(image, "team/app", image.ManifestDigest, nil)
	s.cost()
	s.restart()
	s.fetched(image, "team/app", "latest", nil)
	s.cost(append(login, manifest)...)
	s.restart()
	s.fetched(image, "team/app", image.ManifestDigest, nil)
	s.cost()
}

func TestAWarmFetchThroughAnIndexAsksForTheTagAlone(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	index := s.registry.PutIndex("team/app", "latest", true, fetchertest.PlatformImage{
		Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: imageOf("one", "two"),
	})
	s.know(index.Images[0], []string{"one", "two"})
	besides := map[string][]byte{"index": index.Index}
	s.fetched(index.Images[0], "team/app", "latest", besides)
	s.cost(manifest, manifest, layer, layer, layer)
	for range 2 {
		s.fetched(index.Images[0], "team/app", "latest", besides)
		s.cost(manifest)
		s.fetched(index.Images[0], "team/app", index.IndexDigest, besides)
		s.cost()
		s.restart()
	}
}

func TestABlobOfTheCacheIsAHardLinkToIt(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	image := s.put("team/app", "latest", "one")
	for range 2 { // as who fetched, and as who found
		dir := s.fetched(image, "team/app", "latest", nil)
		for _, digest := range append(image.LayerDigests, image.ConfigDigest) {
			there, err := os.Lstat(filepath.Join(dir, digest))
			if err != nil {
				t.Fatal(err)
			}
			here, err := os.Lstat(s.blob(digest))
			if err != nil {
				t.Fatal(err)
			}
			if there.Mode() == 0o644 {
				t.Skip("this file system shares files by reflink")
			}
			if !os.SameFile(here, there) || there.Mode() != 0o444 {
				t.Errorf("%s is a file of its own, or of mode %v", digest, there.Mode())
			}
		}
	}
}

func TestALayerOfTwoImagesIsFetchedOnce(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	first := s.put("team/app", "latest", "base", "one")
	second := s.put("team/other", "latest", "base", "two")
	s.fetched(first, "team/app", "latest", nil)
	s.cost(manifest, layer, layer, layer)
	s.fetched(second, "team/other", "latest", nil)
	s.cost(manifest, layer, layer)
}

// TestFetchesAtOnceFetchEachBlobOnce lets no blob pass before all have their manifest.
func TestFetchesAtOnceFetchEachBlobOnce(t *testing.T) {
	t.Parallel()
	const fetches = 8
	for name, test := range map[string]struct {
		images    int
		processes bool
	}{
		"of one image":                        {images: 1},
		"of one image, by two processes":      {images: 1, processes: true},
		"of eight images":                     {images: fetches},
		"of eight images, by eight processes": {images: fetches, processes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, fetchertest.Config{})
			var images []fetchertest.Pushed
			for i := range test.images {
				images = append(images, s.put("team/app", fmt.Sprint(i), "base", "more", fmt.Sprintf("own %d", i)))
			}
			var resolved sync.WaitGroup
			resolved.Add(fetches)
			all := make(chan struct{})
			s.registry.Inject(
				fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Notice: func(fetchertest.Request) { resolved.Done() }},
				fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Hold: all},
			)
			go func() {
				resolved.Wait()
				close(all)
			}()
			dirs, errs := make([]string, fetches), make([]error, fetches)
			var running sync.WaitGroup
			for i := range fetches {
				own := *s
				if test.processes {
					own.restart()
				}
				running.Go(func() { dirs[i], errs[i] = own.fetch("docker", "team/app", fmt.Sprint(i%test.images)) })
			}
			running.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			for i, dir := range dirs {
				s.has(dir, images[i%test.images], nil)
			}
			asked := map[string]int{}
			for _, q := range s.registry.Requests() {
				if q.Endpoint == fetchertest.Blob {
					asked[q.Identifier]++
				}
			}
			if len(asked) != 2+2*test.images {
				t.Errorf("%d blobs were asked for, want 2 layers, and config and a layer of each image", len(asked))
			}
			for digest, n := range asked {
				if n != 1 {
					t.Errorf("%s was asked for %d times", digest, n)
				}
			}
		})
	}
}

// TestADamagedBlobIsFetchedAgainAndNeverHandedOut damages it after it was used,
// so that the cache knows it as good.
func TestADamagedBlobIsFetchedAgainAndNeverHandedOut(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, path string) error{
		"other bytes, as many, and the times as they were": func(t *testing.T, path string) error {
			info, err := os.Stat(path)
			return errors.Join(err, rewrite(path, "0ne"), os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"fewer bytes": func(t *testing.T, path string) error { return rewrite(path, "on") },
		"no bytes":    func(t *testing.T, path string) error { return rewrite(path, "") },
		"more bytes":  func(t *testing.T, path string) error { return rewrite(path, "one and") },
		"a file in its place": func(t *testing.T, path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("0ne"), 0o444))
		},
		"a symbolic link in its place": func(t *testing.T, path string) error {
			secret := filepath.Join(t.TempDir(), "secret")
			return errors.Join(os.WriteFile(secret, []byte("0ne"), 0o444), os.Remove(path), os.Symlink(secret, path))
		},
		"a directory in its place": func(t *testing.T, path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		},
		"nothing in its place": func(t *testing.T, path string) error { return os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, fetchertest.Config{})
			image := s.put("team/app", "latest", "one")
			for range 2 {
				s.fetched(image, "team/app", "latest", nil)
			}
			s.registry.Reset()
			if err := damage(t, s.blob(image.LayerDigests[0])); err != nil {
				t.Fatal(err)
			}
			s.fetched(image, "team/app", "latest", nil)
			s.cost(manifest, layer)
			s.fetched(image, "team/app", "latest", nil)
			s.cost(manifest)
		})
	}
}

// rewrite changes a file in place, as only its owner or root may.
func rewrite(path, data string) error {
	return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, []byte(data), 0o644), os.Chmod(path, 0o444))
}

func TestADamagedManifestIsFetchedAgain(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	image := s.put("team/app", "latest", "one")
	s.fetched(image, "team/app", "latest", nil)
	s.registry.Reset()
	paths, err := filepath.Glob(filepath.Join(s.of(s.registry), "v1", "manifests", "*", image.ManifestDigest))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%q, %v", paths, err)
	}
	if err := rewrite(paths[0], "{}"); err != nil {
		t.Fatal(err)
	}
	s.fetched(image, "team/app", image.ManifestDigest, nil)
	s.cost(manifest)
	s.fetched(image, "team/app", image.ManifestDigest, nil)
	s.cost()
}

func TestAManifestThatOnlyItsContentTypeExplainsIsFetchedAgain(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	image := s.put("team/app", "latest", "one")
	digest := s.registry.PutManifest("team/app", "odd", "application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":"text/plain","config":{"digest":%q,"size":%d},"layers":[]}`, image.ConfigDigest, len(image.Config)))
	for _, want := range [][]string{{manifest, layer}, {manifest}} {
		dir, err := s.fetch("docker", "team/app", digest)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, image.ConfigDigest)); string(got) != string(image.Config) {
			t.Errorf("the config: %q, %v", got, err)
		}
		s.cost(want...)
	}
}

// TestTheCacheGivesNobodyWhatTheRegistryWouldNot has the blobs and the manifest
// in the cache, fetched by the one tenant who may.
func TestTheCacheGivesNobodyWhatTheRegistryWouldNot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name               string
		username, password string // none: anonymous
		repository         string
		reason             fetcher.Reason
		status             int
	}{
		{"without a credential", "", "", "team/app", fetcher.AuthRequired, http.StatusUnauthorized},
		{"with another one's credential", "other", "p", "team/app", fetcher.AuthFailed, http.StatusUnauthorized},
		{"with a wrong password", "tenant", "wrong", "team/app", fetcher.AuthFailed, http.StatusUnauthorized},
		{"from a repository that has no such thing", "tenant", "p", "team/other", "", http.StatusNotFound},
	} {
		for _, process := range []string{"in the same process", "in another"} {
			t.Run(test.name+"/"+process, func(t *testing.T) {
				t.Parallel()
				s := newShelf(t, bearer)
				image := s.put("team/app", "latest", "one")
				s.put("team/other", "latest", "two")
				s.config = s.tenant("tenant", "p")
				s.fetched(image, "team/app", "latest", nil)
				s.config = s.tenant(test.username, test.password)
				if test.username == "" {
					s.config = fetcher.DockerConfig{}
				}
				if process == "in another" {
					s.restart()
				}
				for kind, identifier := range map[string]string{
					"docker": image.ManifestDigest, "docker-manifest": image.ManifestDigest, "docker-blob": image.LayerDigests[0],
				} {
					s.registry.Reset()
					dir, err := s.fetch(kind, test.repository, identifier)
					var failure *fetcher.Error
					if !errors.As(err, &failure) || test.reason != "" && failure.Reason != test.reason || test.reason == "" && !errors.Is(err, fetcher.ErrNotFound) {
						t.Errorf("%s: got %v", kind, err)
					}
					holds(t, dir, nil)
					if !slices.ContainsFunc(s.registry.Requests(), func(q fetchertest.Request) bool {
						return q.Identifier == identifier && q.Status == test.status
					}) {
						t.Errorf("%s: the registry was not asked", kind)
					}
				}
			})
		}
	}
}

// TestTheProvisionersBlobsCostNoRequest fetches as Mesos does: the manifest, then
// each blob by a call of its own.
// A tenant with a registry of their own may name any digest there, and have it
// say yes to any question.
func TestOneRegistrysBlobsAreNotHandedOutForAnother(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	image := s.put("team/app", "1", "secret")
	s.fetched(image, "team/app", "1", nil)
	victim := s.registry
	s.registry = fetchertest.New(t, fetchertest.Config{})
	s.registry.PutManifest("x/y", "1", "application/vnd.docker.distribution.manifest.v2+json", image.Manifest)
	s.registry.Inject(fetchertest.Fault{Match: fetchertest.Match{Method: http.MethodHead}, Status: http.StatusOK, Header: http.Header{"Content-Length": {"6"}}})
	victim.Reset()
	for kind, identifier := range map[string]string{"docker": "1", "docker-blob": image.LayerDigests[0]} {
		dir, err := s.fetch(kind, "x/y", identifier)
		var failure *fetcher.Error
		if !errors.As(err, &failure) || failure.Reason != fetcher.BlobNotFound {
			t.Errorf("%s: got %v", kind, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, image.LayerDigests[0])); err == nil {
			t.Errorf("%s: the layer is there", kind)
		}
	}
	if n := len(victim.Requests()); n != 0 {
		t.Errorf("%d requests to the other registry", n)
	}
}

func TestTheProvisionersBlobsCostNoRequest(t *testing.T) {
	t.Parallel()
	s := newShelf(t, bearer)
	s.config = s.tenant("tenant", "p")
	image := s.put("team/app", "latest", "one", "two")
	blobs := append([]string{image.ConfigDigest}, image.LayerDigests...)
	for _, want := range [][]string{append(login, manifest, layer, layer, layer), append(login, manifest)} {
		if _, err := s.fetch("docker-manifest", "team/app", "latest"); err != nil {
			t.Fatal(err)
		}
		for _, digest := range blobs {
			dir, err := s.fetch("docker-blob", "team/app", digest)
			if err != nil {
				t.Fatal(err)
			}
			holds(t, dir, map[string][]byte{digest: s.blobs[digest]})
		}
		s.cost(want...)
		s.restart()
	}
}

func TestABlobAloneIsHandedOutAfterTheRegistrysYes(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	image := s.put("team/app", "latest", "one")
	s.fetched(image, "team/app", "latest", nil)
	s.registry.Reset()
	s.restart()
	for _, want := range [][]string{{look}, nil} {
		dir, err := s.fetch("docker-blob", "team/app", image.LayerDigests[0])
		if err != nil {
			t.Fatal(err)
		}
		holds(t, dir, map[string][]byte{image.LayerDigests[0]: []byte("one")})
		s.cost(want...)
	}
}

func TestWhatTheDirectoryHasAlreadyIsReused(t *testing.T) {
	t.Parallel()
	for name, cached := range map[string]bool{"with a cache": true, "without a cache": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{cached: cached, layers: [][]byte{[]byte("one"), []byte("two")}})
			for _, again := range []bool{false, true} {
				result := p.fetched()
				for _, file := range result.Files[1:] {
					if file.Reused != again {
						t.Errorf("%s: Reused is %v, want %v", file.Path, file.Reused, again)
					}
				}
				if (result.BytesTransferred == 0) != again {
					t.Errorf("%d bytes came over the network", result.BytesTransferred)
				}
			}
			if n := p.registry.Count(fetchertest.Blob); n != 3 {
				t.Errorf("%d requests for blobs, want 3", n)
			}
		})
	}
}

func TestWhatTheDirectoryHadBeforeThereWasACacheIsReused(t *testing.T) {
	t.Parallel()
	s := newShelf(t, fetchertest.Config{})
	image := s.put("team/app", "1", "one", "two")
	dir := t.TempDir()
	for _, f := range []*fetcher.Fetcher{newFetcher(t, fetcher.Config{}), s.fetcher} {
		request := fetcher.Request{URI: uri(t, s.registry, "docker", "team/app", "1"), Directory: dir}
		if _, err := f.Fetch(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		s.has(dir, image, nil)
	}
	s.cost("GET manifest: 200", layer, layer, layer, "GET manifest: 200")
}

// TestACancelledFetchIsContinuedByTheNext cancels when the layer is half there.
func TestACancelledFetchIsContinuedByTheNext(t *testing.T) {
	t.Parallel()
	const reached = 4 * mebibyte
	p := newPull(t, setting{cached: true, fetcher: fetcher.Config{ChunksPerBlob: 1}})
	p.inject(fetchertest.Fault{StallAt: reached, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.observe = func(e fetcher.Event) {
		if progress, ok := e.(fetcher.Progress); ok && progress.BytesDone >= reached {
			cancel()
		}
	}
	if _, err := p.fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	p.incomplete()
	p.fetcher, p.observe = newFetcher(t, p.setting.fetcher), nil
	p.fetched()
	p.wants("whole: 200", fmt.Sprintf("from %d: 206", reached))
	if n := p.served(); n != largeSize {
		t.Errorf("%d bytes were sent, want %d", n, largeSize)
	}
}

// uncached fails the test if the cache has anything of the layer.
func (p *pull) uncached() {
	p.Helper()
	for _, part := range []string{"blobs", "partial"} {
		if _, err := os.Lstat(filepath.Join(cacheOf(p.setting.fetcher.CacheDir, p.registry), "v1", part, p.layer())); !errors.Is(err, os.ErrNotExist) {
			p.Errorf("the cache has it in %s: %v", part, err)
		}
	}
}

func TestAnUnfitCacheDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(path string) error
		text string
	}{
		"that others may write to": {
			func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777)) },
			`cache: directory "PATH": others may write to it (mode 0777): remove what is in it and chmod it to 0700, or name another directory`,
		},
		"that is a file": {
			func(path string) error { return os.WriteFile(path, nil, 0o600) },
			`cache: directory "PATH": not a directory`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newCache(t)
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := fetcher.New(fetcher.Config{CacheDir: path})
			var failure *fetcher.Error
			if !errors.As(err, &failure) || failure.Reason != fetcher.DirectoryInvalid || failure.Text != strings.ReplaceAll(test.text, "PATH", path) {
				t.Errorf("got %v", err)
			}
		})
	}
}
