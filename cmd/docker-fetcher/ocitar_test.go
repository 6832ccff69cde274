package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// fetchedImage is an image as a fetch leaves it, its blobs of these sizes.
func fetchedImage(t *testing.T, algorithm digest.Algorithm, sizes ...int) (dir string, image fetcher.Resolution, files []fetcher.File) {
	t.Helper()
	dir = t.TempDir()
	add := func(name, mediaType string, text []byte) fetcher.Descriptor {
		d := fetcher.Descriptor{MediaType: mediaType, Digest: algorithm.FromBytes(text), Size: int64(len(text))}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, fetcher.File{Path: name, Descriptor: d})
		return d
	}
	image.Manifest = add("manifest", ocispec.MediaTypeImageManifest, []byte("the manifest"))
	index := add("index", ocispec.MediaTypeImageIndex, []byte("the index"))
	config := add("config", ocispec.MediaTypeImageConfig, []byte("{}"))
	image.Index, image.Config = &index, &config
	for i, size := range sizes {
		image.Layers = append(image.Layers, add(fmt.Sprint(i), ocispec.MediaTypeImageLayer, bytes.Repeat([]byte{byte(i)}, size)))
	}
	return dir, image, files
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func reference(t *testing.T, uri string) scheme.Reference {
	t.Helper()
	ref, err := scheme.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func entries(t *testing.T, uri string, image fetcher.Resolution) []entry {
	t.Helper()
	all, err := layout(reference(t, uri), image)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTarSizeIsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} { // the name of a sha512 is too long for one block
		for _, sizes := range [][]int{nil, {1}, {511}, {512}, {513}, {1023, 1024, 1025}, {3 << 20}} {
			t.Run(fmt.Sprint(algorithm, sizes), func(t *testing.T) {
				t.Parallel()
				dir, image, files := fetchedImage(t, algorithm, sizes...)
				all := entries(t, "docker://localhost:5000/app?1", image)
				want, err := tarSize(all)
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if err := writeTar(t.Context(), &b, all, openRoot(t, dir), files); err != nil {
					t.Fatal(err)
				}
				if int64(b.Len()) != want {
					t.Errorf("%d bytes were written, tarSize says %d", b.Len(), want)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
					t.Errorf("%v, %v was left, which takes room twice", left, err)
				}
			})
		}
	}
}

func TestTarSizeOfALayerOf9GiBHasItsLongHeader(t *testing.T) {
	t.Parallel()
	size := int64(9 << 30) // more than the 33 bits of a plain header
	all := []entry{{name: "blobs/sha256/" + strings.Repeat("0", 64), blob: fetcher.Descriptor{Size: size}}}
	got, err := tarSize(all)
	if err != nil {
		t.Fatal(err)
	}
	if want := 3*512 + size + 1024; got != want { // a PAX header with its record ahead of the header
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestTheTarIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	var first []byte
	for range 2 {
		dir, image, files := fetchedImage(t, digest.SHA512, 700)
		var b bytes.Buffer
		if err := writeTar(t.Context(), &b, entries(t, "docker://localhost:5000/app?1", image), openRoot(t, dir), files); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Error("two tars of one image differ")
		}
	}
	for r := tar.NewReader(bytes.NewReader(first)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg || header.Mode != 0o644 || !header.ModTime.Equal(time.Unix(0, 0)) || header.Uid+header.Gid != 0 || header.Uname+header.Gname != "" {
			t.Errorf("%s says more than its name and size: %+v", header.Name, header)
		}
	}
}

func TestLayoutNamesTheImageForEveryReader(t *testing.T) {
	t.Parallel()
	_, image, _ := fetchedImage(t, digest.SHA256, 1, 2, 1)
	image.Layers[2] = image.Layers[0]
	hex := func(d fetcher.Descriptor) string { return d.Digest.Encoded() }
	manifest, config := hex(image.Manifest), hex(*image.Config)
	first, second := hex(image.Layers[0]), hex(image.Layers[1])
	const oci = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":12%s}]}`
	const docker = `[{"Config":"blobs/sha256/%s","RepoTags":%s,"Layers":["blobs/sha256/%s","blobs/sha256/%s","blobs/sha256/%s"]}]`
	for _, c := range []struct{ name, uri, annotations, tags string }{
		{
			"by tag", "docker://localhost:5000/team/app?1.2",
			`,"annotations":{"io.containerd.image.name":"localhost:5000/team/app:1.2","org.opencontainers.image.ref.name":"1.2"}`,
			`["localhost:5000/team/app:1.2"]`,
		},
		{
			"by a tag of Docker Hub", "docker://registry-1.docker.io/alpine?3.20",
			`,"annotations":{"io.containerd.image.name":"docker.io/library/alpine:3.20","org.opencontainers.image.ref.name":"3.20"}`,
			`["docker.io/library/alpine:3.20"]`,
		},
		{"by digest, which is no name", "docker://localhost:5000/app?" + image.Index.Digest.String(), "", "null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, e := range entries(t, c.uri, image) {
				got = append(got, e.name)
				if e.text != nil {
					got = append(got, string(e.text))
				}
			}
			want := []string{
				"oci-layout", `{"imageLayoutVersion":"1.0.0"}`,
				"index.json", fmt.Sprintf(oci, manifest, c.annotations),
				"manifest.json", fmt.Sprintf(docker, config, c.tags, first, second, first),
				"blobs/sha256/" + manifest, "blobs/sha256/" + hex(*image.Index), "blobs/sha256/" + config,
				"blobs/sha256/" + first, "blobs/sha256/" + second,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteTarEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir, image, files := fetchedImage(t, digest.SHA256, 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b bytes.Buffer
	if err := writeTar(ctx, &b, entries(t, "docker://localhost:5000/app?1", image), openRoot(t, dir), files); !errors.Is(err, ctx.Err()) {
		t.Errorf("got %v, want %v", err, ctx.Err())
	}
}

func TestWriteTarWantsEveryFileAsItsDescriptorSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
	}{
		{"one that is not there", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "0"))) }},
		{"one that is shorter", func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "0"), 10)) }},
		{"one that is longer", func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "0"), 1000)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, image, files := fetchedImage(t, digest.SHA256, 100)
			c.spoil(t, dir)
			if err := writeTar(t.Context(), io.Discard, entries(t, "docker://localhost:5000/app?1", image), openRoot(t, dir), files); err == nil {
				t.Error("it was written")
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
