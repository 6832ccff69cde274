package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func dir(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func symlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

func hardlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}
}

// text is a file; its body is in the PAX record "test.body".
func text(name, body string) tar.Header {
	return tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)),
		Format: tar.FormatPAX, PAXRecords: map[string]string{"TEST.body": body},
	}
}

// archive returns the entries as a tar file.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, entry := range entries {
		if os.Geteuid() == 0 && entry.Typeflag != tar.TypeXGlobalHeader {
			entry.Uid, entry.Gid = 7, 8
		}
		if err := w.WriteHeader(&entry); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(entry.PAXRecords["TEST.body"])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

func compressed(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// describeTree lists a directory: "dir", "= content" or "-> target" by path.
func describeTree(t testing.TB, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			found[name] = "dir"
		case entry.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			found[name] = "-> " + target
			return err
		case entry.Type().IsRegular():
			content, err := os.ReadFile(path)
			found[name] = "= " + string(content)
			return err
		default:
			found[name] = entry.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// unpack unpacks an image of the layers below a new directory that also has
// the file "outside", and fails the test if that directory changes.
func unpack(t testing.TB, layers ...[]byte) (rootfs string, err error) {
	t.Helper()
	parent := t.TempDir()
	image := filepath.Join(parent, "image")
	s := store{}
	for _, layer := range layers {
		s.add(layer)
	}
	if err := os.Mkdir(image, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range s {
		if err := os.WriteFile(filepath.Join(image, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(parent, "outside"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	rootfs = filepath.Join(parent, "rootfs")
	before := describeTree(t, parent)
	err = unpackLayers(t, image, rootfs, layers)
	after := describeTree(t, parent)
	for name := range after {
		if name == "rootfs" || strings.HasPrefix(name, "rootfs/") {
			delete(after, name)
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("it reached outside of the tree: %s", diff)
	}
	return rootfs, err
}

// unpackLayers is Unpack of an image with these layers, with small bounds.
func unpackLayers(t testing.TB, image, rootfs string, layers [][]byte) error {
	t.Helper()
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	u := unpacker{tree: tree{root}, ctx: t.Context(), owner: os.Geteuid() == 0, bytes: 1000, entries: 20}
	for _, layer := range layers {
		if err := u.layer(filepath.Join(image, store{}.add(layer).Digest.String())); err != nil {
			return err
		}
	}
	return nil
}

func TestUnpackAppliesLayersInOrder(t *testing.T) {
	t.Parallel()
	type layer = []tar.Header
	for _, test := range []struct {
		name   string
		layers []layer
		want   map[string]string
	}{
		{"files, directories and links", []layer{{
			dir("bin/"), text("bin/a", "A"), hardlink("bin/b", "bin/a"), symlink("bin/c", "a"), symlink("sbin", "/bin"), text("empty", ""),
		}}, map[string]string{"bin": "dir", "bin/a": "= A", "bin/b": "= A", "bin/c": "-> a", "sbin": "-> /bin", "empty": "= "}},
		{"names with a leading slash or dot", []layer{{dir("./"), text("./a", "A"), text("/b", "B")}}, map[string]string{"a": "= A", "b": "= B"}},
		{"directories that are not in the layer", []layer{{text("a/b/c", "C")}}, map[string]string{"a": "dir", "a/b": "dir", "a/b/c": "= C"}},
		{"an upper file replaces a lower one", []layer{{text("a", "1")}, {text("a", "2")}}, map[string]string{"a": "= 2"}},
		{"a file twice in a layer: the last one stays", []layer{{text("a", "1"), text("a", "2")}}, map[string]string{"a": "= 2"}},
		{"a directory keeps what it has", []layer{{dir("a"), text("a/b", "B")}, {dir("a"), text("a/c", "C")}}, map[string]string{"a": "dir", "a/b": "= B", "a/c": "= C"}},
		{"a file replaces a directory", []layer{{text("a/b", "B")}, {text("a", "A")}}, map[string]string{"a": "= A"}},
		{"a directory replaces a file", []layer{{text("a", "A")}, {dir("a"), text("a/b", "B")}}, map[string]string{"a": "dir", "a/b": "= B"}},
		{"a directory replaces a link", []layer{{dir("b"), symlink("a", "b")}, {dir("a"), text("a/c", "C")}}, map[string]string{"b": "dir", "a": "dir", "a/c": "= C"}},
		{"a link replaces a directory", []layer{{text("a/b", "B")}, {symlink("a", "c")}}, map[string]string{"a": "-> c"}},
		{"a file replaces a link, not its target", []layer{{text("b", "B"), symlink("a", "b")}, {text("a", "A")}}, map[string]string{"b": "= B", "a": "= A"}},
		{"a file replaces one name of a hard link", []layer{{text("a", "1"), hardlink("b", "a")}, {text("a", "2")}}, map[string]string{"a": "= 2", "b": "= 1"}},
		{"a hard link to a lower layer", []layer{{text("a", "A")}, {hardlink("b", "/a")}}, map[string]string{"a": "= A", "b": "= A"}},
		{"a hard link to a link", []layer{{symlink("a", "/etc/passwd"), hardlink("b", "a")}}, map[string]string{"a": "-> /etc/passwd", "b": "-> /etc/passwd"}},
		{"a file below a link goes to its target", []layer{{dir("run"), dir("var"), symlink("var/run", "/run"), symlink("lib", "usr/lib")}, {text("var/run/a", "A"), text("lib/b", "B")}}, map[string]string{
			"run": "dir", "run/a": "= A", "var": "dir", "var/run": "-> /run", "lib": "-> usr/lib", "usr": "dir", "usr/lib": "dir", "usr/lib/b": "= B",
		}},

		{"a whiteout removes a file", []layer{{text("a", "A"), text("b", "B")}, {text(".wh.a", "")}}, map[string]string{"b": "= B"}},
		{"a whiteout removes a directory", []layer{{text("a/b/c", "C")}, {text("a/.wh.b", "")}}, map[string]string{"a": "dir"}},
		{"a whiteout removes a link, not its target", []layer{{text("b", "B"), symlink("a", "b")}, {text(".wh.a", "")}}, map[string]string{"b": "= B"}},
		{"a whiteout that is a directory", []layer{{text("a", "A"), text("b", "B")}, {dir(".wh.a")}}, map[string]string{"b": "= B"}},
		{"a whiteout of nothing there", []layer{{text("a", "A")}, {text("x/.wh.b", "")}}, map[string]string{"a": "= A"}},
		{"a whiteout hides lower layers only", []layer{{text("a/b", "1")}, {text("a/c", "2"), text(".wh.a", "")}}, map[string]string{"a": "dir", "a/c": "= 2"}},
		{"an opaque directory hides what is below", []layer{{text("a/b", "B"), text("a/c/d", "D"), text("e", "E")}, {dir("a"), text("a/.wh..wh..opq", ""), text("a/f", "F")}}, map[string]string{"a": "dir", "a/f": "= F", "e": "= E"}},
		{"an opaque marker after its files", []layer{{text("a/b", "1")}, {text("a/b", "2"), text("a/.wh..wh..opq", "")}}, map[string]string{"a": "dir", "a/b": "= 2"}},
		{"an opaque directory in place of a link to another", []layer{
			{text("bar/keep", "K"), symlink("foo", "bar")}, {dir("foo"), text("foo/.wh..wh..opq", ""), text("foo/x", "X")},
		}, map[string]string{"bar": "dir", "bar/keep": "= K", "foo": "dir", "foo/x": "= X"}},
		{"an opaque directory in place of a file", []layer{{text("foo", "F")}, {dir("foo"), text("foo/.wh..wh..opq", "")}}, map[string]string{"foo": "dir"}},
		{"a directory with a whiteout in place of a link to another", []layer{
			{text("bar/keep", "K"), symlink("foo", "bar")}, {dir("foo"), text("foo/.wh.keep", "")},
		}, map[string]string{"bar": "dir", "bar/keep": "= K", "foo": "dir"}},
		{"a directory with a whiteout in place of a file", []layer{{text("foo", "F")}, {dir("foo"), text("foo/.wh.bar", "")}}, map[string]string{"foo": "dir"}},
		{"a directory behind a link in place of a file", []layer{{text("a", "A")}, {symlink("a", "c"), dir("a/b")}}, map[string]string{"a": "-> c", "c": "dir", "c/b": "dir"}},
		{"an opaque root", []layer{{text("a/b", "B")}, {text(".wh..wh..opq", ""), text("c", "C")}}, map[string]string{"c": "= C"}},
		{"other marks of a storage driver", []layer{{text("a", "A"), text(".wh..wh.plnk", ""), text("b/.wh..wh.aufs", "")}}, map[string]string{"a": "= A"}},

		{"devices and pipes are left out", []layer{{
			{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3},
			{Typeflag: tar.TypeBlock, Name: "sda", Mode: 0o600, Devmajor: 8}, {Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, text("a", "A"),
		}}, map[string]string{"a": "= A"}},
		{"a global header is none of the files", []layer{{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, text("a", "A")}}, map[string]string{"a": "= A"}},
		{"nothing", []layer{{}}, map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, pack := range []func(testing.TB, []byte) []byte{compressed, zstandard, func(_ testing.TB, data []byte) []byte { return data }} {
				var layers [][]byte
				for _, entries := range test.layers {
					layers = append(layers, pack(t, archive(t, entries...)))
				}
				rootfs, err := unpack(t, layers...)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, describeTree(t, rootfs)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestUnpackRefusesAHostileLayer(t *testing.T) {
	t.Parallel()
	many := make([]tar.Header, 21)
	for i := range many {
		many[i] = text(fmt.Sprintf("file-%d", i), "")
	}
	long, wide := strings.Repeat("a/", 16000), strings.Repeat("a", 99)+"/"
	tooLong, tooDeep := " is longer than the 4096 bytes of a path", " is in more than 255 directories"
	for _, test := range []struct {
		name  string
		layer []byte
		want  string
	}{
		{"a name that leads out", archive(t, text("../outside", "x")), `entry "../outside": "../outside" leads out of the tree`},
		{"a name that leads out and back", archive(t, text("a/../b", "x")), `entry "a/../b": "a/../b" leads out of the tree`},
		{"a directory that leads out", archive(t, dir("../../x/")), `entry "../../x/": "../../x/" leads out of the tree`},
		{"a hard link that leads out", archive(t, hardlink("a", "../outside")), `entry "a": hard link: "../outside" leads out of the tree`},
		{"a hard link to what is missing", archive(t, hardlink("a", "outside")), `entry "a": linkat outside a: no such file or directory`},
		{"a whiteout that leads out", archive(t, text("../.wh.outside", "")), `entry "../.wh.outside": "../.wh.outside" leads out of the tree`},
		{"a whiteout of the directory above", archive(t, text(".wh...", "")), `entry ".wh...": a whiteout of nothing`},
		{"a whiteout of its own directory", archive(t, text("a/.wh..", "")), `entry "a/.wh..": a whiteout of nothing`},
		{"a whiteout without a name", archive(t, text(".wh.", "")), `entry ".wh.": a whiteout of nothing`},
		{"links in a circle", archive(t, symlink("a", "b"), symlink("b", "a"), text("a/c", "x")), `entry "a/c": "/a/": too many levels of symbolic links`},
		{"a file as a directory", archive(t, text("a", "x"), text("a/b", "x")), `entry "a/b": mkdirat a: file exists`},
		{"too many entries", archive(t, many...), `entry "file-20": the image is larger than 1048576 entries or 17179869184 bytes`},
		{"too many directories on the way", archive(t, text("1/2/3/4/5/6/7/8/9/a", ""), text("2/2/3/4/5/6/7/8/9/10/a", "")),
			`entry "2/2/3/4/5/6/7/8/9/10/a": the image is larger than 1048576 entries or 17179869184 bytes`},
		{"a name that is too long", archive(t, dir(long)), fmt.Sprintf("entry %q: %q", long[:4096], long[:4096]) + tooLong},
		{"a whiteout whose name is too long", archive(t, text(long+".wh.a", "")), fmt.Sprintf("entry %q: %q", long[:4096], long[:4096]) + tooLong},
		{"a hard link to a name that is too long", archive(t, hardlink("b", long)), fmt.Sprintf("entry \"b\": hard link: %q", long[:4096]) + tooLong},
		{"a link that leads to a name that is too long", archive(t, symlink("b", strings.Repeat(wide, 30)), text("b/"+strings.Repeat(wide, 15)+"c", "")),
			fmt.Sprintf("entry %q: %q", "b/"+strings.Repeat(wide, 15)+"c", strings.Repeat(wide, 41)[:4096]) + tooLong},
		{"a name that is too deep", archive(t, text(long[:512]+"b", "")), fmt.Sprintf("entry %q: %q", long[:512]+"b", long[:512]+"b") + tooDeep},
		{"a link to a name that is too deep on its way", archive(t, symlink("b", strings.Repeat("a/../", 200)), text("b/c", "")), fmt.Sprintf("entry \"b/c\": %q", strings.Repeat("a/../", 200)) + tooDeep},
		{"a link that leads too deep", archive(t, symlink("b", long[:400]), text("b/"+long[:200]+"c", "")), fmt.Sprintf("entry %q: %q", "b/"+long[:200]+"c", long[:513]) + tooDeep},
		{"too many bytes", archive(t, text("a", strings.Repeat("x", 1001))), `entry "a": the image is larger than 1048576 entries or 17179869184 bytes`},
		{"an unknown type", archive(t, tar.Header{Typeflag: 'Z', Name: "a"}), `entry "a": unknown type 'Z'`},
		{"no tar file", bytes.Repeat([]byte("x"), 1024), "archive/tar: invalid tar header"},
		{"a tar file cut short", archive(t, text("a", "x"))[:1536], "unexpected EOF"},
		{"a gzip file cut short", compressed(t, archive(t, text("a", "x")))[:40], "unexpected EOF"},
		{"a gzip header and no more", []byte{0x1f, 0x8b}, "unexpected EOF"},
		{"a zstd file cut short", zstandard(t, archive(t, text("a", "x")))[:20], "unexpected EOF"},
		{"a zstd file that asks for too much memory", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x98, 1, 0, 0}, "window size exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := unpack(t, test.layer); errorText(err) != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func TestUnpackKeepsLinksThatLeadOutInside(t *testing.T) {
	t.Parallel()
	rootfs, err := unpack(t,
		archive(t, symlink("up", "../../../.."), symlink("abs", "/"), symlink("out", "../outside"), symlink("chain", "up/abs")),
		archive(t, text("up/a", "A"), text("abs/b", "B"), text("out/c", "C"), text("chain/d", "D"), hardlink("e", "up/a"), text("up/.wh.abs", "")),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"up": "-> ../../../..", "out": "-> ../outside", "chain": "-> up/abs",
		"a": "= A", "abs": "dir", "abs/b": "= B", "abs/d": "= D", "outside": "dir", "outside/c": "= C", "e": "= A",
	}
	if diff := cmp.Diff(want, describeTree(t, rootfs)); diff != "" {
		t.Error(diff)
	}
}

func TestUnpackKeepsAttributes(t *testing.T) {
	t.Parallel()
	when := time.Unix(1_000_000_000, 0)
	rootfs, err := unpack(t, archive(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777},
		tar.Header{Typeflag: tar.TypeReg, Name: "su", Mode: 0o4755, ModTime: when},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "missing", Mode: 0o777},
		tar.Header{Typeflag: tar.TypeDir, Name: "closed", Mode: 0o555}, text("closed/a", "A"),
	))
	if err != nil {
		t.Fatal(err)
	}
	closed := fs.ModeDir | 0o555
	if os.Geteuid() != 0 {
		closed |= 0o700
	}
	for name, want := range map[string]fs.FileMode{
		"tmp": fs.ModeDir | fs.ModeSticky | 0o777, "su": fs.ModeSetuid | 0o755, "closed": closed, "closed/a": 0o644, "link": fs.ModeSymlink | 0o777,
	} {
		info, err := os.Lstat(filepath.Join(rootfs, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
		if name == "su" && !info.ModTime().Equal(when) {
			t.Errorf("%s is of %v, want %v", name, info.ModTime(), when)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if ok && os.Geteuid() == 0 && (owner.Uid != 7 || owner.Gid != 8) {
			t.Errorf("%s is of %d:%d, want 7:8", name, owner.Uid, owner.Gid)
		}
	}
}

func TestUnpackNeedsAWholeImage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, missing, want string }{
		{"no manifest", "manifest", "manifest: no such file or directory"},
		{"no config", "config", ": no such file or directory"},
		{"no layer", "layer", ": no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := store{}
			layer := archive(t, text("a", "A"))
			s.image(t, ocispec.ImageConfig{}, layer)
			layerName := store{}.add(layer).Digest.String()
			for name := range s {
				if name == test.missing || test.missing == "layer" && name == layerName ||
					test.missing == "config" && name != layerName && name != "manifest" {
					delete(s, name)
				}
			}
			if _, err := Unpack(s.write(t), filepath.Join(t.TempDir(), "rootfs")); err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func TestUnpackEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, pack := range []func(testing.TB, []byte) []byte{compressed, zstandard, func(_ testing.TB, data []byte) []byte { return data }} {
		s := store{}
		s.image(t, ocispec.ImageConfig{}, pack(t, archive(t, text("a", "A"))))
		dir := s.write(t)
		manifest, err := readManifest(filepath.Join(dir, "manifest"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		if _, err := (Image{manifest, dir}).Unpack(ctx, rootfs); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context canceled", err)
		}
		if got := describeTree(t, rootfs); len(got) != 0 {
			t.Errorf("it unpacked %v", got)
		}
	}
}

func TestUnpackTakesTheDeepestAndTheLongestName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("a/", maxDepth) + "b", strings.Repeat(strings.Repeat("a", 63)+"/", 64)} {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		u := unpacker{tree: tree{root}, ctx: t.Context(), bytes: 1000, entries: 1000}
		header := dir(name)
		if err := errors.Join(u.hide(&header, nil), u.entry(&header, nil)); err != nil {
			t.Error(err)
		}
		if info, err := root.Stat(path.Clean(name)); err != nil || !info.IsDir() {
			t.Errorf("no directory: %v", err)
		}
	}
}

func TestUnpackLooksAtItsContextForEachEntry(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u := unpacker{tree: tree{root}, ctx: ctx, bytes: 1000, entries: 20}
	header := dir("a/b")
	for name, apply := range map[string]func(*tar.Header, io.Reader) error{"hide": u.hide, "entry": u.entry} {
		if err := apply(&header, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want context canceled", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(zstandard(f, archive(f, text("a/b", "x"))))
	f.Add(archive(f, symlink("a", "/"), text("a/b", "x"), hardlink("c", "a/b"), text("a/.wh.b", "")))
	f.Add(archive(f, dir("a"), text("a/.wh..wh..opq", ""), symlink("up", "../../.."), text("up/outside", "x")))
	f.Fuzz(func(t *testing.T, layer []byte) {
		_, _ = unpack(t, layer) // which checks that nothing outside changes
	})
}
