package content

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const plainly = 0

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func tryShare(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func lock(*os.File) error { return errors.ErrUnsupported }

func unlock(f *os.File) { _ = f.Close() }

func keepShare(*os.File) (release func(), err error) { return func() {}, nil }

func mine(fs.FileInfo) bool { return false }

func private(fs.FileInfo) error {
	return fmt.Errorf("a cache on Windows: %w", errors.ErrUnsupported)
}

func writable(string) error { return nil }

func own(fs.FileInfo) bool { return true }
