package content

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

func mksocket(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) }

// changed is a file's ctime.
func changed(info fs.FileInfo) time.Time {
	s := info.Sys().(*syscall.Stat_t)
	return time.Unix(s.Ctim.Unix())
}

// stat is what lstat says of a path.
func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return info
}

// onDevice returns a directory on another file system than the test's own.
func onDevice(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "docker-fetcher-test-")
	if err != nil {
		t.Skip("no other file system: ", err)
	}
	t.Cleanup(func() { must(t, os.RemoveAll(path)) })
	if stampOf(stat(t, path)).device == stampOf(stat(t, t.TempDir())).device {
		t.Skip("/dev/shm is the file system of all tests")
	}
	return path
}

func TestABlobIsHandedOutAsAHardLinkThatNobodyMayWriteTo(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	for range 2 { // by the one that fetches, by one that hits
		d := s.dir()
		if w, _, err := s.Obtain(t.Context(), d, name, of(data), nil); err != nil || w != nil && fill(w, data) != nil {
			t.Fatal(err)
		}
		if stampOf(stat(t, s.blob(data))) != stampOf(stat(t, filepath.Join(d.path, name))) {
			t.Error("it is another file")
		}
		mode(t, filepath.Join(d.path, name), 0o444)
		if way := s.way(d.device()); way != byLink {
			t.Errorf("the next is tried as %v", way)
		}
	}
}

func TestABlobIsCopiedToAnotherFileSystem(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(40 << 20) // more than a step
	there := open(t, onDevice(t))
	must(t, fill(s.lead(there, of(data), 0), data))
	for range 2 {
		if _, ok := there.Holds(t.Context(), name, of(data)); !ok {
			t.Error("it has other bytes")
		}
		if n := stampOf(stat(t, filepath.Join(there.path, name))).links; n != 1 {
			t.Errorf("it has %d links", n)
		}
		mode(t, filepath.Join(there.path, name), 0o644)
		if way := s.way(there.device()); way != byCopy {
			t.Errorf("the next is tried as %v", way)
		}
		plant(t, there, []byte("old"))
		must(t, os.Chtimes(s.blob(data), time.Now(), time.Now())) // so it is read before it is copied
		s.served(t.Context(), there, data)
	}
	s.hit(s.dir(), data)
}

func TestABlobIsSharedByReflinkWhereTheFileSystemCan(t *testing.T) {
	t.Parallel()
	rootOnly(t, "it mounts a file system")
	path := t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20))
	for _, command := range [][]string{{"mkfs.xfs", "-q", "-m", "reflink=1", image}, {"mount", "-o", "loop", image, path}} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system that knows reflinks: %v %s", err, out)
		}
	}
	t.Cleanup(func() { must(t, syscall.Unmount(path, syscall.MNT_DETACH)) })

	c := openCache(t, filepath.Join(path, "cache"))
	data := random(1 << 20)
	s := &shelf{Cache: c, t: t, path: path}
	d := s.store(data)
	for _, d := range []*Dir{d, s.dir(), s.dir()} {
		s.served(ended(t), d, data) // the cache's file stays as it is
		holds(t, d, map[string]string{name: string(data)})
		if n := stampOf(stat(t, filepath.Join(d.path, name))).links; n != 1 {
			t.Errorf("it has %d links", n)
		}
		mode(t, filepath.Join(d.path, name), 0o644)
		// Whoever owns the directory may write to its file.
		must(t, os.WriteFile(filepath.Join(d.path, name), []byte("changed"), 0o600))
	}
	if way := s.way(d.device()); way != byReflink {
		t.Errorf("the next is tried as %v", way)
	}
	s.served(ended(t), s.dir(), data)
}

