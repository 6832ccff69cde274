//go:build linux

package content

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// openCache opens a cache until the end of the test.
func openCache(t testing.TB, path string) *Cache {
	t.Helper()
	c, err := OpenCache(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A shelf is a cache and what is needed to use it.
type shelf struct {
	*Cache
	t    *testing.T
	path string // parent of all directories
	n    atomic.Int64
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	path := t.TempDir()
	return &shelf{Cache: openCache(t, filepath.Join(path, "cache")), t: t, path: path}
}

// dir opens another directory on the cache's file system.
func (s *shelf) dir() *Dir {
	s.t.Helper()
	return open(s.t, filepath.Join(s.path, "dir", string('a'+rune(s.n.Add(1)))))
}

// lead has the cache say that the blob is to be fetched, and has bytes of it.
func (s *shelf) lead(d *Dir, desc ocispec.Descriptor, contiguous int64) *Writer {
	s.t.Helper()
	w, size, err := s.Obtain(s.t.Context(), d, name, desc, nil)
	if w == nil || size != 0 || err != nil {
		s.t.Fatalf("Obtain: writer %v, %d bytes, %v; want a writer", w, size, err)
	}
	s.t.Cleanup(func() { _ = w.Close() })
	if n := w.Contiguous(); n != contiguous {
		s.t.Errorf("the writer has %d bytes, want %d", n, contiguous)
	}
	return w
}

// hit has the cache hand out data.
func (s *shelf) hit(d *Dir, data []byte) {
	s.t.Helper()
	s.served(s.t.Context(), d, data)
	holds(s.t, d, map[string]string{name: string(data)})
}

// served fails the test unless the cache says that it handed out data.
func (s *shelf) served(ctx context.Context, d *Dir, data []byte) {
	s.t.Helper()
	w, size, err := s.Obtain(ctx, d, name, of(data), nil)
	if w != nil || size != int64(len(data)) || err != nil {
		s.t.Fatalf("Obtain: writer %v, %d bytes, %v; want no writer, %d bytes", w, size, err, len(data))
	}
}

// store has the cache have data, and returns a directory that it was handed out to.
func (s *shelf) store(data []byte) *Dir {
	s.t.Helper()
	d := s.dir()
	if err := fill(s.lead(d, of(data), 0), data); err != nil {
		s.t.Fatal(err)
	}
	holds(s.t, d, map[string]string{name: string(data)})
	return d
}

// blob is the path of data in the cache.
func (s *shelf) blob(data []byte) string { return s.at("blobs", BlobName(digest.FromBytes(data))) }

// entry is the path of data's entry.
func (s *shelf) entry(data []byte) string { return s.at("entries", BlobName(digest.FromBytes(data))) }

// stored fails the test unless the cache has this, in all.
func (s *shelf) stored(want map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	for path, what := range snapshot(s.t, s.root) {
		if strings.HasPrefix(path, "blobs/") || strings.HasPrefix(path, "partial/") {
			got[path] = what
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("the cache (-want +got):\n%s", diff)
	}
}

// fill has w take what it lacks of data, and commits it.
func fill(w *Writer, data []byte) error {
	from := w.Contiguous()
	_, err := w.WriteAt(data[from:], from)
	if err == nil {
		err = w.Commit()
	}
	return errors.Join(err, w.Close())
}

// ended is a context that has ended: what needs to wait or to read fails in it.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// must fails the test if there is an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestABlobIsFetchedOnceAndThenHandedOut(t *testing.T) {
	t.Parallel()
	for label, data := range map[string][]byte{"of some bytes": []byte("some bytes"), "of none": {}, "of 3 MiB": random(3 << 20)} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			s.store(data)
			s.stored(map[string]string{"blobs/" + BlobName(digest.FromBytes(data)): "-r--r--r-- " + string(data)})
			s.hit(s.dir(), data)
			other := openCache(t, s.Cache.path) // as another process does
			if w, size, err := other.Obtain(t.Context(), s.dir(), name, of(data), nil); w != nil || size != int64(len(data)) || err != nil {
				t.Errorf("another opening of the cache: %v, %d bytes, %v", w, size, err)
			}
		})
	}
}

