package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// outcome is how a fetch ended.
type outcome struct {
	reason   string // empty: well; else killed, cancelled, a reason of fetcher or what else it was
	text     string // the error
	attempts int    // to get a blob, beyond the first
	took     time.Duration
}

// unavailable is the failure of a command that says no more than its exit code, 6.
const unavailable = "exit code 6"

// judge says what is wrong about the outcome of an errand; nil: nothing. The
// registry tells the truth and the network does not work: there is no other reason
// to fail, and none where no fault is on.
func judge(e errand, o outcome) error {
	if e.Unhindered && o.reason != "" {
		return fmt.Errorf("failed without a fault with %s: %s", o.reason, o.text)
	}
	switch o.reason {
	case "", string(fetcher.RegistryUnreachable), string(fetcher.Registry5xx), string(fetcher.Stalled), unavailable:
		return nil
	case string(killed), string(cancelled):
		if o.reason == string(e.Ending) {
			return nil
		}
	}
	return fmt.Errorf("failed with %s: %s", o.reason, o.text)
}

// bound is how long a fetch of so many bytes may take: the documented budgets
// for the index and the manifest, for five breaks of a blob in a row and for a
// lock whose holder stands still, and the bytes at the pace that is left when
// bandwidth is short now and then.
func bound(bytes int64) time.Duration {
	const (
		document = 28 * time.Second // 18 s for the answer, 10 s for the body
		answer   = 18 * time.Second
		lock     = time.Minute
		pace     = 128 << 10 // bytes a second
	)
	return 2*document + 5*(answer+stall) + lock + time.Duration(bytes/pace)*time.Second
}

// inspect reads the files of a directory after a fetch. All of them are files
// that are wanted and right; if complete, none is missing. It returns their size.
func inspect(dir string, want map[string]digest.Digest, complete bool) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && (complete || !errors.Is(err, fs.ErrNotExist)) {
		return 0, err
	}
	var total int64
	for _, entry := range entries {
		expected, wanted := want[entry.Name()]
		if !wanted {
			return 0, fmt.Errorf("%s should not be there", entry.Name())
		}
		size, err := verify(filepath.Join(dir, entry.Name()), expected)
		if err != nil {
			return 0, err
		}
		total += size
	}
	if complete && len(entries) != len(want) {
		return 0, fmt.Errorf("%d files, want %d", len(entries), len(want))
	}
	return total, nil
}

// verify reads the file at path and compares its digest. It returns its size.
func verify(path string, want digest.Digest) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	if got := want.Algorithm().FromBytes(data); got != want {
		return 0, fmt.Errorf("%s: %d bytes with digest %s, want %s", path, len(data), got, want)
	}
	return int64(len(data)), nil
}

// inspectCache reads all that the cache calls verified. It returns how many files.
func inspectCache(dir string) (files int, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name := digest.Digest(entry.Name())
		part := filepath.Base(filepath.Dir(path))
		manifest := filepath.Base(filepath.Dir(filepath.Dir(path))) == "manifests"
		if err != nil || entry.IsDir() || name.Validate() != nil || part != "blobs" && !manifest {
			return err
		}
		files++
		if manifest {
			return nil // with a record around it
		}
		_, err = verify(path, name)
		return err
	})
	return files, err
}

// sweep removes some blobs of the cache, as a cleaner does that knows nothing of
// locks, so that there is always something to fetch. It returns how many.
func sweep(dir string, r *rand.Rand) int {
	removed := 0
	paths, _ := filepath.Glob(filepath.Join(dir, "*", "*", "blobs", "*")) // the pattern is well-formed
	for _, path := range paths {
		if r.IntN(2) == 0 && os.Remove(path) == nil {
			removed++
		}
	}
	return removed
}

// firstLine is what a program says in the first line of its errors.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
