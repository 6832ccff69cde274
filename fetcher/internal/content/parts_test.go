package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const mib = 1 << 20

// random returns n bytes that are the same each time.
func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// hashes watches what a writer hashes.
type hashes struct {
	hash.Hash
	before func(p []byte)
}

func (h *hashes) Write(p []byte) (int, error) {
	h.before(p)
	return h.Hash.Write(p)
}

// watch has before see all that w hashes.
func watch(w *Writer, before func(p []byte)) { w.hash = &hashes{w.hash, before} }

func TestPartsOfAnyOrderMakeTheFile(t *testing.T) {
	t.Parallel()
	data := random(10)
	for label, parts := range map[string][]span{
		"in order":                      {{0, 3}, {3, 7}, {7, 10}},
		"backwards":                     {{7, 10}, {3, 7}, {0, 3}},
		"the first one last":            {{3, 7}, {7, 10}, {0, 3}},
		"the gap last":                  {{0, 3}, {7, 10}, {3, 7}},
		"every second one first":        {{1, 2}, {3, 5}, {8, 9}, {9, 10}, {5, 8}, {2, 3}, {0, 1}},
		"some of them twice":            {{0, 3}, {0, 3}, {7, 10}, {7, 10}, {3, 7}, {0, 3}},
		"overlapping at the end":        {{0, 5}, {3, 10}},
		"overlapping at the begin":      {{5, 10}, {0, 7}},
		"one over the gaps of others":   {{1, 2}, {4, 5}, {7, 8}, {0, 10}},
		"nothing in between":            {{4, 4}, {0, 10}, {0, 0}, {10, 10}},
		"one that is inside of another": {{0, 10}, {3, 7}},
	} {
		t.Run(label, func(t *testing.T) {
			eachWay(t, func(t *testing.T, d *Dir, begin creator) {
				for _, size := range []int64{int64(len(data)), -1} {
					desc := of(data)
					desc.Size = size
					w := begin.must(t, d, desc)
					var hashed []byte
					watch(w, func(p []byte) { hashed = append(hashed, p...) })
					for _, part := range parts {
						writeAt(t, w, data[part.from:part.to], part.from)
					}
					if w.Size() != 10 || w.Contiguous() != 10 {
						t.Errorf("Size is %d and Contiguous %d, want 10", w.Size(), w.Contiguous())
					}
					commit(t, w)
					if !bytes.Equal(hashed, data) {
						t.Errorf("hashed was %x, not each byte once and in order: %x", hashed, data)
					}
					holds(t, d, map[string]string{name: string(data)})
				}
			})
		})
	}
}

func TestContiguousEndsAtTheFirstGapAndSizeCountsBehindIt(t *testing.T) {
	t.Parallel()
	w := ways["as the platform does"].must(t, open(t, t.TempDir()), of(make([]byte, 10)))
	type state struct{ Contiguous, Size int64 }
	var got []state
	for _, part := range []span{{0, 0}, {3, 5}, {0, 2}, {7, 8}, {2, 3}, {1, 9}, {9, 10}} {
		writeAt(t, w, make([]byte, part.to-part.from), part.from)
		got = append(got, state{w.Contiguous(), w.Size()})
	}
	want := []state{{0, 0}, {0, 2}, {2, 4}, {2, 5}, {5, 6}, {9, 9}, {10, 10}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteAtRefusesWhatNoFileCanHold(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		known := of([]byte("0123456789"))
		unknown := ocispec.Descriptor{Digest: known.Digest, Size: -1}
		const more = "wrong size: more than the 10 bytes that the descriptor says"
		for label, test := range map[string]struct {
			desc   ocispec.Descriptor
			offset int64
			is     error
			text   string
		}{
			"a part across the end":           {known, 8, ErrSize, more},
			"a part behind the end":           {known, 10, ErrSize, more},
			"a part far behind the end":       {known, 1 << 40, ErrSize, more},
			"a part across 64 GiB":            {unknown, 64<<30 - 2, ErrTooBig, ErrTooBig.Error()},
			"a part before the begin":         {unknown, -1, nil, "no file has bytes -1 to 2"},
			"a part beyond all numbers":       {unknown, math.MaxInt64 - 1, nil, "no file has bytes 9223372036854775806 to -9223372036854775807"},
			"a part before the least of them": {known, math.MinInt64, nil, "no file has bytes -9223372036854775808 to -9223372036854775805"},
		} {
			w := begin.must(t, d, test.desc)
			writeAt(t, w, []byte("01"), 0)
			n, err := w.WriteAt([]byte("xyz"), test.offset)
			if n != 0 || err == nil || err.Error() != test.text || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%s: got %d, %v, want 0, %s", label, n, err, test.text)
			}
			if info, err := w.file.Stat(); err != nil || info.Size() != 2 || w.Size() != 2 {
				t.Errorf("%s: the file has %d bytes, Size says %d, want 2; %v", label, info.Size(), w.Size(), err)
			}
			shut(t, w)
		}
	})
}

