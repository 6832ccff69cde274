package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// staleAfter is when a partial that nobody went on with is given up.
const staleAfter = 24 * time.Hour

// Limits are what a cache may hold.
type Limits struct {
	MaxSize   int64         // bytes of all that it stores; 0: any
	OlderThan time.Duration // since the last use; 0: any
}

// Pruned is what Prune removed.
type Pruned struct {
	Blobs int   // verified ones
	Bytes int64 // of all files; what directories still have by hard link takes no less room
}

// Prune removes what goes beyond the limits, least recently used first, and
// partials that nobody went on with for a day. What somebody is using stays.
// ctx ends it, with its own error; what was removed until then is told.
func (c *Cache) Prune(ctx context.Context, l Limits) (Pruned, error) {
	return prune(ctx, []*Cache{c}, l)
}

func prune(ctx context.Context, caches []*Cache, l Limits) (Pruned, error) {
	var items []*item
	for _, c := range caches {
		more, err := c.items()
		if err != nil {
			return Pruned{}, c.local(err)
		}
		items = append(items, more...)
	}
	var total int64
	for _, i := range items {
		total += i.size()
	}
	slices.SortFunc(items, func(a, b *item) int { return a.used.Compare(b.used) })
	var pruned Pruned
	now := time.Now()
	for _, i := range items {
		if err := ctx.Err(); err != nil {
			return pruned, err
		}
		if !l.exceeded(i, total, now) {
			continue
		}
		removed, err := i.cache.remove(i)
		if err != nil {
			return pruned, i.cache.local(err)
		}
		if !removed {
			continue
		}
		total -= i.size()
		pruned.Bytes += i.size()
		if i.blob >= 0 {
			pruned.Blobs++
		}
	}
	return pruned, nil
}

// An item is what is removed together: an entry with its blob and partial, or a
// document.
type item struct {
	cache   *Cache
	path    string // of the document; "" for an entry
	key     string // of the entry
	used    time.Time
	blob    int64 // size; -1 for none
	partial int64
	other   int64 // size of the document
}

func (i *item) size() int64 { return max(i.blob, 0) + i.partial + i.other }

// exceeded reports whether an item is too much for a cache that holds total bytes.
func (l Limits) exceeded(i *item, total int64, now time.Time) bool {
	age := now.Sub(i.used)
	unfinished := i.path == "" && i.blob < 0
	return l.OlderThan > 0 && age > l.OlderThan || unfinished && age > staleAfter || l.MaxSize > 0 && total > l.MaxSize && i.size() > 0
}

// items lists what the cache holds.
func (c *Cache) items() ([]*item, error) {
	var all []*item
	entries := map[string]*item{}
	now := time.Now()
	entry := func(info fs.FileInfo) *item {
		i := entries[info.Name()]
		if i == nil {
			i = &item{cache: c, key: info.Name(), used: info.ModTime(), blob: -1}
			entries[i.key] = i
			all = append(all, i)
		}
		return i
	}
	// The entry's time is that of the last use, so it comes first.
	err := errors.Join(
		each(c.at("entries"), func(path string, info fs.FileInfo) { entry(info).used = lastUse(path, info, now) }),
		each(c.at("blobs"), func(_ string, info fs.FileInfo) { entry(info).blob = info.Size() }),
		each(c.at("partial"), func(_ string, info fs.FileInfo) { entry(info).partial = info.Size() }),
		each(c.at("manifests"), func(owner string, _ fs.FileInfo) {
			_ = each(owner, func(path string, info fs.FileInfo) {
				all = append(all, &item{cache: c, path: path, used: lastUse(path, info, now), blob: -1, other: info.Size()})
			})
		}),
	)
	return all, err
}

// lastUse is what the time of a file says. One to come is of a clock that was set
// back since: it becomes now, or the file would be the newest until that comes.
func lastUse(path string, info fs.FileInfo, now time.Time) time.Time {
	if !info.ModTime().After(now) {
		return info.ModTime()
	}
	_ = os.Chtimes(path, now, now)
	return now
}

// each calls f for all that is in the directory. What is gone meanwhile, is gone.
func each(dir string, f func(path string, info fs.FileInfo)) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, file := range files {
		if info, err := file.Info(); err == nil {
			f(filepath.Join(dir, file.Name()), info)
		}
	}
	return err
}

// remove removes an item, unless somebody is using it or did so since it was listed.
func (c *Cache) remove(i *item) (bool, error) {
	if i.path != "" {
		err := os.RemoveAll(i.path)
		_ = os.Remove(filepath.Dir(i.path)) // if that was the owner's last
		return err == nil, err
	}
	entry, err := openHealed(c.at("entries", i.key))
	if err != nil {
		return false, err
	}
	defer unlock(entry)
	if ok, err := tryLock(entry); !ok || err != nil {
		return false, err
	}
	return c.clear(entry, i)
}

// clear removes what belongs to a locked entry, and its name.
func (c *Cache) clear(entry *os.File, i *item) (bool, error) {
	info, err := entry.Stat()
	if err != nil {
		return false, err
	}
	// One that was not there when it was listed is empty.
	if info.Size() > 0 && info.ModTime().After(i.used) || !named(entry, c.at("entries", i.key)) {
		return false, nil
	}
	if err := errors.Join(os.RemoveAll(c.at("blobs", i.key)), os.RemoveAll(c.at("partial", i.key))); err != nil {
		return false, err
	}
	return true, c.removeEntry(i.key, entry)
}
