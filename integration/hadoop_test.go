package integration_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

// A stock Mesos agent runs the executable as $HADOOP_HOME/bin/hadoop. The tar
// of an image that it gets is read by another implementation, as an OCI image
// layout and as what `docker load` takes.
func TestTheTarOfATaskIsAnImageForOthers(t *testing.T) {
	t.Parallel()
	for tag := range artifacts {
		t.Run(tag, func(t *testing.T) {
			t.Parallel()
			s := start(t, registry.Config{Auth: registry.Token}, tag)
			_, manifest := served(t, s, tag)
			path := filepath.Join(t.TempDir(), "image.tar")
			uri := "docker://" + s.Host + "/" + repository + "?" + tag + "#http"
			size := hadoop(t, filepath.Dir(configFile(t, tenant, s)), uri, path)
			info, err := os.Stat(path)
			check(t, err)
			if want := fmt.Sprintf("%d %s\n", info.Size(), uri); size != want {
				t.Errorf("-du says %q, want %q", size, want)
			}

			dir := t.TempDir()
			untar(t, path, dir)
			index, err := layout.ImageIndexFromPath(dir)
			check(t, err)
			image, err := index.Image(manifest)
			check(t, err)
			check(t, validate.Image(image))

			named, err := name.NewTag(s.Host + "/" + repository + ":" + tag)
			check(t, err)
			loaded, err := tarball.ImageFromPath(path, &named)
			check(t, err)
			check(t, validate.Image(loaded))
			sameConfig(t, image, loaded)
		})
	}
}

// hadoop execs what mesos-fetcher does, and returns what -du prints.
func hadoop(t *testing.T, config, uri, path string) (size string) {
	t.Helper()
	home := t.TempDir()
	client := filepath.Join(home, "bin", "hadoop")
	check(t, os.Mkdir(filepath.Dir(client), 0o755))
	check(t, os.Symlink(executable, client))
	for _, arguments := range [][]string{{"version"}, {"fs", "-copyToLocal", uri, path}, {"fs", "-du", uri}} {
		c := exec.CommandContext(t.Context(), client, arguments...)
		c.Env = []string{"HADOOP_HOME=" + home, "DOCKER_CONFIG=" + config}
		var out, diagnostics bytes.Buffer
		c.Stdout, c.Stderr = &out, &diagnostics
		if err := c.Run(); err != nil {
			t.Fatalf("%q: %v: %s", arguments, err, &diagnostics)
		}
		size = out.String()
	}
	return size
}

func untar(t *testing.T, path, dir string) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		check(t, err)
		file := filepath.Join(dir, header.Name)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		text, err := io.ReadAll(r)
		check(t, err)
		check(t, os.WriteFile(file, text, 0o600))
	}
}

func sameConfig(t *testing.T, a, b v1.Image) {
	t.Helper()
	first, err := a.ConfigName()
	check(t, err)
	second, err := b.ConfigName()
	check(t, err)
	if first != second {
		t.Errorf("the configs are %s and %s", first, second)
	}
}
