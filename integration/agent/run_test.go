package agent

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/integration/image"
)

// container returns a tree with the executables and links given by name.
func container(t *testing.T, config ocispec.ImageConfig, files map[string]string) Container {
	t.Helper()
	c := Container{Rootfs: t.TempDir(), Config: config}
	for name, target := range files {
		path := filepath.Join(c.Rootfs, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch target {
		case "program":
			err = os.WriteFile(path, nil, 0o755)
		case "data":
			err = os.WriteFile(path, nil, 0o644)
		default:
			err = os.Symlink(target, path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestCommandIsThatOfTheConfig(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"bin/a": "program", "usr/bin/a": "program", "app/b": "program", "bin/data": "data", "usr/bin/data": "program",
		"sbin": "/bin", "bin/out": "../../../../bin/a", "bin/host": "/../bin/sh", "bin/loop": "loop",
	}
	for _, test := range []struct {
		name   string
		config ocispec.ImageConfig
		file   string // in the tree
		args   []string
		dir    string
		err    string
	}{
		{"entrypoint and cmd", ocispec.ImageConfig{Entrypoint: []string{"/bin/a", "-x"}, Cmd: []string{"y"}}, "/bin/a", []string{"/bin/a", "-x", "y"}, "/", ""},
		{"cmd alone", ocispec.ImageConfig{Cmd: []string{"/bin/a"}}, "/bin/a", []string{"/bin/a"}, "/", ""},
		{"a working directory", ocispec.ImageConfig{Cmd: []string{"/bin/a"}, WorkingDir: "/app"}, "/bin/a", []string{"/bin/a"}, "/app", ""},
		{"a working directory behind a link", ocispec.ImageConfig{Cmd: []string{"/bin/a"}, WorkingDir: "/sbin"}, "/bin/a", []string{"/bin/a"}, "/bin", ""},
		{"a program in the working directory", ocispec.ImageConfig{Cmd: []string{"./b"}, WorkingDir: "/app"}, "/app/b", []string{"/app/b"}, "/app", ""},
		{"the first in PATH", ocispec.ImageConfig{Cmd: []string{"a"}, Env: []string{"PATH=/none:/usr/bin:/bin"}}, "/usr/bin/a", []string{"/usr/bin/a"}, "/", ""},
		{"the default PATH", ocispec.ImageConfig{Cmd: []string{"a"}}, "/usr/bin/a", []string{"/usr/bin/a"}, "/", ""},
		{"a file that is no program is passed over", ocispec.ImageConfig{Cmd: []string{"data"}, Env: []string{"PATH=/bin:/usr/bin"}}, "/usr/bin/data", []string{"/usr/bin/data"}, "/", ""},
		{"a link to a directory", ocispec.ImageConfig{Cmd: []string{"/sbin/a"}}, "/bin/a", []string{"/sbin/a"}, "/", ""},
		{"a link that leads out stays in", ocispec.ImageConfig{Cmd: []string{"/bin/out"}}, "/bin/a", []string{"/bin/out"}, "/", ""},
		{"a link to the host's shell finds none", ocispec.ImageConfig{Cmd: []string{"/bin/host"}}, "", nil, "", "the image has no program /bin/host"},
		{"a circle of links", ocispec.ImageConfig{Cmd: []string{"/bin/loop"}}, "", nil, "", `"/bin/loop": too many levels of symbolic links`},
		{"no such program", ocispec.ImageConfig{Cmd: []string{"c"}, Env: []string{"PATH=/bin:/usr/bin"}}, "", nil, "", "the image has no program /bin/c or /usr/bin/c"},
		{"a directory", ocispec.ImageConfig{Cmd: []string{"/bin"}}, "", nil, "", "the image has no program /bin"},
		{"nothing", ocispec.ImageConfig{}, "", nil, "", "the image names no program to run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := container(t, test.config, files)
			for confined, prefix := range map[bool]string{true: "", false: c.Rootfs} {
				command, err := c.command(t.Context(), confined)
				if errorText(err) != test.err {
					t.Fatalf("error %v, want %s", err, test.err)
				}
				if err != nil {
					continue
				}
				args := append([]string{prefix + test.args[0]}, test.args[1:]...)
				if diff := cmp.Diff(args, command.Args); diff != "" {
					t.Error(diff)
				}
				if command.Path != prefix+test.file || filepath.Clean(command.Dir) != filepath.Clean(prefix+test.dir) {
					t.Errorf("runs %s in %s, want %s in %s", command.Path, command.Dir, prefix+test.file, prefix+test.dir)
				}
				if (command.SysProcAttr != nil && command.SysProcAttr.Chroot == c.Rootfs) != confined {
					t.Errorf("confined %v: %+v", confined, command.SysProcAttr)
				}
			}
		})
	}
}

func TestCommandOfATaskGoesBeforeThatOfTheConfig(t *testing.T) {
	t.Parallel()
	c := container(t, ocispec.ImageConfig{Entrypoint: []string{"/a"}, Env: []string{"PATH=/none", "A=1", "B=2"}}, map[string]string{"a": "program", "opt/b": "program", "bin/sh": "program"})
	for _, test := range []struct {
		name   string
		task   Command
		file   string
		args   []string
		env    string
		failed string
	}{
		{"its arguments", Command{Arguments: []string{"x"}}, "/a", []string{"/a", "x"}, "PATH=/none A=1 B=2", ""},
		{"its program, by its PATH", Command{Value: "b", Env: []string{"PATH=/opt", "A=3"}}, "/opt/b", []string{"/opt/b"}, "B=2 PATH=/opt A=3", ""},
		{"its program under another name", Command{Value: "/a", Arguments: []string{"z", "x"}}, "/a", []string{"z", "x"}, "PATH=/none A=1 B=2", ""},
		{"its script", Command{Shell: true, Value: "exit 1"}, "/bin/sh", []string{"sh", "-c", "exit 1"}, "PATH=/none A=1 B=2", ""},
		{"a program that the image lacks", Command{Value: "/b"}, "", nil, "", "the image has no program /b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := c
			c.Task = test.task
			command, err := c.command(t.Context(), true)
			if errorText(err) != test.failed {
				t.Fatalf("error %v, want %s", err, test.failed)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(test.args, command.Args); diff != "" || command.Path != test.file {
				t.Errorf("runs %s, want %s: %s", command.Path, test.file, diff)
			}
			if got := strings.Join(command.Environ(), " "); !strings.HasPrefix(got, test.env) {
				t.Errorf("environment %s, want %s", got, test.env)
			}
		})
	}
}

func TestCommandHasTheEnvironmentOfTheConfigOnly(t *testing.T) {
	t.Parallel()
	for _, environment := range [][]string{nil, {"A=1"}} {
		c := container(t, ocispec.ImageConfig{Cmd: []string{"/a"}, Env: environment}, map[string]string{"a": "program"})
		command, err := c.Command(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(command.Environ(), " "); !strings.HasPrefix(got, strings.Join(environment, " ")) || strings.Contains(got, "HOME=") || strings.Contains(got, "PATH=") {
			t.Errorf("environment %s, want that of the image, %v", got, environment)
		}
	}
}

// fetched writes an image into a new directory as a fetch does.
func fetched(t *testing.T, made v1.Image) string {
	t.Helper()
	s := store{}
	var err error
	if s["manifest"], err = made.RawManifest(); err != nil {
		t.Fatal(err)
	}
	config, err := made.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	s.add(config)
	layers, err := made.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		body, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		s.add(data)
	}
	return s.write(t)
}

func TestProgramRunsConfinedAndDirectly(t *testing.T) {
	t.Parallel()
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	program, err := image.Program(t.Context(), platform)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []image.Format{image.Docker, image.OCI} {
		made, err := image.New(program, platform, format)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Unpack(fetched(t, made), filepath.Join(t.TempDir(), "rootfs"))
		if err != nil {
			t.Fatal(err)
		}
		for name, confined := range map[string]bool{"confined": true, "directly": false} {
			t.Run(string(format)+" "+name, func(t *testing.T) {
				if confined && os.Geteuid() != 0 {
					t.Skip("only root may chroot")
				}
				command, err := c.command(t.Context(), confined)
				if err != nil {
					t.Fatal(err)
				}
				output, err := command.CombinedOutput()
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(image.Output(), string(output)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}
