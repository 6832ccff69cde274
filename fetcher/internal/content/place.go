package content

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// place is the name in a directory that a writer's file is for: the keeper of
// what goes there without a cache.
type place struct {
	*Dir
	name string
	temp string // name of the unfinished file; "" where it has none
}

// Create begins a file that Commit will name. The name must be one that
// CheckName lets pass, desc.Digest a sha256 or sha512; a negative desc.Size is
// one that nobody knows. The writer must be closed; without a Commit nothing is
// left of it then.
func (d *Dir) Create(name string, desc ocispec.Descriptor) (*Writer, error) {
	if err := check(name, desc.Digest); err != nil {
		return nil, err
	}
	file, temp, err := d.createTemp()
	if err != nil {
		return nil, d.local(err)
	}
	return begin(&place{d, name, temp}, file, desc), nil
}

// publish gives the file its name:
//
//	link(file, name)       it has none yet, and the name is free: done
//	lock(file)             the name is not free: against sweep, until the end
//	link(file, hidden)     a hidden one beside it
//	close(file)            Windows renames no open file, and NFS tells of a full disk
//	rename(hidden, name)   and replace
//
// A crash before the rename leaves a complete, verified file under a hidden name,
// for the next sweep.
func (p *place) publish(w *Writer) error {
	if p.temp == "" {
		err := p.link(w.file, p.name)
		if err == nil {
			return w.file.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	release, err := p.hide(w.file)
	if err != nil {
		return err
	}
	defer release()
	if err := w.file.Close(); err != nil {
		return err
	}
	err = p.root.Rename(p.temp, p.name)
	if errors.Is(err, fs.ErrExist) { // what Rename says of a directory
		return fmt.Errorf("%q is in the way: %w; remove it", p.name, syscall.EISDIR)
	}
	return err
}

// hide gives the file a hidden name, if it has none, its final mode, and its lock
// until release, though it is closed.
func (p *place) hide(f *os.File) (release func(), err error) {
	if p.temp != "" {
		if err := p.show(f); err != nil {
			return nil, err
		}
		return keepShare(f)
	}
	p.temp, release, err = p.linkHidden(f)
	return release, err
}

// discard takes the hidden name away, if there is one.
func (p *place) discard(*Writer) error {
	if p.temp == "" {
		return nil
	}
	if err := p.root.Remove(p.temp); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
