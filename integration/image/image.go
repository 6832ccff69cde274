// Package image makes the images that the tests and the demonstration push and
// fetch: small, but real. They have a layer of files for /etc, a layer of CA
// certificates and a layer with a static Go program (hello) that prints what it
// finds in the others. The upper layers overwrite and remove files of the lower
// ones, and bring a symbolic and a hard link, so that only a correctly unpacked
// image runs.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/docker-fetcher/docker-fetcher/integration/build"
)

// Format is the family of media types that an image is written in.
type Format string

// The formats.
const (
	Docker Format = "docker" // docker schema 2, its index a manifest list
	OCI    Format = "oci"    // OCI image manifest and image index
)

// formats are the media types of each format.
var formats = map[Format]struct{ manifest, config, layer, index types.MediaType }{
	Docker: {types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer, types.DockerManifestList},
	OCI:    {types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer, types.OCIImageIndex},
}

// created is the time of everything in the images: the same program gives the
// same digest.
var created = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

const (
	greeting   = "Hello! Every byte of this program came through the fetcher, verified.\n"
	prettyName = "Docker Fetcher Demo 1.0"
)

// Output returns what the program prints when it is run as the image's config says.
func Output() string {
	certificates := strings.Count(string(roots()), "-----BEGIN")
	return fmt.Sprintf("%ssystem: %s\nCA certificates: %d\narguments: --from image\nenvironment: DEMO=docker-fetcher PATH=/bin\n",
		greeting, prettyName, certificates)
}

// Program compiles hello for a platform and returns the executable. It needs
// the go command, and the working directory to be in this module.
func Program(ctx context.Context, platform v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "hello-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	path := filepath.Join(dir, "hello")
	if err := build.Hello(ctx, path, platform.OS, platform.Architecture); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// New returns the image that runs program, an executable for platform.
func New(program []byte, platform v1.Platform, format Format) (v1.Image, error) {
	media := formats[format]
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, media.manifest), media.config)
	for _, l := range layers(program) {
		data, err := l.tarball()
		if err != nil {
			return nil, fmt.Errorf("layer of %s: %w", l.purpose, err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}, tarball.WithMediaType(media.layer))
		if err != nil {
			return nil, fmt.Errorf("layer of %s: %w", l.purpose, err)
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:   layer,
			History: v1.History{Created: v1.Time{Time: created}, CreatedBy: l.purpose},
		})
		if err != nil {
			return nil, err
		}
	}
	return configure(image, platform)
}

// configure sets what the image runs.
func configure(image v1.Image, platform v1.Platform) (v1.Image, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Created = v1.Time{Time: created}
	config.Config = v1.Config{
		Entrypoint: []string{"/bin/hello"},
		Cmd:        []string{"--from", "image"},
		Env:        []string{"PATH=/bin", "DEMO=docker-fetcher"},
		WorkingDir: "/",
	}
	return mutate.ConfigFile(image, config)
}

// Index returns an index (OCI) or manifest list (Docker) of images, each under
// the platform of its config.
func Index(format Format, images ...v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, formats[format].index)
	for _, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index, nil
}

// Push pushes an image or index with all it refers to. The reference is
// HOST:PORT/REPOSITORY:TAG; a loopback HOST is asked over http. An empty user
// pushes without a credential.
func Push(ctx context.Context, reference string, artifact remote.Taggable, user, password string) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	credential := authn.Anonymous
	if user != "" {
		credential = &authn.Basic{Username: user, Password: password}
	}
	return remote.Push(tag, artifact, remote.WithContext(ctx), remote.WithAuth(credential))
}

// layer is what one layer holds.
type layer struct {
	purpose string
	files   []file
}

// file is a file, or a link of the type given to target; a name that ends with
// a slash is a directory.
type file struct {
	name   string
	mode   int64
	body   []byte
	link   byte // tar.TypeSymlink or tar.TypeLink; 0: none
	target string
}

// layers returns the layers of the image, the base first.
func layers(program []byte) []layer {
	return []layer{
		{"base files", []file{
			{name: "bin/", mode: 0o755},
			{name: "etc/", mode: 0o755},
			{name: "tmp/", mode: 0o1777},
			{name: "etc/group", mode: 0o644, body: []byte("root:x:0:\nnobody:x:65534:\n")},
			{name: "etc/hosts", mode: 0o644, body: []byte("127.0.0.1 localhost\n::1 localhost\n")},
			{name: "etc/motd", mode: 0o644, body: []byte("An upper layer overwrites this.\n")},
			{name: "etc/nologin", mode: 0o644, body: []byte("An upper layer removes this.\n")},
			{name: "etc/os-release", mode: 0o644, body: []byte("ID=demo\nVERSION_ID=1.0\nPRETTY_NAME=\"" + prettyName + "\"\n")},
			{name: "etc/passwd", mode: 0o644, body: []byte("root:x:0:0:root:/:/bin/hello\nnobody:x:65534:65534:nobody:/:/bin/hello\n")},
		}},
		{"CA certificates", []file{
			{name: "etc/ssl/", mode: 0o755},
			{name: "etc/ssl/certs/", mode: 0o755},
			{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, body: roots()},
			{name: "etc/ssl/cert.pem", mode: 0o777, link: tar.TypeSymlink, target: "certs/ca-certificates.crt"},
		}},
		{"the program", []file{
			{name: "bin/greet", mode: 0o755, body: program},
			{name: "bin/hello", mode: 0o755, link: tar.TypeLink, target: "bin/greet"},
			{name: "etc/.wh.nologin", mode: 0o644},
			{name: "etc/motd", mode: 0o644, body: []byte(greeting)},
		}},
	}
}

// roots returns the CA certificates that Mozilla trusts, as PEM.
func roots() []byte {
	var data []byte
	for root := range bundle.Roots() {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
	}
	return data
}

// tarball returns the layer as a gzipped tar file.
func (l layer) tarball() ([]byte, error) {
	var data bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&data, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(compressed)
	for _, f := range l.files {
		if err := archive.WriteHeader(f.header()); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.body); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	if err := compressed.Close(); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

func (f file) header() *tar.Header {
	header := &tar.Header{
		Name: f.name, Mode: f.mode, Size: int64(len(f.body)), ModTime: created,
		Typeflag: tar.TypeReg, Linkname: f.target,
	}
	switch {
	case f.link != 0:
		header.Typeflag = f.link
	case strings.HasSuffix(f.name, "/"):
		header.Typeflag = tar.TypeDir
	}
	return header
}