func TestABlobThatCanNotBeLinkedThisTimeIsCopied(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	s.store(data)
	f, err := os.Open(s.blob(data))
	must(t, err)
	defer f.Close()
	must(t, os.Remove(s.blob(data)), os.RemoveAll(filepath.Join(s.path, "dir"))) // no links: it gets none any more
	d := s.dir()
	l := s.lease(d, data)
	defer l.release()
	info, err := f.Stat()
	must(t, err)
	if linked, err := l.give(f, info); linked || err != nil {
		t.Errorf("got %v, %v", linked, err)
	}
	if !l.over {
		t.Error("others wait for the copy")
	}
	holds(t, d, map[string]string{name: "some bytes"})
	if way := s.way(d.device()); way != byLink {
		t.Errorf("the next is tried as %v", way)
	}
}

// lease locks the entry of data.
func (s *shelf) lease(d *Dir, data []byte) *lease {
	s.t.Helper()
	l, err := s.acquire(s.t.Context(), BlobName(of(data).Digest), nil)
	must(s.t, err)
	l.ctx, l.dir, l.name, l.desc = s.t.Context(), d, name, of(data)
	return l
}

func TestABlobThatIsWrittenToWhileItIsHandedOutIsNotHandedOut(t *testing.T) {
	t.Parallel()
	for label, test := range map[string]struct {
		way    way
		damage func(path string) error
		marks  bool
	}{
		"by link":                     {byLink, func(path string) error { return appendTo(path, "more") }, false},
		"by link, with the old times": {byLink, tamper, true},
		"by copy, with the old times": {byCopy, tamper, true},
		"by copy":                     {byCopy, func(path string) error { return appendTo(path, "more") }, false},
		"by copy, with the old size": {byCopy, func(path string) error {
			return errors.Join(tamper(path), os.Chtimes(path, time.Now(), time.Now()))
		}, false},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			if test.marks && !s.canMark() {
				t.Skip("files can't be marked here")
			} else if !test.marks {
				s.canMark = func() bool { return false }
			}
			data := []byte("some bytes")
			s.store(data)
			d := s.dir()
			s.learn(d.device(), test.way)
			l := s.lease(d, data)
			f, info, err := openPlain(l.blob(), os.O_RDONLY)
			must(t, err)
			defer f.Close()
			info, err = l.verify(f, info)
			must(t, err, test.damage(l.blob()))
			var local *LocalError
			if err := l.handOut(f, info); !errors.As(err, &local) || !errors.Is(err, errChanged) {
				t.Errorf("got %v", err)
			}
			l.release()
			holds(t, d, empty)
			must(t, fill(s.lead(d, of(data), 0), data))
			holds(t, d, map[string]string{name: "some bytes"})
		})
	}
}

func TestAStampedBlobIsNotReadAgain(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	s.store(data)
	for range 3 { // each link changes ctime
		s.served(ended(t), s.dir(), data)
	}
	other := openCache(t, s.Cache.path)
	if w, _, err := other.Obtain(ended(t), s.dir(), name, of(data), nil); w != nil || err != nil {
		t.Errorf("in another process: %v, %v", w, err)
	}
}

func TestADirectoryThatHasTheBlobsLinkIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	d := s.store(data)
	dir, blob := stampOf(stat(t, d.path)), stampOf(stat(t, s.blob(data)))
	s.served(ended(t), d, data)
	if dir != stampOf(stat(t, d.path)) || blob != stampOf(stat(t, s.blob(data))) {
		t.Error("something was linked")
	}
}

func TestAfterABootEverythingIsReadAgain(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("some bytes")
	s.store(data)
	entry, err := os.OpenFile(s.entry(data), os.O_RDWR, 0)
	must(t, err)
	defer entry.Close()
	r := readRecord(entry)
	r.stamp.boot[0]++
	_, err = entry.WriteAt(r.encode(), 0)
	must(t, err)
	if _, _, err := s.Obtain(ended(t), s.dir(), name, of(data), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("without reading it: %v", err)
	}
	s.hit(s.dir(), data)
	s.served(ended(t), s.dir(), data)
}

