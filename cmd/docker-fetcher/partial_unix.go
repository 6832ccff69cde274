//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// private tells whether a directory is this user's, and nobody else's to write to.
func private(dir fs.FileInfo) bool {
	s, ok := dir.Sys().(*syscall.Stat_t)
	return ok && int64(s.Uid) == int64(os.Geteuid()) && dir.Mode().Perm()&0o022 == 0
}
