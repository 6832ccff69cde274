package fetcher_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// traps are what somebody else may have put under a name in DIR before a fetch.
// outside is a file that is not in DIR.
var traps = map[string]func(path, outside string) error{
	"a link to a file outside":      func(path, outside string) error { return os.Symlink(outside, path) },
	"a link that leads up":          func(path, _ string) error { return os.Symlink("../outside", path) },
	"a link to what is not there":   func(path, outside string) error { return os.Symlink(outside+".not", path) },
	"a link to a directory":         func(path, _ string) error { return os.Symlink("..", path) },
	"a link to itself":              func(path, _ string) error { return os.Symlink(filepath.Base(path), path) },
	"a link to a device":            func(path, _ string) error { return os.Symlink("/dev/zero", path) },
	"a hard link to a file outside": func(path, outside string) error { return os.Link(outside, path) },
	"a FIFO":                        func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
	"a socket":                      func(path, _ string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) },
	"a file that nobody may read":   func(path, _ string) error { return os.WriteFile(path, []byte("x"), 0) },
}

func TestWhatIsPlantedInTheDirectoryIsReplacedAndNothingOutsideIsTouched(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	layer := []byte("a layer")
	index := r.PutIndex("team/app", "latest", true, fetchertest.PlatformImage{
		Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: fetchertest.Image{Layers: [][]byte{layer}},
	})
	image := index.Images[0]
	want := map[string][]byte{
		"index": index.Index, "manifest": image.Manifest, image.ConfigDigest: image.Config, image.LayerDigests[0]: layer,
	}
	for trap, plant := range traps {
		for name, cached := range map[string]bool{"manifest": false, "index": false, image.LayerDigests[0]: false, "with a cache": true} {
			t.Run(trap+"/"+name, func(t *testing.T) {
				t.Parallel()
				config := fetcher.Config{Platform: &fetcher.Platform{OS: "linux", Architecture: "amd64"}}
				if cached {
					config.CacheDir, name = newCache(t), image.LayerDigests[0]
				}
				parent := t.TempDir()
				dir, outside := filepath.Join(parent, "dir"), filepath.Join(parent, "outside")
				if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(outside, layer, 0o600), plant(filepath.Join(dir, name), outside)); err != nil {
					t.Fatal(err)
				}
				_, err := newFetcher(t, config).Fetch(t.Context(), fetcher.Request{URI: uri(t, r, "docker", "team/app", "latest"), Directory: dir})
				if err != nil {
					t.Fatal(err)
				}
				for name := range want {
					if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
						t.Errorf("%s: %v, %v", name, info, err)
					}
				}
				holds(t, dir, want)
				entries, err := os.ReadDir(parent)
				got, failed := os.ReadFile(outside)
				if err != nil || failed != nil || len(entries) != 2 || string(got) != string(layer) {
					t.Errorf("outside: %v, %q (%v, %v)", entries, got, err, failed)
				}
			})
		}
	}
}

func TestADirectoryUnderAFilesNameIsReportedByItsPathAndNotRemoved(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{layers: [][]byte{[]byte("a layer")}})
	for _, name := range []string{"manifest", p.layer()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			precious := filepath.Join(dir, name, "precious")
			if err := errors.Join(os.Mkdir(filepath.Dir(precious), 0o755), os.WriteFile(precious, []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := p.fetcher.Fetch(t.Context(), fetcher.Request{URI: p.uri("docker", "latest"), Directory: dir})
			refused(t, err, fetcher.DirectoryInvalid, name)
			if _, err := os.Stat(precious); err != nil {
				t.Error(err)
			}
		})
	}
}

// What DIR itself may be is the caller's to say, links on the way to it too. It
// is waited for by nobody, and what can't be a directory is named.
func TestADirectoryThatIsNoneIsReportedByItsPathAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{layers: [][]byte{[]byte("a layer")}})
	for title, plant := range map[string]func(path string) error{
		"a file":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a FIFO":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a socket": func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) },
		"a link to a FIFO": func(path string) error {
			return errors.Join(syscall.Mkfifo(path+".fifo", 0o600), os.Symlink(path+".fifo", path))
		},
		"a link to itself":   func(path string) error { return os.Symlink(path, path) },
		"a link to a device": func(path string) error { return os.Symlink(os.DevNull, path) },
	} {
		for _, below := range []string{"", "dir", "dir/deeper"} {
			t.Run(title+"/"+below, func(t *testing.T) {
				parent := t.TempDir()
				path := filepath.Join(parent, "planted")
				if err := plant(path); err != nil {
					t.Fatal(err)
				}
				before, err := os.ReadDir(parent)
				if err != nil {
					t.Fatal(err)
				}
				_, err = p.fetcher.Fetch(t.Context(), fetcher.Request{URI: p.uri("docker", "latest"), Directory: filepath.Join(path, below)})
				refused(t, err, fetcher.DirectoryInvalid, path)
				if after, err := os.ReadDir(parent); err != nil || len(after) != len(before) {
					t.Errorf("it left %v, %v", after, err)
				}
			})
		}
	}
	if n := p.registry.Count(fetchertest.Any); n != 0 {
		t.Errorf("the registry got %d requests", n)
	}
}

// The directory is opened once: where it is exchanged for a link meanwhile, all
// files still come into what was opened.
func TestADirectoryThatIsExchangedForALinkKeepsItsFiles(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{layers: [][]byte{[]byte("a layer")}})
	parent := t.TempDir()
	dir, moved, outside := filepath.Join(parent, "dir"), filepath.Join(parent, "moved"), filepath.Join(parent, "outside")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(outside, 0o755)); err != nil {
		t.Fatal(err)
	}
	p.registry.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: p.layer()}, Times: 1, ShortAt: 1 << 20, Notice: func(fetchertest.Request) {
		if err := errors.Join(os.Rename(dir, moved), os.Symlink(outside, dir)); err != nil {
			t.Error(err)
		}
	}})
	p.dir = dir
	p.must(p.fetch(t.Context()))
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(moved, p.layer())); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
