package agent

import (
	"archive/tar"
	"bytes"
	"os"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

// newImage returns an image of these layers.
func newImage(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	made := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	made, err := mutate.AppendLayers(made, layers...)
	if err != nil {
		t.Fatal(err)
	}
	if made, err = mutate.Config(made, config); err != nil {
		t.Fatal(err)
	}
	return made
}

// gzipped returns the entries as a layer.
func gzipped(t testing.TB, entries ...tar.Header) v1.Layer {
	t.Helper()
	return static.NewLayer(compressed(t, archive(t, entries...)), types.OCILayer)
}

// provisioner is an agent with an anonymous registry and a fetcher in process.
func provisioner(t *testing.T) (Agent, *registry.Server) {
	t.Helper()
	s, err := registry.Start(registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	f, err := fetcher.New(fetcher.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return newAgent(t, f), s
}

// TestProvisionerDocker has the cases of the original's
// provisioner_docker_tests.cpp that depend on what is in an image; store_test.go
// has those that depend on when it is pulled.
func TestProvisionerDocker(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		layers [][]tar.Header
		want   map[string]string
	}{
		{"Whiteout", [][]tar.Header{
			{text("dir1/file1", "1"), text("dir1/dir2/file2", "2"), text("dir1/dir3/file3", "3"), text("dir4/file4", "4")},
			{text("dir1/.wh.file1", ""), text("dir1/dir2/.wh.file2", ""), text("dir1/.wh.dir3", ""), dir("dir4"), text("dir4/.wh..wh..opq", ""), text("dir4/file5", "5")},
		}, map[string]string{"dir1": "dir", "dir1/dir2": "dir", "dir4": "dir", "dir4/file5": "= 5"}},
		{"Overwrite", [][]tar.Header{
			{text("file1", "1"), text("file2", "2"), text("dir3/file3", "3"), dir("dir4"), symlink("link5", "file1"), symlink("link6", "dir4")},
			{text("file1", "11"), dir("file2"), text("file2/file3", "3"), text("dir3", "33"), text("link5", "5"), text("link6/file6", "6")},
		}, map[string]string{
			"file1": "= 11", "file2": "dir", "file2/file3": "= 3", "dir3": "= 33", "link5": "= 5", "dir4": "dir", "dir4/file6": "= 6", "link6": "-> dir4",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, s := provisioner(t)
			var layers []v1.Layer
			for _, entries := range test.layers {
				layers = append(layers, gzipped(t, entries...))
			}
			push(t, s, "a:latest", newImage(t, v1.Config{}, layers...))
			same(t, test.want, provision(t, a, imageTask(s.Host, "a", "")))
		})
	}
}

func push(t *testing.T, s *registry.Server, name string, made v1.Image) {
	t.Helper()
	if err := image.Push(t.Context(), s.Host+"/"+name, made, "", ""); err != nil {
		t.Fatal(err)
	}
}

func TestImageDigestGoesBeforeTheTag(t *testing.T) {
	t.Parallel()
	a, s := provisioner(t)
	first := newImage(t, v1.Config{}, gzipped(t, text("a", "1")))
	push(t, s, "a:1", first)
	push(t, s, "a:1", newImage(t, v1.Config{}, gzipped(t, text("a", "2"))))
	digest, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a:1@" + digest.String(): "= 1", "a@" + digest.String(): "= 1", "a:1": "= 2"} {
		parsed, err := ParseName(s.Host + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		same(t, map[string]string{"a": want}, provision(t, a, Task{Name: parsed}))
	}
}

// programLayer is a layer that has program as /bin/hello, beside the entries.
func programLayer(t *testing.T, program []byte, entries ...tar.Header) v1.Layer {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	if err := w.WriteHeader(&tar.Header{Name: "bin/hello", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(append(data.Bytes(), archive(t, entries...)...), types.OCIUncompressedLayer)
}

// An image with a program and no shell, as hello-world is.
func TestScratchImageRunsAndRootfsCleanupLeavesNothing(t *testing.T) {
	t.Parallel()
	a, s := provisioner(t)
	program, err := image.Program(t.Context(), v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	push(t, s, "scratch:latest", newImage(t, v1.Config{Entrypoint: []string{"/bin/hello"}, Cmd: []string{"image"}, Env: []string{"A=1"}},
		programLayer(t, program, text("etc/motd", "Hello!\n"), text("etc/os-release", "PRETTY_NAME=Scratch\n"), text("etc/ssl/cert.pem", ""))))

	task := imageTask(s.Host, "scratch", "")
	task.Command = Command{Arguments: []string{"task"}, Env: []string{"B=2"}}
	c, err := a.Provision(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	command, err := c.Command(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	same(t, "Hello!\nsystem: Scratch\nCA certificates: 0\narguments: task\nenvironment: A=1 B=2\n", string(output))
	if err := c.Destroy(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(a.Dir); err != nil || len(left) != 0 {
		t.Errorf("left %v %v, want nothing", left, err)
	}
}
