package content

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestNoChildOfTheProcessHasAnUnfinishedFileOpen(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		w := begin.must(t, d, of(nil))
		if flags, err := unix.FcntlInt(w.file.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the flags are %#x; %v", flags, err)
		}
	})
}

// room is how many bytes of the disk the file has.
func room(t *testing.T, file *os.File) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}

func needsRoom(t *testing.T, path string) {
	t.Helper()
	f, err := os.CreateTemp(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _ = reserve(f, span{0, mib}); room(t, f) < mib {
		t.Skip("the file system of ", path, " reserves no room")
	}
}

func TestALargeFileHasItsRoomFromTheFirstByteInSteps(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	needsRoom(t, d.path)
	for label, test := range map[string]struct {
		size   int64
		offset int64 // of a byte that is written
		least  int64 // room
		most   int64
		length int64 // of the file
	}{
		"a small one has none":                         {mib - 1, 0, 0, 64 << 10, 1},
		"one of unknown size has none":                 {-1, 0, 0, 64 << 10, 1},
		"a large one has all":                          {64 * mib, 0, 64 * mib, 65 * mib, 1},
		"a large one has all, whichever byte is first": {64 * mib, 32 * mib, 64 * mib, 65 * mib, 32*mib + 1},
		"one that says it is huge has a step":          {1 << 40, 0, 256 * mib, 257 * mib, 1},
		"one that says it is huge has a step more":     {1 << 40, 300 * mib, 256 * mib, 257 * mib, 300*mib + 1},
	} {
		t.Run(label, func(t *testing.T) {
			w, err := d.Create(name, ocispec.Descriptor{Digest: digest.FromString(""), Size: test.size})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			writeAt(t, w, []byte{1}, test.offset)
			if got := room(t, w.file); got < test.least || got > test.most {
				t.Errorf("the room is %d bytes, want %d to %d", got, test.least, test.most)
			}
			info, err := w.file.Stat()
			if err != nil || info.Size() != test.length {
				t.Errorf("the file has %d bytes, want %d; %v", info.Size(), test.length, err)
			}
		})
	}
}

func TestTheNextStepIsReservedWhenTheBytesReachIt(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	needsRoom(t, d.path)
	w, err := d.Create(name, ocispec.Descriptor{Digest: digest.FromString(""), Size: 300 * mib})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, step := range []struct{ offset, room int64 }{
		{0, 256 * mib}, {256*mib - 1, 256 * mib}, {256 * mib, 300 * mib}, {300*mib - 1, 300 * mib},
	} {
		writeAt(t, w, []byte{1}, step.offset)
		if got := room(t, w.file); got < step.room || got > step.room+mib {
			t.Errorf("after byte %d the room is %d bytes, want %d", step.offset, got, step.room)
		}
	}
}

func TestRoomIsReservedAnewAfterARestart(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	needsRoom(t, d.path)
	w, err := d.Create(name, ocispec.Descriptor{Digest: digest.FromString(""), Size: 2 * mib})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 2 {
		writeAt(t, w, []byte{1}, 0)
		if got := room(t, w.file); got < 2*mib {
			t.Errorf("the room is %d bytes", got)
		}
		if err := w.Restart(); err != nil {
			t.Fatal(err)
		}
		if got := room(t, w.file); got > mib {
			t.Errorf("after Restart the room is %d bytes", got)
		}
	}
}

func TestAPartialThatIsLeftHasOnlyTheRoomOfItsFirstBytes(t *testing.T) {
	t.Parallel()
	needsRoom(t, t.TempDir())
	w := resumed(t, &keeping{}, []byte("01"), ocispec.Descriptor{Digest: digest.FromString(""), Size: 64 * mib}, 2)
	writeAt(t, w, []byte("23"), 2)
	writeAt(t, w, make([]byte, mib), 8*mib)
	file, err := os.Open(w.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := room(t, file); got < 63*mib {
		t.Errorf("the room is %d bytes", got)
	}
	shut(t, w)
	if got := room(t, file); got > 64<<10 {
		t.Errorf("after Close the room is %d bytes", got)
	}
	if data, err := io.ReadAll(file); string(data) != "0123" || err != nil {
		t.Errorf("the file has %d bytes; %v", len(data), err)
	}
}

func TestNoRoomIsReservedOnTmpfs(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	mount(t, path, 0, "size=64m")
	w, err := open(t, path).Create(name, ocispec.Descriptor{Digest: digest.FromString(""), Size: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	writeAt(t, w, []byte{1}, 0)
	if got := room(t, w.file); got > mib {
		t.Errorf("the room is %d bytes", got)
	}
}

func TestAFullDiskIsKnownBeforeItsBytesAreWritten(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	mount(t, path, 0, "size=64k")
	d := open(t, path)
	file, _, err := d.createTemp()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := allocate(file, span{0, 32 << 10}); err != nil {
		t.Errorf("what fits: %v", err)
	}
	isLocal(t, "what does not fit", d.local(allocate(file, span{32 << 10, 256 << 10})), syscall.ENOSPC)
}

func TestAFileSystemThatReservesNothingIsNoError(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/proc/self/comm", "/dev/null"} { // EOPNOTSUPP, ENODEV
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := reserve(file, span{0, mib}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAFullDiskLeavesWhatWasWrittenAndARestartGivesItBack(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	mount(t, path, 0, "size=64k")
	d := open(t, path)
	large := make([]byte, 256<<10)
	w := ways["as the platform does"].must(t, d, of(large))
	write(t, w, large[:32<<10])
	n, err := w.WriteAt(large[32<<10:], 32<<10)
	isLocal(t, "WriteAt", err, syscall.ENOSPC)
	_, err = w.WriteAt(large[:1], 200<<10)
	isLocal(t, "the next WriteAt", err, syscall.ENOSPC)
	isLocal(t, "Commit", w.Commit(), syscall.ENOSPC)
	if n += 32 << 10; w.Size() != int64(n) || w.Contiguous() != int64(n) {
		t.Errorf("%d bytes were written, Size is %d and Contiguous %d", n, w.Size(), w.Contiguous())
	}
	if err := w.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := commitAll(d, ways["as the platform does"], make([]byte, 32<<10)); err != nil {
		t.Errorf("the room was not given back: %v", err)
	}
	writeAt(t, w, large[:1000], 0)
}

// TestAFileIsLinkedThroughProcWhereItMayNotBeLinkedByItself has the process take
// another credential, though an equal one, between the begin of a file and its
// Commit: only root may link such a file by itself.
func TestAFileIsLinkedThroughProcWhereItMayNotBeLinkedByItself(t *testing.T) {
	if dir, ok := child(); ok {
		const nobody = 65534
		user := os.Getuid()
		if user == 0 {
			user = nobody
			if err := errors.Join(os.Chown(dir, nobody, nobody), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
				t.Fatal(err)
			}
		}
		d := open(t, dir)
		needsTmpfile(t, dir)
		w := ways["as the platform does"].must(t, d, of([]byte("data")))
		write(t, w, []byte("data"))
		if err := syscall.Setuid(user); err != nil {
			t.Fatal(err)
		}
		if unix.Linkat(int(w.file.Fd()), "", int(d.fd.Fd()), "other", unix.AT_EMPTY_PATH) == nil {
			t.Skip("it may be linked by itself here")
		}
		commit(t, w)
		holds(t, d, map[string]string{name: "data"})
		return
	}
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // the way to it
		t.Fatal(err)
	}
	run(t, again(t, dir))
}
