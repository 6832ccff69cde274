//go:build !linux

package content

import (
	"errors"
	"io/fs"
	"os"
)

func stampOf(fs.FileInfo) stamp { return stamp{} }

func mark(*os.File) bool { return false }

func marked(*os.File) bool { return false }

func marks(string) bool { return false }

func (d *Dir) device() uint64 { return 0 }

func clone(_, _ *os.File) error { return errors.ErrUnsupported }
