package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// store is the content of an image directory by file name.
type store map[string][]byte

// add stores data by its digest and returns its descriptor.
func (s store) add(data []byte) ocispec.Descriptor {
	name := digest.NewDigestFromBytes(digest.SHA256, sum(data))
	s[name.String()] = data
	return ocispec.Descriptor{Digest: name, Size: int64(len(data))}
}

func sum(data []byte) []byte {
	hash := sha256.Sum256(data)
	return hash[:]
}

// image stores an image of these layers.
func (s store) image(t *testing.T, config ocispec.ImageConfig, layers ...[]byte) {
	t.Helper()
	document, err := json.Marshal(ocispec.Image{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	manifest := ocispec.Manifest{Config: s.add(document)}
	manifest.SchemaVersion = 2
	for _, layer := range layers {
		manifest.Layers = append(manifest.Layers, s.add(layer))
	}
	if s["manifest"], err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
}

// write writes the files into a new directory.
func (s store) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range s {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fakeFetcher fetches from a store; a blob arrives once all blobs are asked for.
type fakeFetcher struct {
	store store
	blobs sync.WaitGroup
	fail  string // the query that fails

	mu   sync.Mutex
	uris []string
}

var errFake = errors.New("fake failure")

func (f *fakeFetcher) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	f.mu.Lock()
	f.uris = append(f.uris, fmt.Sprintf("%s %s:%d/%s?%s#%s %s", r.URI.Scheme, *r.URI.Host, *r.URI.Port, r.URI.Path, *r.URI.Query, *r.URI.Fragment, r.Config.JSON))
	f.mu.Unlock()
	if *r.URI.Query == f.fail {
		return fetcher.Result{}, errFake
	}
	name := "manifest"
	if r.URI.Scheme == "docker-blob" {
		name = *r.URI.Query
		if f.fail == "" {
			f.blobs.Done()
			f.blobs.Wait()
		}
	}
	return fetcher.Result{}, os.WriteFile(filepath.Join(r.Directory, name), f.store[name], 0o600)
}

func TestPullFetchesTheManifestAndThenAllBlobsAtOnce(t *testing.T) {
	t.Parallel()
	f := fakeFetcher{store: store{}}
	f.store.image(t, ocispec.ImageConfig{}, []byte("one"), []byte("two"), []byte("one"))
	f.blobs.Add(3) // a deadlock unless the three blobs are asked for together
	dir := t.TempDir()
	task := Task{Name: Name{"localhost:5000", "a/b", "1", ""}, Config: fetcher.DockerConfig{JSON: []byte("{}")}}
	if err := (Agent{Fetcher: &f}).Pull(t.Context(), task, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range f.store {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	want := map[string]bool{"docker-manifest localhost:5000/a/b?1#http {}": true}
	for name := range f.store {
		if name != "manifest" {
			want["docker-blob localhost:5000/a/b?"+name+"#http {}"] = true
		}
	}
	got := map[string]bool{}
	for _, uri := range f.uris {
		got[uri] = true
	}
	if diff := cmp.Diff(want, got); diff != "" || len(f.uris) != len(want) {
		t.Errorf("%d requests: %s", len(f.uris), diff)
	}
}

func TestPullReportsTheFirstFailure(t *testing.T) {
	t.Parallel()
	s := store{}
	s.image(t, ocispec.ImageConfig{}, []byte("one"))
	for _, query := range []string{"1", digest.NewDigestFromBytes(digest.SHA256, sum([]byte("one"))).String()} {
		f := fakeFetcher{store: s, fail: query}
		task := Task{Name: Name{"localhost:5000", "a", "1", ""}}
		if err := (Agent{Fetcher: &f}).Pull(t.Context(), task, t.TempDir()); !errors.Is(err, errFake) {
			t.Errorf("%s: error %v, want that of the fetcher", query, err)
		}
	}
}

func TestPullRefusesAManifestItCannotFollow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, manifest, want string }{
		{"an index", `{"schemaVersion":2,"manifests":[]}`, "it is not an image manifest of schema version 2"},
		{"schema 1", `{"schemaVersion":1,"fsLayers":[]}`, "it is not an image manifest of schema version 2"},
		{"no JSON", `{`, "unexpected end of JSON input"},
		{"a digest that is a path", `{"schemaVersion":2,"config":{"digest":"../../x"}}`, `digest "../../x": invalid checksum digest format`},
		{"one that is too large", strings.Repeat(" ", maxDocument+1), "larger than 4194304 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := fakeFetcher{store: store{"manifest": []byte(test.manifest)}}
			dir := t.TempDir()
			err := (Agent{Fetcher: &f}).Pull(t.Context(), Task{Name: Name{"localhost:5000", "a", "1", ""}}, dir)
			if want := filepath.Join(dir, "manifest") + ": " + test.want; errorText(err) != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}
