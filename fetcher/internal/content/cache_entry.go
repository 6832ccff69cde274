package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// errStuck says that the holder of a lock makes no progress.
var errStuck = errors.New("whoever fetches the blob makes no progress")

// acquire waits for the lock of an entry. The caller has to release it.
func (c *Cache) acquire(ctx context.Context, key string, follow func(int64)) (*lease, error) {
	for {
		entry, err := c.openEntry(key)
		if err != nil {
			return nil, c.local(err)
		}
		if err := c.await(ctx, entry, key, follow); err != nil {
			_ = entry.Close()
			return nil, err
		}
		if l := c.hold(key, entry); l != nil {
			return l, nil
		}
	}
}

// openEntry opens the file of an entry.
func (c *Cache) openEntry(key string) (*os.File, error) {
	var f *os.File
	err := c.laid(func() (err error) {
		f, err = openHealed(c.at("entries", key))
		return err
	})
	return f, err
}

// laid does it once more, with all directories in place, where one is missing:
// somebody cleared the cache, or a part of it, away.
func (c *Cache) laid(do func() error) error {
	err := do()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.lay(); err != nil {
		return err
	}
	return do()
}

// await waits until the entry is locked for the caller, or its holder makes no
// progress for too long (errStuck).
func (c *Cache) await(ctx context.Context, entry *os.File, key string, follow func(int64)) error {
	var received int64
	var since time.Time
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		released := c.released(key)
		if ok, err := tryLock(entry); err != nil {
			return c.local(err)
		} else if ok {
			return nil
		}
		r := readRecord(entry)
		switch {
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > c.patience:
			return errStuck
		}
		if r.stage == partial && r.received != received {
			received, since = r.received, time.Now()
			if follow != nil {
				follow(received)
			}
		}
		if err := sleep(ctx, pause, released); err != nil {
			return err
		}
	}
}

// sleep waits for the pause to pass, for released, or for the end of ctx, which is
// an error.
func sleep(ctx context.Context, pause time.Duration, released <-chan struct{}) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-released:
	case <-timer.C:
	}
	return nil
}

// released returns what is closed when this process lets go of the entry; nil if
// it does not hold it.
func (c *Cache) released(key string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[key]
}

// hold makes the lease of an entry that is locked. It is nil, and the entry
// closed, where the file is no longer the one that has the entry's name: its
// lock keeps nobody out.
func (c *Cache) hold(key string, entry *os.File) *lease {
	r := readRecord(entry)
	// If it still has the name, then who wanted to remove it died before that.
	if r.stage == gone && !named(entry, c.at("entries", key)) {
		unlock(entry)
		return nil
	}
	l := &lease{cache: c, key: key, entry: entry, record: r, done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[key] = l.done
	return l
}

// removeEntry takes away the name of an entry that is locked. Who waits for the
// lock has the file open: the record tells them to open another, so that there
// never are two locks. One that can't be written, on a full disk, stays.
func (c *Cache) removeEntry(key string, entry *os.File) error {
	path := c.at("entries", key)
	if _, err := entry.WriteAt(record{stage: gone}.encode(), 0); err != nil || !named(entry, path) {
		return nil
	}
	return os.Remove(path)
}

// named reports whether the path leads to the open file.
func named(f *os.File, path string) bool {
	here, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(here, there)
}

func readRecord(entry *os.File) record {
	var b [recordSize]byte
	n, _ := entry.ReadAt(b[:], 0)
	return decode(b[:n])
}
