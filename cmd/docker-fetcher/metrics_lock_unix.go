//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkPrivate reports why a directory is no place for a socket: who may write
// there could put a socket or a lock of his own in its place.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is no directory", dir)
	}
	const advice = "name a path in a directory that only the user of the plugin writes to"
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("others may write to the directory %q (mode %04o); %s", dir, perm, advice)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int64(s.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("the directory %q belongs to user %d; %s", dir, s.Uid, advice)
	}
	return nil
}

// lockFile locks a file, which it makes and nobody removes: who removed it would
// let two have it. The error is EADDRINUSE where another process has the lock.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = syscall.EADDRINUSE
		}
		return nil, err
	}
	return fileLock{f}, nil
}

// fileLock is a file that is locked.
type fileLock struct{ f *os.File }

// Close lets go of the lock. The close of the file alone would not do while a
// child process is being started, which has it open until its exec.
func (l fileLock) Close() error {
	return errors.Join(unix.Flock(int(l.f.Fd()), unix.LOCK_UN), l.f.Close())
}
