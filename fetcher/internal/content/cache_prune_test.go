//go:build linux

package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// usedBefore has the last use of data be so long ago.
func (s *shelf) usedBefore(data []byte, age time.Duration) {
	s.t.Helper()
	then := time.Now().Add(-age)
	must(s.t, os.Chtimes(s.entry(data), then, then))
}

// prune fails the test unless Prune removes that much.
func (s *shelf) prune(l Limits, want Pruned) {
	s.t.Helper()
	if got, err := s.Prune(s.t.Context(), l); got != want || err != nil {
		s.t.Errorf("pruned %+v, %v, want %+v", got, err, want)
	}
}

// has fails the test unless exactly these blobs are stored.
func (s *shelf) has(blobs ...[]byte) {
	s.t.Helper()
	want := map[string]string{}
	for _, data := range blobs {
		want["blobs/"+BlobName(digest.FromBytes(data))] = "-r--r--r-- " + string(data)
	}
	s.stored(want)
}

func TestPruneRemovesTheLeastRecentlyUsedUntilTheRestFits(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	oldest, middle, newest := random(100), random(200), random(300)
	for age, data := range map[time.Duration][]byte{3: oldest, 2: middle, 1: newest} {
		s.store(data)
		s.usedBefore(data, age*time.Minute)
	}
	s.prune(Limits{}, Pruned{})
	s.prune(Limits{MaxSize: 600}, Pruned{})
	s.has(oldest, middle, newest)
	s.hit(s.dir(), oldest) // now it is the newest
	s.prune(Limits{MaxSize: 599}, Pruned{Blobs: 1, Bytes: 200})
	s.has(oldest, newest)
	s.prune(Limits{MaxSize: 1}, Pruned{Blobs: 2, Bytes: 400})
	s.has()
	if entries, err := os.ReadDir(s.at("entries")); len(entries) != 0 || err != nil {
		t.Errorf("entries: %v, %v", entries, err)
	}
	s.store(middle)
}

func TestPruneRemovesWhatWasNotUsedForLong(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	older, younger := random(100), random(200)
	s.store(older)
	s.usedBefore(older, time.Hour+time.Minute)
	s.store(younger)
	s.usedBefore(younger, time.Hour-time.Minute)
	s.prune(Limits{OlderThan: time.Hour}, Pruned{Blobs: 1, Bytes: 100})
	s.has(younger)
}

func TestWhatWasHandedOutSurvivesThePruning(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100)
	d := s.store(data)
	s.prune(Limits{MaxSize: 1}, Pruned{Blobs: 1, Bytes: 100})
	holds(t, d, map[string]string{name: string(data)})
}

func TestPruneLeavesWhatIsInUse(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data, free := random(100), random(50)
	s.store(free)
	w := s.lead(s.dir(), of(data), 0)
	write(t, w, data[:60])
	for _, c := range []*Cache{s.Cache, openCache(t, s.Cache.path)} {
		if _, err := c.Prune(t.Context(), Limits{MaxSize: 1, OlderThan: 1}); err != nil {
			t.Error(err)
		}
	}
	must(t, fill(w, data))
	s.has(data)
}

func TestPruneSweepsPartialsThatNobodyWentOnWithForADay(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	old, young := random(100), random(200)
	for age, data := range map[time.Duration][]byte{25 * time.Hour: old, 23 * time.Hour: young} {
		w := s.lead(s.dir(), of(data), 0)
		write(t, w, data[:60])
		shut(t, w)
		s.usedBefore(data, age)
	}
	s.prune(Limits{}, Pruned{Bytes: 60})
	s.stored(map[string]string{"partial/" + BlobName(of(young).Digest): "-rw------- " + string(young[:60])})
	s.prune(Limits{MaxSize: 59}, Pruned{Bytes: 60})
	s.stored(empty)
}

func TestPruneRemovesWhatHasNoEntryOrOnlyAnEntry(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100)
	s.store(data)
	must(t, os.Remove(s.entry(data)))
	then := time.Now().Add(-25 * time.Hour)
	lonely := s.at("entries", BlobName(digest.FromString("x")))
	must(t, os.Chtimes(s.blob(data), then, then), os.WriteFile(lonely, nil, 0o600), os.Chtimes(lonely, then, then))
	s.prune(Limits{OlderThan: 24 * time.Hour}, Pruned{Blobs: 1, Bytes: 100})
	s.stored(empty)
	if entries, err := os.ReadDir(s.at("entries")); len(entries) != 0 || err != nil {
		t.Errorf("entries: %v, %v", entries, err)
	}
}