func TestNothingIsVisibleInTheDirectoryOrStoredBeforeCommit(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	d := s.dir()
	w := s.lead(d, of(data), 0)
	for _, part := range []string{"some", " byt", "es"} {
		holds(t, d, empty)
		if _, err := os.Lstat(s.blob(data)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before %q: %v", part, err)
		}
		write(t, w, []byte(part))
	}
	holds(t, d, empty)
	commit(t, w)
	holds(t, d, map[string]string{name: "some bytes"})
}

func TestABlobOfUnknownSizeIsStoredToo(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: -1}
	must(t, fill(s.lead(s.dir(), desc, 0), data))
	if w, size, err := s.Obtain(t.Context(), s.dir(), name, desc, nil); w != nil || size != 10 || err != nil {
		t.Errorf("got %v, %d, %v", w, size, err)
	}
}

func TestADescriptorThatLiesAboutAStoredBlobsSizeIsAnError(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	s.store(data)
	desc := of(data)
	desc.Size = 11
	d := s.dir()
	w, _, err := s.Obtain(t.Context(), d, name, desc, nil)
	if want := "wrong size: the blob has 10 bytes, the descriptor says 11"; w != nil || !errors.Is(err, ErrSize) || err.Error() != want {
		t.Errorf("got %v, %v, want %s", w, err, want)
	}
	holds(t, d, empty)
	s.hit(d, data)
}

func TestObtainTakesOnlyNamesAndDigestsThatMakeFiles(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	d := s.dir()
	if w, _, err := s.Obtain(t.Context(), d, "../x", of(nil), nil); w != nil || err == nil {
		t.Errorf("a name that leaves the directory: %v, %v", w, err)
	}
	if w, _, err := s.Obtain(t.Context(), d, name, ocispec.Descriptor{Digest: "sha256:../../x"}, nil); w != nil || err == nil {
		t.Errorf("a digest that leaves the cache: %v, %v", w, err)
	}
	s.stored(empty)
}

func TestWhatHasTheNameIsReplaced(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("data")
	for _, stage := range []string{"by the one that fetches", "by one that is handed out"} {
		d := s.dir()
		plant(t, d, []byte("old"))
		if stage == "by the one that fetches" {
			must(t, fill(s.lead(d, of(data), 0), data))
		} else {
			s.served(t.Context(), d, data)
		}
		holds(t, d, map[string]string{name: "data"})
	}
}

func TestADirectoryInTheWayIsAnErrorAndTheBlobStaysStored(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("data")
	d := s.dir()
	must(t, os.Mkdir(filepath.Join(d.path, name), 0o700))
	want := `directory "` + d.path + `": "blob" is in the way: is a directory; remove it`
	refused := func(err error) {
		t.Helper()
		var local *LocalError
		if !errors.As(err, &local) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if files, err := os.ReadDir(d.path); len(files) != 1 || err != nil {
			t.Errorf("left behind: %v, %v", files, err)
		}
	}
	w := s.lead(d, of(data), 0)
	write(t, w, data)
	refused(w.Commit())
	if err := w.Restart(); err == nil {
		t.Error("the writer of a stored blob begins again")
	}
	shut(t, w)
	_, _, err := s.Obtain(ended(t), d, name, of(data), nil) // without a copy
	refused(err)
	s.hit(s.dir(), data)
}

// damages are the kinds of damage that can be done to a stored blob, and whether
// its bytes are still there: then it need not be fetched again.
var damages = map[string]struct {
	do   func(path, outside string) error
	kept bool
}{
	"other bytes, with the old mtime": {do: func(path, _ string) error { return tamper(path) }},
	"cut":                             {do: func(path, _ string) error { return os.Truncate(path, 5) }},
	"made longer":                     {do: func(path, _ string) error { return appendTo(path, "more") }},
	"removed":                         {do: func(path, _ string) error { return os.Remove(path) }},
	"a link to the right bytes": {do: func(path, outside string) error {
		return errors.Join(os.Remove(path), os.Symlink(outside, path))
	}},
	"a link to nothing": {do: func(path, outside string) error {
		return errors.Join(os.Remove(path), os.Symlink(outside+".not", path))
	}},
	"a FIFO":   {do: func(path, _ string) error { return errors.Join(os.Remove(path), mkfifo(path)) }},
	"a socket": {do: func(path, _ string) error { return errors.Join(os.Remove(path), mksocket(path)) }},
	"a directory": {do: func(path, _ string) error {
		return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "full"), 0o700))
	}},
	"another file with wrong bytes": {do: func(path, _ string) error { return replace(path, "wrong bytes!") }},
	"another file with right bytes": {do: func(path, _ string) error { return replace(path, "right bytes!") }, kept: true},
	"made writable":                 {do: func(path, _ string) error { return os.Chmod(path, 0o644) }, kept: true},
	"touched":                       {do: func(path, _ string) error { return os.Chtimes(path, time.Now(), time.Now()) }, kept: true},
	"writable and wrong": {do: func(path, _ string) error {
		return errors.Join(tamper(path), os.Chmod(path, 0o666))
	}},
}

