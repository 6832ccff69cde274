package fetcher_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// mounted returns a directory on a file system of its own.
func mounted(t *testing.T, flags uintptr, options string) (path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts a tmpfs")
	}
	path = t.TempDir()
	if err := syscall.Mount("tmpfs", path, "tmpfs", flags, options); err != nil {
		t.Skip("can't mount a tmpfs here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestAReadOnlyCacheDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	path := mounted(t, syscall.MS_RDONLY, "mode=0700")
	_, err := fetcher.New(fetcher.Config{CacheDir: path})
	var failure *fetcher.Error
	if !errors.As(err, &failure) || failure.Reason != fetcher.LocalPermission || !strings.Contains(failure.Text, `cache: directory "`+path+`": read-only file system`) {
		t.Errorf("got %v", err)
	}
}

func TestAFullDiskUnderTheCacheIsReportedAndLeavesNothingVisible(t *testing.T) {
	t.Parallel()
	path := mounted(t, 0, "size=4m,mode=0700")
	p := newPull(t, setting{fetcher: fetcher.Config{CacheDir: path}})
	p.failed(fetcher.DiskFull, `directory "`+cacheOf(path, p.registry)+`": no space left on device; make room and fetch again`)
}