func TestCommitSaysWhereAFileOfUnknownSizeHasAGap(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		w := begin.must(t, d, ocispec.Descriptor{Digest: digest.FromString("0123"), Size: -1})
		writeAt(t, w, []byte("01"), 0)
		writeAt(t, w, []byte("3"), 3)
		err := w.Commit()
		if want := "wrong size: got 3 bytes, with a gap at byte 2"; !errors.Is(err, ErrSize) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		holds(t, &Dir{path: d.path}, unfinished(w))
		writeAt(t, w, []byte("2"), 2)
		commit(t, w)
		holds(t, d, map[string]string{name: "0123"})
	})
}

// unfinished is what is seen of w's file in its directory.
func unfinished(w *Writer) map[string]string {
	temp := w.keeper.(*place).temp
	if temp == "" {
		return empty
	}
	data, _ := os.ReadFile(filepath.Join(w.keeper.(*place).path, temp))
	return map[string]string{temp: string(data)}
}

func TestWhatWasWrittenOnceStays(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		w := begin.must(t, d, of([]byte("aabbaacc")))
		writeAt(t, w, []byte("bb"), 2)     // ahead of the hash
		writeAt(t, w, []byte("aaXXaa"), 0) // over it
		writeAt(t, w, []byte("XX"), 1)     // behind the hash
		writeAt(t, w, []byte("Xcc"), 5)    // in part behind it
		writeAt(t, w, []byte("XXXXXXXX"), 0)
		commit(t, w)
		holds(t, d, map[string]string{name: "aabbaacc"})
	})
}

// TestTheHashIsThatOfTheFileWhateverIsWrittenAtOnce has writes race for the
// same bytes, each with its own: whichever win, Commit must judge what is in the
// file.
func TestTheHashIsThatOfTheFileWhateverIsWrittenAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		const size, goroutines = 1 << 16, 8
		w := begin.must(t, d, ocispec.Descriptor{Digest: digest.FromString(""), Size: size})
		var hashed []byte
		watch(w, func(p []byte) { hashed = append(hashed, p...) })
		var all sync.WaitGroup
		for g := range goroutines {
			all.Go(func() {
				order := rand.New(rand.NewPCG(1, uint64(g)))
				for range 300 {
					offset := order.IntN(size)
					part := bytes.Repeat([]byte{byte('a' + g)}, min(order.IntN(4000), size-offset))
					if n, err := w.WriteAt(part, int64(offset)); n != len(part) || err != nil {
						t.Errorf("WriteAt: %d of %d, %v", n, len(part), err)
					}
				}
			})
		}
		all.Wait()
		writeAt(t, w, make([]byte, size), 0) // what nobody wrote
		file := make([]byte, size)
		if _, err := w.file.ReadAt(file, 0); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("wrong digest: got %s, want %s", digest.FromBytes(file), digest.FromString(""))
		if err := w.Commit(); !errors.Is(err, ErrDigest) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if !bytes.Equal(hashed, file) {
			t.Error("hashed was not each byte once and in order")
		}
	})
}

func TestWhatContinuesTheHashedBytesIsHashedFromMemory(t *testing.T) {
	t.Parallel()
	data := random(3 * mib)
	w := ways["as the platform does"].must(t, open(t, t.TempDir()), of(data))
	var memory []bool
	watch(w, func(p []byte) {
		at := uintptr(unsafe.Pointer(unsafe.SliceData(p))) - uintptr(unsafe.Pointer(unsafe.SliceData(data)))
		memory = append(memory, at == uintptr(w.hashed) && len(p) == mib)
	})
	for offset := int64(0); offset < int64(len(data)); offset += mib {
		writeAt(t, w, data[offset:offset+mib], offset)
	}
	commit(t, w)
	if diff := cmp.Diff([]bool{true, true, true}, memory); diff != "" {
		t.Errorf("hashed from memory, as it came (-want +got):\n%s", diff)
	}
}