// tamper changes bytes of a file, and sets the times back.
func tamper(path string) error {
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("W"), 0)
	return errors.Join(err, f.Close(), os.Chmod(path, before.Mode()), os.Chtimes(path, before.ModTime(), before.ModTime()))
}

func appendTo(path, more string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, append(data, more...), 0), os.Chmod(path, blobMode))
}

func replace(path, data string) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, []byte(data), 0o600), os.Chmod(path, blobMode))
}

func TestDamageIsFoundAndHealed(t *testing.T) {
	t.Parallel()
	data := []byte("right bytes!")
	for label, damage := range damages {
		for when, links := range map[string]bool{"while directories have it": true, "when no directory has it any more": false} {
			t.Run(label+", "+when, func(t *testing.T) {
				t.Parallel()
				s := newShelf(t)
				s.store(data)
				s.hit(s.dir(), data)
				if !links {
					must(t, os.RemoveAll(filepath.Join(s.path, "dir")))
				}
				nextTick(t, s.blob(data))
				outside := filepath.Join(s.path, "outside")
				must(t, os.WriteFile(outside, data, 0o600), damage.do(s.blob(data), outside))
				d := s.dir()
				if damage.kept {
					s.hit(d, data)
				} else {
					w := s.lead(d, of(data), 0)
					holds(t, d, empty)
					must(t, fill(w, data))
				}
				s.hit(d, data)
				s.hit(s.dir(), data)
				s.stored(map[string]string{"blobs/" + BlobName(digest.FromBytes(data)): "-r--r--r-- right bytes!"})
				if got, err := os.ReadFile(outside); string(got) != string(data) || err != nil {
					t.Errorf("the file outside: %q, %v", got, err)
				}
			})
		}
	}
}

// nextTick waits until a file that is changed now has another ctime than path.
func nextTick(t *testing.T, path string) {
	t.Helper()
	probe := filepath.Join(t.TempDir(), "probe")
	for {
		must(t, os.WriteFile(probe, nil, 0o600))
		here, err := os.Stat(probe)
		must(t, err)
		there, err := os.Stat(path)
		must(t, err)
		if changed(here).After(changed(there)) {
			return
		}
	}
}

func TestADamagedRecordIsAsNone(t *testing.T) {
	t.Parallel()
	data := []byte("some bytes")
	for label, damage := range map[string]func(path string) error{
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, recordSize-1) },
		"garbage": func(path string) error { return os.WriteFile(path, random(recordSize), 0o600) },
		"gone":    func(path string) error { return os.WriteFile(path, record{stage: gone}.encode(), 0o600) },
		"removed": os.Remove,
		"a link":  func(path string) error { return errors.Join(os.Remove(path), os.Symlink(path+".not", path)) },
		"a FIFO":  func(path string) error { return errors.Join(os.Remove(path), mkfifo(path)) },
		"a directory": func(path string) error {
			return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "full"), 0o700))
		},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			s.store(data)
			must(t, damage(s.entry(data)))
			if _, _, err := s.Obtain(ended(t), s.dir(), name, of(data), nil); !errors.Is(err, context.Canceled) {
				t.Errorf("without reading the blob: %v", err)
			}
			s.hit(s.dir(), data)
			if info, err := os.Lstat(s.entry(data)); err != nil || !info.Mode().IsRegular() {
				t.Errorf("the entry: %v, %v", info, err)
			}
		})
	}
}

