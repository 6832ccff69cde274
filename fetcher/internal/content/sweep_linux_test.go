package content

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// moments are those at which a hidden name is there.
var moments = map[string]func(t *testing.T, d *Dir, data []byte){
	"before it is complete": func(t *testing.T, d *Dir, data []byte) {
		w := ways["with a hidden name"].must(t, d, of(data))
		write(t, w, data[:len(data)/2])
	},
	"between its link and its rename": func(t *testing.T, d *Dir, data []byte) {
		w := ways["as the platform does"].must(t, d, of(data))
		write(t, w, data)
		release, err := w.keeper.(*place).hide(w.file)
		must(t, err, w.file.Close())
		t.Cleanup(release)
	},
	"between its last byte and its rename": func(t *testing.T, d *Dir, data []byte) {
		w := ways["with a hidden name"].must(t, d, of(data))
		write(t, w, data)
		release, err := w.keeper.(*place).hide(w.file)
		must(t, err, w.file.Close())
		t.Cleanup(release)
	},
	"between the link of a stored blob and its rename": func(t *testing.T, d *Dir, data []byte) {
		must(t, os.WriteFile(d.path+".stored", data, 0o444))
		f, err := os.Open(d.path + ".stored")
		must(t, err)
		_, release, err := d.linkHidden(f)
		must(t, err, f.Close())
		t.Cleanup(release)
	},
}

func TestWhatAKilledProcessLeftIsSweptByTheNextOpenAndNotBefore(t *testing.T) {
	data := []byte("some bytes")
	if dir, ok := child(); ok {
		if user := filepath.Base(filepath.Dir(dir)); user != "0" {
			id, err := strconv.Atoi(user)
			must(t, err, syscall.Setgroups(nil), syscall.Setgid(id), syscall.Setuid(id))
		}
		if filepath.Base(dir) == "next" { // who comes later, as the same user
			open(t, filepath.Join(filepath.Dir(dir), "image"))
			return
		}
		moments[os.Getenv("CONTENT_TEST_MOMENT")](t, open(t, dir), data)
		_, _ = os.Stdout.WriteString("there\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
		return
	}
	t.Parallel()
	rootOnly(t, "it becomes another user too")
	for moment := range moments {
		for _, user := range []string{"0", "65534"} {
			t.Run(moment+", user "+user, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), user)
				id, err := strconv.Atoi(user)
				must(t, err, os.Mkdir(path, 0o700), os.Chown(path, id, id))
				for p := path; p != os.TempDir(); p = filepath.Dir(p) {
					if p != path {
						must(t, os.Chmod(p, 0o755))
					}
				}
				image := filepath.Join(path, "image")
				cmd := again(t, image)
				cmd.Env = append(cmd.Env, "CONTENT_TEST_MOMENT="+moment)
				stdin, err := cmd.StdinPipe()
				must(t, err)
				defer stdin.Close()
				stdout, err := cmd.StdoutPipe()
				must(t, err, cmd.Start())
				if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "there\n" {
					t.Errorf("the child says %q, %v", line, err)
				}
				run(t, again(t, filepath.Join(path, "next")))
				if left := list(t, image); len(left) != 1 || !isHidden(left[0]) {
					t.Errorf("while it lives: %v", left)
				}
				must(t, cmd.Process.Kill())
				_ = cmd.Wait()
				run(t, again(t, filepath.Join(path, "next")))
				if left := list(t, image); len(left) != 0 {
					t.Errorf("%v was left", left)
				}
			})
		}
	}
}

// list returns the names in a directory.
func list(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	must(t, err)
	return names
}

