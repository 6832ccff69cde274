package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestOpenMakesTheDirectoryAndItsParents(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b", "c")
	open(t, path)
	open(t, path) // it is there now
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestOpenTakesRelativePathsFromTheWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	d := open(t, "a/b")
	if err := d.WriteFile(name, nil, digest.FromString("")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join("a", "b", name)); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhichPartOfThePathIsAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		_, err := Open(path)
		var local *LocalError
		if !errors.As(err, &local) || !errors.Is(err, syscall.ENOTDIR) {
			t.Fatalf("got %v, want a LocalError of ENOTDIR", err)
		}
		if want := `directory "` + path + `": mkdir ` + file + `: not a directory`; err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	}
}

func TestAMovedDirectoryIsStillTheOneThatWasOpened(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	before, after := filepath.Join(parent, "before"), filepath.Join(parent, "after")
	d := open(t, before)
	if err := os.Rename(before, after); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(before, 0o700); err != nil {
		t.Fatal(err)
	}
	data := []byte("data")
	if err := d.WriteFile(name, data, digest.FromBytes(data)); err != nil {
		t.Fatal(err)
	}
	holds(t, &Dir{path: before}, empty)
	holds(t, &Dir{path: after}, map[string]string{name: "data"})
	if size, ok := d.Holds(t.Context(), name, of(data)); size != 4 || !ok {
		t.Errorf("Holds: %d, %v", size, ok)
	}
}

func TestAClosedDirectoryTakesNothing(t *testing.T) {
	t.Parallel()
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile(name, nil, digest.FromString("")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var local *LocalError
	if _, err := d.Create(name, of(nil)); !errors.As(err, &local) || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Create: %v", err)
	}
	if _, ok := d.Holds(t.Context(), name, of(nil)); ok {
		t.Error("a closed directory holds a file")
	}
}

func TestCheckNameTakesOnlySingleComponents(t *testing.T) {
	t.Parallel()
	const plain = " is not a plain file name"
	for label, test := range map[string]struct{ name, err string }{
		"a digest":                    {"sha256:e3b0c442", ""},
		"a word":                      {"manifest", ""},
		"a hidden name":               {".manifest", ""},
		"three dots":                  {"...", ""},
		"spaces":                      {" a b ", ""},
		"letters of other scripts":    {"Größe 大小", ""},
		"the longest name":            {strings.Repeat("x", 255), ""},
		"nothing":                     {"", `""` + plain},
		"the directory itself":        {".", `"."` + plain},
		"its parent":                  {"..", `".."` + plain},
		"a path":                      {"a/b", `"a/b"` + plain},
		"a path to the parent":        {"../a", `"../a"` + plain},
		"an absolute path":            {"/a", `"/a"` + plain},
		"a slash at the end":          {"a/", `"a/"` + plain},
		"a backslash":                 {`a\b`, `"a\\b"` + plain},
		"a NUL":                       {"a\x00b", `"a\x00b"` + plain},
		"a line feed":                 {"a\nb", `"a\nb"` + plain},
		"an escape":                   {"a\x1b[2J", `"a\x1b[2J"` + plain},
		"a DEL":                       {"a\x7f", `"a\x7f"` + plain},
		"a control character of C1":   {"a\u009b", `"a\u009b"` + plain},
		"one byte too many":           {strings.Repeat("x", 256), "the name is longer than 255 bytes"},
		"too many bytes in few runes": {strings.Repeat("大", 86), "the name is longer than 255 bytes"},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := CheckName(test.name); err != nil {
				got = err.Error()
			}
			if got != test.err {
				t.Errorf("got %q, want %q", got, test.err)
			}
		})
	}
}

func TestNoNameLeavesTheDirectoryAndNoUnknownDigestPasses(t *testing.T) {
	t.Parallel()
	right := digest.FromString("")
	for label, test := range map[string]struct {
		name   string
		digest digest.Digest
		err    string
	}{
		"a path to the parent":     {"../" + name, right, `"../blob" is not a plain file name`},
		"no digest":                {name, "", `"": invalid checksum digest format`},
		"a digest that is none":    {name, "sha256", `"sha256": invalid checksum digest format`},
		"a digest that is short":   {name, "sha256:e3", `"sha256:e3": invalid checksum digest length`},
		"an unknown algorithm":     {name, "md5:d41d8cd98f00b204e9800998ecf8427e", `"md5:d41d8cd98f00b204e9800998ecf8427e": unsupported digest algorithm`},
		"an algorithm of no image": {name, digest.SHA384.FromString(""), `"` + digest.SHA384.FromString("").String() + `": unsupported digest algorithm`},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			d := open(t, filepath.Join(parent, "dir"))
			plant(t, d, nil)
			plant(t, &Dir{path: parent}, nil)
			if _, ok := d.Holds(t.Context(), test.name, ocispec.Descriptor{Digest: test.digest}); ok {
				t.Error("Holds says yes")
			}
			w, err := d.Create(test.name, ocispec.Descriptor{Digest: test.digest})
			if err == nil {
				_ = w.Close()
				t.Fatal("Create takes it")
			}
			if err.Error() != test.err {
				t.Errorf("got %q, want %q", err, test.err)
			}
		})
	}
}