func TestAClearedCacheWorksOn(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"v1", "."} {
		s := newShelf(t)
		data := []byte("some bytes")
		s.store(data)
		must(t, os.RemoveAll(filepath.Join(s.Cache.path, what)))
		s.store(data)
		s.hit(s.dir(), data)
		must(t, os.RemoveAll(filepath.Join(s.Cache.path, what)))
		must(t, s.PutDocument(s.Owner(), digest.FromBytes(data), data))
		for _, path := range []string{s.Cache.path, s.root} {
			mode(t, path, 0o700)
		}
	}
}

func TestACacheOfWhichAPartWasClearedAwayWorksOn(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"entries", "partial", "blobs", "manifests"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			s.store([]byte("some bytes"))
			must(t, os.RemoveAll(s.at(part)))
			s.store([]byte("other bytes"))
			s.hit(s.dir(), []byte("other bytes"))
		})
	}
}

func TestWhoFetchesWhileTheCacheIsClearedAwayLeavesTheNextOneAlone(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	first := s.lead(s.dir(), of(data), 0)
	write(t, first, data)
	must(t, os.RemoveAll(s.Cache.path))
	second := s.lead(s.dir(), of(data), 0)
	if err := first.Commit(); !errors.Is(err, errChanged) {
		t.Errorf("Commit: %v", err)
	}
	shut(t, first)
	must(t, fill(second, data))
	s.hit(s.dir(), data)
}

func TestAPartialIsResumedFromItsFirstGap(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100_000)
	w := s.lead(s.dir(), of(data), 0)
	writeAt(t, w, data[:10_000], 0)
	writeAt(t, w, data[20_000:30_000], 20_000)
	shut(t, w)
	s.stored(map[string]string{"partial/" + BlobName(of(data).Digest): "-rw------- " + string(data[:10_000]) + string(make([]byte, 10_000)) + string(data[20_000:30_000])})
	d := s.dir()
	w = s.lead(d, of(data), 10_000)
	writeAt(t, w, data[10_000:50_000], 10_000)
	shut(t, w)
	must(t, fill(s.lead(d, of(data), 50_000), data))
	holds(t, d, map[string]string{name: string(data)})
	s.stored(map[string]string{"blobs/" + BlobName(of(data).Digest): "-r--r--r-- " + string(data)})
}

func TestAPartialThatIsNotWhatTheRecordSaysIsNotTrusted(t *testing.T) {
	t.Parallel()
	data := random(100_000)
	for label, test := range map[string]struct {
		damage     func(path string) error
		contiguous int64
		wrong      bool
	}{
		"shorter": {damage: func(path string) error { return os.Truncate(path, 7) }, contiguous: 7},
		"longer":  {damage: func(path string) error { return appendTo(path, "garbage") }, contiguous: 10_000},
		"removed": {damage: os.Remove},
		"a link to a file": {damage: func(path string) error {
			return errors.Join(os.Rename(path, path+".file"), os.Symlink(path+".file", path))
		}},
		"a FIFO":      {damage: func(path string) error { return errors.Join(os.Remove(path), mkfifo(path)) }},
		"a directory": {damage: func(path string) error { return errors.Join(os.Remove(path), os.MkdirAll(path+"/full", 0o700)) }},
		"other bytes": {damage: func(path string) error { return os.WriteFile(path, make([]byte, 10_000), 0o600) }, contiguous: 10_000, wrong: true},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			w := s.lead(s.dir(), of(data), 0)
			write(t, w, data[:10_000])
			shut(t, w)
			must(t, test.damage(s.at("partial", BlobName(of(data).Digest))))
			d := s.dir()
			w = s.lead(d, of(data), test.contiguous)
			if test.wrong {
				write(t, w, data[10_000:])
				if err := w.Commit(); !errors.Is(err, ErrDigest) {
					t.Fatalf("Commit: %v", err)
				}
				holds(t, d, empty)
				must(t, w.Restart())
			}
			must(t, fill(w, data))
			holds(t, d, map[string]string{name: string(data)})
		})
	}
}

func TestAPartialWithoutARecordBeginsAnew(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(1000)
	w := s.lead(s.dir(), of(data), 0)
	write(t, w, data[:10])
	shut(t, w)
	must(t, os.Remove(s.entry(data)))
	must(t, fill(s.lead(s.dir(), of(data), 0), data))
}

