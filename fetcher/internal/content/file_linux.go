package content

import (
	"errors"
	"os"
	"strconv"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func fileName(d digest.Digest) string { return d.String() }

// createTemp begins a file without a name; or one with a hidden name where the
// file system knows no O_TMPFILE, or /proc is missing to link it by. A trouble
// of the directory itself comes up again there.
func (d *Dir) createTemp() (file *os.File, temp string, err error) {
	file, err = d.root.OpenFile(".", unix.O_TMPFILE|os.O_RDWR, fileMode)
	if err != nil {
		return d.createNamed()
	}
	if unix.Access(procPath(file), unix.F_OK) != nil {
		_ = file.Close()
		return d.createNamed()
	}
	return file, "", nil
}

// link gives a file without a name one, if that is free.
func (d *Dir) link(file *os.File, name string) error {
	for {
		err := unix.Linkat(unix.AT_FDCWD, procPath(file), int(d.fd.Fd()), name, unix.AT_SYMLINK_FOLLOW)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func procPath(file *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(file.Fd())) }
