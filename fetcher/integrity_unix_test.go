//go:build unix

package fetcher_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// planted are what may stand where a file was: each makes it at path; other is
// a file elsewhere that nobody may read or change through it.
var planted = map[string]func(path, other string) error{
	"other bytes, as many, and the times as they were": func(path, _ string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, make([]byte, info.Size()), 0o644), os.Chtimes(path, info.ModTime(), info.ModTime()), os.Chmod(path, info.Mode()))
	},
	"fewer bytes":        func(path, _ string) error { return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, 1)) },
	"a symbolic link":    func(path, other string) error { return errors.Join(os.Remove(path), os.Symlink(other, path)) },
	"a link to nothing":  func(path, other string) error { return errors.Join(os.Remove(path), os.Symlink(other+".not", path)) },
	"a link to itself":   func(path, _ string) error { return errors.Join(os.Remove(path), os.Symlink(filepath.Base(path), path)) },
	"a FIFO":             func(path, _ string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
	"nothing":            func(path, _ string) error { return os.Remove(path) },
	"an empty directory": func(path, _ string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
}

// TestWhatStandsInPlaceOfAFileIsNeverHandedOut plants it in the cache, in the
// directory, and in both.
func TestWhatStandsInPlaceOfAFileIsNeverHandedOut(t *testing.T) {
	t.Parallel()
	const other = "not theirs"
	for name, plant := range planted {
		for where, places := range map[string]struct{ cache, dir bool }{
			"in the cache": {cache: true}, "in the directory": {dir: true}, "in both": {true, true},
			"in the directory, without a cache": {dir: true},
		} {
			for _, what := range []string{"layer", "manifest"} {
				if name == "an empty directory" && places.dir || what == "manifest" && places.cache {
					continue // the directory's directories are its owner's; the cache's documents are in cache_test.go
				}
				t.Run(name+" "+where+" as the "+what, func(t *testing.T) {
					t.Parallel()
					s := newShelf(t, fetchertest.Config{})
					if where == "in the directory, without a cache" {
						s.fetcher = newFetcher(t, fetcher.Config{})
					}
					image := s.put("team/app", "latest", "one", "two")
					dir := s.fetched(image, "team/app", "latest", nil)
					elsewhere := filepath.Join(t.TempDir(), "elsewhere")
					if err := os.WriteFile(elsewhere, []byte(other), 0o600); err != nil {
						t.Fatal(err)
					}
					file := "manifest"
					if what == "layer" {
						file = image.LayerDigests[0]
					}
					if places.dir {
						if err := plant(filepath.Join(dir, file), elsewhere); err != nil {
							t.Fatal(err)
						}
					}
					if places.cache {
						if err := plant(s.blob(image.LayerDigests[0]), elsewhere); err != nil {
							t.Fatal(err)
						}
					}
					for range 2 {
						_, err := s.fetcher.Fetch(t.Context(), fetcher.Request{URI: uri(t, s.registry, "docker", "team/app", "latest"), Directory: dir})
						if err != nil {
							t.Fatal(err)
						}
						s.has(dir, image, nil)
						if info, err := os.Lstat(filepath.Join(dir, file)); err != nil || !info.Mode().IsRegular() {
							t.Errorf("%s is %v, %v", file, info.Mode(), err)
						}
					}
					s.fetched(image, "team/app", "latest", nil) // into another directory
					if got, err := os.ReadFile(elsewhere); string(got) != other || err != nil {
						t.Errorf("the file elsewhere has %q, %v", got, err)
					}
				})
			}
		}
	}
}