func TestNoPartialIsKeptThatNobodyCanUse(t *testing.T) {
	t.Parallel()
	data := random(1000)
	unknown := of(data)
	unknown.Size = -1
	for label, test := range map[string]struct {
		desc    ocispec.Descriptor
		written []byte
	}{
		"of nothing":                 {of(data), nil},
		"of unknown size":            {unknown, data[:10]},
		"complete, with wrong bytes": {of(data), make([]byte, 1000)},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			w := s.lead(s.dir(), test.desc, 0)
			write(t, w, test.written)
			if err := w.Commit(); err == nil {
				t.Error("it was committed")
			}
			shut(t, w)
			s.stored(empty)
			if entries, err := os.ReadDir(s.at("entries")); len(entries) != 0 || err != nil {
				t.Errorf("entries: %v, %v", entries, err)
			}
			must(t, fill(s.lead(s.dir(), of(data), 0), data))
		})
	}
}

func TestWrongBytesAreNeverStored(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("right")
	d := s.dir()
	w := s.lead(d, of(data), 0)
	write(t, w, []byte("wrong"))
	if err := w.Commit(); !errors.Is(err, ErrDigest) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := os.Lstat(s.blob(data)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the blob: %v", err)
	}
	must(t, w.Restart(), fill(w, data))
	s.hit(d, data)
}

func TestAPartialThatIsTakenAwayIsNotStored(t *testing.T) {
	t.Parallel()
	for label, damage := range map[string]func(path string) error{
		"removed":                 func(path string) error { return os.Remove(path) },
		"replaced by wrong bytes": func(path string) error { return replace(path, "wrong") },
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			data := []byte("right")
			w := s.lead(s.dir(), of(data), 0)
			write(t, w, data)
			must(t, damage(s.at("partial", BlobName(of(data).Digest))))
			var local *LocalError
			if err := w.Commit(); !errors.As(err, &local) || local.Dir != s.Cache.path {
				t.Errorf("Commit: %v", err)
			}
			shut(t, w)
			if _, err := os.Lstat(s.blob(data)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the blob: %v", err)
			}
			s.store(data)
		})
	}
}

func TestManyGoroutinesFetchABlobOnce(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(1 << 20)
	var fetched atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		d := s.dir()
		all.Go(func() {
			w, size, err := s.Obtain(t.Context(), d, name, of(data), nil)
			switch {
			case err != nil:
				t.Error(err)
			case w != nil:
				fetched.Add(1)
				if err := fill(w, data); err != nil {
					t.Error(err)
				}
			case size != int64(len(data)):
				t.Errorf("%d bytes", size)
			}
			if _, ok := d.Holds(t.Context(), name, of(data)); !ok {
				t.Error("the directory does not have it")
			}
		})
	}
	all.Wait()
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) != 0 {
		t.Errorf("%d entries are held", len(s.held))
	}
}

func TestManyMayHandOutToOneNameAtOnce(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(1000)
	s.store(data)
	d := s.dir()
	for range 20 {
		plant(t, d, []byte("old")) // one of those that have to replace
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if w, _, err := s.Obtain(t.Context(), d, name, of(data), nil); w != nil || err != nil {
					t.Error(w, err)
				}
			})
		}
		all.Wait()
		holds(t, d, map[string]string{name: string(data)})
		must(t, os.Remove(filepath.Join(d.path, name)))
	}
}

func TestAWaiterFollowsAndIsServedByWhoeverFetches(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	w := s.lead(s.dir(), of(data), 0)
	write(t, w, data[:1000])
	d := s.dir()
	var followed []int64
	got, size, err := openCache(t, s.Cache.path).Obtain(t.Context(), d, name, of(data), func(n int64) {
		followed = append(followed, n)
		if n == 1000 {
			write(t, w, data[1000:2000])
			return
		}
		if err := fill(w, data); err != nil {
			t.Error(err)
		}
	})
	if got != nil || size != 3000 || err != nil {
		t.Fatalf("got %v, %d, %v", got, size, err)
	}
	if diff := cmp.Diff([]int64{1000, 2000}, followed); diff != "" {
		t.Error(diff)
	}
	holds(t, d, map[string]string{name: string(data)})
}

