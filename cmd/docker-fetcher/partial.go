package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// partial is the hidden directory in a task's sandbox in which a file is made.
// Where the sandbox belongs to another user, that one may put anything in its
// place at any time. So it is opened once, and all goes through what was opened.
type partial struct {
	sandbox *os.Root
	dir     *os.Root
	file    *os.File // the directory itself
	info    fs.FileInfo
	name    string // in the sandbox
}

var errSwapped = errors.New("the hidden directory of this fetch was moved, or is not this user's; " +
	"the sandbox must belong to the user who fetches")

func newPartial(sandbox string) (*partial, error) {
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return nil, err
	}
	p := &partial{sandbox: root, name: ".docker-fetcher-" + rand.Text() + ".partial"}
	if err = root.Mkdir(p.name, 0o700); err == nil {
		if err = p.open(); err != nil {
			_ = root.Remove(p.name) // where it is empty
		}
	}
	if err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// open opens the directory that was just made. What is this user's own and
// empty will hold nothing of anybody else's.
func (p *partial) open() (err error) {
	if p.dir, err = p.sandbox.OpenRoot(p.name); err != nil {
		return err
	}
	if p.file, err = p.dir.Open("."); err != nil {
		return err
	}
	if p.info, err = p.file.Stat(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(p.dir.FS(), ".")
	if err == nil && (len(entries) > 0 || !private(p.info) || !p.there()) {
		err = errSwapped
	}
	return err
}

// there tells whether the directory still has its name.
func (p *partial) there() bool {
	seen, err := p.sandbox.Lstat(p.name)
	return err == nil && os.SameFile(seen, p.info)
}

// path is where the fetcher finds the directory: where the system has a path to
// what is open, by that, as its name may lead elsewhere meanwhile.
func (p *partial) path() string {
	open := fmt.Sprintf("/proc/self/fd/%d", p.file.Fd())
	if info, err := os.Stat(open); err == nil && os.SameFile(info, p.info) {
		return open
	}
	return p.shown()
}

// shown is the path for people.
func (p *partial) shown() string { return filepath.Join(p.sandbox.Name(), p.name) }

// fetch fetches what a request names into the directory.
func (p *partial) fetch(ctx context.Context, f *fetcher.Fetcher, r fetcher.Request) (fetcher.Result, error) {
	r.Directory = p.path()
	result, err := f.Fetch(ctx, r)
	var e *fetcher.Error
	if errors.As(err, &e) {
		e.Text = strings.ReplaceAll(e.Text, strconv.Quote(r.Directory), strconv.Quote(p.shown()))
	}
	if err != nil {
		return result, err
	}
	for _, file := range result.Files {
		if info, err := p.dir.Lstat(file.Path); err != nil || !info.Mode().IsRegular() {
			return result, errSwapped
		}
	}
	return result, nil
}

// place gives a file of the directory a name in the sandbox. A link, unlike a
// rename, replaces nothing that came there in the meantime; so a rename is for
// file systems without links.
func (p *partial) place(file, name string, link func(from, to string) error) error {
	made, err := p.dir.Lstat(file)
	if err != nil || !made.Mode().IsRegular() || !p.there() {
		return errSwapped
	}
	from := filepath.Join(p.name, file)
	if err = link(from, name); linkless(err) {
		if _, err = p.sandbox.Lstat(name); err == nil {
			return fs.ErrExist
		}
		err = p.sandbox.Rename(from, name)
	}
	if err != nil {
		return err
	}
	if placed, err := p.sandbox.Lstat(name); err != nil || !os.SameFile(made, placed) {
		_ = p.sandbox.Remove(name) // the directory had lost its name: what was linked is somebody else's
		return errSwapped
	}
	return nil
}

// linkless tells whether an error of a link says that there are none here.
func linkless(err error) bool {
	for _, no := range []error{errors.ErrUnsupported, syscall.EPERM, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// close removes the directory and what is in it, but nothing that is in its place.
func (p *partial) close() error {
	entries, err := fs.ReadDir(p.dir.FS(), ".")
	if errors.Is(err, fs.ErrNotExist) { // it was removed
		err = nil
	}
	for _, e := range entries {
		err = cmp.Or(err, p.dir.RemoveAll(e.Name()))
	}
	if p.there() {
		err = cmp.Or(err, p.sandbox.Remove(p.name))
	}
	p.release()
	return err
}

func (p *partial) release() {
	_ = p.file.Close()
	if p.dir != nil {
		_ = p.dir.Close()
	}
	_ = p.sandbox.Close()
}