func TestARemovedDirectoryCostsNoReadingWhereFilesCanBeMarked(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	if !s.canMark() {
		t.Skip("files can't be marked here")
	}
	data := []byte("some bytes")
	s.store(data)
	for range 3 {
		nextTick(t, s.blob(data))
		must(t, os.RemoveAll(filepath.Join(s.path, "dir")))
		s.served(ended(t), s.dir(), data)
	}
}

func TestARemovedDirectoryCostsOneReadingWhereFilesCanNotBeMarked(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.canMark = func() bool { return false }
	data := []byte("some bytes")
	s.store(data)
	if f, err := os.Open(s.blob(data)); err != nil || marked(f) {
		t.Errorf("it is marked; %v", err)
	}
	nextTick(t, s.blob(data))
	must(t, os.RemoveAll(filepath.Join(s.path, "dir")))
	if _, _, err := s.Obtain(ended(t), s.dir(), name, of(data), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("without reading it: %v", err)
	}
	s.hit(s.dir(), data)
	s.served(ended(t), s.dir(), data)
}

func TestABlobThatWasGivenAwayIsStoredAnew(t *testing.T) {
	t.Parallel()
	rootOnly(t, "it gives a file away")
	for label, test := range map[string]struct {
		bytes string
		kept  bool
	}{"with its bytes": {"right", true}, "and changed": {"wrong", false}, "and made longer": {"right and more", false}} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			data := []byte("right")
			given := filepath.Join(s.store(data).path, name)
			must(t, os.WriteFile(given, []byte(test.bytes), 0), os.Chown(given, 65534, 65534))
			d := s.dir()
			if test.kept {
				s.hit(d, data)
			} else {
				must(t, fill(s.lead(d, of(data), 0), data))
			}
			holds(t, d, map[string]string{name: "right"})
			if os.SameFile(stat(t, given), stat(t, s.blob(data))) {
				t.Error("the cache shares a file that another user may write to")
			}
			must(t, os.WriteFile(given, []byte("later"), 0))
			s.served(ended(t), s.dir(), data)
			holds(t, d, map[string]string{name: "right"})
		})
	}
}

func TestTheReadingOfAGivenAwayBlobEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := []byte("right")
	must(t, os.Chmod(filepath.Join(s.store(data).path, name), 0o644))
	if _, _, err := s.Obtain(ended(t), s.dir(), name, of(data), nil); err != context.Canceled { //nolint:errorlint // it is not to be wrapped
		t.Errorf("got %v", err)
	}
}

func TestOpenCacheRefusesTheDirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	rootOnly(t, "it gives a directory away")
	path := t.TempDir()
	must(t, os.Chmod(path, 0o700), os.Chown(path, 65534, 65534))
	_, err := OpenCache(path)
	var local *LocalError
	want := `directory "` + path + `": a cache must belong to the user it works for (0), not to user 65534; name another directory`
	if !errors.As(err, &local) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestAFullDiskUnderTheCacheNamesTheCache(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	mount(t, path, 0, "size=128k,mode=0700")
	c := openCache(t, path)
	d := open(t, t.TempDir())
	large := make([]byte, 256<<10)
	w, _, err := c.Obtain(t.Context(), d, name, of(large), nil)
	must(t, err)
	_, err = w.WriteAt(large, 0)
	isLocal(t, "WriteAt", err, syscall.ENOSPC)
	if want := `directory "` + path + `": no space left on device`; err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	shut(t, w)
	holds(t, d, empty)
	if _, err := c.Prune(t.Context(), Limits{MaxSize: 1}); err != nil {
		t.Error(err)
	}
	small := make([]byte, 32<<10)
	w, _, err = c.Obtain(t.Context(), d, name, of(small), nil)
	must(t, err, fill(w, small))
}

func TestAFullDiskUnderTheDirectoryNamesTheDirectory(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	data := random(256 << 10)
	s.store(data)
	path := t.TempDir()
	mount(t, path, 0, "size=64k")
	d := open(t, path)
	_, _, err := s.Obtain(t.Context(), d, name, of(data), nil)
	isLocal(t, "Obtain", err, syscall.ENOSPC)
	if want := `directory "` + path + `": no space left on device`; err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	holds(t, d, empty)
	s.served(ended(t), s.dir(), data)
}

