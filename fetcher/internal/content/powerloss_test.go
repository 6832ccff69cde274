//go:build linux

package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Power losses are replayed: the trees that real fetches leave at several moments
// are mixed, damaged as a journaling file system does it that nobody told to
// sync, and used by the next life of the machine.

// A tree is the files of a directory by their paths in it.
type tree map[string]file

type file struct {
	mode fs.FileMode
	data string
}

// treeOf reads what is below path.
func treeOf(t *testing.T, path string) tree {
	t.Helper()
	all := tree{}
	must(t, filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		info, err := e.Info()
		name, _ := filepath.Rel(path, p)
		all[name] = file{info.Mode(), string(data)}
		return err
	}))
	return all
}

// outage is what is known of the fetches that a power loss struck.
type outage struct {
	blobs    [][]byte
	document []byte
	moments  []tree // of a directory with the cache and the directories fetched to
}

// recordOutage runs fetches, one blob interrupted in its middle, and looks at the
// tree before, in and after each.
func recordOutage(t *testing.T) outage {
	t.Helper()
	s := newShelf(t)
	o := outage{blobs: [][]byte{random(40_000), random(70_001), []byte("small"), {}}, document: []byte(`{"manifest":1}`)}
	look := func() { o.moments = append(o.moments, treeOf(t, s.path)) }
	d := open(t, filepath.Join(s.path, "dir"))
	obtain := func(data []byte) *Writer {
		w, _, err := s.Obtain(t.Context(), d, BlobName(of(data).Digest), of(data), nil)
		must(t, err)
		return w
	}
	look()
	must(t, s.PutDocument(s.Owner("reader"), digest.FromBytes(o.document), o.document))
	for _, data := range o.blobs {
		w := obtain(data)
		look()
		writeAt(t, w, data[:len(data)/2], 0)
		w.keeper.(*lease).tell()
		look()
		if len(data) > 50_000 { // one that was given up, and gone on with
			shut(t, w)
			look()
			w = obtain(data)
		}
		must(t, fill(w, data))
		look()
	}
	other := open(t, filepath.Join(s.path, "other"))
	for _, data := range o.blobs {
		s.served(t.Context(), other, data)
	}
	look()
	return o
}

// losses are what becomes of a file whose data nobody synced. A file that is
// there may also be one of another moment.
var losses = []func(r *rand.Rand, data string) string{
	func(_ *rand.Rand, data string) string { return data },
	func(_ *rand.Rand, data string) string { return data },
	func(*rand.Rand, string) string { return "" },
	func(_ *rand.Rand, data string) string { return string(make([]byte, len(data))) },
	func(r *rand.Rand, data string) string { return data[:r.IntN(len(data)+1)] },
	func(r *rand.Rand, data string) string { // the last blocks were not written
		written := r.IntN(len(data) + 1)
		return data[:written] + string(make([]byte, len(data)-written))
	},
	func(r *rand.Rand, data string) string { // the size came before the cut
		return data + string(make([]byte, r.IntN(5000)))
	},
}

// after returns what a power loss may leave.
func (o outage) after(r *rand.Rand) tree {
	names := map[string]bool{}
	at := r.IntN(len(o.moments))
	near := o.moments[max(0, at-2):min(len(o.moments), at+2)]
	for _, m := range near {
		for name := range m {
			names[name] = true
		}
	}
	left := tree{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f, ok := near[r.IntN(len(near))][name]
		if !ok { // or its name was not there yet, or any more
			continue
		}
		f.data = losses[r.IntN(len(losses))](r, f.data)
		if r.IntN(20) == 0 {
			f.mode = 0o600 // as it was made
		}
		left[name] = f
	}
	return left
}

