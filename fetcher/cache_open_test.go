//go:build linux

package fetcher

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func TestACacheIsListedVerifiedAndPrunedBesideItsFetcher(t *testing.T) {
	t.Parallel()
	registry := fetchertest.New(t, fetchertest.Config{})
	image := registry.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{[]byte("layer")}})
	dir := filepath.Join(t.TempDir(), "cache")
	f, err := New(Config{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := scheme.Parse("docker://" + registry.Host() + "/app?1#http")
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() {
		t.Helper()
		if _, err := f.Fetch(t.Context(), Request{URI: ref.URI(), Directory: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
	}
	fetch()
	cache, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	held, err := cache.List()
	if err != nil || len(held) != 1 || held[0].Registry != "http://"+registry.Host() || len(held[0].Blobs) != 2 || held[0].Documents != 1 {
		t.Fatalf("got %+v, %v", held, err)
	}
	if check, err := cache.Verify(t.Context()); err != nil || check.Files != 3 || len(check.Damaged) != 0 {
		t.Errorf("got %+v, %v", check, err)
	}
	layer := filepath.Join(dir, "http_"+registry.Host(), "v1", "blobs", image.LayerDigests[0])
	if err := errors.Join(os.Chmod(layer, 0o600), os.WriteFile(layer, []byte("other"), 0o600)); err != nil {
		t.Fatal(err)
	}
	check, err := cache.Verify(t.Context())
	if err != nil || len(check.Damaged) != 1 || check.Damaged[0] != (DamagedCached{"http://" + registry.Host(), image.LayerDigests[0], 5}) {
		t.Errorf("got %+v, %v", check, err)
	}
	fetch()
	if pruned, err := cache.Prune(t.Context(), CacheLimits{MaxSize: 1}); err != nil || pruned.Blobs != 2 {
		t.Errorf("got %+v, %v", pruned, err)
	}
}

func TestACacheThatIsNotThereIsNotMade(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	_, err := OpenCache(dir)
	if want := `cache: directory "` + dir + `": it is not there; the first fetch with it as its cache makes it`; !errors.Is(err, ErrInvalid) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
