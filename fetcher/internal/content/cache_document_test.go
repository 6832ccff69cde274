//go:build linux

package content

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// document fails the test unless the owner has data, or has it not.
func document(t *testing.T, c *Cache, owner string, data []byte, has bool) {
	t.Helper()
	got, ok := c.Document(owner, digest.FromBytes(data))
	if ok != has || has && string(got) != string(data) || !has && got != nil {
		t.Errorf("got %q, %v, want %v", got, ok, has)
	}
}

func TestADocumentIsFoundByItsOwnerOnly(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	c := openCache(t, path)
	data := []byte(`{"schemaVersion": 2}`)
	mine, other := c.Owner("repository", "credential"), c.Owner("repository", "other")
	document(t, c, mine, data, false)
	must(t, c.PutDocument(mine, digest.FromBytes(data), data))
	must(t, c.PutDocument(mine, digest.FromBytes(data), data)) // again
	document(t, c, mine, data, true)
	document(t, c, other, data, false)
	document(t, openCache(t, path), mine, data, true)
	must(t, c.PutDocument(mine, digest.SHA512.FromBytes(data), data))
	if got, ok := c.Document(mine, digest.SHA512.FromBytes(data)); !ok || string(got) != string(data) {
		t.Errorf("by sha512: %q, %v", got, ok)
	}
}

func TestADocumentWithOtherBytesIsNotStored(t *testing.T) {
	t.Parallel()
	c := openCache(t, t.TempDir())
	owner := c.Owner("a")
	if err := c.PutDocument(owner, digest.FromString("right"), []byte("wrong")); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v", err)
	}
	document(t, c, owner, []byte("right"), false)
}

func TestADocumentHasAtMost4MiB(t *testing.T) {
	t.Parallel()
	c := openCache(t, t.TempDir())
	owner := c.Owner("a")
	data := make([]byte, 4<<20)
	must(t, c.PutDocument(owner, digest.FromBytes(data), data))
	document(t, c, owner, data, true)
	data = append(data, 0)
	want := "wrong size: 4194305 bytes are more than a document's 4194304"
	if err := c.PutDocument(owner, digest.FromBytes(data), data); !errors.Is(err, ErrSize) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	must(t, os.WriteFile(c.at("manifests", owner, BlobName(digest.FromBytes(data))), data, 0o600))
	document(t, c, owner, data, false)
}

func TestADamagedDocumentIsNotFoundAndIsReplaced(t *testing.T) {
	t.Parallel()
	data := []byte("right")
	for label, damage := range map[string]func(path string) error{
		"other bytes": func(path string) error { return os.WriteFile(path, []byte("wrong"), 0o600) },
		"cut":         func(path string) error { return os.Truncate(path, 1) },
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+".right"), os.Symlink(path+".right", path))
		},
		"a FIFO": func(path string) error { return errors.Join(os.Remove(path), mkfifo(path)) },
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			c := openCache(t, t.TempDir())
			owner := c.Owner("a")
			must(t, c.PutDocument(owner, digest.FromBytes(data), data))
			must(t, damage(c.at("manifests", owner, BlobName(digest.FromBytes(data)))))
			document(t, c, owner, data, false)
			must(t, c.PutDocument(owner, digest.FromBytes(data), data))
			document(t, c, owner, data, true)
		})
	}
}

func TestADocumentsNamesStayInTheCache(t *testing.T) {
	t.Parallel()
	c := openCache(t, t.TempDir())
	data := []byte("data")
	must(t, os.WriteFile(filepath.Join(c.path, BlobName(digest.FromBytes(data))), data, 0o600))
	for _, owner := range []string{"..", "../..", "", "/"} {
		if err := c.PutDocument(owner, digest.FromBytes(data), data); err == nil {
			t.Errorf("%q was taken", owner)
		}
		document(t, c, owner, data, false)
	}
	if _, ok := c.Document(c.Owner("a"), "sha256:../../key"); ok {
		t.Error("another file was found")
	}
}

func TestTheUseOfADocumentIsNotedOnceAnHour(t *testing.T) {
	t.Parallel()
	c := openCache(t, t.TempDir())
	data := []byte("data")
	owner := c.Owner("a")
	must(t, c.PutDocument(owner, digest.FromBytes(data), data))
	path := c.at("manifests", owner, BlobName(digest.FromBytes(data)))
	for age, noted := range map[time.Duration]bool{time.Hour - time.Minute: false, time.Hour + time.Minute: true} {
		then := time.Now().Add(-age)
		must(t, os.Chtimes(path, then, then))
		document(t, c, owner, data, true)
		info, err := os.Stat(path)
		must(t, err)
		if got := time.Since(info.ModTime()) < time.Minute; got != noted {
			t.Errorf("after %v: %v", age, got)
		}
	}
}