func TestOneCallCatchesUpWithAtMost8MiB(t *testing.T) {
	t.Parallel()
	data := random(21 * mib)
	w := ways["as the platform does"].must(t, open(t, t.TempDir()), of(data))
	var got []int64
	for _, part := range []span{{1, 10}, {11, 20}, {0, 1}, {20, 21}, {10, 11}} { // MiB
		writeAt(t, w, data[part.from*mib:part.to*mib], part.from*mib)
		got = append(got, w.hashed)
	}
	// The first MiB closes a gap; the last of the file comes when another MiB is
	// still due, and then there is the second gap.
	want := []int64{0, 0, 9 * mib, 10 * mib, 19 * mib}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hashed after each part (-want +got):\n%s", diff)
	}
	commit(t, w)
}

func TestWhatComesAfterAPartialIsHashedFromMemoryToo(t *testing.T) {
	t.Parallel()
	data := random(10 * mib)
	for label, test := range map[string]struct {
		have   int64
		memory bool
		hashed int64
	}{
		"after little":                  {1000, true, 1000 + mib},
		"after all that may be read":    {8 * mib, true, 9 * mib},
		"not after more than may be so": {8*mib + 1, false, 8 * mib},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			w := resumed(t, &keeping{}, data[:test.have], of(data), test.have)
			memory := false
			watch(w, func(p []byte) { memory = memory || unsafe.SliceData(p) == &data[test.have] && len(p) == mib })
			writeAt(t, w, data[test.have:test.have+mib], test.have)
			if memory != test.memory || w.hashed != test.hashed {
				t.Errorf("hashed from memory: %v, want %v; hashed in all: %d, want %d", memory, test.memory, w.hashed, test.hashed)
			}
			write(t, w, data[w.Contiguous():])
			commit(t, w)
		})
	}
}

func TestNobodyWaitsForTheOneThatHashes(t *testing.T) {
	t.Parallel()
	data := random(5000)
	w := ways["as the platform does"].must(t, open(t, t.TempDir()), of(data))
	entered, goOn := make(chan struct{}), make(chan struct{})
	first := true
	var hashed []int
	watch(w, func(p []byte) {
		if hashed = append(hashed, len(p)); first {
			first = false
			close(entered)
			<-goOn
		}
	})
	var hasher sync.WaitGroup
	hasher.Go(func() {
		if n, err := w.WriteAt(data[:1000], 0); n != 1000 || err != nil {
			t.Errorf("WriteAt: %d, %v", n, err)
		}
	})
	<-entered
	writeAt(t, w, data[1000:3000], 1000)
	writeAt(t, w, data[3000:4000], 3000)
	if w.Contiguous() != 4000 || w.Size() != 4000 {
		t.Errorf("Contiguous is %d and Size %d, want 4000", w.Contiguous(), w.Size())
	}
	close(goOn)
	hasher.Wait()
	// Who hashed sees to what came meanwhile.
	if diff := cmp.Diff([]int{1000, 3000}, hashed); diff != "" {
		t.Errorf("hashed (-want +got):\n%s", diff)
	}
	writeAt(t, w, data[4000:], 4000)
	commit(t, w)
}

