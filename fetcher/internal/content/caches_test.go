package content

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestTheCachesOfAllRegistriesArePrunedTogether(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no cache")
	}
	caches, err := OpenCaches(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(caches.path, "not ours"), 0o700); err != nil {
		t.Fatal(err)
	}
	data := []byte("data")
	for _, registry := range []string{"https_one.example", "https_two.example"} {
		c, err := caches.Of(registry)
		if err != nil {
			t.Fatal(err)
		}
		if c.Stored(digest.FromBytes(data)) {
			t.Errorf("%s has what the other was given", registry)
		}
		w, _, err := c.Obtain(t.Context(), open(t, t.TempDir()), name, of(data), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := fill(w, data); err != nil {
			t.Fatal(err)
		}
	}
	pruned, err := caches.Prune(t.Context(), Limits{MaxSize: 4})
	if want := (Pruned{Blobs: 1, Bytes: 4}); pruned != want || err != nil {
		t.Errorf("pruned %+v, %v, want %+v", pruned, err, want)
	}
	if _, err := os.Stat(filepath.Join(caches.path, "not ours")); err != nil {
		t.Error(err)
	}
}

func TestARegistryWhoseNameLeavesTheDirectoryHasNoCache(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no cache")
	}
	caches, err := OpenCaches(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := caches.Of("../elsewhere"); err == nil {
		t.Error("it has one")
	}
}
