package image_test

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}
)

func newImage(t *testing.T, platform v1.Platform, format image.Format) v1.Image {
	t.Helper()
	made, err := image.New([]byte("program for "+platform.String()), platform, format)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func newIndex(t *testing.T, format image.Format) v1.ImageIndex {
	t.Helper()
	made, err := image.Index(format, newImage(t, amd64, format), newImage(t, arm64, format))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestImageHasTheMediaTypesOfItsFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[image.Format][]types.MediaType{
		image.Docker: {
			"application/vnd.docker.distribution.manifest.v2+json",
			"application/vnd.docker.container.image.v1+json",
			"application/vnd.docker.image.rootfs.diff.tar.gzip",
			"application/vnd.docker.image.rootfs.diff.tar.gzip",
			"application/vnd.docker.image.rootfs.diff.tar.gzip",
		},
		image.OCI: {
			"application/vnd.oci.image.manifest.v1+json",
			"application/vnd.oci.image.config.v1+json",
			"application/vnd.oci.image.layer.v1.tar+gzip",
			"application/vnd.oci.image.layer.v1.tar+gzip",
			"application/vnd.oci.image.layer.v1.tar+gzip",
		},
	} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			made := newImage(t, arm64, format)
			manifest, err := made.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			got := []types.MediaType{manifest.MediaType, manifest.Config.MediaType}
			for _, layer := range manifest.Layers {
				got = append(got, layer.MediaType)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIndexNamesEachPlatform(t *testing.T) {
	t.Parallel()
	for format, want := range map[image.Format]types.MediaType{
		image.Docker: "application/vnd.docker.distribution.manifest.list.v2+json",
		image.OCI:    "application/vnd.oci.image.index.v1+json",
	} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			made := newIndex(t, format)
			manifest, err := made.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			if manifest.MediaType != want {
				t.Errorf("media type %s, want %s", manifest.MediaType, want)
			}
			var platforms []string
			for _, descriptor := range manifest.Manifests {
				platforms = append(platforms, descriptor.Platform.String())
			}
			if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSameProgramGivesTheSameDigest(t *testing.T) {
	t.Parallel()
	one, err := newIndex(t, image.OCI).Digest()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newIndex(t, image.OCI).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if one != other {
		t.Errorf("%s and %s", one, other)
	}
}

func TestPushedImageIsServed(t *testing.T) {
	t.Parallel()
	author := registry.User{Name: "author", Password: "write", Grants: registry.Grants{"*": {"pull", "push"}}}
	for _, auth := range []registry.Auth{registry.Anonymous, registry.Basic, registry.Token} {
		t.Run(string(auth), func(t *testing.T) {
			t.Parallel()
			s, err := registry.Start(registry.Config{
				Auth: auth, Users: []registry.User{author},
				Public: registry.Grants{"demo/hello": {"pull"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })

			index := newIndex(t, image.OCI)
			reference := s.Host + "/demo/hello:1"
			if err := image.Push(t.Context(), reference, index, author.Name, author.Password); err != nil {
				t.Fatal(err)
			}
			if auth == registry.Basic {
				return // it serves nobody without the password
			}
			tag, err := name.NewTag(reference)
			if err != nil {
				t.Fatal(err)
			}
			served, err := remote.Index(tag, remote.WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(served); err != nil {
				t.Error(err)
			}
			got, err := served.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := index.RawManifest(); !bytes.Equal(got, want) {
				t.Errorf("served %s, want %s", got, want)
			}
		})
	}
}

func TestPushWithoutTheRightIsRefused(t *testing.T) {
	t.Parallel()
	reader := registry.User{Name: "reader", Password: "read", Grants: registry.Grants{"*": {"pull"}}}
	s, err := registry.Start(registry.Config{Auth: registry.Token, Users: []registry.User{reader}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	err = image.Push(t.Context(), s.Host+"/demo/hello:1", newImage(t, amd64, image.OCI), reader.Name, reader.Password)
	if err == nil || !strings.Contains(err.Error(), "UNAUTHORIZED") {
		t.Errorf("error %v, want UNAUTHORIZED", err)
	}
}

func TestProgramIsAStaticExecutableOfThePlatform(t *testing.T) {
	t.Parallel()
	for platform, want := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			program, err := image.Program(t.Context(), v1.Platform{OS: "linux", Architecture: platform})
			if err != nil {
				t.Fatal(err)
			}
			file, err := elf.NewFile(bytes.NewReader(program))
			if err != nil {
				t.Fatal(err)
			}
			if file.Machine != want {
				t.Errorf("machine %s, want %s", file.Machine, want)
			}
			if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) != 0 {
				t.Errorf("libraries %v %v, want none", libraries, err)
			}
		})
	}
}

func TestProgramForAnUnknownPlatformIsAnError(t *testing.T) {
	t.Parallel()
	_, err := image.Program(t.Context(), v1.Platform{OS: "linux", Architecture: "z80"})
	if err == nil || !strings.Contains(err.Error(), "build GOOS=linux GOARCH=z80 ./image/hello: exit status") {
		t.Errorf("error %v", err)
	}
}
