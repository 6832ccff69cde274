package content

import (
	"errors"
	"os"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func fileName(d digest.Digest) string { return d.String() }

// createTemp begins a file without a name; or one with a hidden name where the
// file system knows no O_TMPFILE, or /proc is missing to link it by. A trouble
// of the directory itself comes up again there.
func (d *Dir) createTemp() (file *os.File, temp string, err error) {
	if !procMounted() {
		return d.createNamed()
	}
	// Not by d.root, which would ask six times whether the file can be polled.
	var fd int
	err = uninterrupted(func() (err error) {
		fd, err = unix.Openat(int(d.fd.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, fileMode)
		return err
	})
	if err != nil {
		return d.createNamed()
	}
	return os.NewFile(uintptr(fd), "unnamed file"), "", nil
}

// procMounted is asked once: it costs each small file a microsecond.
var procMounted = sync.OnceValue(func() bool { return unix.Access("/proc/self/fd", unix.F_OK) == nil })

// link gives a file without a name one, if that is free.
func (d *Dir) link(file *os.File, name string) error {
	from, to := int(file.Fd()), int(d.fd.Fd())
	// Only root may always do that; /proc takes two microseconds longer.
	err := uninterrupted(func() error { return unix.Linkat(from, "", to, name, unix.AT_EMPTY_PATH) })
	if err == nil || errors.Is(err, unix.EEXIST) {
		return err
	}
	return uninterrupted(func() error {
		return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(from), to, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// reserve has the disk keep room for bytes of a file, whose size stays. Only
// what a write would fail with too is an error. On tmpfs, a page that is
// reserved and then written costs more than one that is only written (4 % of
// the writing and hashing of 1 GiB), on ext4 less (8 %).
func reserve(file *os.File, s span) error {
	var system unix.Statfs_t
	if unix.Fstatfs(int(file.Fd()), &system) != nil || system.Type == unix.TMPFS_MAGIC {
		return nil
	}
	return allocate(file, s)
}

func allocate(file *os.File, s span) error {
	err := uninterrupted(func() error {
		return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, s.from, s.to-s.from)
	})
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return nil
}

// uninterrupted repeats a system call that a signal cut short.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