func TestRestartForgetsAllBytes(t *testing.T) {
	for label, before := range map[string]func(t *testing.T, w *Writer){
		"before the first byte": func(*testing.T, *Writer) {},
		"in the middle":         func(t *testing.T, w *Writer) { writeAt(t, w, []byte("wro"), 0) },
		"with a gap":            func(t *testing.T, w *Writer) { writeAt(t, w, []byte("ng"), 3) },
		"after a Commit of too few bytes": func(t *testing.T, w *Writer) {
			writeAt(t, w, []byte("righ"), 0)
			if err := w.Commit(); err == nil {
				t.Error("Commit took too few bytes")
			}
		},
		"after a Commit of wrong bytes": func(t *testing.T, w *Writer) {
			writeAt(t, w, []byte("wrong"), 0)
			if err := w.Commit(); !errors.Is(err, ErrDigest) {
				t.Errorf("got %v, want ErrDigest", err)
			}
		},
		"after a file that could not be written": func(t *testing.T, w *Writer) {
			writeAt(t, w, []byte("wro"), 0)
			file := w.file
			defer func() { w.file = file }()
			w.file = readOnly(t)
			if _, err := w.WriteAt([]byte("ng"), 3); err == nil {
				t.Error("a file was written that can't be")
			}
		},
	} {
		t.Run(label, func(t *testing.T) {
			eachWay(t, func(t *testing.T, d *Dir, begin creator) {
				for _, size := range []int64{5, -1} {
					desc := of([]byte("right"))
					desc.Size = size
					w := begin.must(t, d, desc)
					before(t, w)
					if err := w.Restart(); err != nil {
						t.Fatal(err)
					}
					if info, err := w.file.Stat(); err != nil || info.Size() != 0 || w.Size() != 0 || w.Contiguous() != 0 {
						t.Errorf("%d bytes are left, Size is %d and Contiguous %d; %v", info.Size(), w.Size(), w.Contiguous(), err)
					}
					writeAt(t, w, []byte("ht"), 3)
					writeAt(t, w, []byte("rig"), 0)
					commit(t, w)
					holds(t, d, map[string]string{name: "right"})
				}
			})
		})
	}
}

// readOnly is an open file that can't be written.
func readOnly(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestNothingRestartsAfterItsEnd(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		for label, commits := range map[string]bool{"closed": false, "committed": true} {
			w := begin.must(t, d, of([]byte("data")))
			write(t, w, []byte("data"))
			if commits {
				if err := w.Commit(); err != nil {
					t.Fatal(err)
				}
			} else {
				shut(t, w)
			}
			var local *LocalError
			if err := w.Restart(); !errors.As(err, &local) || !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: Restart: %v", label, err)
			}
			shut(t, w)
		}
		holds(t, d, map[string]string{name: "data"})
	})
}

func TestAnErrorOfTheFileIsLocalAndEndsTheWriting(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		w := begin.must(t, d, of([]byte("data")))
		write(t, w, []byte("da"))
		defer func(file *os.File) { w.file = file }(w.file)
		w.file = readOnly(t)
		_, first := w.WriteAt([]byte("ata"), 1)
		_, second := w.WriteAt(nil, 0)
		for what, err := range map[string]error{"WriteAt": first, "the next WriteAt": second, "Verify": w.Verify(t.Context()), "Commit": w.Commit()} {
			var local *LocalError
			if !errors.As(err, &local) || local.Dir != d.path || err.Error() != first.Error() {
				t.Errorf("%s: got %v, want a LocalError that says %v", what, err, first)
			}
		}
		if w.Size() != 2 {
			t.Errorf("Size is %d, want 2", w.Size())
		}
	})
}

func TestVerifyEndsWithItsContextAndGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	data := random(20 * mib)
	d := open(t, t.TempDir())
	w := resumed(t, &place{Dir: d, name: name}, data, of(data), int64(len(data)))
	ctx, cancel := context.WithCancel(t.Context())
	hashed := 0
	watch(w, func(p []byte) {
		if hashed += len(p); hashed >= 10*mib {
			cancel()
		}
	})
	if err := w.Verify(ctx); err != context.Canceled || hashed != 10*mib { //nolint:errorlint // nothing is to be around it
		t.Errorf("got %v after %d bytes", err, hashed)
	}
	for range 2 {
		if err := w.Verify(t.Context()); err != nil || hashed != len(data) {
			t.Errorf("got %v after %d bytes", err, hashed)
		}
	}
	writeAt(t, w, make([]byte, 10), 5) // not any more
	if err := w.Verify(t.Context()); err != nil || hashed != len(data) {
		t.Errorf("got %v after %d bytes", err, hashed)
	}
}

// resumed is the writer of a file that has data in it, of which have bytes are
// said to be the blob's.
func resumed(t *testing.T, k keeper, data []byte, desc ocispec.Descriptor, have int64) *Writer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "partial")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWriter(k, file, desc, have)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// keeping is a keeper that notes what it is asked.
type keeping struct {
	calls []string
	bytes string // that were published
	err   error
}