func TestPruneRemovesDocumentsAndOwnersThatHaveNone(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data, more := []byte("0123456789"), []byte("more")
	a, b := s.Owner("a"), s.Owner("b")
	must(t, s.PutDocument(a, digest.FromBytes(data), data), s.PutDocument(a, digest.FromBytes(more), more), s.PutDocument(b, digest.FromBytes(data), data))
	then := time.Now().Add(-25 * time.Hour)
	for _, path := range []string{s.at("manifests", a, BlobName(digest.FromBytes(data))), s.at("manifests", b, BlobName(digest.FromBytes(data)))} {
		must(t, os.Chtimes(path, then, then))
	}
	s.prune(Limits{}, Pruned{})
	s.prune(Limits{OlderThan: 24 * time.Hour}, Pruned{Bytes: 20})
	document(t, s.Cache, a, data, false)
	document(t, s.Cache, a, more, true)
	if owners, err := os.ReadDir(s.at("manifests")); len(owners) != 1 || owners[0].Name() != a || err != nil {
		t.Errorf("owners: %v, %v", owners, err)
	}
	must(t, s.PutDocument(b, digest.FromBytes(data), data))
	document(t, s.Cache, b, data, true)
}

func TestPruneRemovesDamageOfAnyKind(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	key := func(x string) string { return BlobName(digest.FromString(x)) }
	must(t,
		os.MkdirAll(s.at("blobs", key("directory"), "full"), 0o700),
		mkfifo(s.at("blobs", key("fifo"))),
		os.Symlink(s.path, s.at("partial", key("link"))),
		os.MkdirAll(s.at("entries", key("entry"), "full"), 0o700),
	)
	if _, err := s.Prune(t.Context(), Limits{OlderThan: 1}); err != nil {
		t.Error(err)
	}
	s.stored(empty)
	if _, err := os.Stat(s.path); err != nil {
		t.Errorf("the link was followed: %v", err)
	}
}

func TestPruneEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100)
	s.store(data)
	if got, err := s.Prune(ended(t), Limits{MaxSize: 1}); got != (Pruned{}) || err != context.Canceled { //nolint:errorlint // it is not to be wrapped
		t.Errorf("got %+v, %v", got, err)
	}
	s.has(data)
}

// TestWhoHasAnEntryOpenThatIsRemovedOpensAnother is the race of flock and
// unlink: two who hold the lock of two files of one name hold nothing.
func TestWhoHasAnEntryOpenThatIsRemovedOpensAnother(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100)
	s.store(data)
	key := BlobName(of(data).Digest)
	old, err := s.openEntry(key) // opened by who will wait for the lock
	must(t, err)
	s.prune(Limits{MaxSize: 1}, Pruned{Blobs: 1, Bytes: 100})
	must(t, s.await(t.Context(), old, key, nil))
	if l := s.hold(key, old); l != nil {
		t.Error("the lock of a removed entry is taken for the entry's")
	}
	if _, err := old.Stat(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("it is still open: %v", err)
	}
	s.lead(s.dir(), of(data), 0)
}

// TestPruneTouchesNothingByTheLockOfARemovedEntry is that race for two who prune.
func TestPruneTouchesNothingByTheLockOfARemovedEntry(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100)
	s.store(data)
	items, err := s.items()
	must(t, err)
	old, err := s.openEntry(items[0].key)
	must(t, err)
	defer unlock(old)
	s.prune(Limits{MaxSize: 1}, Pruned{Blobs: 1, Bytes: 100})
	w := s.lead(s.dir(), of(data), 0)
	write(t, w, data[:60])
	items[0].used = time.Now()
	if removed, err := s.clear(old, items[0]); removed || err != nil {
		t.Errorf("got %v, %v", removed, err)
	}
	must(t, fill(w, data))
	s.has(data)
}