func TestOnlyOurOwnUnfinishedFilesAreSwept(t *testing.T) {
	t.Parallel()
	const ours = ".docker-fetcher-0123456789abcdef.partial"
	file := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	for label, test := range map[string]struct {
		name  string
		plant func(path string) error
		swept bool
	}{
		"our own":                        {ours, file, true},
		"one that nobody may read":       {ours, func(p string) error { return os.WriteFile(p, nil, 0) }, os.Getuid() == 0},
		"a directory":                    {ours, func(p string) error { return os.Mkdir(p, 0o700) }, false},
		"a FIFO":                         {ours, func(p string) error { return unix.Mkfifo(p, 0o600) }, false},
		"a symbolic link to nothing":     {ours, func(p string) error { return os.Symlink("nothing", p) }, false},
		"a symbolic link to our own":     {ours, func(p string) error { return os.Symlink("keep", p) }, false},
		"another user's":                 {ours, func(p string) error { return errors.Join(file(p), os.Chown(p, 65534, 65534)) }, false},
		"a name with another beginning":  {"x" + ours, file, false},
		"a name with another end":        {ours + "x", file, false},
		"a name that is too short":       {".docker-fetcher-0123456789abcde.partial", file, false},
		"a name in capitals":             {".docker-fetcher-0123456789ABCDEF.partial", file, false},
		"a name that is not a number":    {".docker-fetcher-0123456789abcdeg.partial", file, false},
		"a directory of another command": {".docker-fetcher-ABCDEFGHIJKLMNOPQRSTUVWXYZ.partial", func(p string) error { return os.Mkdir(p, 0o700) }, false},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			if label == "another user's" {
				rootOnly(t, "it gives a file away")
			}
			path := t.TempDir()
			must(t, file(filepath.Join(path, "keep")), test.plant(filepath.Join(path, test.name)))
			open(t, path)
			_, err := os.Lstat(filepath.Join(path, test.name))
			if swept := err != nil; swept != test.swept {
				t.Errorf("swept: %v", swept)
			}
			if _, err := os.Lstat(filepath.Join(path, "keep")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASweepTakesNothingFromThoseWhoReplaceAFile(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Dir, begin creator) {
		s := newShelf(t)
		stored := []byte("stored")
		s.store(stored)
		const rounds = 60
		var writers, sweepers sync.WaitGroup
		end := make(chan struct{})
		for range 2 {
			sweepers.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
						if again, err := Open(d.path); err != nil || again.Close() != nil { // it sweeps
							t.Error(err)
							return
						}
					}
				}
			})
		}
		for _, data := range [][]byte{[]byte("one"), []byte("other"), stored} {
			writers.Go(func() {
				for range rounds {
					var err error
					if string(data) == "stored" {
						_, _, err = s.Obtain(t.Context(), d, name, of(data), nil)
					} else {
						err = commitAll(d, begin, data)
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writers.Wait()
		close(end)
		sweepers.Wait()
		if left := list(t, d.path); len(left) != 1 || left[0] != name {
			t.Errorf("%v was left", left)
		}
	})
}

func TestASweepEndsAfterAsManyNamesAsItMayLookAt(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := open(t, path)
	for range 10 {
		must(t, os.WriteFile(filepath.Join(path, hiddenName()), nil, 0o600))
	}
	_, err := d.fd.Seek(0, io.SeekStart) // Open has read it to its end
	must(t, err)
	d.sweep(4)
	if left := list(t, path); len(left) != 6 {
		t.Errorf("%d files are left, want 6", len(left))
	}
}

func TestTwoWhoKeepTheNamesOfOneFileKeepThemBoth(t *testing.T) {
	t.Parallel()
	stored := filepath.Join(t.TempDir(), "stored")
	must(t, os.WriteFile(stored, nil, 0o444))
	paths := []string{filepath.Join(filepath.Dir(stored), "one"), filepath.Join(filepath.Dir(stored), "two")}
	var releases []func()
	for _, path := range paths {
		f, err := os.Open(stored)
		must(t, err)
		_, release, err := open(t, path).linkHidden(f)
		must(t, err, f.Close())
		releases = append(releases, release)
	}
	releases[0]()
	for _, path := range paths {
		open(t, path)
		if left := list(t, path); len(left) != 1 {
			t.Errorf("%s was swept while somebody kept the file", path)
		}
	}
	releases[1]()
	for _, path := range paths {
		open(t, path)
		if left := list(t, path); len(left) != 0 {
			t.Errorf("%v was left", left)
		}
	}
}

func TestAFileThatCannotBeKeptIsNotHidden(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	for way, begin := range ways {
		w := begin.must(t, d, of(nil))
		must(t, d.show(w.file), w.file.Close()) // no descriptor can be made of it, as without any left
		if release, err := keepShare(w.file); err == nil || release != nil {
			t.Errorf("%s: kept without a descriptor: %v", way, err)
		}
		if _, err := w.keeper.(*place).hide(w.file); err == nil {
			t.Errorf("%s: hidden without a lock", way)
		}
	}
}

func TestAnUnfinishedFileWithANameIsForItsUserAlone(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	data := []byte("data")
	w := ways["with a hidden name"].must(t, d, of(data))
	write(t, w, data)
	left := list(t, d.path)
	if len(left) != 1 || !isHidden(left[0]) {
		t.Fatalf("files %v, want a hidden one", left)
	}
	info, err := os.Lstat(filepath.Join(d.path, left[0]))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("unfinished, its mode is %v", info.Mode())
	}
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, fileMode)) // the umask has its say
	want, err := os.Lstat(plain)
	must(t, err)
	commit(t, w)
	info, err = os.Lstat(filepath.Join(d.path, name))
	must(t, err)
	if info.Mode() != want.Mode() {
		t.Errorf("finished, its mode is %v, want %v", info.Mode(), want.Mode())
	}
}

func BenchmarkOpenOfADirectoryWith1000Files(b *testing.B) {
	path := b.TempDir()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(path, "sha256:"+strconv.Itoa(i)), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		d, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		_ = d.Close()
	}
}
