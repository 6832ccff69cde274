package content

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

const childVariable = "CONTENT_TEST_CHILD" // the directory that a child works in

// again returns the running test as a command, to run in a process of its own
// with the directory dir, which child then returns.
func again(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	top, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+regexp.QuoteMeta(top)+"$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), childVariable+"="+dir, "GORACE=atexit_sleep_ms=0") // or each takes a second to end
	return cmd
}

// run runs a child that is to pass.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	}
}

// child returns the directory if this is a process that again made.
func child() (dir string, ok bool) { return os.LookupEnv(childVariable) }

func rootOnly(t *testing.T, why string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: ", why)
	}
}

func mount(t *testing.T, path string, flags uintptr, options string) {
	t.Helper()
	rootOnly(t, "it mounts a tmpfs")
	if err := unix.Mount("tmpfs", path, "tmpfs", flags, options); err != nil {
		t.Skip("can't mount a tmpfs here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func needsTmpfile(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Skip("the file system of ", path, " knows no file without a name: ", err)
	}
	_ = unix.Close(fd)
}

func TestAnUnfinishedFileHasNoNameAtAll(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	data := []byte("some bytes")
	needsTmpfile(t, d.path)
	w := ways["as the platform does"].must(t, d, of(data))
	holds(t, d, empty)
	write(t, w, data)
	holds(t, d, empty)
	commit(t, w)
	holds(t, d, map[string]string{name: "some bytes"})
}

func TestWithoutProcAnUnfinishedFileHasAHiddenName(t *testing.T) {
	if dir, ok := child(); ok {
		if err := unix.Mount("tmpfs", "/proc", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		d := open(t, dir)
		data := []byte("data")
		before := nextDescriptor(t)
		w := ways["as the platform does"].must(t, d, of(data))
		temp := w.keeper.(*place).temp
		if !strings.HasPrefix(temp, ".docker-fetcher-") {
			t.Errorf("the name is %q", temp)
		}
		holds(t, d, map[string]string{temp: ""})
		write(t, w, data)
		commit(t, w)
		holds(t, d, map[string]string{name: "data"})
		if after := nextDescriptor(t); after != before {
			t.Errorf("the next file descriptor is %d, it was %d", after, before)
		}
		return
	}
	t.Parallel()
	rootOnly(t, "it hides /proc")
	cmd := again(t, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	run(t, cmd)
}

// nextDescriptor is the number that the next file to be opened gets.
func nextDescriptor(t *testing.T) int {
	t.Helper()
	fd, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
	return fd
}

func TestKillNineInTheMiddleLeavesNothing(t *testing.T) {
	data := make([]byte, 1<<20)
	if dir, ok := child(); ok {
		w := ways["as the platform does"].must(t, open(t, dir), of(data))
		write(t, w, data[:len(data)/2])
		_, _ = os.Stdout.WriteString("half\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
		return
	}
	t.Parallel()
	d := open(t, t.TempDir())
	needsTmpfile(t, d.path)
	cmd := again(t, d.path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "half\n" {
		t.Errorf("the child says %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the child ended with %v", err)
	}
	holds(t, d, empty)
	if err := commitAll(d, ways["as the platform does"], data); err != nil {
		t.Error(err)
	}
}

func TestModesObeyTheUmask(t *testing.T) {
	if dir, ok := child(); ok {
		for umask, want := range map[int]struct{ dir, file os.FileMode }{0: {0o755, 0o644}, 0o027: {0o750, 0o640}} {
			syscall.Umask(umask)
			for way, begin := range ways {
				d := open(t, filepath.Join(dir, strconv.Itoa(umask), way))
				mode(t, d.path, want.dir)
				for range 2 { // new, then replaced
					if err := commitAll(d, begin, []byte("data")); err != nil {
						t.Fatal(err)
					}
					mode(t, filepath.Join(d.path, name), want.file)
				}
			}
		}
		return
	}
	t.Parallel()
	run(t, again(t, t.TempDir()))
}

func mode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != want {
		t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
	}
}

// isLocal fails the test unless err is a LocalError of that errno.
func isLocal(t *testing.T, what string, err error, errno syscall.Errno) {
	t.Helper()
	var local *LocalError
	if !errors.As(err, &local) || !errors.Is(err, errno) {
		t.Errorf("%s: got %v, want a LocalError with %q", what, err, errno)
	}
}

func TestAFullDiskIsALocalErrorAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for way, begin := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			mount(t, path, 0, "size=64k")
			d := open(t, path)
			small := []byte("small")
			if err := commitAll(d, begin, small); err != nil {
				t.Fatal(err)
			}
			large := make([]byte, 256<<10)
			w := begin.must(t, d, of(large))
			n, err := w.WriteAt(large, 0)
			isLocal(t, "Write", err, syscall.ENOSPC)
			if n >= len(large) || w.Size() != int64(n) {
				t.Errorf("%d bytes were written, Size is %d", n, w.Size())
			}
			shut(t, w)
			holds(t, d, map[string]string{name: "small"})
			if err := commitAll(d, begin, make([]byte, 32<<10)); err != nil {
				t.Errorf("the room was not given back: %v", err)
			}
		})
	}
}

