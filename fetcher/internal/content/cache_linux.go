package content

import (
	"encoding/hex"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// stampOf returns the stamp of a file now.
func stampOf(info fs.FileInfo) stamp {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}
	}
	return stamp{
		boot: bootID(), device: uint64(s.Dev), inode: s.Ino, links: uint64(s.Nlink),
		size: s.Size, mtime: s.Mtim.Nano(), ctime: s.Ctim.Nano(),
	}
}

// bootID names this boot of the machine; zero where nothing tells.
var bootID = sync.OnceValue(func() (id [16]byte) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(raw) != len(id) {
		return [16]byte{}
	}
	return [16]byte(raw)
})

// The mark is a file capability that gives nothing (capabilities(7), version 2,
// both sets empty). The kernel takes it off a file that is written to, cut, or
// given to another owner, whoever does so, root too; links come and go without
// that. It shows what ctime hides once a link was removed. Not seen are writes
// through a shared mapping whose author then sets mtime back to the nanosecond.
const markName = "security.capability"

var noCapability = append([]byte{3: 0x02}, make([]byte, 16)...)

// mark marks a file, which takes CAP_SETFCAP.
func mark(f *os.File) bool {
	return unix.Fsetxattr(int(f.Fd()), markName, noCapability, 0) == nil
}

// marked reports whether the file still has its mark.
func marked(f *os.File) bool {
	n, err := unix.Fgetxattr(int(f.Fd()), markName, nil)
	return err == nil && n > 0
}

// marks reports whether this user may mark files in the directory, and whether
// a write takes the mark away there: it does so in the kernel's own file
// systems, and may not in others.
func marks(dir string) bool {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	defer f.Close()
	if !mark(f) || !marked(f) {
		return false
	}
	_, err = f.WriteAt([]byte{0}, 0)
	return err == nil && !marked(f)
}

// device tells the directory's file system from others; 0 for unknown.
func (d *Dir) device() uint64 {
	var s unix.Stat_t
	if unix.Fstat(int(d.fd.Fd()), &s) != nil {
		return 0
	}
	return uint64(s.Dev)
}

// clone has to share the bytes of from until one of them is written to.
func clone(to, from *os.File) error {
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
}
