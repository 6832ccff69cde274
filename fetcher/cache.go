package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// Cache is the cache in Config.CacheDir, for who looks after it. Fetchers may use
// it at the same time. Safe for concurrent use.
type Cache struct{ caches *content.Caches }

// CachedRegistry is what the cache holds of one registry.
type CachedRegistry struct {
	Registry      string       `json:"registry"` // https://HOST[:PORT] or http://HOST[:PORT]
	Blobs         []CachedBlob `json:"blobs"`    // the one that was used last first
	Partials      int          `json:"partials"` // blobs that are not complete
	PartialBytes  int64        `json:"partialBytes"`
	Documents     int          `json:"documents"` // manifests and indexes, once for each credential
	DocumentBytes int64        `json:"documentBytes"`
	LastUsed      time.Time    `json:"lastUsed"` // of any of it; zero where there is nothing
}

// CachedBlob is one verified blob.
type CachedBlob struct {
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"` // bytes
	LastUsed time.Time     `json:"lastUsed"`
}

// CacheCheck is what Verify found.
type CacheCheck struct {
	Files   int             `json:"files"` // blobs and manifests that hold
	Bytes   int64           `json:"bytes"` // of these
	Busy    int             `json:"busy"`  // blobs that fetchers were using, which were not read
	Damaged []DamagedCached `json:"damaged"`
}

// DamagedCached is a file that was not what its name says. It was removed.
type DamagedCached struct {
	Registry string `json:"registry"`
	Name     string `json:"name"` // the digest that it should have had
	Size     int64  `json:"size"` // bytes
}

// CacheLimits say what Prune leaves.
type CacheLimits struct {
	MaxSize   int64         // bytes of all that is stored; 0: any
	OlderThan time.Duration // since the last use; 0: any
	DryRun    bool          // only tell what would be removed
}

// Pruned is what Prune removed, or would remove.
type Pruned struct {
	Blobs int   `json:"blobs"` // verified ones
	Bytes int64 `json:"bytes"` // of all files
}

// OpenCache opens the cache in dir, which must be there; it makes nothing. The
// error is an *Error: the directory has to belong to this user, and nobody else
// may write to it. Of what is in it, only what fetchers made is looked at: a
// directory that has other things and no cache is an *Error of each method.
func OpenCache(dir string) (*Cache, error) {
	caches, err := content.FindCaches(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = &content.LocalError{Dir: dir, Err: errors.New("it is not there; the first fetch with it as its cache makes it")}
	}
	if err != nil {
		return nil, describe(fmt.Errorf("cache: %w", err), Prepare, nil)
	}
	return &Cache{caches}, nil
}

// List tells what the cache holds, by registry. It reads no blob.
func (c *Cache) List() ([]CachedRegistry, error) {
	shelves, err := c.caches.List()
	if err != nil {
		return nil, c.failed(context.Background(), err)
	}
	all := []CachedRegistry{}
	for _, s := range shelves {
		r := CachedRegistry{
			Registry: registryURL(s.Registry), Blobs: []CachedBlob{}, Partials: s.Partials, PartialBytes: s.PartialBytes,
			Documents: s.Documents, DocumentBytes: s.DocumentBytes, LastUsed: s.Used,
		}
		for _, b := range s.Blobs {
			r.Blobs = append(r.Blobs, CachedBlob{b.Digest, b.Size, b.Used})
		}
		all = append(all, r)
	}
	return all, nil
}

// Verify reads all blobs and manifests, and removes what is damaged: it is
// fetched again when somebody wants it. A fetcher that wants the blob that is
// being read waits for it. On an error, what was found until then is returned too.
func (c *Cache) Verify(ctx context.Context) (CacheCheck, error) {
	v, err := c.caches.Verify(ctx)
	check := CacheCheck{Files: v.Files, Bytes: v.Bytes, Busy: v.Busy, Damaged: []DamagedCached{}}
	for _, d := range v.Damaged {
		check.Damaged = append(check.Damaged, DamagedCached{registryURL(d.Registry), d.Name, d.Size})
	}
	return check, c.failed(ctx, err)
}

// Prune removes what goes beyond the limits, least recently used first, and
// partials that nobody went on with for a day. What a fetcher is using stays. On
// an error, what was removed until then is returned too.
func (c *Cache) Prune(ctx context.Context, l CacheLimits) (Pruned, error) {
	p, err := c.caches.Prune(ctx, content.Limits{MaxSize: l.MaxSize, OlderThan: l.OlderThan, DryRun: l.DryRun})
	return Pruned{Blobs: p.Blobs, Bytes: p.Bytes}, c.failed(ctx, err)
}

func (c *Cache) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return describe(fmt.Errorf("cache: %w", err), Prepare, nil)
}

// registryURL is what the name of a registry's directory stands for.
func registryURL(name string) string {
	scheme, host, _ := strings.Cut(filepath.Base(name), "_")
	return scheme + "://" + host
}