func TestAReadOnlyFileSystemIsALocalError(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	mount(t, path, unix.MS_RDONLY, "")
	d := open(t, path)
	for way, begin := range ways {
		_, err := begin(d, of(nil))
		isLocal(t, way, err, syscall.EROFS)
	}
	isLocal(t, "WriteFile", d.WriteFile(name, nil, digest.FromString("")), syscall.EROFS)
	_, err := Open(filepath.Join(path, "below"))
	isLocal(t, "Open", err, syscall.EROFS)
}

func TestADirectoryWithoutPermissionIsALocalError(t *testing.T) {
	refused := func(dir string) {
		d := open(t, dir)
		if os.Getuid() == 0 { // as a daemon that opened it and then gave its rights up
			if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
				t.Fatal(err)
			}
		}
		for way, begin := range ways {
			_, err := begin(d, of(nil))
			isLocal(t, way, err, syscall.EACCES)
		}
		_, err := Open(filepath.Join(dir, "below"))
		isLocal(t, "Open", err, syscall.EACCES)
	}
	if dir, ok := child(); ok {
		refused(dir)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		run(t, again(t, dir))
	} else {
		refused(dir)
	}
	holds(t, &Dir{path: dir}, empty)
}

func TestTheLackOfFileDescriptorsIsALocalError(t *testing.T) {
	if dir, ok := child(); ok {
		d := open(t, dir)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
			t.Fatal(err)
		}
		last := -1
		for {
			fd, err := unix.Dup(0)
			if err != nil {
				break
			}
			last = fd
		}
		for way, begin := range ways {
			_, err := begin(d, of(nil))
			isLocal(t, way, err, syscall.EMFILE)
		}
		_, err := Open(dir)
		isLocal(t, "Open", err, syscall.EMFILE)
		if err := unix.Close(last); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir) // it needs two
		isLocal(t, "Open with one left", err, syscall.EMFILE)
		if got := nextDescriptor(t); got != last {
			t.Errorf("the next file descriptor is %d, it was %d", got, last)
		}
		return
	}
	t.Parallel()
	dir := t.TempDir()
	run(t, again(t, dir))
	holds(t, &Dir{path: dir}, empty)
}

func TestADirectoryThatIsRemovedInTheMiddleIsALocalError(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		data := []byte("data")
		w := begin.must(t, d, of(data))
		if err := os.RemoveAll(d.path); err != nil {
			t.Fatal(err)
		}
		write(t, w, data)
		isLocal(t, "Commit", w.Commit(), syscall.ENOENT)
		shut(t, w)
		w, err := begin(d, of(data))
		if err == nil { // tmpfs begins a file without a name even there
			write(t, w, data)
			err = w.Commit()
			shut(t, w)
		}
		isLocal(t, "another one", err, syscall.ENOENT)
		if _, ok := d.Holds(t.Context(), name, of(data)); ok {
			t.Error("a directory that is gone holds a file")
		}
		if err := os.MkdirAll(d.path, 0o700); err != nil { // another one
			t.Fatal(err)
		}
		holds(t, d, empty)
	})
}

// descriptors counts the open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("can't count file descriptors here: ", err)
	}
	return len(entries) - 1 // less the one that reads them
}

// TestNoFileDescriptorIsLeft is not parallel, since the count is that of the process.
func TestNoFileDescriptorIsLeft(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which closes what others forget
	path := t.TempDir()
	before := descriptors(t)
	once := func() {
		d, err := Open(filepath.Join(path, "dir"))
		if err != nil {
			t.Fatal(err)
		}
		for _, begin := range ways {
			_ = os.RemoveAll(filepath.Join(d.path, name))
			for label, data := range map[string]string{"committed": "data", "too long": "data!", "too short": "dat", "wrong": "daat"} {
				w, err := begin(d, of([]byte("data")))
				if err != nil {
					t.Fatal(err)
				}
				_, _ = w.WriteAt([]byte(data), 0)
				if err := w.Commit(); (err == nil) != (label == "committed") {
					t.Errorf("%s: %v", label, err)
				}
				shut(t, w)
			}
			if err := commitAll(d, begin, []byte("data")); err != nil { // and replaced
				t.Error(err)
			}
		}
		if _, err := Open(filepath.Join(d.path, name)); err == nil {
			t.Error("a file was opened as a directory")
		}
		d.Holds(t.Context(), name, of([]byte("data")))
		d.Holds(t.Context(), name, of([]byte("daat")))
		d.Holds(t.Context(), name, of([]byte("dat")))
		d.Holds(t.Context(), "absent", of(nil))
		if _, err := d.Create("..", of(nil)); err == nil {
			t.Error("the parent was created")
		}
		if err := d.WriteFile(name, nil, digest.FromString("x")); !errors.Is(err, ErrDigest) {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	once()
	if after := descriptors(t); after != before {
		t.Errorf("%d file descriptors are open, %d were before", after, before)
	}
}

// TestHoldsNeedsNoMemoryForASize is not parallel, since the count is that of the process.
func TestHoldsNeedsNoMemoryForASize(t *testing.T) {
	d := open(t, t.TempDir())
	data := make([]byte, 16<<20)
	plant(t, d, data)
	desc := of(data)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 10
	for range runs {
		if _, ok := d.Holds(t.Context(), name, desc); !ok {
			t.Error("the file is not held")
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > runs<<20 {
		t.Errorf("%d bytes allocated to read %d of them %d times", n, len(data), runs)
	}
}
