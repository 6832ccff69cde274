package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
func OpenCaches(path string) (*Caches, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &LocalError{path, err}
	}
	err = layPrivate(abs)
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
	dirs, err := os.ReadDir(c.path)
	if err != nil {
		return Pruned{}, &LocalError{c.path, cause(err)}
	}
	var all []*Cache
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(c.path, dir.Name(), layout)); err != nil {
			continue // not ours
		}
		cache, err := c.Of(dir.Name())
		if err != nil {
			return Pruned{}, err
		}
		all = append(all, cache)
	}
	return prune(ctx, all, l)
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
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return syscall.ENOTDIR
	}
	return private(info)
}
