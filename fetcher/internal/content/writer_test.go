package content

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestNothingHasItsNameBeforeCommit(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		data := []byte("some bytes")
		absent := func(when string) {
			t.Helper()
			if _, err := os.Lstat(filepath.Join(d.path, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, the name is there: %v", when, err)
			}
		}
		w := begin.must(t, d, of(data))
		absent("at first")
		write(t, w, data[:4])
		absent("half written")
		write(t, w, data[4:])
		absent("before Commit")
		commit(t, w)
		holds(t, d, map[string]string{name: "some bytes"})
	})
}

func TestCloseWithoutCommitLeavesNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		w := begin.must(t, d, of([]byte("some bytes")))
		write(t, w, []byte("some bytes"))
		shut(t, w)
		holds(t, d, empty)
		shut(t, w) // a second time does no harm
		var local *LocalError
		if _, err := w.WriteAt(nil, 0); !errors.As(err, &local) || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("WriteAt after Close: %v", err)
		}
		if err := w.Commit(); !errors.As(err, &local) {
			t.Errorf("Commit after Close: %v", err)
		}
		holds(t, d, empty)
	})
}

func TestCommitTakesOnlyTheBytesOfTheDescriptor(t *testing.T) {
	t.Parallel()
	right := []byte("the right bytes")
	is := func(size int64, d digest.Digest) ocispec.Descriptor { return ocispec.Descriptor{Digest: d, Size: size} }
	sha256, sha512 := digest.FromBytes(right), digest.SHA512.FromBytes(right)
	for label, test := range map[string]struct {
		written string
		desc    ocispec.Descriptor
		is      error
		text    string
	}{
		"the right bytes":                     {"the right bytes", is(15, sha256), nil, ""},
		"the right bytes, by sha512":          {"the right bytes", is(15, sha512), nil, ""},
		"the right bytes, the size unknown":   {"the right bytes", is(-1, sha256), nil, ""},
		"no bytes where there are to be none": {"", of(nil), nil, ""},
		"too few bytes":                       {"the right byte", is(15, sha256), ErrSize, "wrong size: got 14 bytes, the descriptor says 15"},
		"the right bytes, and more to come":   {"the right bytes", is(16, sha256), ErrSize, "wrong size: got 15 bytes, the descriptor says 16"},
		"too few bytes, the size unknown":     {"the right byte", is(-1, sha256), ErrDigest, "wrong digest: got " + digest.FromString("the right byte").String() + ", want " + sha256.String()},
		"other bytes":                         {"the wrong bytes", is(15, sha256), ErrDigest, "wrong digest: got " + digest.FromString("the wrong bytes").String() + ", want " + sha256.String()},
		"other bytes, by sha512":              {"the wrong bytes", is(15, sha512), ErrDigest, "wrong digest: got " + digest.SHA512.FromString("the wrong bytes").String() + ", want " + sha512.String()},
	} {
		t.Run(label, func(t *testing.T) {
			eachWay(t, func(t *testing.T, d *Dir, begin creator) {
				plant(t, d, []byte("old"))
				w := begin.must(t, d, test.desc)
				write(t, w, []byte(test.written))
				if w.Size() != int64(len(test.written)) {
					t.Errorf("Size is %d, want %d", w.Size(), len(test.written))
				}
				err := w.Commit()
				shut(t, w)
				if test.is == nil {
					if err != nil {
						t.Fatal(err)
					}
					holds(t, d, map[string]string{name: test.written})
					return
				}
				if !errors.Is(err, test.is) || err.Error() != test.text {
					t.Errorf("got %v, want %s", err, test.text)
				}
				holds(t, d, map[string]string{name: "old"})
			})
		})
	}
}