// make writes a tree. The records hold for the blobs as they are now, but for the
// boot, as they do where the metadata of a file came through and its data did not.
func (left tree) make(t *testing.T, r *rand.Rand, path string) {
	t.Helper()
	dirs := []string{"cache", "cache/v1", "cache/v1/entries", "cache/v1/partial", "cache/v1/blobs", "cache/v1/manifests", "dir", "other"}
	for _, dir := range dirs {
		must(t, os.MkdirAll(filepath.Join(path, dir), 0o700))
	}
	for _, name := range slices.Sorted(maps.Keys(left)) { // blobs before entries
		p := filepath.Join(path, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o700))
		blob := filepath.Join(path, "cache/v1/blobs", filepath.Base(name))
		if dir := filepath.Dir(name); dir == "dir" && r.IntN(2) == 0 && os.Link(blob, p) == nil {
			continue // the same file, as handed out
		}
		must(t, os.WriteFile(p, []byte(left[name].data), 0o600), os.Chmod(p, left[name].mode))
	}
	entries, err := os.ReadDir(filepath.Join(path, "cache/v1/entries"))
	must(t, err)
	for _, e := range entries {
		stale(t, filepath.Join(path, "cache/v1/entries", e.Name()), filepath.Join(path, "cache/v1/blobs", e.Name()))
	}
	if r.IntN(8) == 0 {
		must(t, os.RemoveAll(filepath.Join(path, dirs[r.IntN(len(dirs))])))
	}
}

// stale has the record of a stored blob say what was true before the boot.
func stale(t *testing.T, entry, blob string) {
	f, err := os.OpenFile(entry, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := os.Lstat(blob)
	if r := readRecord(f); err == nil && r.stage == stored {
		r.stamp = stampOf(info)
		r.stamp.boot[0]++
		_, err = f.WriteAt(r.encode(), 0)
		must(t, err)
	}
}

// obtainAs is what a fetch does: it begins anew where what was left is wrong.
func obtainAs(c *Cache, d *Dir, name string, data []byte) error {
	w, _, err := c.Obtain(context.Background(), d, name, of(data), nil)
	if w == nil || err != nil {
		return err
	}
	defer w.Close()
	from := w.Contiguous()
	if _, err = w.WriteAt(data[from:], from); err == nil {
		err = w.Commit()
	}
	if errors.Is(err, ErrDigest) && from > 0 {
		if err = w.Restart(); err == nil {
			_, err = w.WriteAt(data, 0)
		}
		if err == nil {
			err = w.Commit()
		}
	}
	return err
}

func TestAfterAPowerLossOnlyWhatIsRightIsHandedOutAndTheRestIsFetchedAgain(t *testing.T) {
	t.Parallel()
	o := recordOutage(t)
	const seeds = 120
	for part := range 4 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			for seed := range seeds / 4 {
				if o.replay(t, rand.New(rand.NewPCG(uint64(part), uint64(seed)))); t.Failed() {
					t.Fatalf("after seed %d of part %d", seed, part)
				}
			}
		})
	}
}

func (o outage) replay(t *testing.T, r *rand.Rand) {
	t.Helper()
	path := inMemory(t)
	o.after(r).make(t, r, path)
	c := openCache(t, filepath.Join(path, "cache"))
	before, after := open(t, filepath.Join(path, "dir")), open(t, filepath.Join(path, "new"))
	if _, ok := c.Document(c.Owner("reader"), digest.FromBytes(o.document)); !ok {
		must(t, c.PutDocument(c.Owner("reader"), digest.FromBytes(o.document), o.document))
	}
	document(t, c, c.Owner("reader"), o.document, true)
	var all sync.WaitGroup
	for _, d := range []*Dir{before, after, after} { // some at once
		all.Go(func() {
			for _, data := range o.blobs {
				if err := obtainAs(c, d, BlobName(of(data).Digest), data); err != nil {
					t.Errorf("%d bytes: %v", len(data), err)
				}
			}
		})
	}
	all.Wait()
	want := map[string]string{}
	for _, data := range o.blobs {
		want[BlobName(of(data).Digest)] = string(data)
	}
	holds(t, before, want)
	holds(t, after, want)
	s := &shelf{Cache: c, t: t, path: path}
	s.has(o.blobs...)
	for _, data := range o.blobs { // of which nothing need be read any more
		s.served(ended(t), after, data)
	}
}

func TestADirectoryAfterAPowerLossIsMadeGoodWithoutACacheToo(t *testing.T) {
	t.Parallel()
	data := random(10_000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 100 {
		d := open(t, filepath.Join(inMemory(t), fmt.Sprint(i)))
		plant(t, d, []byte(losses[i%len(losses)](r, string(data))))
		if _, ok := d.Holds(t.Context(), name, of(data)); !ok {
			must(t, commitAll(d, ways["as the platform does"], data))
		}
		must(t, d.WriteFile("manifest", data, of(data).Digest))
		holds(t, d, map[string]string{name: string(data), "manifest": string(data)})
	}
}
