package content

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// planted is what somebody else may have put under the final name. Each makes
// it at path; outside is a file with the right bytes that is not in the directory.
var planted = map[string]func(path, outside string) error{
	"a file with other bytes":              func(path, _ string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	"a file that nobody may read":          func(path, _ string) error { return os.WriteFile(path, []byte("x"), 0) },
	"a link to a file outside":             func(path, outside string) error { return os.Symlink(outside, path) },
	"a relative link to a file outside":    func(path, _ string) error { return os.Symlink("../outside", path) },
	"a link to a file outside that is not": func(path, outside string) error { return os.Symlink(outside+".not", path) },
	"a link to a file inside": func(path, _ string) error {
		return errors.Join(os.WriteFile(path+".inside", []byte("right"), 0o600), os.Symlink(name+".inside", path))
	},
	"a link to a file inside that is not": func(path, _ string) error { return os.Symlink(name+".not", path) },
	"a link to a directory":               func(path, _ string) error { return os.Symlink("..", path) },
	"a link to itself":                    func(path, _ string) error { return os.Symlink(name, path) },
	"a FIFO":                              func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
	"a socket":                            func(path, _ string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) },
}

func TestWhatIsPlantedUnderTheNameIsNeitherFollowedNorWaitedForAndReplaced(t *testing.T) {
	t.Parallel()
	right := []byte("right")
	for label, plant := range planted {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			for way, begin := range ways {
				t.Run(way, func(t *testing.T) {
					t.Parallel()
					parent := t.TempDir()
					outside := filepath.Join(parent, "outside")
					d := open(t, filepath.Join(parent, "dir"))
					path := filepath.Join(d.path, name)
					if err := errors.Join(os.WriteFile(outside, right, 0o600), plant(path, outside)); err != nil {
						t.Fatal(err)
					}
					before := snapshot(t, parent)

					for _, data := range []string{"right", ""} { // a FIFO without a writer reads as empty
						desc := of([]byte(data))
						desc.Size = -1
						if size, ok := d.Holds(t.Context(), name, desc); size != 0 || ok {
							t.Errorf("Holds %q: %d, %v", data, size, ok)
						}
					}
					w := begin.must(t, d, of([]byte("wrong")))
					write(t, w, right)
					if err := w.Commit(); !errors.Is(err, ErrDigest) {
						t.Errorf("Commit: %v", err)
					}
					shut(t, w)
					if after := snapshot(t, parent); !equal(before, after) {
						t.Errorf("it was changed:\n%v\n%v", before, after)
					}

					w = begin.must(t, d, of(right))
					write(t, w, right)
					commit(t, w)
					if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
						t.Errorf("it is still there: %v, %v", info, err)
					}
					if size, ok := d.Holds(t.Context(), name, of(right)); size != 5 || !ok {
						t.Errorf("Holds after Commit: %d, %v", size, ok)
					}
					delete(before, "dir/"+name)
					after := snapshot(t, parent)
					delete(after, "dir/"+name)
					if !equal(before, after) {
						t.Errorf("something else was changed:\n%v\n%v", before, after)
					}
				})
			}
		})
	}
}

// snapshot is all there is below path: modes, and contents of files and links.
func snapshot(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var data []byte
		switch info.Mode().Type() {
		case 0:
			data, err = os.ReadFile(p)
		case fs.ModeSymlink:
			var target string
			target, err = os.Readlink(p)
			data = []byte(target)
		}
		if errors.Is(err, fs.ErrPermission) {
			err = nil // the mode says it
		}
		relative, _ := filepath.Rel(path, p)
		all[relative] = info.Mode().String() + " " + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func equal(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

func TestADirectoryUnderTheNameIsNeverReplaced(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		path := filepath.Join(d.path, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		data := []byte("data")
		if _, ok := d.Holds(t.Context(), name, of(data)); ok {
			t.Error("Holds says yes")
		}
		w := begin.must(t, d, of(data))
		write(t, w, data)
		err := w.Commit()
		var local *LocalError
		if want := `directory "` + d.path + `": "blob" is in the way: is a directory; remove it`; !errors.As(err, &local) || !errors.Is(err, syscall.EISDIR) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		shut(t, w)
		if err := os.Remove(path); err != nil { // it is empty, so nothing was put into it
			t.Error(err)
		}
		holds(t, d, empty)
	})
}

// TestHoldsTakesNothingThatIsSwappedIn has the file change between the two
// looks that Holds takes at it: to a FIFO, which it must not wait for, and to a
// link to the right bytes, which it must not follow.
func TestHoldsTakesNothingThatIsSwappedIn(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	path := filepath.Join(d.path, name)
	if err := errors.Join(
		os.WriteFile(path, []byte("wrong"), 0o600),
		os.WriteFile(path+".file", []byte("wrong"), 0o600),
		os.WriteFile(path+".right", []byte("right"), 0o600),
		os.Symlink(name+".right", path+".link"),
		syscall.Mkfifo(path+".fifo", 0o600),
	); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			for _, kind := range []string{".fifo", ".file", ".link", ".file"} {
				select {
				case <-ended:
					return
				default:
				}
				next := path + ".next"
				if err := errors.Join(os.Link(path+kind, next), os.Rename(next, path)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer swapper.Wait()
	defer close(ended)
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); {
		if _, ok := d.Holds(t.Context(), name, of([]byte("right"))); ok {
			t.Fatal("a link was followed")
		}
	}
}
