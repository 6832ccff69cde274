package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// A way is how a blob gets from the cache to a directory.
type way int

const (
	byReflink way = iota // a file of its own that shares the bytes until one of the two is written
	byLink               // the same file
	byCopy
)

// give gives the blob in f its name in the directory, in the first way that works
// between the two file systems, and tells whether that changed f's links.
func (l *lease) give(f *os.File, info fs.FileInfo) (linked bool, err error) {
	device := l.dir.device()
	lasting := true
	for how := l.cache.way(device); ; how++ {
		switch how {
		case byReflink:
			err = l.fill(f, info, clone)
		case byLink:
			err = l.dir.hardLink(f, l.name)
		default: // which takes long, and needs no lock
			l.save(l.record)
			l.end()
			err = l.fill(f, info, func(to, from *os.File) error { return copyTo(l.ctx, to, from) })
		}
		if err == nil && lasting {
			l.cache.learn(device, how)
		}
		if err == nil || how == byCopy || errors.Is(err, syscall.EISDIR) {
			return how == byLink, err
		}
		// Else f may have too many links, or no name any more: another time it works.
		lasting = lasting && unsupported(err)
	}
}

// way is the first to try.
func (c *Cache) way(device uint64) way {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ways[device]
}

// learn notes that how works, and nothing before it does.
func (c *Cache) learn(device uint64, how way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ways[device] = how
}

// unsupported reports whether an error says that the file systems can't do it at all.
func unsupported(err error) bool {
	for _, no := range []error{errors.ErrUnsupported, syscall.EXDEV, syscall.EINVAL, syscall.ENOTTY, syscall.EPERM} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// hardLink gives the file the name, whatever had it before but a directory.
func (d *Dir) hardLink(f *os.File, name string) error {
	err := d.link(f, name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	here, err := f.Stat()
	if err != nil {
		return err
	}
	if there, err := d.root.Lstat(name); err == nil && os.SameFile(here, there) {
		return nil
	}
	for range 3 { // a sweep of another name of the file may have the lock, and take this one
		if err = d.relink(f, name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// relink gives the file the name in the place of what has it.
func (d *Dir) relink(f *os.File, name string) error {
	hidden, release, err := d.linkHidden(f)
	if err != nil {
		return err
	}
	defer release()
	// Also where the two are names of one file by now: no rename does (rename(2)).
	defer func() { _ = d.root.Remove(hidden) }()
	err = d.root.Rename(hidden, name)
	if errors.Is(err, fs.ErrExist) { // what Rename says of a directory
		return fmt.Errorf("%q is in the way: %w; remove it", name, syscall.EISDIR)
	}
	return err
}

// fill makes a file with the bytes of f and gives it the name.
func (l *lease) fill(f *os.File, before fs.FileInfo, bring func(to, from *os.File) error) error {
	w, err := l.dir.Create(l.name, l.desc)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := bring(w.file, f); err != nil {
		return err
	}
	made, err := w.file.Stat()
	if err != nil {
		return err
	}
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if made.Size() != before.Size() || !unwritten(now, before) {
		return errChanged
	}
	return w.keeper.publish(w)
}

// unwritten reports whether nothing was written to a file in between. Its links,
// and so ctime, may be others.
func unwritten(now, before fs.FileInfo) bool {
	return now.Size() == before.Size() && now.ModTime().Equal(before.ModTime())
}

// copyTo copies in steps, so that an end of ctx is seen soon.
func copyTo(ctx context.Context, to, from *os.File) error {
	const step = 16 << 20
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := to.ReadFrom(io.LimitReader(from, step))
		if n < step || err != nil {
			return err
		}
	}
}
