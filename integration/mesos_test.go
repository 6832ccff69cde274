package integration_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// The docker cases of the original's uri_fetcher_tests.cpp against the real
// registry, judged as they are there: by the names in the manifest that was
// fetched. The credential is the agent's own, as by the original's
// --docker_config, so the calls have none.
func TestTheOriginalsDockerCasesWithTheAgentsConfig(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := start(t, config, "docker")
			client := openWith(t, "--docker_config="+configFile(t, tenant, s))
			files, _ := served(t, s, "docker")
			t.Run("FetchManifest", func(t *testing.T) {
				t.Parallel()
				compare(t, fetched(t, client, s, scheme.Manifest, "docker"), files.documents())
			})
			t.Run("FetchBlob", func(t *testing.T) {
				t.Parallel()
				file := identifiers(files, "docker")[scheme.Blob]
				compare(t, fetched(t, client, s, scheme.Blob, file), tree{file: files[file]})
			})
			t.Run("FetchImage", func(t *testing.T) {
				t.Parallel()
				dir := fetched(t, client, s, scheme.Image, "docker")
				for _, file := range blobsOf(t, dir) {
					if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
						t.Error(err)
					}
				}
				compare(t, dir, files)
			})
			t.Run("the calls of the provisioner's puller", func(t *testing.T) {
				t.Parallel()
				dir := fetched(t, client, s, scheme.Manifest, "docker")
				var calls sync.WaitGroup
				for _, file := range blobsOf(t, dir) {
					r := request(t, scheme.Blob, s.Host, file, fetcher.DockerConfig{})
					r.Directory = dir
					calls.Go(func() {
						if _, err := client.Fetch(t.Context(), r); err != nil {
							t.Error(err)
						}
					})
				}
				calls.Wait()
				compare(t, dir, files)
			})
			t.Run("an unknown tag", func(t *testing.T) { refused(t, client, s, scheme.Image, "nightly") })
			t.Run("an unknown blob", func(t *testing.T) {
				refused(t, client, s, scheme.Blob, "sha256:"+strings.Repeat("0", 64))
			})
		})
	}
}

// openWith launches the executable with these arguments.
func openWith(t *testing.T, args ...string) *plugin.Client {
	t.Helper()
	client, err := plugin.Open(t.Context(), plugin.Config{
		Path: executable, Args: args, Logger: hclog.New(&hclog.LoggerOptions{Output: t.Output()}),
	})
	check(t, err)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

// fetched fetches without a config and returns the directory.
func fetched(t *testing.T, client *plugin.Client, s *registry.Server, kind scheme.Kind, identifier string) string {
	t.Helper()
	r := request(t, kind, s.Host, identifier, fetcher.DockerConfig{})
	_, err := client.Fetch(t.Context(), r)
	check(t, err)
	return r.Directory
}

// refused fetches what is not there.
func refused(t *testing.T, client *plugin.Client, s *registry.Server, kind scheme.Kind, identifier string) {
	t.Helper()
	r := request(t, kind, s.Host, identifier, fetcher.DockerConfig{})
	if _, err := client.Fetch(t.Context(), r); !errors.Is(err, fetcher.ErrNotFound) {
		t.Errorf("error %v, want not found", err)
	}
	compare(t, r.Directory, tree{})
}

// blobsOf reads a fetched manifest as the original's tests do: it must be of
// docker schema 2, and its config and layers are the blobs.
func blobsOf(t *testing.T, dir string) []string {
	t.Helper()
	type descriptor struct{ Digest string }
	var manifest struct {
		SchemaVersion int
		MediaType     string
		Config        descriptor
		Layers        []descriptor
	}
	data, err := os.ReadFile(filepath.Join(dir, "manifest"))
	check(t, err)
	check(t, json.Unmarshal(data, &manifest))
	if manifest.SchemaVersion != 2 || manifest.MediaType != "application/vnd.docker.distribution.manifest.v2+json" || len(manifest.Layers) == 0 {
		t.Errorf("the manifest is %s", data)
	}
	files := []string{manifest.Config.Digest}
	for _, layer := range manifest.Layers {
		files = append(files, layer.Digest)
	}
	return files
}
