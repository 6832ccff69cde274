//go:build linux

package content

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// lay makes files below a directory, "name -> target" as symbolic links, all used
// long ago.
func lay(t *testing.T, dir string, files ...string) {
	t.Helper()
	then := time.Now().Add(-1000 * time.Hour)
	for _, file := range files {
		file, target, link := strings.Cut(file, " -> ")
		path := filepath.Join(dir, file)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if link {
			must(t, os.Symlink(target, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(strings.Repeat("x", keySize)), 0o644), os.Chtimes(path, then, then))
	}
}

// everything is all that is below a directory, with modes and times.
func everything(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			info := stat(t, path)
			all[path] = info.Mode().String() + info.ModTime().String()
		}
		return err
	}))
	return all
}

// commands are all that looks after a directory.
func commands(t *testing.T, c *Caches) map[string]error {
	_, list := c.List()
	_, dry := c.Prune(t.Context(), Limits{MaxSize: 1, OlderThan: 1, DryRun: true})
	_, verify := c.Verify(t.Context())
	_, prune := c.Prune(t.Context(), Limits{MaxSize: 1, OlderThan: 1})
	return map[string]error{"List": list, "a dry run": dry, "Verify": verify, "Prune": prune}
}

// hasNone fails the test unless the error says that there is no cache.
func hasNone(t *testing.T, label string, err error) {
	t.Helper()
	var local *LocalError
	if !errors.As(err, &local) || local.Err != errNoCache { //nolint:errorlint // it is not to be wrapped
		t.Errorf("%s: got %v, want %v", label, err, errNoCache)
	}
}

func TestADirectoryWithoutACacheIsNotTouched(t *testing.T) {
	t.Parallel()
	blob := BlobName(digest.FromString("x"))
	for label, files := range map[string][]string{
		"manifests of deployments":     {"proj/v1/manifests/prod/deployment.yaml"},
		"blobs of somebody else":       {"myproj/v1/blobs/important.txt"},
		"another name, with a key":     {"myproj/v1/key", "myproj/v1/blobs/" + blob},
		"another scheme":               {"ftp_host/v1/key", "ftp_host/v1/blobs/" + blob},
		"no host":                      {"https_/v1/key", "https_/v1/blobs/" + blob},
		"a registry's name and no key": {"https_host/v1/blobs/" + blob, "http_host/v1/manifests/prod/" + blob},
		"a key that is a directory":    {"https_host/v1/key/file", "https_host/v1/blobs/" + blob},
		"a key that is a link":         {"key", "https_host/v1/key -> ../../key", "https_host/v1/blobs/" + blob},
		"a registry that is a link":    {"real/v1/key", "real/v1/blobs/" + blob, "https_host -> real"},
		"a layout that is a link":      {"real/key", "real/blobs/" + blob, "https_host/file", "https_host/v1 -> ../real"},
		"a registry that is a file":    {"https_host"},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "dir")
			must(t, os.Mkdir(dir, 0o700))
			lay(t, dir, files...)
			before := everything(t, dir)
			c, err := FindCaches(dir)
			must(t, err)
			for name, err := range commands(t, c) {
				hasNone(t, name, err)
			}
			if diff := cmp.Diff(before, everything(t, dir)); diff != "" {
				t.Errorf("it was touched (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAKeyOfAnotherSizeOrOwnerMakesNoCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	lay(t, dir, "https_short/v1/key", "https_other/v1/key")
	must(t, os.Truncate(filepath.Join(dir, "https_short/v1/key"), keySize-1))
	if os.Geteuid() == 0 {
		must(t, os.Chown(filepath.Join(dir, "https_other/v1/key"), 12345, -1))
	} else {
		must(t, os.Remove(filepath.Join(dir, "https_other/v1/key")))
	}
	c, err := FindCaches(dir)
	must(t, err)
	for name, err := range commands(t, c) {
		hasNone(t, name, err)
	}
}

func TestWhatIsBesideACacheOrInItAndNotOfItStays(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	data := []byte("data")
	s.store(data)
	owner := s.Owner("a")
	must(t, s.PutDocument(owner, digest.FromBytes(data), data))
	blob := BlobName(digest.FromString("x"))
	foreign := []string{
		"proj/v1/manifests/prod/deployment.yaml", "myproj/v1/blobs/important.txt",
		"https_one.example/v1/blobs/important.txt", "https_one.example/v1/entries/important.txt",
		"https_one.example/v1/partial/sha256:ab", "https_one.example/v1/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
		"https_one.example/v1/blobs/" + strings.ToUpper(blob), "https_one.example/v1/blobs/" + strings.Replace(blob, ":", "_", 1),
		"https_one.example/v1/manifests/prod/" + blob, "https_one.example/v1/manifests/" + owner + "/deployment.yaml",
		"real/" + blob, "https_one.example/v1/manifests/" + s.Owner("b") + " -> ../../../real",
	}
	lay(t, c.path, foreign...)
	for name, err := range commands(t, c.Caches) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, file := range foreign {
		file, _, _ = strings.Cut(file, " -> ")
		stat(t, filepath.Join(c.path, file))
	}
	if _, err := os.Lstat(s.blob(data)); !os.IsNotExist(err) {
		t.Errorf("the blob is still there: %v", err)
	}
	document(t, s.Cache, owner, data, false)
}

func TestToLookAfterACacheMakesNothingInIt(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	data := []byte("data")
	s.store(data)
	must(t, os.RemoveAll(s.at("entries")), os.Remove(s.at("partial")), os.Remove(filepath.Join(s.Cache.path, "CACHEDIR.TAG")))
	before := everything(t, c.path)
	c.verifies(Verified{Files: 1, Bytes: 4})
	if shelves, err := c.List(); err != nil || len(shelves) != 1 || len(shelves[0].Blobs) != 1 {
		t.Errorf("got %+v, %v", shelves, err)
	}
	want := Pruned{Blobs: 1, Bytes: 4}
	if got, err := c.Prune(t.Context(), Limits{MaxSize: 1, DryRun: true}); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if diff := cmp.Diff(before, everything(t, c.path)); diff != "" {
		t.Errorf("it was touched (-before +after):\n%s", diff)
	}
	must(t, tamper(s.blob(data)))
	if v, err := c.Verify(t.Context()); err != nil || len(v.Damaged) != 1 {
		t.Errorf("got %+v, %v", v, err)
	}
	s.store(data)
	must(t, os.RemoveAll(s.at("entries")))
	if got, err := c.Prune(t.Context(), Limits{MaxSize: 1}); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	s.stored(empty)
}

func TestAnEmptyDirectoryHasNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	if _, err := FindCaches(dir); err == nil {
		t.Error("found one that is not there")
	}
	must(t, os.Mkdir(dir, 0o700))
	c, err := FindCaches(dir)
	must(t, err)
	for name, err := range commands(t, c) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := everything(t, dir); len(left) != 1 {
		t.Errorf("it has %v", left)
	}
}