func TestBlobNameIsTheDigest(t *testing.T) {
	t.Parallel()
	d := digest.FromString("")
	want := d.String()
	if os.PathSeparator == '\\' {
		want = strings.Replace(want, ":", "_", 1)
	}
	if got := BlobName(d); got != want || CheckName(got) != nil {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHoldsOnlyTheBytesOfTheDescriptor(t *testing.T) {
	t.Parallel()
	right := []byte("the right bytes")
	sha512 := ocispec.Descriptor{Digest: digest.SHA512.FromBytes(right), Size: 15}
	unknown := ocispec.Descriptor{Digest: digest.FromBytes(right), Size: -1}
	wrong := ocispec.Descriptor{Digest: digest.FromBytes(right), Size: 14}
	for label, test := range map[string]struct {
		file string
		desc ocispec.Descriptor
		size int64
		ok   bool
	}{
		"the right file":                           {"the right bytes", of(right), 15, true},
		"the right file, by sha512":                {"the right bytes", sha512, 15, true},
		"the right file, of unknown size":          {"the right bytes", unknown, 15, true},
		"the right file, of another size":          {"the right bytes", wrong, 0, false},
		"other bytes of the right size":            {"the wrong bytes", of(right), 0, false},
		"other bytes, by sha512":                   {"the wrong bytes", sha512, 0, false},
		"other bytes, the size unknown":            {"the wrong bytes", unknown, 0, false},
		"a truncated file":                         {"the right byte", of(right), 0, false},
		"a truncated file, the size unknown":       {"the right byte", unknown, 0, false},
		"a longer file":                            {"the right bytes!", of(right), 0, false},
		"a longer file, the size unknown":          {"the right bytes!", unknown, 0, false},
		"an empty file instead of another":         {"", of(right), 0, false},
		"an empty file that is to be empty":        {"", of(nil), 0, true},
		"an empty file, the size unknown":          {"", ocispec.Descriptor{Digest: digest.FromString(""), Size: -1}, 0, true},
		"a file that is to be empty but is not so": {"x", of(nil), 0, false},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			d := open(t, t.TempDir())
			plant(t, d, []byte(test.file))
			if size, ok := d.Holds(t.Context(), name, test.desc); size != test.size || ok != test.ok {
				t.Errorf("got %d, %v, want %d, %v", size, ok, test.size, test.ok)
			}
			holds(t, d, map[string]string{name: test.file})
		})
	}
}

func TestHoldsNothingThatIsNotThere(t *testing.T) {
	t.Parallel()
	if _, ok := open(t, t.TempDir()).Holds(t.Context(), name, of(nil)); ok {
		t.Error("an empty directory holds a file")
	}
}

func TestWriteFileVerifies(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	if err := d.WriteFile(name, []byte("old"), digest.FromString("old")); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile(name, []byte("bad"), digest.FromString("new")); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v, want ErrDigest", err)
	}
	holds(t, d, map[string]string{name: "old"})
	if err := d.WriteFile(name, []byte("new"), digest.SHA512.FromString("new")); err != nil {
		t.Fatal(err)
	}
	holds(t, d, map[string]string{name: "new"})
}

func TestWriteFileKeepsAFileThatHoldsTheDataAlready(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	path := filepath.Join(d.path, name)
	var seen []os.FileInfo
	for range 2 {
		if err := d.WriteFile(name, []byte("data"), digest.FromString("data")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, info)
	}
	if !os.SameFile(seen[0], seen[1]) {
		t.Error("it was replaced")
	}
}

func TestALocalErrorNamesTheDirectoryAndKeepsTheCause(t *testing.T) {
	t.Parallel()
	d := &Dir{path: "/a\nb"}
	for label, err := range map[string]error{
		"of a path": &fs.PathError{Op: "write", Path: ".hidden", Err: syscall.ENOSPC},
		"of a link": &os.LinkError{Op: "renameat", Old: ".hidden", New: name, Err: syscall.ENOSPC},
		"bare":      syscall.ENOSPC,
	} {
		got := d.local(err)
		if want := `directory "/a\nb": ` + syscall.ENOSPC.Error(); got.Error() != want || !errors.Is(got, syscall.ENOSPC) {
			t.Errorf("%s: got %q, want %q", label, got, want)
		}
	}
}

func TestHoldsSaysNoOnceItsContextEnded(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	if err := d.WriteFile(name, []byte("data"), of([]byte("data")).Digest); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := d.Holds(ctx, name, of([]byte("data"))); ok {
		t.Error("a file was hashed to its end")
	}
}
