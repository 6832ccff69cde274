package content

import (
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxUnknownSize bounds a blob whose size nobody said: the disk is not a peer's
// to fill.
const maxUnknownSize = 64 << 30

// What is wrong with bytes, as opposed to the directory (LocalError).
var (
	ErrDigest = errors.New("wrong digest") // not that of the descriptor
	ErrSize   = errors.New("wrong size")   // not that of the descriptor
	ErrTooBig = errors.New("blob of unknown size is larger than 64 GiB")
)

// Writer takes the bytes of one file, in order, until Commit or Close. Not safe
// for concurrent use.
type Writer struct {
	dir  *Dir
	name string
	desc ocispec.Descriptor
	file *os.File
	temp string // name of the unfinished file; "" where it has none
	hash hash.Hash
	size int64
}

// Create begins a file that Commit will name. The name must be one that
// CheckName lets pass, desc.Digest a sha256 or sha512; a negative desc.Size is
// one that nobody knows. The writer must be closed.
func (d *Dir) Create(name string, desc ocispec.Descriptor) (*Writer, error) {
	if err := check(name, desc.Digest); err != nil {
		return nil, err
	}
	file, temp, err := d.createTemp()
	if err != nil {
		return nil, d.local(err)
	}
	return &Writer{dir: d, name: name, desc: desc, file: file, temp: temp, hash: desc.Digest.Algorithm().Hash()}, nil
}

// Write appends p. It writes nothing of a p that goes beyond the descriptor's
// size (ErrSize), or beyond 64 GiB where that is unknown (ErrTooBig).
func (w *Writer) Write(p []byte) (int, error) {
	size := w.size + int64(len(p))
	switch {
	case w.desc.Size >= 0 && size > w.desc.Size:
		return 0, fmt.Errorf("%w: more than the %d bytes that the descriptor says", ErrSize, w.desc.Size)
	case size > maxUnknownSize && w.desc.Size < 0:
		return 0, ErrTooBig
	}
	n, err := w.file.Write(p)
	w.size += int64(n)
	// After the write, while the bytes are in the processor's cache.
	_, _ = w.hash.Write(p[:n])
	if err != nil {
		return n, w.dir.local(err)
	}
	return n, nil
}

// Size returns how many bytes were written.
func (w *Writer) Size() int64 { return w.size }

// Commit verifies size and digest and then gives the file its name, in one
// step, whatever had that name before; only a directory is never replaced. A
// Commit that fails leaves what was there. It can't be called again.
func (w *Writer) Commit() error {
	if w.desc.Size >= 0 && w.size != w.desc.Size {
		return fmt.Errorf("%w: got %d bytes, the descriptor says %d", ErrSize, w.size, w.desc.Size)
	}
	if got := digest.NewDigest(w.desc.Digest.Algorithm(), w.hash); got != w.desc.Digest {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, w.desc.Digest)
	}
	if err := w.publish(); err != nil {
		return w.dir.local(err)
	}
	return nil
}

// publish gives the file its name:
//
//	link(file, name)       it has none yet, and the name is free: done
//	link(file, hidden)     the name is not free: a hidden one beside it
//	close(file)            Windows renames no open file
//	rename(hidden, name)   and replace
//
// A crash before the rename leaves a complete, verified file under a hidden name.
func (w *Writer) publish() error {
	if w.temp == "" {
		err := w.dir.link(w.file, w.name)
		if err == nil {
			return w.file.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		hidden := hiddenName()
		if err := w.dir.link(w.file, hidden); err != nil {
			return err
		}
		w.temp = hidden
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	err := w.dir.root.Rename(w.temp, w.name)
	switch {
	case errors.Is(err, fs.ErrExist): // what Rename says of a directory
		return fmt.Errorf("%q is in the way: %w; remove it", w.name, syscall.EISDIR)
	case err != nil:
		return err
	}
	w.temp = ""
	return nil
}

// Close ends the writer; without a Commit nothing is left of it.
func (w *Writer) Close() error {
	err := w.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	if w.temp != "" {
		if gone := w.dir.root.Remove(w.temp); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		w.temp = ""
	}
	if err != nil {
		return w.dir.local(err)
	}
	return nil
}

// createNamed begins a file with a hidden name.
func (d *Dir) createNamed() (file *os.File, temp string, err error) {
	temp = hiddenName()
	file, err = d.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	return file, temp, err
}

// hiddenName is a name for an unfinished file that nothing else has. It says
// whose it is, should a crash leave it behind.
func hiddenName() string { return fmt.Sprintf(".docker-fetcher-%016x.partial", rand.Uint64()) }