func TestAWaiterTakesOverWhatTheOneThatGaveUpLeft(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	w := s.lead(s.dir(), of(data), 0)
	write(t, w, data[:1000])
	next, _, err := s.Obtain(t.Context(), s.dir(), name, of(data), func(int64) { shut(t, w) })
	must(t, err)
	if next == nil || next.Contiguous() != 1000 {
		t.Fatalf("got %v", next)
	}
	must(t, fill(next, data))
}

func TestTheWaitersOfAProcessAreWokenAtOnce(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	w := s.lead(s.dir(), of(data), 0)
	released := s.released(BlobName(of(data).Digest))
	select {
	case <-released:
		t.Fatal("it was let go")
	default:
	}
	must(t, fill(w, data))
	select {
	case <-released:
	default:
		t.Fatal("nobody was told")
	}
	if err := sleep(t.Context(), time.Hour, released); err != nil {
		t.Error(err)
	}
}

func TestALeaseThatEndsLeavesTheNextOnesAlone(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l, err := s.acquire(t.Context(), "key", nil)
	must(t, err)
	next := make(chan struct{})
	s.held["key"] = next // as the next has it just after the lock is free
	l.release()
	if s.released("key") != next {
		t.Error("nobody waits for the next")
	}
}

func TestTheEndOfTheContextEndsAWait(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	w := s.lead(s.dir(), of(data), 0)
	write(t, w, data[:1000])
	ctx, cancel := context.WithCancel(t.Context())
	d := s.dir()
	_, _, err := s.Obtain(ctx, d, name, of(data), func(int64) { cancel() })
	if err != context.Canceled { //nolint:errorlint // it is not to be wrapped
		t.Errorf("got %v", err)
	}
	holds(t, d, empty)
	if err := sleep(ctx, time.Hour, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("between two looks: %v", err)
	}
	must(t, fill(w, data))
	s.hit(d, data)
}

func TestAHolderThatMakesNoProgressIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	w := s.lead(s.dir(), of(data), 0)
	other := openCache(t, s.Cache.path)
	other.patience = time.Millisecond
	d := s.dir()
	own, _, err := other.Obtain(t.Context(), d, name, of(data), nil)
	must(t, err)
	if own == nil || own.Contiguous() != 0 {
		t.Fatalf("got %v", own)
	}
	must(t, fill(own, data))
	holds(t, d, map[string]string{name: string(data)})
	if _, err := os.Lstat(s.blob(data)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was stored by who has no lock: %v", err)
	}
	must(t, fill(w, data))
	s.hit(s.dir(), data)
}

func TestTheRecordTellsOfProgressUntilTheEnd(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	w := s.lead(s.dir(), of(data), 0)
	l := w.keeper.(*lease)
	write(t, w, data[:1000])
	l.tell()
	entry, err := os.Open(s.entry(data))
	must(t, err)
	defer entry.Close()
	if got, want := readRecord(entry), (record{stage: partial, received: 1000}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	must(t, fill(w, data))
	l.tell() // one that was late
	if l.timer.Stop() {
		t.Error("another was to come")
	}
	if got := readRecord(entry); got.stage != stored {
		t.Errorf("got %+v", got)
	}
}

func TestTheCopyOfAnotherFileSystemEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(3000)
	s.store(data)
	d := s.dir()
	s.learn(d.device(), byCopy)
	w := s.lead(s.dir(), of([]byte("other")), 0)
	w.keeper.(*lease).ctx = ended(t)
	w.keeper.(*lease).dir = d
	write(t, w, []byte("other"))
	if err := w.Commit(); err != context.Canceled { //nolint:errorlint // it is not to be wrapped
		t.Errorf("Commit: %v", err)
	}
	shut(t, w)
	if _, _, err := s.Obtain(ended(t), d, name, of(data), nil); err != context.Canceled { //nolint:errorlint // it is not to be wrapped
		t.Errorf("Obtain: %v", err)
	}
	holds(t, d, empty)
	s.hit(d, data)
}

func TestOpenCacheMakesADirectoryForItsUserOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "cache")
	c := openCache(t, path)
	for _, dir := range []string{path, c.root, c.at("blobs"), c.at("partial"), c.at("entries"), c.at("manifests")} {
		mode(t, dir, 0o700)
	}
	mode(t, c.at("key"), 0o600)
	data, err := os.ReadFile(filepath.Join(path, "CACHEDIR.TAG"))
	if !bytes.HasPrefix(data, []byte("Signature: 8a477f597d28d172789f06886806bc55\n")) || err != nil {
		t.Errorf("CACHEDIR.TAG: %q, %v", data, err)
	}
}

