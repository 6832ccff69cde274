package content

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Cache is a directory of verified blobs that many goroutines and processes of
// one user share. Below the directory that is named to it:
//
//	CACHEDIR.TAG              for programs that back up
//	v1/                       this layout; another one gets another name
//	v1/key                    what Owner's names are made with
//	v1/entries/ALG:HEX        the lock of a blob, its record (see record), and by
//	                          its mtime the last use
//	v1/partial/ALG:HEX        a blob that is not complete
//	v1/blobs/ALG:HEX          a verified one, mode 0444
//	v1/manifests/OWNER/ALG:HEX
//
// Whoever looks at a blob, fetches, stores, hands out or removes it, holds the
// lock of its entry, so each is fetched once. The kernel frees the lock of a
// process that dies; the next one goes on with the partial.
//
// A blob gets into blobs/ by a rename after its bytes were verified, and out of
// it by reflink, hard link or copy, whichever the file systems can. It is not
// read again while its stamp proves that nothing touched it; else it is hashed,
// and one that was damaged is fetched again.
//
// There is no fsync, of nothing. A power failure may leave any file empty, cut,
// or with zeros in it, and any name missing or back at its former file. So what
// was written under another boot is read before it is used: a blob and a document
// are held to their digests, a partial is hashed with the rest of its blob by
// Commit. A damaged record is as none. A damaged key is made anew: then documents
// are found no more and are fetched again, which costs less than to wait for the
// disk at each first use.
//
// A hard link shares the file: who writes to it in one directory, as only root
// and the owner may, changes it in the others too. The cache sees that at the
// next use.
type Cache struct {
	path     string // as named
	root     string // of the layout
	key      []byte
	patience time.Duration
	canMark  func() bool // whether blobs get the mark that a write takes away; asked once

	mu   sync.Mutex
	held map[string]chan struct{} // entries that this process has locked; closed when let go
	ways map[uint64]way           // how blobs get to the directories of a device
}

const (
	// layout names the one that Cache describes.
	layout   = "v1"
	blobMode = 0o444
	keySize  = 32
	// patience is how long the lock's holder may make no progress before others
	// fetch the blob without the cache: a process may be stopped, and keep its lock.
	patience = time.Minute

	firstPause, longestPause = time.Millisecond, 50 * time.Millisecond // between two looks at a lock
)

// OpenCache opens the cache at path, and makes it (mode 0700) where missing. It
// refuses a directory that others may write to. Its errors, as all that are of
// the machine, are *LocalError and name path. Windows has no cache.
func OpenCache(path string) (*Cache, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &LocalError{path, err}
	}
	c := newCache(abs)
	if err := c.lay(); err != nil {
		return nil, c.local(err)
	}
	if c.key, err = openKey(c.at("key")); err != nil {
		return nil, c.local(err)
	}
	return c, nil
}

// newCache is the cache at path, of which nothing is read yet.
func newCache(path string) *Cache {
	c := &Cache{
		path: path, root: filepath.Join(path, layout), patience: patience,
		held: map[string]chan struct{}{}, ways: map[uint64]way{},
	}
	c.canMark = sync.OnceValue(func() bool { return marks(c.at("partial")) })
	return c
}

// Close ends the use of the cache. Close its writers first.
func (c *Cache) Close() error { return nil }

// Failed reports whether an error is the cache's own, and not that of the directory
// that a blob was for: without the cache, it may be had.
func (c *Cache) Failed(err error) bool {
	var local *LocalError
	return errors.As(err, &local) && local.Dir == c.path
}

// at returns the path of a part of the layout.
func (c *Cache) at(names ...string) string {
	path := c.root
	for _, name := range names {
		path += string(os.PathSeparator) + name
	}
	return path
}

// local marks an error of this machine.
func (c *Cache) local(err error) error {
	var local *LocalError
	if errors.As(err, &local) {
		err = local.Err
	}
	return &LocalError{Dir: c.path, Err: cause(err)}
}

const tag = "Signature: 8a477f597d28d172789f06886806bc55\n# Verified blobs of docker-fetcher. See https://bford.info/cachedir/\n"

