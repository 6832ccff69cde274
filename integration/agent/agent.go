// Package agent is an example of a host: the part of a Mesos agent that turns a
// task's ContainerInfo into a running program. It takes the image's name and
// the secret from the ContainerInfo, has a fetcher fetch the manifest and then
// all blobs at once, as the original's provisioner does, unpacks the layers into
// a directory and runs the image's program there.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mesos/mesos-go/api/v1/lib"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// Fetcher is what an agent needs of the plugin. *plugin.Client and
// *fetcher.Fetcher are Fetchers.
type Fetcher interface {
	Fetch(context.Context, fetcher.Request) (fetcher.Result, error)
}

// Task is what to run: an image and the docker config to fetch it with.
type Task struct {
	Name   Name
	Config fetcher.DockerConfig
}

// ParseContainerInfo reads the JSON of a mesos.ContainerInfo of type MESOS with
// a docker image. Its config, if any, must be a secret of type VALUE; an error
// never shows it.
func ParseContainerInfo(data []byte) (Task, error) {
	var info mesos.ContainerInfo
	if err := json.Unmarshal(data, &info); err != nil {
		return Task{}, fmt.Errorf("invalid ContainerInfo: %w", err)
	}
	if info.GetType() != mesos.ContainerInfo_MESOS {
		return Task{}, fmt.Errorf("invalid ContainerInfo: type is %s, not MESOS", info.GetType())
	}
	image := info.GetMesos().GetImage()
	if image == nil || image.GetType() != mesos.Image_DOCKER || image.Docker == nil {
		return Task{}, errors.New("invalid ContainerInfo: mesos.image is not a docker image")
	}
	name, err := ParseName(image.Docker.Name)
	if err != nil {
		return Task{}, fmt.Errorf("invalid ContainerInfo: %w", err)
	}
	config, err := resolveSecret(image.Docker.Config)
	if err != nil {
		return Task{}, fmt.Errorf("invalid ContainerInfo: mesos.image.docker.config: %w", err)
	}
	return Task{Name: name, Config: fetcher.DockerConfig{JSON: config}}, nil
}

// resolveSecret is the original's default SecretResolver.
func resolveSecret(secret *mesos.Secret) ([]byte, error) {
	switch {
	case secret == nil:
		return nil, nil
	case secret.Reference != nil:
		return nil, errors.New("default secret resolver cannot resolve references")
	case secret.Value == nil:
		return nil, errors.New("secret has no value")
	}
	return secret.Value.Data, nil
}

// Agent provisions tasks. Its methods may be called concurrently.
type Agent struct {
	Fetcher  Fetcher
	Registry string // the URL of the registry of names without one; "": DefaultRegistry
}

// Pull fetches the image of task into dir: one docker-manifest call, then one
// docker-blob call for each blob, all at once.
func (a Agent) Pull(ctx context.Context, task Task, dir string) error {
	reference, err := a.Reference(task)
	if err != nil {
		return err
	}
	fetch := func(ctx context.Context, what scheme.Reference) error {
		_, err := a.Fetcher.Fetch(ctx, fetcher.Request{URI: what.URI(), Directory: dir, Config: task.Config})
		return err
	}
	reference.Kind = scheme.Manifest
	if err := fetch(ctx, reference); err != nil {
		return err
	}
	manifest, err := readManifest(dir)
	if err != nil {
		return err
	}
	calls, ctx := errgroup.WithContext(ctx)
	for _, blob := range blobs(manifest) {
		what := reference
		what.Kind, what.Tag, what.Digest = scheme.Blob, "", blob
		calls.Go(func() error { return fetch(ctx, what) })
	}
	return calls.Wait()
}

// Reference returns the image of task, for one docker call that fetches it whole.
func (a Agent) Reference(task Task) (scheme.Reference, error) {
	registry := a.Registry
	if registry == "" {
		registry = DefaultRegistry
	}
	return task.Name.Reference(registry)
}

// blobs returns the config and the layers, each once.
func blobs(manifest ocispec.Manifest) []digest.Digest {
	seen := map[digest.Digest]bool{}
	var all []digest.Digest
	for _, blob := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
		if !seen[blob.Digest] {
			seen[blob.Digest] = true
			all = append(all, blob.Digest)
		}
	}
	return all
}

// readManifest reads DIR/manifest, an image manifest (OCI or docker schema 2).
func readManifest(dir string) (ocispec.Manifest, error) {
	var manifest ocispec.Manifest
	path := filepath.Join(dir, "manifest")
	if err := readJSON(path, &manifest); err != nil {
		return manifest, err
	}
	if manifest.SchemaVersion != 2 || manifest.Config.Digest == "" {
		return manifest, fmt.Errorf("%s: it is not an image manifest of schema version 2", path)
	}
	for _, blob := range blobs(manifest) {
		if err := blob.Validate(); err != nil {
			return manifest, fmt.Errorf("%s: digest %q: %w", path, blob, err)
		}
	}
	return manifest, nil
}

// maxDocument bounds a manifest or an image's config, in bytes.
const maxDocument = 4 << 20

func readJSON(path string, into any) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxDocument+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxDocument:
		return fmt.Errorf("%s: larger than %d bytes", path, maxDocument)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
