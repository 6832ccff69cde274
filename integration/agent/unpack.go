package agent

import (
	"archive/tar"
	"bufio"
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

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What one image may unpack to.
const (
	maxBytes   = 16 << 30
	maxEntries = 1 << 20
	maxWindow  = 128 << 20 // of zstd; what its own tool takes
	maxPath    = 4096      // bytes of a name, and of where it leads; PATH_MAX of Linux
	maxDepth   = 255       // directories that one is in; following takes its square
)

// Unpack is Image.Unpack of the image that a fetch left in dir, Mesos layout.
func Unpack(dir, rootfs string) (Container, error) {
	manifest, err := readManifest(filepath.Join(dir, "manifest"))
	if err != nil {
		return Container{}, err
	}
	return Image{Manifest: manifest, Blobs: dir}.Unpack(context.Background(), rootfs)
}

// Unpack unpacks the image into rootfs, which is made if missing. Layers are
// applied in order by the image-spec's rules ("Applying Changesets"). Symbolic
// links lead where they lead in a chroot, so nothing outside of rootfs is
// reached; a name with a ".." component is an error. Ownership is kept where
// this process is root. Device files and FIFOs are left out, as a container gets
// its own /dev; so are extended attributes.
func (i Image) Unpack(ctx context.Context, rootfs string) (Container, error) {
	var image ocispec.Image
	if err := readJSON(i.blob(i.Manifest.Config), &image); err != nil {
		return Container{}, err
	}
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return Container{}, err
	}
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return Container{}, err
	}
	defer func() { _ = root.Close() }()
	u := unpacker{tree: tree{root}, ctx: ctx, owner: os.Geteuid() == 0, bytes: maxBytes, entries: maxEntries}
	for _, layer := range i.Manifest.Layers {
		if err := u.layer(i.blob(layer)); err != nil {
			return Container{}, fmt.Errorf("unpack layer %s: %w", layer.Digest, err)
		}
	}
	return Container{Rootfs: rootfs, Config: image.Config, dir: rootfs}, nil
}

// unpacker applies layers to a tree.
type unpacker struct {
	tree
	ctx     context.Context
	owner   bool  // set ownership
	bytes   int64 // that may still come
	entries int64 // that may still come
}

// layer applies one layer, a tar file, plain or compressed. Whiteouts go first,
// so that they hide what is below the layer and never what is in it, be they
// before it or after. A directory must come before the whiteouts in it.
func (u *unpacker) layer(path string) error {
	if err := u.eachEntry(path, u.hide); err != nil {
		return err
	}
	return u.eachEntry(path, u.entry)
}

// eachEntry calls apply for each entry of a tar file, until the context ends.
func (u *unpacker) eachEntry(path string, apply func(*tar.Header, io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	plain, err := decompress(cancelable{u.ctx, file})
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }()
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := apply(header, archive); err != nil {
			return fmt.Errorf("entry %.*q: %w", maxPath, header.Name, err)
		}
	}
}

// cancelable reads until its context ends.
type cancelable struct {
	ctx context.Context
	io.Reader
}