func (k *keeping) publish(w *Writer) error {
	data, err := io.ReadAll(io.NewSectionReader(w.file, 0, math.MaxInt64))
	k.calls, k.bytes = append(k.calls, "publish"), string(data)
	return errors.Join(err, k.err)
}

func (k *keeping) discard(w *Writer) error {
	_, err := w.file.Stat()
	k.calls = append(k.calls, fmt.Sprintf("discard %d of %d bytes, closed %v", w.Contiguous(), w.Size(), errors.Is(err, fs.ErrClosed)))
	return k.err
}

func (k *keeping) local(err error) error { return &LocalError{"keeper", err} }

func TestAPartialGoesOnAfterTheBytesThatItHas(t *testing.T) {
	t.Parallel()
	for label, test := range map[string]struct {
		file string
		have int64
		size int64
		from int64 // where it goes on
	}{
		"none":                           {"", 0, 10, 0},
		"some":                           {"0123", 4, 10, 4},
		"all":                            {"0123456789", 10, 10, 10},
		"fewer than the file has":        {"0123xxxxxxxxx", 4, 10, 4},
		"none, though the file has some": {"xxxxxxxxxxxxx", 0, 10, 0},
		"more than the file has":         {"0123", 8, 10, 4},
		"more than the blob has":         {"0123456789xxx", 13, 10, 10},
		"some, the size unknown":         {"0123", 4, -1, 4},
		"fewer than the file has, the size unknown":   {"0123xxxxxxxxx", 4, -1, 4},
		"none though it has some, the size unknown":   {"xxxxxxxxxxxxx", 0, -1, 0},
		"all, the size unknown":                       {"0123456789", 10, -1, 10},
		"fewer than none, as of a record that lies":   {"xxxx", -5, 10, 0},
		"more than any, as of a record that lies":     {"0123", math.MaxInt64, 10, 4},
		"more than any of unknown size, as it may be": {"0123", math.MaxInt64, -1, 4},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			var k keeping
			data := []byte("0123456789")
			w := resumed(t, &k, []byte(test.file), ocispec.Descriptor{Digest: digest.FromBytes(data), Size: test.size}, test.have)
			if w.Contiguous() != test.from || w.Size() != test.from || w.hashed != 0 {
				t.Errorf("it goes on at %d, Size is %d, %d bytes are hashed; want %d, and nothing hashed", w.Contiguous(), w.Size(), w.hashed, test.from)
			}
			writeAt(t, w, data[test.from:], test.from)
			commit(t, w)
			if diff := cmp.Diff(keeping{calls: []string{"publish"}, bytes: string(data)}, k, cmp.AllowUnexported(keeping{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheBytesOfAPartialStay(t *testing.T) {
	t.Parallel()
	var k keeping
	data := []byte("0123456789")
	w := resumed(t, &k, data[:4], of(data), 4)
	writeAt(t, w, []byte("XXXX456789"), 0)
	commit(t, w)
	if k.bytes != string(data) {
		t.Errorf("published was %q", k.bytes)
	}
}

func TestACommittedFileIsNotChangedThoughItsKeeperLeavesItOpen(t *testing.T) {
	t.Parallel()
	data := []byte("data")
	w := resumed(t, &keeping{}, data, ocispec.Descriptor{Digest: of(data).Digest, Size: -1}, 4)
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	_, err := w.WriteAt(data, 4)
	for what, err := range map[string]error{"WriteAt": err, "Restart": w.Restart()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if info, err := w.file.Stat(); err != nil || info.Size() != 4 {
		t.Errorf("the file has %d bytes; %v", info.Size(), err)
	}
}

func TestTheWrongBytesOfAPartialAreFoundAndARestartHelps(t *testing.T) {
	t.Parallel()
	var k keeping
	data := []byte("0123456789")
	w := resumed(t, &k, []byte("012X"), of(data), 4)
	writeAt(t, w, data[4:], 4)
	if err := w.Commit(); !errors.Is(err, ErrDigest) || k.calls != nil {
		t.Errorf("got %v, want ErrDigest; the keeper was asked %v", err, k.calls)
	}
	if err := w.Restart(); err != nil {
		t.Fatal(err)
	}
	writeAt(t, w, data, 0)
	commit(t, w)
	if k.bytes != string(data) {
		t.Errorf("published was %q", k.bytes)
	}
}

func TestAPartialThatSomebodyCutsOffIsALocalError(t *testing.T) {
	t.Parallel()
	data := random(mib)
	w := resumed(t, &keeping{}, data, of(data), mib)
	if err := w.file.Truncate(1000); err != nil {
		t.Fatal(err)
	}
	err := w.Commit()
	var local *LocalError
	want := `directory "keeper": somebody cut off the file at byte 1000: unexpected EOF`
	if !errors.As(err, &local) || !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := w.Restart(); err != nil {
		t.Fatal(err)
	}
	write(t, w, data)
	commit(t, w)
}

func TestAKeeperIsToldOnceWhatBecameOfTheFile(t *testing.T) {
	t.Parallel()
	data := []byte("0123456789")
	for label, test := range map[string]struct {
		do   func(w *Writer)
		want []string
	}{
		"it is closed at once":            {func(*Writer) {}, []string{"discard 0 of 0 bytes, closed true"}},
		"it is closed in the middle":      {func(w *Writer) { _, _ = w.WriteAt(data[:4], 0); _, _ = w.WriteAt(data[6:], 6) }, []string{"discard 4 of 8 bytes, closed true"}},
		"it is closed before the Commit":  {func(w *Writer) { _, _ = w.WriteAt(data, 0) }, []string{"discard 10 of 10 bytes, closed true"}},
		"its Commit finds too few bytes":  {func(w *Writer) { _, _ = w.WriteAt(data[:4], 0); _ = w.Commit() }, []string{"discard 4 of 4 bytes, closed true"}},
		"its Commit finds a wrong digest": {func(w *Writer) { _, _ = w.WriteAt(make([]byte, 10), 0); _ = w.Commit() }, []string{"discard 10 of 10 bytes, closed true"}},
		"it is restarted":                 {func(w *Writer) { _, _ = w.WriteAt(data, 0); _ = w.Restart() }, []string{"discard 0 of 0 bytes, closed true"}},
		"it is committed":                 {func(w *Writer) { _, _ = w.WriteAt(data, 0); _ = w.Commit() }, []string{"publish"}},
		"it is committed twice":           {func(w *Writer) { _, _ = w.WriteAt(data, 0); _ = w.Commit(); _ = w.Commit() }, []string{"publish"}},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			var k keeping
			w := resumed(t, &k, nil, of(data), 0)
			test.do(w)
			shut(t, w)
			shut(t, w)
			if diff := cmp.Diff(test.want, k.calls); diff != "" {
				t.Errorf("the keeper was asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnErrorOfTheKeeperIsMarkedOnce(t *testing.T) {
	t.Parallel()
	for label, test := range map[string]struct {
		err  error
		text string
	}{
		"one of a system call":       {fs.ErrPermission, `directory "keeper": permission denied`},
		"one that is marked already": {&LocalError{"elsewhere", fs.ErrPermission}, `directory "elsewhere": permission denied`},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			k := keeping{err: test.err}
			w := resumed(t, &k, []byte("data"), of([]byte("data")), 4)
			for what, err := range map[string]error{"Commit": w.Commit(), "Close": w.Close()} {
				var local *LocalError
				if !errors.As(err, &local) || err.Error() != test.text {
					t.Errorf("%s: got %v, want %s", what, err, test.text)
				}
			}
			if got := strings.Join(k.calls, ", "); got != "publish, discard 4 of 4 bytes, closed true" {
				t.Errorf("the keeper was asked: %s", got)
			}
		})
	}
}

func TestAWriteNeedsNoMemory(t *testing.T) {
	data := random(mib)
	desc := ocispec.Descriptor{Digest: digest.FromString(""), Size: -1}
	w := ways["as the platform does"].must(t, open(t, t.TempDir()), desc)
	write(t, w, data)
	offset := int64(len(data))
	if n := testing.AllocsPerRun(20, func() {
		_, _ = w.WriteAt(data, offset)
		offset += mib
	}); n > 0 {
		t.Errorf("%v allocations for each write in order", n)
	}
	if w.Size() != offset {
		t.Errorf("%d bytes were written, want %d", w.Size(), offset)
	}
}
