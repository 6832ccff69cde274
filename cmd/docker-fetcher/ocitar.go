package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// mediaTypeDockerManifest is schema 2, the docker media type that an OCI image
// layout can hold.
const mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// containerdName is the annotation that containerd, docker and podman take an
// image's whole name from; ocispec.AnnotationRefName is then its tag.
const containerdName = "io.containerd.image.name"

// entry is one file of a layout's tar: a text, or a blob.
type entry struct {
	name string
	text []byte
	blob fetcher.Descriptor // where there is no text
}

// layout lists the files of an image as an OCI image layout (image-spec,
// image-layout.md), in the order of its tar. The same image and name give the
// same bytes. index.json names the one manifest that was fetched; the index
// that it was chosen from is a blob beside it. manifest.json is for docker's
// older image store, which reads no index.json.
//
// The error says that a manifest has no place in a layout.
func layout(ref scheme.Reference, image fetcher.Resolution) ([]entry, error) {
	if err := checkLayout(image.Manifest); err != nil {
		return nil, err
	}
	entries := []entry{
		{name: ocispec.ImageLayoutFile, text: document(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})},
		{name: ocispec.ImageIndexFile, text: document(indexJSON(ref, image.Manifest))},
		{name: "manifest.json", text: document(manifestJSON(ref, image))},
	}
	blobs := []fetcher.Descriptor{image.Manifest}
	if image.Index != nil {
		blobs = append(blobs, *image.Index)
	}
	blobs = append(append(blobs, *image.Config), image.Layers...)
	seen := map[digest.Digest]bool{}
	for _, b := range blobs {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			entries = append(entries, entry{name: blobPath(b.Digest), blob: b})
		}
	}
	return entries, nil
}

// checkLayout refuses docker schema 1: it has neither a config nor sizes.
func checkLayout(manifest fetcher.Descriptor) error {
	switch manifest.MediaType {
	case ocispec.MediaTypeImageManifest, mediaTypeDockerManifest:
		return nil
	}
	return fmt.Errorf("the manifest is of type %s, which has no place in an OCI image layout; "+
		"push the image anew, or fetch its docker-manifest and docker-blob URIs", manifest.MediaType)
}

func indexJSON(ref scheme.Reference, manifest fetcher.Descriptor) ocispec.Index {
	named := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: manifest.Digest, Size: manifest.Size}
	if ref.Digest == "" {
		named.Annotations = map[string]string{ocispec.AnnotationRefName: ref.Tag, containerdName: ref.Name() + ":" + ref.Tag}
	}
	return ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{named},
	}
}

// archived is an image in manifest.json, as `docker save` writes it.
type archived struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func manifestJSON(ref scheme.Reference, image fetcher.Resolution) []archived {
	a := archived{Config: blobPath(image.Config.Digest), Layers: []string{}}
	if ref.Digest == "" {
		a.RepoTags = []string{ref.Name() + ":" + ref.Tag}
	}
	for _, l := range image.Layers {
		a.Layers = append(a.Layers, blobPath(l.Digest))
	}
	return []archived{a}
}

func blobPath(d digest.Digest) string {
	return ocispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

func document(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("encode a file of a layout: %v", err)) // strings and numbers only
	}
	return text
}

// header is that of a plain file of root's, of 1970.
func (e entry) header() *tar.Header {
	size := e.blob.Size
	if e.text != nil {
		size = int64(len(e.text))
	}
	return &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: size}
}

const (
	tarBlock   = 512
	tarTrailer = 2 * tarBlock
)

// tarSize returns how many bytes writeTar writes. A header has one block or, for
// a name or a size that is too long for that, several. The error is that of a
// manifest with sizes that no file can have.
func tarSize(entries []entry) (int64, error) {
	size := int64(tarTrailer)
	for _, e := range entries {
		header := e.header()
		var written bytes.Buffer
		if err := tar.NewWriter(&written).WriteHeader(header); err != nil {
			return 0, err
		}
		room := int64(math.MaxInt64) - size - int64(written.Len()) - tarBlock
		if header.Size > room {
			return 0, fmt.Errorf("%s makes the tar larger than any file", e.name)
		}
		size += int64(written.Len()) + (header.Size+tarBlock-1)/tarBlock*tarBlock
	}
	return size, nil
}

// writeTar writes entries, the blobs from what a fetch left in dir. A file is
// removed once it is written, so that there is room for the next.
func writeTar(ctx context.Context, w io.Writer, entries []entry, dir *os.Root, files []fetcher.File) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		if err := tw.WriteHeader(e.header()); err != nil {
			return err
		}
		if err := e.write(ctx, tw, dir, files); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (e entry) write(ctx context.Context, w io.Writer, dir *os.Root, files []fetcher.File) error {
	if e.text != nil {
		_, err := w.Write(e.text)
		return err
	}
	i := slices.IndexFunc(files, func(f fetcher.File) bool { return f.Descriptor.Digest == e.blob.Digest })
	if i < 0 {
		return fmt.Errorf("blob %s was not fetched", e.blob.Digest)
	}
	f, err := dir.Open(files[i].Path)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, obedient{ctx, f}, make([]byte, 1<<20))
	_ = f.Close() // ahead of Remove, as Windows wants it
	if err != nil {
		return err
	}
	return dir.Remove(files[i].Path)
}

// obedient is a reader that ends with a context.
type obedient struct {
	ctx context.Context
	io.Reader
}

func (r obedient) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// fetched is what a fetch of an image left in dir, read back from its manifest.
func fetched(dir *os.Root, result fetcher.Result) (fetcher.Resolution, error) {
	image := fetcher.Resolution{Manifest: result.Manifest}
	if i := slices.IndexFunc(result.Files, func(f fetcher.File) bool { return f.Path == "index" }); i >= 0 {
		image.Index = &result.Files[i].Descriptor
	}
	text, err := dir.ReadFile("manifest")
	if err != nil {
		return image, err
	}
	var m ocispec.Manifest // docker's schema 2 has the same fields
	if err := json.Unmarshal(text, &m); err != nil {
		return image, fmt.Errorf("manifest %s: %w", result.Manifest.Digest, err)
	}
	for _, b := range append([]fetcher.Descriptor{m.Config}, m.Layers...) { // somebody may have changed the file since
		if err := b.Digest.Validate(); err != nil {
			return image, fmt.Errorf("manifest %s: digest %.100q: %w", result.Manifest.Digest, b.Digest.String(), err)
		}
	}
	image.Config, image.Layers = &m.Config, m.Layers
	return image, nil
}
