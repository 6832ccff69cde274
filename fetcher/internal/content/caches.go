package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Caches is a directory with a Cache for each registry. What one registry served
// is not handed out for another: whoever knows a digest could else name it in a
// manifest on a registry of their own, and have the blob. Safe for concurrent use.
type Caches struct {
	path string

	mu   sync.Mutex
	open map[string]*Cache
}

// OpenCaches opens the directory at path, and makes it (mode 0700) where missing.
// It refuses one that others may write to. Its errors are *LocalError.
func OpenCaches(path string) (*Caches, error) { return openCaches(path, layPrivate) }

// FindCaches is OpenCaches for a directory that is there already: it makes none.
func FindCaches(path string) (*Caches, error) { return openCaches(path, isPrivate) }

func openCaches(path string, check func(abs string) error) (*Caches, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &LocalError{path, err}
	}
	err = check(abs)
	if err == nil {
		err = writable(abs)
	}
	if err != nil {
		return nil, &LocalError{abs, cause(err)}
	}
	return &Caches{path: abs, open: map[string]*Cache{}}, nil
}

// Of returns the cache of a registry, whose name is that of a directory.
func (c *Caches) Of(registry string) (*Cache, error) {
	if err := CheckName(registry); err != nil {
		return nil, &LocalError{c.path, err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cache := c.open[registry]; cache != nil {
		return cache, nil
	}
	cache, err := OpenCache(filepath.Join(c.path, registry))
	if err == nil {
		c.open[registry] = cache
	}
	return cache, err
}

// Prune is Cache.Prune for all of them together.
func (c *Caches) Prune(ctx context.Context, l Limits) (Pruned, error) {
	named, err := c.all()
	if err != nil {
		return Pruned{}, err
	}
	var all []*Cache
	for _, n := range named {
		all = append(all, n.Cache)
	}
	return prune(ctx, all, l)
}

// registered is the cache of a registry.
type registered struct {
	*Cache
	registry string
}

// errNoCache says that a directory is not what was meant.
var errNoCache = errors.New("there is no cache in it, but other things; name the directory that a fetch had as its cache")

// all finds the caches that are there, by the names of their registries, and
// makes nothing. What is not a cache is not touched: a directory may be named by
// mistake. One that has only such things is errNoCache.
func (c *Caches) all() ([]registered, error) {
	dirs, err := os.ReadDir(c.path)
	if err != nil {
		return nil, &LocalError{c.path, cause(err)}
	}
	var all []registered
	for _, dir := range dirs {
		if !dir.IsDir() || !isRegistry(dir.Name()) {
			continue
		}
		cache, err := findCache(filepath.Join(c.path, dir.Name()))
		if err != nil {
			return nil, err
		}
		if cache != nil {
			all = append(all, registered{cache, dir.Name()})
		}
	}
	if len(dirs) > 0 && all == nil {
		return nil, &LocalError{c.path, errNoCache}
	}
	return all, nil
}

// isRegistry reports whether a registry's cache may have that name.
func isRegistry(name string) bool {
	scheme, host, _ := strings.Cut(name, "_")
	return (scheme == "https" || scheme == "http") && host != "" && CheckName(name) == nil
}

// findCache returns the cache at path, for who only looks after what is in it:
// its key is not read. It makes nothing, and returns nil where there is no cache.
func findCache(path string) (*Cache, error) {
	c := newCache(path)
	made, err := c.made()
	if err == nil && made {
		err = isPrivate(path)
	}
	switch {
	case err != nil:
		return nil, c.local(err)
	case !made:
		return nil, nil
	}
	return c, nil
}

// made reports whether OpenCache made the layout: its key tells it from a
// directory of somebody else that has the same name.
func (c *Cache) made() (bool, error) {
	root, err := os.Lstat(c.root)
	if err == nil && !root.IsDir() {
		return false, nil
	}
	var key fs.FileInfo
	if err == nil {
		key, err = os.Lstat(c.at("key"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && key.Mode().IsRegular() && key.Size() == keySize && mine(key), err
}

// layPrivate makes the directory where missing, its parents too, and refuses one
// that others may write to.
func layPrivate(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return isPrivate(path)
}

// isPrivate refuses what is no directory, or one that others may write to.
func isPrivate(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return syscall.ENOTDIR
	}
	return private(info)
}
