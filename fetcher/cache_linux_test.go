package fetcher_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// mounted returns a directory on a file system of its own.
func mounted(t *testing.T, flags uintptr, options string) (path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts a tmpfs")
	}
	path = t.TempDir()
	if err := syscall.Mount("tmpfs", path, "tmpfs", flags, options); err != nil {
		t.Skip("can't mount a tmpfs here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestAReadOnlyCacheDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	path := mounted(t, syscall.MS_RDONLY, "mode=0700")
	_, err := fetcher.New(fetcher.Config{CacheDir: path})
	var failure *fetcher.Error
	if !errors.As(err, &failure) || failure.Reason != fetcher.LocalPermission || !strings.Contains(failure.Text, `cache: directory "`+path+`": read-only file system`) {
		t.Errorf("got %v", err)
	}
}

func TestAFullDiskUnderTheCacheIsAWarningAndTheFetchGoesOnWithoutIt(t *testing.T) {
	t.Parallel()
	path := mounted(t, 0, "size=4m,mode=0700")
	p := newPull(t, setting{fetcher: fetcher.Config{CacheDir: path}})
	var warnings []string
	observe := func(e fetcher.Event) {
		if w, ok := e.(fetcher.Warning); ok {
			warnings = append(warnings, w.Text)
		}
	}
	if _, err := p.fetcher.Fetch(t.Context(), fetcher.Request{URI: uri(t, p.registry, "docker", "team/app", "latest"), Directory: p.dir, Observe: observe}); err != nil {
		t.Fatal(err)
	}
	want := `directory "` + cacheOf(path, p.registry) + `": no space left on device`
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "without the cache: ") || !strings.HasSuffix(warnings[0], want) {
		t.Errorf("got %q, want one warning that ends with %s", warnings, want)
	}
	holds(t, p.dir, map[string][]byte{"manifest": p.image.Manifest, p.image.ConfigDigest: p.image.Config, p.image.LayerDigests[0]: large()})
}
