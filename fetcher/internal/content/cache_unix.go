//go:build unix

package content

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// plainly opens no symbolic link, and does not wait for the other end of a FIFO.
const plainly = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// tryLock locks an open file against all other openings of it, in this process
// too, unless one has it locked. The kernel lets go of it when a process dies.
func tryLock(f *os.File) (bool, error) { return tryFlock(f, unix.LOCK_EX) }

// tryShare is tryLock, except that others may have the file locked so too.
func tryShare(f *os.File) (bool, error) { return tryFlock(f, unix.LOCK_SH) }

func tryFlock(f *os.File, how int) (bool, error) {
	switch err := flock(f, how|unix.LOCK_NB); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, nil
	default:
		return false, err
	}
}

// lock waits for the lock.
func lock(f *os.File) error { return flock(f, unix.LOCK_EX) }

// unlock lets go of the lock and closes the file. The close alone would not do
// while a child process is being started, which has the file open until its exec.
func unlock(f *os.File) {
	_ = flock(f, unix.LOCK_UN)
	_ = f.Close()
}

// keepShare has the file locked as tryShare does, also while it is closed, until
// release. It does nothing where there are no locks, or a sweep has this one.
func keepShare(f *os.File) (release func(), err error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	kept := os.NewFile(uintptr(fd), f.Name())
	_, _ = tryShare(kept)
	return func() { unlock(kept) }, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// writable reports why nothing can be written in a directory.
func writable(path string) error { return unix.Access(path, unix.W_OK|unix.X_OK) }

// private reports why a directory can't be a cache: what others may write to
// is not what was verified.
func private(dir fs.FileInfo) error {
	if s, ok := dir.Sys().(*syscall.Stat_t); ok && int64(s.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("a cache must belong to the user it works for (%d), not to user %d; name another directory", os.Geteuid(), s.Uid)
	}
	if dir.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %04o): remove what is in it and chmod it to 0700, or name another directory", dir.Mode().Perm())
	}
	return nil
}

// mine reports whether a file belongs to this user.
func mine(file fs.FileInfo) bool {
	s, ok := file.Sys().(*syscall.Stat_t)
	return ok && int64(s.Uid) == int64(os.Geteuid())
}

// own reports whether a stored blob still is as it was stored: this user's, and
// writable by nobody. A hard link that was handed out may have been given to
// somebody else since, who then may write to it at any time.
func own(blob fs.FileInfo) bool {
	return mine(blob) && blob.Mode() == blobMode
}