func TestOpenCacheRefusesWhatOthersMayWriteTo(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o777, 0o770, 0o702, 0o777 | os.ModeSticky} {
		path := t.TempDir()
		must(t, os.Chmod(path, mode))
		_, err := OpenCache(path)
		want := `directory "` + path + `": others may write to it (mode ` + map[bool]string{true: "0777", false: ""}[mode.Perm() == 0o777]
		var local *LocalError
		if !errors.As(err, &local) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: got %v", mode, err)
		}
		if files, err := os.ReadDir(path); len(files) != 0 || err != nil {
			t.Errorf("%v: %v, %v", mode, files, err)
		}
	}
	path := t.TempDir()
	must(t, os.Chmod(path, 0o755)) // others may look
	openCache(t, path)
}

func TestOpenCacheSaysWhatIsWrongWithThePath(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(file, "below")} {
		_, err := OpenCache(path)
		var local *LocalError
		if want := `directory "` + path + `": not a directory`; !errors.As(err, &local) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestAnOwnersNameRevealsNothingAndIsTheSameInAllProcesses(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	c, again, other := openCache(t, path), openCache(t, path), openCache(t, t.TempDir())
	if got, want := again.Owner("a", "b"), c.Owner("a", "b"); got != want || len(got) != 32 || CheckName(got) != nil {
		t.Errorf("got %q and %q", got, want)
	}
	seen := map[string]string{c.Owner("a", "b"): "it"}
	for label, name := range map[string]string{
		"another cache": other.Owner("a", "b"), "another part": c.Owner("a", "c"), "another cut": c.Owner("ab"),
		"yet another": c.Owner("ab", ""), "one more": c.Owner("a", "b", ""), "none": c.Owner(),
	} {
		if before := seen[name]; before != "" {
			t.Errorf("%s has the name of %s", label, before)
		}
		seen[name] = label
	}
}

func TestManyMayOpenANewCacheAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache")
	names := make(chan string, 20)
	for range cap(names) {
		go func() {
			c, err := OpenCache(path)
			if err != nil {
				t.Error(err)
				names <- ""
				return
			}
			names <- c.Owner("a")
		}()
	}
	first := <-names
	for range cap(names) - 1 {
		if name := <-names; name != first {
			t.Errorf("%q and %q", name, first)
		}
	}
}

func TestAKeyThatSomebodyMakesIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	f, err := openHealed(path)
	must(t, err, lock(f))
	got := make(chan []byte)
	begins := make(chan struct{})
	go func() {
		close(begins)
		key, err := openKey(path)
		if err != nil {
			t.Error(err)
		}
		got <- key
	}()
	<-begins
	want := bytes.Repeat([]byte{7}, keySize)
	for range 10_000 { // one that does not wait gets there meanwhile
		runtime.Gosched()
	}
	select {
	case key := <-got:
		t.Errorf("it was not waited for: %x", key)
		return
	default:
	}
	_, err = f.WriteAt(want, 0)
	must(t, err)
	unlock(f)
	if key := <-got; !bytes.Equal(key, want) {
		t.Errorf("got %x, want %x", key, want)
	}
}

func TestADamagedKeyIsMadeAnew(t *testing.T) {
	t.Parallel()
	for label, damage := range map[string]func(path string) error{
		"empty":       func(path string) error { return os.Truncate(path, 0) },
		"cut":         func(path string) error { return os.Truncate(path, 31) },
		"zeros":       func(path string) error { return os.WriteFile(path, make([]byte, 32), 0o600) },
		"a FIFO":      func(path string) error { return errors.Join(os.Remove(path), mkfifo(path)) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			before := openCache(t, path)
			must(t, damage(before.at("key")))
			after := openCache(t, path)
			if after.Owner("a") == before.Owner("a") || bytes.Equal(after.key, make([]byte, keySize)) {
				t.Error("the key is the old one, or none")
			}
			if again := openCache(t, path); again.Owner("a") != after.Owner("a") {
				t.Error("the key was made twice")
			}
		})
	}
}
