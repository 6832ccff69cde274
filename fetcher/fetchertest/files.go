package fetchertest

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// OpenFiles counts the open files of this process; 0 where no /proc tells.
func OpenFiles() int {
	files, _ := os.ReadDir("/proc/self/fd")
	return len(files)
}

// FilesLeft says how many more files are open than before, once those that
// other goroutines are closing are closed.
func FilesLeft(before int) error {
	left := OpenFiles() - before
	for deadline := time.Now().Add(10 * time.Second); left > 0 && time.Now().Before(deadline); left = OpenFiles() - before {
		runtime.Gosched()
	}
	if left > 0 {
		return fmt.Errorf("%d files are open that were not before", left)
	}
	return nil
}