// lay makes the directories that are missing.
func (c *Cache) lay() error {
	if err := layPrivate(c.path); err != nil {
		return err
	}
	if _, err := os.Lstat(c.root); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(filepath.Join(c.path, "CACHEDIR.TAG"), []byte(tag), 0o600); err != nil {
			return err
		}
	}
	for _, part := range []string{c.root, c.at("entries"), c.at("partial"), c.at("blobs"), c.at("manifests")} {
		if err := os.Mkdir(part, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// openKey returns the key in the file at path, and makes one where there is
// none, or a damaged one.
func openKey(path string) ([]byte, error) {
	f, err := openHealed(path)
	if err != nil {
		return nil, err
	}
	defer unlock(f)
	key := make([]byte, keySize)
	whole := func() bool {
		n, _ := f.ReadAt(key, 0)
		return n == keySize && [keySize]byte(key) != [keySize]byte{} // which a power failure leaves
	}
	if whole() {
		return key, nil
	}
	if err := lock(f); err != nil {
		return nil, err
	}
	if whole() { // somebody else made it
		return key, nil
	}
	_, _ = rand.Read(key) // never fails
	_, err = f.WriteAt(key, 0)
	return key, err
}

// errNotPlain is damage: what is there is no file, or one that its owner can't open.
var errNotPlain = errors.New("not a plain file")

// openPlain opens a plain file. Whatever else is there is not followed or
// waited for: errNotPlain.
func openPlain(path string, flag int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, flag|plainly, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if err != nil {
		there, missing := os.Lstat(path)
		if missing == nil && (!there.Mode().IsRegular() || errors.Is(err, fs.ErrPermission)) {
			err = errNotPlain
		}
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotPlain
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// openHealed opens a plain file, or makes one, also in place of something else.
func openHealed(path string) (*os.File, error) {
	f, _, err := openPlain(path, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, errNotPlain) {
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
		f, _, err = openPlain(path, os.O_RDWR|os.O_CREATE)
	}
	return f, err
}

// Owner returns a name for all that parts say together, such as a repository and
// the credential it was asked with. It is made with the cache's own secret key
// (HMAC-SHA256, cut to 32 hexadecimal digits), so it reveals nothing of them.
func (c *Cache) Owner(parts ...string) string {
	mac := hmac.New(sha256.New, c.key)
	for _, part := range parts {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(mac.Sum(nil)[:ownerSize])
}

// ownerSize is that of an owner's name, in bytes before they are made digits.
const ownerSize = 16

// Obtain sees to it that the blob gets the name in dir. Where the cache has it,
// it hands it out and returns its size and no writer. While somebody else
// fetches it, Obtain waits and tells follow, if that is not nil, how many first
// bytes are there. Otherwise the caller is to fetch it: w has the Contiguous
// bytes that an earlier try left; its Commit stores the blob and hands it out;
// Close without that leaves what is there to the next one. Until then, others
// wait for this blob.
//
// ctx ends the wait, the reading and copying, also the copying within Commit,
// with its own error; Verify, called before Commit, has one for the hashing. A
// stored blob that is not as large as desc says is ErrSize. Safe for concurrent
// use.
func (c *Cache) Obtain(ctx context.Context, dir *Dir, name string, desc ocispec.Descriptor, follow func(received int64)) (w *Writer, size int64, err error) {
	if err := check(name, desc.Digest); err != nil {
		return nil, 0, err
	}
	l, err := c.acquire(ctx, fileName(desc.Digest), follow)
	if errors.Is(err, errStuck) {
		w, err = dir.Create(name, desc)
		return w, 0, err
	}
	if err != nil {
		return nil, 0, err
	}
	l.ctx, l.dir, l.name, l.desc = ctx, dir, name, desc
	w, size, err = l.serve()
	if w == nil {
		l.release()
	}
	return w, size, err
}

// matches reports whether the file holds the bytes of that digest. One that
// can't be read does not.
func matches(ctx context.Context, f *os.File, d digest.Digest) (bool, error) {
	hash := d.Algorithm().Hash()
	buffer := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buffer)
	if _, err := io.CopyBuffer(hash, reader{ctx, f}, buffer[:]); err != nil {
		return false, ctx.Err()
	}
	return digest.NewDigest(d.Algorithm(), hash) == d, nil
}

// Stored reports whether a blob seems to be in the cache: what Obtain finds may
// differ.
func (c *Cache) Stored(d digest.Digest) bool {
	_, err := os.Lstat(c.at("blobs", fileName(d)))
	return err == nil
}