func TestWriteAtRefusesToGoBeyondTheSizeAndWritesNothingOfIt(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		data := []byte("0123456789")
		w := begin.must(t, d, of(data))
		write(t, w, data[:8])
		n, err := w.WriteAt([]byte("89!"), 8)
		if want := "wrong size: more than the 10 bytes that the descriptor says"; n != 0 || !errors.Is(err, ErrSize) || err.Error() != want {
			t.Errorf("got %d, %v, want 0, %s", n, err, want)
		}
		if info, err := w.file.Stat(); err != nil || info.Size() != 8 || w.Size() != 8 {
			t.Errorf("the file has %d bytes, Size says %d, want 8; %v", info.Size(), w.Size(), err)
		}
		write(t, w, data[8:]) // what was refused is as if it had never been
		if n, err := w.WriteAt([]byte{0}, 10); n != 0 || !errors.Is(err, ErrSize) {
			t.Errorf("got %d, %v, want 0, ErrSize", n, err)
		}
		commit(t, w)
		holds(t, d, map[string]string{name: "0123456789"})
	})
}

func TestWriteAtRefusesTheByteAfter64GiBOfUnknownSize(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		w := begin.must(t, d, ocispec.Descriptor{Digest: digest.FromString(""), Size: -1})
		writeAt(t, w, []byte{0}, 64<<30-1) // no file system stores the gap
		if n, err := w.WriteAt([]byte{0}, 64<<30); n != 0 || !errors.Is(err, ErrTooBig) {
			t.Errorf("got %d, %v, want 0, ErrTooBig", n, err)
		}
		w.desc.Size = 64<<30 + 1
		writeAt(t, w, []byte{0}, 64<<30) // a manifest may say more
	})
}

func TestACommittedWriterTakesNoMore(t *testing.T) {
	for _, old := range []map[string]string{{}, {name: "old"}} {
		t.Run(map[bool]string{true: "after it replaced a file", false: "of a new file"}[len(old) > 0], func(t *testing.T) {
			eachWay(t, func(t *testing.T, d *Dir, begin creator) {
				for _, data := range old {
					plant(t, d, []byte(data))
				}
				data := []byte("data")
				w := begin.must(t, d, ocispec.Descriptor{Digest: digest.FromBytes(data), Size: -1})
				write(t, w, data)
				if err := w.Commit(); err != nil {
					t.Fatal(err)
				}
				var local *LocalError
				if n, err := w.WriteAt([]byte("more"), 4); n != 0 || !errors.As(err, &local) || !errors.Is(err, fs.ErrClosed) {
					t.Errorf("WriteAt: %d, %v", n, err)
				}
				if err := w.Commit(); !errors.As(err, &local) {
					t.Errorf("Commit: %v", err)
				}
				shut(t, w)
				holds(t, d, map[string]string{name: "data"})
			})
		})
	}
}

func TestManyMayCommitOneNameAtOnce(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	data := bytes.Repeat([]byte("data"), 1000)
	here, there := open(t, path), open(t, path)
	// Once it has its name, it never is without it, nor in parts.
	first := ways["as the platform does"].must(t, here, of(data))
	write(t, first, data)
	commit(t, first)
	ended := make(chan struct{})
	var reader, writers sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			got, err := os.ReadFile(filepath.Join(path, name))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("read %d bytes, %v", len(got), err)
				return
			}
		}
	})
	for _, begin := range ways {
		for _, d := range []*Dir{here, there} {
			for range 4 {
				writers.Go(func() {
					for range 10 {
						if err := commitAll(d, begin, data); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
	}
	writers.Wait()
	close(ended)
	reader.Wait()
	holds(t, here, map[string]string{name: string(data)})
}

func TestManyMayCommitAFreeNameAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		other := open(t, d.path)
		data := []byte("data")
		for range 25 {
			var writers sync.WaitGroup
			for _, d := range []*Dir{d, other, d, other} {
				writers.Go(func() {
					if err := commitAll(d, begin, data); err != nil {
						t.Error(err)
					}
				})
			}
			writers.Wait()
			holds(t, d, map[string]string{name: "data"})
			if err := os.Remove(filepath.Join(d.path, name)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// commitAll writes data in two parts and commits it.
func commitAll(d *Dir, begin creator, data []byte) error {
	w, err := begin(d, of(data))
	if err != nil {
		return err
	}
	half := len(data) / 2
	_, err1 := w.WriteAt(data[:half], 0)
	_, err2 := w.WriteAt(data[half:], int64(half))
	return errors.Join(err1, err2, w.Commit(), w.Close())
}
