package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

const (
	direct     = "soak/direct"
	redirected = "soak/redirected"
)

var (
	author = registry.User{Name: "author", Password: "of-the-images", Grants: registry.Grants{"*": {"pull", "push"}}}
	tenant = registry.User{Name: "tenant", Password: "of-the-cluster", Grants: registry.Grants{direct: {"pull"}, redirected: {"pull"}}}
)

// made is an image in the registry, and what a fetch of it has to leave.
type made struct {
	tag   string
	files map[string]digest.Digest // by name; those of blobs are their names
	bytes int64
}

// kinds are the images: how many bytes the program in it has, and whether there
// is an index. They share a layer.
var kinds = []struct {
	program int
	format  image.Format
	index   bool
}{
	{0, image.Docker, false},
	{64 << 10, image.OCI, false},
	{1 << 20, image.Docker, true},
	{6 << 20, image.OCI, true},
	{20 << 20, image.Docker, false},
}

// makeImages makes the first most images from the seed and pushes them to the registry at
// host, into both repositories. It puts their blobs into blobs, by digest.
func makeImages(ctx context.Context, r *rand.Rand, host string, blobs map[string][]byte, most int) ([]made, error) {
	var all []made
	for number, kind := range kinds[:most] {
		program := make([]byte, kind.program)
		for i := range program {
			program[i] = byte(r.Uint32())
		}
		one, err := image.New(program, v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, kind.format)
		if err != nil {
			return nil, err
		}
		m := made{tag: fmt.Sprintf("size-%d", number), files: map[string]digest.Digest{}}
		if err := m.add(one, blobs); err != nil {
			return nil, err
		}
		artifact := remote.Taggable(one)
		if kind.index {
			if artifact, err = m.index(kind.format, one); err != nil {
				return nil, err
			}
		}
		for _, repository := range []string{direct, redirected} {
			if err := image.Push(ctx, host+"/"+repository+":"+m.tag, artifact, author.Name, author.Password); err != nil {
				return nil, err
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// index puts the image into an index with one for another platform.
func (m *made) index(format image.Format, one v1.Image) (v1.ImageIndex, error) {
	other, err := image.New([]byte("for another platform"), v1.Platform{OS: "plan9", Architecture: "mips"}, format)
	if err != nil {
		return nil, err
	}
	index, err := image.Index(format, other, one)
	if err != nil {
		return nil, err
	}
	raw, err := index.RawManifest()
	m.files["index"] = digest.FromBytes(raw)
	return index, err
}

// add notes the files of an image.
func (m *made) add(one v1.Image, blobs map[string][]byte) error {
	manifest, err := one.RawManifest()
	if err != nil {
		return err
	}
	m.files["manifest"] = digest.FromBytes(manifest)
	config, err := one.RawConfigFile()
	if err != nil {
		return err
	}
	m.addBlob(config, blobs)
	layers, err := one.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		body, err := layer.Compressed()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		m.addBlob(data, blobs)
	}
	return nil
}

func (m *made) addBlob(data []byte, blobs map[string][]byte) {
	d := digest.FromBytes(data)
	m.files[d.String()] = d
	m.bytes += int64(len(data))
	blobs[d.String()] = data
}

// blobs returns the names of the files that are blobs.
func (m *made) blobs() []string {
	var names []string
	for name := range m.files {
		if strings.Contains(name, ":") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