func TestPruneLeavesAnEntryThatWasUsedSinceItLooked(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(100)
	s.store(data)
	s.usedBefore(data, time.Hour)
	items, err := s.items()
	must(t, err)
	s.hit(s.dir(), data)
	if removed, err := s.remove(items[0]); removed || err != nil {
		t.Errorf("got %v, %v", removed, err)
	}
	s.has(data)
}

func TestManyMayUseAndPruneAtOnce(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	blobs := [][]byte{random(1000), random(1000), random(1000)}
	other := openCache(t, s.Cache.path)
	done := make(chan struct{})
	pruned := make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				pruned <- nil
				return
			default:
			}
			if _, err := other.Prune(context.Background(), Limits{MaxSize: 1500}); err != nil {
				pruned <- err
				return
			}
		}
	}()
	ended := make(chan error)
	for range 4 {
		d := s.dir()
		go func() {
			for i := range 100 {
				data := blobs[i%3]
				w, _, err := s.Obtain(t.Context(), d, name, of(data), nil)
				if err == nil && w != nil {
					err = fill(w, data)
				}
				if _, ok := d.Holds(t.Context(), name, of(data)); err != nil || !ok {
					ended <- errors.Join(err, errors.New("the directory does not have it"))
					return
				}
			}
			ended <- nil
		}()
	}
	for range 4 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	close(done)
	if err := <-pruned; err != nil {
		t.Error(err)
	}
}

func TestLimitsSayWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	ago := func(age time.Duration) time.Time { return now.Add(-age) }
	for label, test := range map[string]struct {
		limits Limits
		item   item
		total  int64
		want   bool
	}{
		"no limit":                      {Limits{}, item{used: ago(1e6 * time.Hour), blob: 5}, 1e12, false},
		"as old as it may be":           {Limits{OlderThan: time.Hour}, item{used: ago(time.Hour), blob: 5}, 5, false},
		"older":                         {Limits{OlderThan: time.Hour}, item{used: ago(time.Hour + 1), blob: 5}, 5, true},
		"as much as there may be":       {Limits{MaxSize: 5}, item{used: now, blob: 5}, 5, false},
		"more":                          {Limits{MaxSize: 4}, item{used: now, blob: 5}, 5, true},
		"more, but it has no bytes":     {Limits{MaxSize: 4}, item{used: now, blob: 0}, 5, false},
		"more, and it is a partial":     {Limits{MaxSize: 4}, item{used: now, blob: -1, partial: 1}, 5, true},
		"more, and it is a document":    {Limits{MaxSize: 4}, item{path: "x", used: now, blob: -1, other: 1}, 5, true},
		"a partial of a day":            {Limits{}, item{used: ago(24 * time.Hour), blob: -1, partial: 1}, 5, false},
		"a partial of more than a day":  {Limits{}, item{used: ago(24*time.Hour + 1), blob: -1, partial: 1}, 5, true},
		"an entry of more than a day":   {Limits{}, item{used: ago(24*time.Hour + 1), blob: -1}, 5, true},
		"a document of more than a day": {Limits{}, item{path: "x", used: ago(24*time.Hour + 1), blob: -1, other: 1}, 5, false},
		"of the future":                 {Limits{OlderThan: time.Hour}, item{used: ago(-time.Hour), blob: 5}, 5, false},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			if got := test.limits.exceeded(&test.item, test.total, now); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestALastUseThatIsToComeIsTakenForNow(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	ahead, usual := []byte("of a clock that was set back"), []byte("usual")
	s.store(ahead)
	s.store(usual)
	owner := s.Owner("reader")
	must(t, s.PutDocument(owner, digest.FromBytes(ahead), ahead))
	document := s.at("manifests", owner, BlobName(digest.FromBytes(ahead)))
	then := time.Now().Add(1000 * time.Hour)
	must(t, os.Chtimes(s.entry(ahead), then, then), os.Chtimes(document, then, then))
	s.prune(Limits{OlderThan: time.Hour}, Pruned{})
	for _, path := range []string{s.entry(ahead), document} {
		if used := stat(t, path).ModTime(); used.After(time.Now()) {
			t.Errorf("%s still has %v", path, used)
		}
	}
	s.usedBefore(usual, 0) // after the one that was ahead
	s.prune(Limits{MaxSize: int64(len(usual))}, Pruned{Blobs: 1, Bytes: int64(2 * len(ahead))})
	s.has(usual)
}
