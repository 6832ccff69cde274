package content

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
)

const hiddenPrefix, hiddenSuffix = ".docker-fetcher-", ".partial"

// hiddenName is a name for an unfinished file that nothing else has. It says
// whose it is, should a crash leave it behind.
func hiddenName() string {
	return fmt.Sprintf("%s%016x%s", hiddenPrefix, rand.Uint64(), hiddenSuffix)
}

func isHidden(name string) bool {
	name, begins := strings.CutPrefix(name, hiddenPrefix)
	name, ends := strings.CutSuffix(name, hiddenSuffix)
	_, err := hex.DecodeString(name)
	return begins && ends && len(name) == 16 && err == nil
}

// sweep removes the unfinished files of this user that killed processes have
// left. Who is alive has the lock (flock) of its file as long as that has a hidden
// name. A lock, and no process ID in the name: that of a container means nothing
// outside of it, and after a boot it is another's. Where there are no locks,
// nothing is swept.
func (d *Dir) sweep() {
	for {
		names, err := d.fd.Readdirnames(1024)
		for _, name := range names {
			if isHidden(name) {
				d.sweepOne(name)
			}
		}
		if err != nil { // the end, or another time
			return
		}
	}
}

func (d *Dir) sweepOne(name string) {
	seen, err := d.root.Lstat(name)
	if err != nil || !seen.Mode().IsRegular() || !mine(seen) {
		return
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // as in Holds
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

// createNamed begins a file with a hidden name, and has its lock.
func (d *Dir) createNamed() (file *os.File, temp string, err error) {
	for range 10 { // a sweep may come between the two
		temp = hiddenName()
		file, err = d.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		if err != nil {
			return nil, "", err
		}
		info, err := file.Stat()
		if err != nil {
			return file, temp, nil // the next call will tell
		}
		if ok, err := tryLock(file); err != nil || ok && d.names(temp, info) {
			return file, temp, nil
		}
		unlock(file)
		_ = d.root.Remove(temp)
	}
	return nil, "", errSwept
}

// linkHidden gives a file a hidden name and the lock, until release.
func (d *Dir) linkHidden(f *os.File) (hidden string, release func(), err error) {
	release = keepLock(f)
	hidden = hiddenName()
	if err := d.link(f, hidden); err != nil {
		release()
		return "", nil, err
	}
	return hidden, release, nil
}