func (c cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// decompress tells by the first bytes, as the media types in use do not.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReader(r)
	magic, err := buffered.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// hide removes what a whiteout hides, and the file or link that a directory
// replaces: whiteouts in it are not for what that leads to. Being the first look
// at an entry, it also holds it to the bounds, before its body is read.
func (u *unpacker) hide(header *tar.Header, _ io.Reader) error {
	if err := u.take(1, header.Size); err != nil {
		return err
	}
	name, err := u.locate(u.ctx, header.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	hidden, found := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !found && header.Typeflag == tar.TypeDir:
		return u.removeAt(name, true)
	case !found:
		return nil
	case base == whiteoutOpaque:
		return u.empty(path.Clean(dir))
	case hidden == "" || hidden == "." || hidden == "..":
		return errors.New("a whiteout of nothing")
	}
	return u.root.RemoveAll(path.Join(dir, hidden))
}

// take takes entries and bytes from what may still come.
func (u *unpacker) take(entries, bytes int64) error {
	u.entries -= entries
	u.bytes -= bytes
	if u.entries < 0 || u.bytes < 0 {
		return fmt.Errorf("the image is larger than %d entries or %d bytes", maxEntries, int64(maxBytes))
	}
	return nil
}

// entry writes one entry, replacing what is there.
func (u *unpacker) entry(header *tar.Header, body io.Reader) error {
	name, err := u.locate(u.ctx, header.Name)
	if err != nil || name == "." || strings.HasPrefix(path.Base(name), whiteoutPrefix) {
		return err
	}
	switch header.Typeflag {
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeXGlobalHeader:
		return nil
	}
	if err := u.makeParents(path.Dir(name)); err != nil {
		return err
	}
	if err := u.removeAt(name, header.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		err = u.root.MkdirAll(name, 0o700)
	case tar.TypeReg, tar.TypeGNUSparse:
		err = u.write(name, body)
	case tar.TypeSymlink:
		err = u.root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return u.link(header.Linkname, name) // its attributes are the target's
	default:
		err = fmt.Errorf("unknown type %q", header.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.setAttributes(name, header)
}

// makeParents makes a directory that the layer may not have. If it is missing,
// all of the directories in its path count as entries.
func (u *unpacker) makeParents(dir string) error {
	if info, err := u.root.Lstat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := u.take(1+int64(strings.Count(dir, "/")), 0); err != nil {
		return err
	}
	return u.root.MkdirAll(dir, 0o755)
}

// removeAt removes what is at name, but for a directory that stays one.
func (u *unpacker) removeAt(name string, dir bool) error {
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR): // its directory is to come
		return nil
	case err != nil:
		return err
	case dir && info.IsDir():
		return nil
	}
	return u.root.RemoveAll(name)
}

func (u *unpacker) write(name string, body io.Reader) error {
	file, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, body)
	return errors.Join(err, file.Close())
}

func (u *unpacker) link(target, name string) error {
	existing, err := u.locate(u.ctx, target)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	return u.root.Link(existing, name)
}

func (u *unpacker) setAttributes(name string, header *tar.Header) error {
	if u.owner {
		if err := u.root.Lchown(name, header.Uid, header.Gid); err != nil {
			return err
		}
	}
	if header.Typeflag == tar.TypeSymlink {
		return nil
	}
	mode := header.FileInfo().Mode()
	if mode.IsDir() && !u.owner {
		mode |= 0o700 // or its files could not be written
	}
	if err := u.root.Chmod(name, mode); err != nil || mode.IsDir() {
		return err
	}
	return u.root.Chtimes(name, header.ModTime, header.ModTime)
}

// tree is a root file system.
type tree struct{ root *os.Root }

// empty removes what is in dir.
func (t tree) empty(dir string) error {
	entries, err := fs.ReadDir(t.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := t.root.RemoveAll(path.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// locate returns where in the tree an entry of that name goes: relative to the
// root, with the links in its directory resolved, itself not.
func (t tree) locate(ctx context.Context, name string) (string, error) {
	if err := checkPath(name); err != nil {
		return "", err
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%q leads out of the tree", name)
		}
	}
	dir, base := path.Split(path.Clean("/" + name))
	dir, err := t.resolve(ctx, dir)
	if err != nil {
		return "", err
	}
	return path.Join(dir, base), nil
}

// checkPath refuses a path that costs much to follow.
func checkPath(name string) error {
	if len(name) > maxPath {
		return fmt.Errorf("%.*q is longer than the %d bytes of a path", maxPath, name, maxPath)
	}
	if strings.Count(strings.Trim(name, "/"), "/") > maxDepth {
		return fmt.Errorf("%q is in more than %d directories", name, maxDepth)
	}
	return nil
}

// maxLinks is how many links one path may follow; that of Linux.
const maxLinks = 40

// resolve returns the path of name relative to the root, with all links
// followed as for a process whose root this is: an absolute target starts there
// and ".." ends there. What is missing is taken for a directory to come.
func (t tree) resolve(ctx context.Context, name string) (string, error) {
	if err := checkPath(name); err != nil {
		return "", err
	}
	resolved := "."
	for rest, links := strings.Split(name, "/"), 0; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			resolved = path.Dir(resolved)
			continue
		}
		next := path.Join(resolved, part)
		if err := checkPath(next); err != nil {
			return "", err
		}
		target, err := t.root.Readlink(next)
		if err != nil { // it is no link
			resolved = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%q: too many levels of symbolic links", name)
		}
		if err := checkPath(target); err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			resolved = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return resolved, nil
}
