//go:build linux

package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// A cabinet is a cache of several registries.
type cabinet struct {
	*Caches
	t *testing.T
}

func newCabinet(t *testing.T) *cabinet {
	t.Helper()
	caches, err := OpenCaches(filepath.Join(t.TempDir(), "cache"))
	must(t, err)
	must(t, os.Mkdir(filepath.Join(caches.path, "not ours"), 0o700))
	return &cabinet{caches, t}
}

// of is the cache of a registry as a shelf, to fill.
func (c *cabinet) of(registry string) *shelf {
	c.t.Helper()
	cache, err := c.Of(registry)
	must(c.t, err)
	return &shelf{Cache: cache, t: c.t, path: c.t.TempDir()}
}

// verifies fails the test unless Verify finds that.
func (c *cabinet) verifies(want Verified) {
	c.t.Helper()
	got, err := c.Verify(c.t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		c.t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func (c *cabinet) lists(want []Shelf) {
	c.t.Helper()
	got, err := c.List()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		c.t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// usedAt has the last use of a stored blob be at a time.
func (s *shelf) usedAt(data []byte, when time.Time) {
	s.t.Helper()
	must(s.t, os.Chtimes(s.entry(data), when, when))
}

func TestListTellsWhatEachRegistrysCacheHolds(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	when := time.Unix(1e9, 0)
	one, two := c.of("https_one.example"), c.of("https_two.example_5000")
	older, newer, cut := []byte("older"), []byte("newest"), []byte("partial")
	one.store(older)
	one.store(newer)
	one.usedAt(older, when)
	one.usedAt(newer, when.Add(time.Hour))
	w := one.lead(one.dir(), of(cut), 0)
	write(t, w, cut[:4])
	shut(t, w)
	one.usedAt(cut, when)
	data := []byte("{}")
	must(t, two.PutDocument(two.Owner("a"), digest.FromBytes(data), data))
	document := two.at("manifests", two.Owner("a"), BlobName(digest.FromBytes(data)))
	must(t, os.Chtimes(document, when, when))
	c.lists([]Shelf{
		{
			Registry: "https_one.example",
			Blobs: []Stored{
				{digest.FromBytes(newer), 6, when.Add(time.Hour)},
				{digest.FromBytes(older), 5, when},
			},
			Partials: 1, PartialBytes: 4, Used: when.Add(time.Hour),
		},
		{Registry: "https_two.example_5000", Documents: 1, DocumentBytes: 2, Used: when},
	})
}

func TestVerifyRemovesWhatIsDamagedAndNothingElse(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	good, bad, manifest, forged := []byte("good"), []byte("bad"), []byte("{}"), []byte("[]")
	s.store(good)
	s.store(bad)
	owner := s.Owner("a")
	for _, data := range [][]byte{manifest, forged} {
		must(t, s.PutDocument(owner, digest.FromBytes(data), data))
	}
	c.verifies(Verified{Files: 4, Bytes: 11})

	must(t,
		os.Chmod(s.blob(bad), 0o600), os.WriteFile(s.blob(bad), []byte("worse"), 0o600),
		os.WriteFile(s.at("manifests", owner, BlobName(digest.FromBytes(forged))), []byte("[1]"), 0o600))
	c.verifies(Verified{Files: 2, Bytes: 6, Damaged: []Damaged{
		{"https_one.example", digest.FromBytes(bad).String(), 5},
		{"https_one.example", digest.FromBytes(forged).String(), 3},
	}})
	s.has(good)
	document(t, s.Cache, owner, manifest, true)
	document(t, s.Cache, owner, forged, false)
	c.verifies(Verified{Files: 2, Bytes: 6})
	s.hit(s.dir(), good)
	s.store(bad) // it is fetched again
}

func TestVerifyRemovesWhatIsNoBlob(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	key := func(x string) string { return BlobName(digest.FromString(x)) }
	must(t,
		os.MkdirAll(s.at("blobs", key("directory"), "full"), 0o700),
		os.Symlink(s.path, s.at("blobs", key("link"))))
	if v, err := c.Verify(t.Context()); err != nil || len(v.Damaged) != 2 || v.Files != 0 {
		t.Errorf("got %+v, %v", v, err)
	}
	s.stored(empty)
	if _, err := os.Stat(s.path); err != nil {
		t.Errorf("the link was followed: %v", err)
	}
}

func TestVerifyLeavesWhatIsInUseOrNotComplete(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	data, cut := []byte("data"), []byte("partial")
	s.store(data)
	lease, err := s.acquire(t.Context(), BlobName(of(data).Digest), nil)
	must(t, err)
	w := s.lead(s.dir(), of(cut), 0)
	write(t, w, cut[:4])
	c.verifies(Verified{Busy: 1})
	lease.release()
	c.verifies(Verified{Files: 1, Bytes: 4})
	must(t, fill(w, cut))
	s.has(data, cut)
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	data := []byte("data")
	s.store(data)
	if _, err := c.Verify(ended(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.has(data)
}

func TestADryRunRemovesNothingAndTellsTheSame(t *testing.T) {
	t.Parallel()
	c := newCabinet(t)
	s := c.of("https_one.example")
	held, free, lonely := []byte("held"), []byte("free"), []byte("lonely")
	for _, data := range [][]byte{held, free, lonely} {
		s.store(data)
	}
	must(t, os.Remove(s.entry(lonely)))
	lease, err := s.acquire(t.Context(), BlobName(of(held).Digest), nil)
	must(t, err)
	limits := Limits{MaxSize: 1}
	want := Pruned{Blobs: 2, Bytes: 10}
	limits.DryRun = true
	for range 2 {
		if got, err := c.Prune(t.Context(), limits); got != want || err != nil {
			t.Errorf("a dry run: %+v, %v, want %+v", got, err, want)
		}
	}
	s.has(held, free, lonely)
	if _, err := os.Stat(s.entry(lonely)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it made an entry: %v", err)
	}
	limits.DryRun = false
	if got, err := c.Prune(t.Context(), limits); got != want || err != nil {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	lease.release()
	s.has(held)
}
