// Package content owns the directory that a fetch fills: bytes are written out
// of sight, verified, and only then get their name.
//
// On Linux an unfinished file has no name at all (O_TMPFILE), so that nothing
// is left behind even by kill -9; elsewhere, on file systems without that, and
// for a moment where a file is replaced, it has a hidden one, and what is left of
// it goes with the next Open. No fsync: a file that a power failure emptied is
// found by its digest at the next fetch.
package content

import (
	"context"
	_ "crypto/sha256" // the algorithms of go-digest
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unicode"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	dirMode  = 0o755
	fileMode = 0o644
	maxName  = 255 // bytes, on every file system that matters
)

// Dir is an opened directory. Nothing that it does leaves it: names are single
// components, and no symbolic link in it is followed. Safe for concurrent use,
// also by several processes.
type Dir struct {
	path string
	root *os.Root
	fd   *os.File    // the directory itself, for system calls
	info fs.FileInfo // which directory that is
	// users beyond the first have it by Share.
	users atomic.Int32
	// mode is that of new files, once newMode knows it.
	mode atomic.Uint32
}

// Open opens the directory at path, and makes it and its parents where missing.
// It removes unfinished files that killed processes have left in it. Its errors
// are *LocalError.
func Open(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &LocalError{path, err}
	}
	if err := os.MkdirAll(abs, dirMode); err != nil {
		return nil, &LocalError{abs, err} // it names the parent that is the trouble
	}
	d := &Dir{path: abs}
	if d.root, err = os.OpenRoot(abs); err != nil {
		return nil, d.local(err)
	}
	if d.fd, err = d.root.Open("."); err != nil {
		_ = d.root.Close()
		return nil, d.local(err)
	}
	if d.info, err = d.fd.Stat(); err != nil {
		return nil, errors.Join(d.local(err), d.Close())
	}
	d.sweep(mostSwept)
	return d, nil
}

// Path is the directory's absolute path, as it was opened.
func (d *Dir) Path() string { return d.path }

// Same reports whether other is this very directory: one that was removed and
// made again at the same path is not.
func (d *Dir) Same(other *Dir) bool { return os.SameFile(d.info, other.info) }

// Share gives the directory to one more user, who closes it too.
func (d *Dir) Share() { d.users.Add(1) }

// Close closes the directory once its last user does. Close its writers first:
// later they can neither commit nor remove what they began.
func (d *Dir) Close() error {
	if d.users.Add(-1) >= 0 {
		return nil
	}
	return errors.Join(d.fd.Close(), d.root.Close())
}

// BlobName returns the file name of a blob, which is its digest as the
// original has it.
func BlobName(d digest.Digest) string { return fileName(d) }

// CheckName reports why name can't be that of a file in the directory.
func CheckName(name string) error {
	unfit := func(r rune) bool { return r == '/' || r == '\\' || unicode.IsControl(r) }
	switch {
	case len(name) > maxName:
		return fmt.Errorf("the name is longer than %d bytes", maxName)
	case name == ".", !filepath.IsLocal(name), strings.ContainsFunc(name, unfit):
		return fmt.Errorf("%q is not a plain file name", name)
	}
	return nil
}

// check holds what the callers promise: a name that stays in the directory and
// a digest that can be computed.
func check(name string, d digest.Digest) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%.200q: %w", string(d), err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("%.200q: %w", string(d), digest.ErrDigestUnsupported)
	}
	return nil
}

var hashBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// Holds reports whether the file name is there, is a plain file and holds what
// desc says, by size and digest. Whatever else is there, it is not followed,
// waited for or changed. A negative desc.Size matches any; actual is the file's
// size, 0 where the answer is no. So it is once ctx has ended: to hash a large
// file takes seconds.
func (d *Dir) Holds(ctx context.Context, name string, desc ocispec.Descriptor) (actual int64, ok bool) {
	if check(name, desc.Digest) != nil {
		return 0, false
	}
	seen, err := d.root.Lstat(name)
	if err != nil || !seen.Mode().IsRegular() {
		return 0, false
	}
	// What was put there since then may be a FIFO: O_NONBLOCK does not wait for
	// its other end. Or a symbolic link: then it is not the same file.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !os.SameFile(seen, info) || desc.Size >= 0 && info.Size() != desc.Size {
		return 0, false
	}
	hash := desc.Digest.Algorithm().Hash()
	buffer := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buffer)
	n, err := io.CopyBuffer(hash, reader{ctx, f}, buffer[:])
	if err != nil || digest.NewDigest(desc.Digest.Algorithm(), hash) != desc.Digest {
		return 0, false
	}
	return n, true
}

// reader ends with its context. It also hides the methods of a file that make
// io.Copy allocate.
type reader struct {
	ctx  context.Context
	file io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.file.Read(p)
}

// WriteFile verifies data against dgst and gives it the name. A file that holds
// it already stays: to replace one costs a write to the disk on ext4.
func (d *Dir) WriteFile(name string, data []byte, dgst digest.Digest) error {
	desc := ocispec.Descriptor{Digest: dgst, Size: int64(len(data))}
	if _, ok := d.Holds(context.Background(), name, desc); ok { // small
		return nil
	}
	w, err := d.Create(name, desc)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.WriteAt(data, 0); err != nil {
		return err
	}
	return w.Commit()
}

// Remove takes away what has the name, if it is a file of any kind; that there
// is none is no error.
func (d *Dir) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.local(err)
	}
	return nil
}

// local marks an error of this machine, as opposed to one of the bytes. The
// paths in it are inner names; the directory's says more.
func (d *Dir) local(err error) error {
	return &LocalError{Dir: d.path, Err: cause(err)}
}

// cause takes operation and path off an error of package os.
func cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// LocalError is a failure of the directory: no permission, no space, gone.
// errors.Is finds the errno in it.
type LocalError struct {
	Dir string // absolute
	Err error
}

func (e *LocalError) Error() string { return fmt.Sprintf("directory %.4096q: %v", e.Dir, e.Err) }

func (e *LocalError) Unwrap() error { return e.Err }
