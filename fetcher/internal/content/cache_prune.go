package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// staleAfter is when a partial that nobody went on with is given up.
const staleAfter = 24 * time.Hour

// Limits are what a cache may hold.
type Limits struct {
	MaxSize   int64         // bytes of all that it stores; 0: any
	OlderThan time.Duration // since the last use; 0: any
	DryRun    bool          // only tell what would be removed
}

// Pruned is what Prune removed, or would remove.
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
		remove := i.cache.remove
		if l.DryRun {
			remove = i.cache.removable
		}
		removed, err := remove(i)
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

// items lists what the cache holds. Names that the cache gives to nothing are not
// of it, and are left alone.
func (c *Cache) items() ([]*item, error) {
	var all []*item
	entries := map[string]*item{}
	now := time.Now()
	entry := func(info fs.FileInfo, note func(*item)) {
		if !isDigest(info.Name()) {
			return
		}
		i := entries[info.Name()]
		if i == nil {
			i = &item{cache: c, key: info.Name(), used: info.ModTime(), blob: -1}
			entries[i.key] = i
			all = append(all, i)
		}
		note(i)
	}
	// The entry's time is that of the last use, so it comes first.
	err := errors.Join(
		each(c.at("entries"), func(path string, info fs.FileInfo) {
			entry(info, func(i *item) { i.used = lastUse(path, info, now) })
		}),
		each(c.at("blobs"), func(_ string, info fs.FileInfo) { entry(info, func(i *item) { i.blob = info.Size() }) }),
		each(c.at("partial"), func(_ string, info fs.FileInfo) { entry(info, func(i *item) { i.partial = info.Size() }) }),
		each(c.at("manifests"), func(owner string, info fs.FileInfo) {
			if info.IsDir() && isOwner(info.Name()) {
				all = append(all, c.documents(owner, now)...)
			}
		}),
	)
	return all, err
}

// documents lists those of the owner whose directory is at path.
func (c *Cache) documents(path string, now time.Time) (all []*item) {
	_ = each(path, func(path string, info fs.FileInfo) {
		if isDigest(info.Name()) {
			all = append(all, &item{cache: c, path: path, used: lastUse(path, info, now), blob: -1, other: info.Size()})
		}
	})
	return all
}

// isDigest reports whether a name is one that fileName makes.
func isDigest(name string) bool {
	d := digest.Digest(strings.Replace(name, "_", ":", 1))
	return check(name, d) == nil && fileName(d) == name
}

// isOwner reports whether a name is one that Owner makes.
func isOwner(name string) bool {
	return len(name) == 2*ownerSize && strings.Trim(name, "0123456789abcdef") == ""
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
	entry, err := c.openEntry(i.key)
	if err != nil {
		return false, err
	}
	defer unlock(entry)
	if ok, err := tryLock(entry); !ok || err != nil {
		return false, err
	}
	return c.clear(entry, i)
}

// removable reports whether remove would remove an item now.
func (c *Cache) removable(i *item) (bool, error) {
	if i.path != "" {
		return true, nil
	}
	entry, _, err := openPlain(c.at("entries", i.key), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotPlain) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unlock(entry)
	if ok, err := tryLock(entry); !ok || err != nil {
		return false, err
	}
	info, err := entry.Stat()
	return err == nil && (info.Size() == 0 || !info.ModTime().After(i.used)), err
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
