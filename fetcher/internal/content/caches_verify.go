package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Verified is what Verify found.
type Verified struct {
	Files   int   // blobs and documents that hold
	Bytes   int64 // of these
	Busy    int   // blobs that somebody was using, which were left alone
	Damaged []Damaged
}

// Damaged is a file that did not hold and was removed.
type Damaged struct {
	Registry string
	Name     string // of the file: the digest that it should have had
	Size     int64
}

// Verify reads each blob and each document, and removes those that are not what
// their names say: they are fetched again when somebody wants them. While a blob
// is read, who wants it waits. What was handed out of a damaged blob by hard link
// is the same file, and stays where it is. ctx ends it, with its own error; what
// was found until then is told.
func (c *Caches) Verify(ctx context.Context) (Verified, error) {
	var v Verified
	caches, err := c.all()
	if err != nil {
		return v, err
	}
	for _, named := range caches {
		items, err := named.items()
		if err != nil {
			return v, named.local(err)
		}
		for _, i := range items {
			if err := v.item(ctx, named.registry, i); err != nil {
				return v, err
			}
		}
	}
	return v, nil
}

// A finding is what became of one file.
type finding int

const (
	nothing finding = iota // it is not there, or not complete
	holding
	busy
	damaged
)

func (v *Verified) item(ctx context.Context, registry string, i *item) error {
	check := i.cache.verifyBlob
	name := i.key
	if i.path != "" {
		check, name = i.cache.verifyDocument, filepath.Base(i.path)
	}
	found, err := check(ctx, i)
	if err != nil {
		if ended := ctx.Err(); ended != nil {
			return ended
		}
		return i.cache.local(err)
	}
	switch found {
	case holding:
		v.Files++
		v.Bytes += max(i.blob, i.other)
	case busy:
		v.Busy++
	case damaged:
		v.Damaged = append(v.Damaged, Damaged{registry, strings.Replace(name, "_", ":", 1), max(i.blob, i.other)})
	}
	return nil
}

// verifyBlob holds a blob to its name, under the lock of its entry. A blob without
// one gets it only where it has to be removed.
func (c *Cache) verifyBlob(ctx context.Context, i *item) (finding, error) {
	if i.blob < 0 {
		return nothing, ctx.Err()
	}
	entry, _, err := openPlain(c.at("entries", i.key), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotPlain) {
		found, failed := verifyFile(ctx, c.at("blobs", i.key), i.digest())
		if found != damaged || failed != nil {
			return found, failed
		}
		entry, err = c.openEntry(i.key)
	}
	if err != nil {
		return nothing, err
	}
	defer unlock(entry)
	if ok, err := tryLock(entry); !ok || err != nil {
		return busy, err
	}
	if !named(entry, c.at("entries", i.key)) {
		return nothing, nil // somebody removed it
	}
	found, err := verifyFile(ctx, c.at("blobs", i.key), i.digest())
	if found != damaged || err != nil {
		return found, err
	}
	if err := errors.Join(os.RemoveAll(c.at("blobs", i.key)), os.RemoveAll(c.at("partial", i.key))); err != nil {
		return nothing, err
	}
	return damaged, c.removeEntry(i.key, entry)
}

// verifyDocument needs no lock: a document gets its name when it is complete.
func (c *Cache) verifyDocument(ctx context.Context, i *item) (finding, error) {
	found, err := verifyFile(ctx, i.path, digest.Digest(strings.Replace(filepath.Base(i.path), "_", ":", 1)))
	if found != damaged || err != nil {
		return found, err
	}
	_, err = c.remove(i)
	return damaged, err
}

func verifyFile(ctx context.Context, path string, d digest.Digest) (finding, error) {
	if err := ctx.Err(); err != nil {
		return nothing, err
	}
	f, _, err := openPlain(path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nothing, nil
	case errors.Is(err, errNotPlain):
		return damaged, nil
	case err != nil:
		return nothing, err
	}
	defer f.Close()
	if d.Validate() != nil {
		return damaged, nil
	}
	ok, err := matches(ctx, f, d)
	switch {
	case err != nil:
		return nothing, err
	case !ok:
		return damaged, nil
	}
	return holding, nil
}
