package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	maxDocument = 4 << 20 // bytes; a manifest's bound
	// freshFor is how old the time of a document's last use may be: to note each
	// use would cost a write.
	freshFor = time.Hour
)

// Document returns a manifest or an index that PutDocument stored for this
// owner (see Owner), verified again. Other owners' are not found: a digest alone
// gives nobody the right to read it.
func (c *Cache) Document(owner string, d digest.Digest) ([]byte, bool) {
	path, err := c.document(owner, d)
	if err != nil {
		return nil, false
	}
	f, info, err := openPlain(path, os.O_RDONLY)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument))
	if err != nil || d.Algorithm().FromBytes(data) != d {
		return nil, false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > freshFor {
		_ = os.Chtimes(path, now, now) // Prune would only take it too early
	}
	return data, true
}

// PutDocument stores a manifest or an index, of at most 4 MiB, that this owner
// was served. Other bytes than d's are ErrDigest. Safe for concurrent use.
func (c *Cache) PutDocument(owner string, d digest.Digest, data []byte) error {
	if len(data) > maxDocument {
		return fmt.Errorf("%w: %d bytes are more than a document's %d", ErrSize, len(data), maxDocument)
	}
	_, err := c.document(owner, d)
	if err != nil {
		return err
	}
	for range 2 { // Prune may remove the owner's directory just after it was made
		if err = c.putDocument(owner, d, data); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	var local *LocalError
	if errors.As(err, &local) {
		return c.local(err)
	}
	return err
}

func (c *Cache) putDocument(owner string, d digest.Digest, data []byte) error {
	path := c.at("manifests", owner)
	if err := os.Mkdir(path, 0o700); errors.Is(err, fs.ErrNotExist) { // somebody cleared the cache away
		if err := c.lay(); err != nil {
			return c.local(err)
		}
	}
	dir, err := Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.WriteFile(fileName(d), data, d)
}

// document returns the path of a document.
func (c *Cache) document(owner string, d digest.Digest) (string, error) {
	if err := check(owner, d); err != nil {
		return "", err
	}
	return c.at("manifests", owner, fileName(d)), nil
}

// Knows reports whether the cache has documents of an owner.
func (c *Cache) Knows(owner string) bool {
	_, err := os.Lstat(c.at("manifests", owner))
	return err == nil
}