func TestAReadOnlyCacheIsALocalError(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	mount(t, path, syscall.MS_RDONLY, "mode=0700")
	_, err := OpenCache(filepath.Join(path, "cache"))
	isLocal(t, "OpenCache", err, syscall.EROFS)
}

// TestTheCacheLeavesNoFileDescriptor is not parallel, since the count is that of the process.
func TestTheCacheLeavesNoFileDescriptor(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes what others forget
	path := t.TempDir()
	before := descriptors(t)
	d, err := Open(filepath.Join(path, "dir"))
	must(t, err)
	c, err := OpenCache(filepath.Join(path, "cache"))
	must(t, err)
	data := []byte("data")
	blob := c.at("blobs", BlobName(of(data).Digest))
	obtain := func(ctx context.Context) (*Writer, error) {
		w, _, err := c.Obtain(ctx, d, name, of(data), nil)
		return w, err
	}
	next := func(fetched bool) {
		t.Helper()
		w, err := obtain(t.Context())
		if err != nil || (w != nil) != fetched || w != nil && fill(w, data) != nil {
			t.Errorf("got %v, %v", w, err)
		}
	}
	w, err := obtain(t.Context())
	must(t, err)
	write(t, w, data[:2])
	if _, err := obtain(shortly(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is fetched: %v", err)
	}
	shut(t, w)
	next(true)
	next(false)
	must(t, os.Chmod(blob, 0o600))
	next(false)
	must(t, tamper(blob))
	next(true)
	must(t, os.Remove(blob), mkfifo(blob))
	next(true)
	must(t, os.Chtimes(blob, time.Now(), time.Now()))
	if _, err := obtain(ended(t)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	must(t, os.Remove(filepath.Join(path, "dir", name)), os.Mkdir(filepath.Join(path, "dir", name), 0o700))
	if _, err := obtain(t.Context()); !errors.Is(err, syscall.EISDIR) {
		t.Error(err)
	}
	must(t, c.PutDocument(c.Owner(), digest.FromBytes(data), data))
	document(t, c, c.Owner(), data, true)
	_, err = c.Prune(t.Context(), Limits{MaxSize: 1})
	must(t, err, c.Close(), d.Close())
	if after := descriptors(t); after != before {
		t.Errorf("%d file descriptors are open, %d were before", after, before)
	}
}

// shortly is a context that ends soon.
func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// children starts n processes that run child in the directory dir. They have one
// stdin, which ends with the returned function; lines is what they say.
func children(t *testing.T, dir string, n int) (lines *bufio.Reader, cmds []*exec.Cmd, proceed func()) {
	t.Helper()
	stdin, proceeds, err := os.Pipe()
	must(t, err)
	says, stdout, err := os.Pipe()
	must(t, err)
	for range n {
		cmd := again(t, dir)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
		must(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	must(t, stdin.Close(), stdout.Close())
	t.Cleanup(func() {
		_ = proceeds.Close()
		_ = says.Close()
	})
	return bufio.NewReader(says), cmds, func() { _ = proceeds.Close() }
}

func TestTwentyProcessesFetchABlobOnce(t *testing.T) {
	data := random(1 << 20)
	if dir, ok := child(); ok {
		c := openCache(t, filepath.Join(dir, "cache"))
		d := open(t, filepath.Join(dir, "dirs", filepath.Base(t.TempDir())+digest.FromString(time.Now().String()).Encoded()))
		w, _, err := c.Obtain(t.Context(), d, name, of(data), nil)
		must(t, err)
		if w != nil {
			_, _ = os.Stdout.WriteString("fetches\n")
			_, _ = io.Copy(io.Discard, os.Stdin) // until it may
			must(t, fill(w, data))
		}
		if _, ok := d.Holds(t.Context(), name, of(data)); !ok {
			t.Error("the directory does not have it")
		}
		return
	}
	t.Parallel()
	path := t.TempDir()
	lines, cmds, proceed := children(t, path, 20)
	if line, err := lines.ReadString('\n'); line != "fetches\n" || err != nil {
		t.Errorf("a child says %q, %v", line, err)
	}
	proceed()
	rest, err := io.ReadAll(lines)
	must(t, err)
	for _, cmd := range cmds {
		must(t, cmd.Wait())
	}
	if n := strings.Count(string(rest), "fetches"); n != 0 {
		t.Errorf("%d more processes fetched it", n)
	}
	if dirs, err := os.ReadDir(filepath.Join(path, "dirs")); len(dirs) != 20 || err != nil {
		t.Errorf("%d directories, %v", len(dirs), err)
	}
}

func TestAKilledProcessIsFollowedByOneThatGoesOnFromTheRecordedByte(t *testing.T) {
	data := random(8 << 20)
	const written = 3<<20 + 7
	if dir, ok := child(); ok {
		c := openCache(t, filepath.Join(dir, "cache"))
		w, _, err := c.Obtain(t.Context(), open(t, filepath.Join(dir, "killed")), name, of(data), nil)
		must(t, err)
		writeAt(t, w, data[:written], 0)
		writeAt(t, w, data[5<<20:6<<20], 5<<20) // ahead of a gap
		_, _ = os.Stdout.WriteString("written\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
		return
	}
	t.Parallel()
	path := t.TempDir()
	lines, cmds, _ := children(t, path, 1)
	if line, err := lines.ReadString('\n'); line != "written\n" || err != nil {
		t.Errorf("the child says %q, %v", line, err)
	}
	c := openCache(t, filepath.Join(path, "cache"))
	d := open(t, filepath.Join(path, "dir"))
	w, _, err := c.Obtain(t.Context(), d, name, of(data), func(n int64) {
		if n != written {
			t.Errorf("it was told of %d bytes, want %d", n, written)
		}
		must(t, cmds[0].Process.Kill())
	})
	must(t, err)
	if err := cmds[0].Wait(); err == nil {
		t.Error("the child was not killed")
	}
	if w == nil || w.Contiguous() != written {
		t.Fatalf("got %v", w)
	}
	must(t, fill(w, data))
	if _, ok := d.Holds(t.Context(), name, of(data)); !ok {
		t.Error("the directory does not have it")
	}
	holds(t, &Dir{path: filepath.Join(path, "killed")}, empty)
}

func TestAUserThatMayNotMarkFilesHasACacheToo(t *testing.T) {
	data := []byte("some bytes")
	if dir, ok := child(); ok {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			t.Fatal(err)
		}
		c := openCache(t, filepath.Join(dir, "cache"))
		if c.canMark() {
			t.Error("files can be marked")
		}
		s := &shelf{Cache: c, t: t, path: dir}
		must(t, tamper(filepath.Join(s.store(data).path, name)))
		must(t, fill(s.lead(s.dir(), of(data), 0), data))
		d := s.dir()
		s.hit(d, data)
		if !os.SameFile(stat(t, s.blob(data)), stat(t, filepath.Join(d.path, name))) {
			t.Error("it was copied")
		}
		must(t, os.Chmod(s.blob(data), 0)) // not even we may read it
		must(t, fill(s.lead(s.dir(), of(data), 0), data))
		w := s.lead(s.dir(), of([]byte("another")), 0)
		write(t, w, []byte("ano"))
		shut(t, w)
		must(t, fill(s.lead(s.dir(), of([]byte("another")), 3), []byte("another")))
		return
	}
	t.Parallel()
	rootOnly(t, "it becomes another user")
	path := t.TempDir()
	must(t, os.Chmod(path, 0o777), os.Chmod(filepath.Dir(path), 0o755))
	run(t, again(t, path))
}
