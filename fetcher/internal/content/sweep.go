package content

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
)

const (
	hiddenPrefix, hiddenSuffix = ".docker-fetcher-", ".partial"
	hiddenMode                 = 0o600
)

// hiddenName is a name for an unfinished file that nothing else has. It says
// whose it is, should a crash leave it behind.
func hiddenName() string {
	return fmt.Sprintf("%s%016x%s", hiddenPrefix, rand.Uint64(), hiddenSuffix)
}

func isHidden(name string) bool {
	name, begins := strings.CutPrefix(name, hiddenPrefix)
	name, ends := strings.CutSuffix(name, hiddenSuffix)
	return begins && ends && len(name) == 16 && strings.Trim(name, "0123456789abcdef") == ""
}

// mostSwept is how many names a sweep looks at: an Open does not take seconds for
// a directory that somebody filled.
const mostSwept = 100_000

// sweep removes the unfinished files of this user that killed processes have
// left, among so many names. Who is alive shares the lock (flock) of its file as
// long as that has a hidden name; a sweep wants it alone. A lock, and no process
// ID in the name: that of a container means nothing outside of it, and after a
// boot it is another's. Where there are no locks, nothing is swept.
//
// Where several machines share a directory, they must share its locks: NFS does,
// unless it is mounted with nolock or local_lock. If they don't, a sweep takes
// the file that another machine is about to rename, and the fetch there fails.
func (d *Dir) sweep(most int) {
	for most > 0 {
		names, err := d.fd.Readdirnames(min(most, 1024))
		for _, name := range names {
			if isHidden(name) {
				d.sweepOne(name)
			}
		}
		if err != nil { // the end, or another time
			return
		}
		most -= len(names)
	}
}

func (d *Dir) sweepOne(name string) {
	seen, err := d.root.Lstat(name)
	if err != nil || !seen.Mode().IsRegular() || !mine(seen) {
		return
	}
	f, err := d.root.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0) // NFS locks for one only what can be written
	if err != nil {
		f, err = d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // as in Holds
	}
	if err != nil {
		return
	}
	defer unlock(f)
	info, err := f.Stat()
	if err != nil || !os.SameFile(seen, info) {
		return
	}
	if ok, err := tryLock(f); ok && err == nil && d.names(name, info) {
		_ = d.root.Remove(name)
	}
}

// names reports whether the name is that of the file.
func (d *Dir) names(name string, file fs.FileInfo) bool {
	seen, err := d.root.Lstat(name)
	return err == nil && os.SameFile(seen, file)
}

var errSwept = errors.New("somebody removes each unfinished file as soon as it is there")

// createNamed begins a file with a hidden name, and shares its lock. Only this
// user can open it, until show.
func (d *Dir) createNamed() (file *os.File, temp string, err error) {
	if _, err := d.newMode(); err != nil { // else a full disk would show at the end
		return nil, "", err
	}
	for range 10 { // a sweep may come between the two
		temp = hiddenName()
		file, err = d.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, hiddenMode)
		if err != nil {
			return nil, "", err
		}
		info, err := file.Stat()
		if err != nil {
			return file, temp, nil // the next call will tell
		}
		if ok, err := tryShare(file); err != nil || ok && d.names(temp, info) {
			return file, temp, nil
		}
		unlock(file)
		_ = d.root.Remove(temp)
	}
	return nil, "", errSwept
}

// newMode is the mode that the umask and the directory's ACL leave of fileMode. It
// makes an empty file to see it: to ask for the umask is to change that of all
// threads.
func (d *Dir) newMode() (fs.FileMode, error) {
	if mode := d.mode.Load(); mode != 0 {
		return fs.FileMode(mode), nil
	}
	probe := hiddenName()
	f, err := d.root.OpenFile(probe, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.root.Remove(probe) }()
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	d.mode.Store(uint32(info.Mode().Perm()))
	return info.Mode().Perm(), nil
}

// show gives the file of createNamed the mode of any other, before its name.
func (d *Dir) show(f *os.File) error {
	mode, err := d.newMode()
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Mode().Perm() == mode { // vfat has one mode for all
		return nil
	}
	return f.Chmod(mode)
}

// linkHidden gives a file a hidden name and shares its lock, until release.
func (d *Dir) linkHidden(f *os.File) (hidden string, release func(), err error) {
	release, err = keepShare(f)
	if err != nil {
		return "", nil, err
	}
	hidden = hiddenName()
	if err := d.link(f, hidden); err != nil {
		release()
		return "", nil, err
	}
	return hidden, release, nil
}
