// Package agent is an example of a host: the part of a Mesos agent that turns a
// task into a running program. It takes the image's name and the secret from
// the TaskInfo, has a fetcher fetch the manifest and then all blobs at once, as
// the original's provisioner does, unpacks the layers into a directory for
// the task and runs its program there.
//
// What it fetched stays in a Store, so that a second task of an image starts
// without a request to the registry. The store keeps blobs as they came,
// compressed, and each task's directory is unpacked from them: they are named
// by their digest, shared by all images, and nothing of a task writes to them.
// Unpacking once and mounting an overlay would start a task sooner, and needs
// mounts.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

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

// Agent provisions tasks. Its methods may be called concurrently.
type Agent struct {
	Fetcher  Fetcher
	Registry string         // the URL of the registry of names without one; "": DefaultRegistry
	Store    *Store         // what Provision keeps images in; Pull needs none
	Dir      string         // where Provision makes the directories of tasks; "": os.TempDir()
	Observe  func(Progress) // gets the progress of each pull, and must not block; nil: nobody does
}

// Provision makes a container for task: its image, from the store or pulled
// into it, unpacked into a directory of its own. The caller destroys it.
func (a Agent) Provision(ctx context.Context, task Task) (Container, error) {
	if a.Store == nil {
		return Container{}, errors.New("provision: the agent has no store")
	}
	reference, err := a.Reference(task)
	if err != nil {
		return Container{}, err
	}
	image, err := a.Store.get(ctx, reference, task, a.pull)
	if err != nil {
		return Container{}, err
	}
	// Not the rootfs itself, which everybody in the container must be able to
	// read, and nobody outside: it may hold programs that run as root.
	dir, err := os.MkdirTemp(a.Dir, "container-")
	if err != nil {
		return Container{}, err
	}
	c, err := image.Unpack(ctx, filepath.Join(dir, "rootfs"))
	if err != nil {
		return Container{}, errors.Join(err, os.RemoveAll(dir))
	}
	c.Task, c.dir = task.Command, dir
	return c, nil
}

// Pull fetches the image of task into dir: one docker-manifest call, then one
// docker-blob call for each blob, all at once.
func (a Agent) Pull(ctx context.Context, task Task, dir string) error {
	reference, err := a.Reference(task)
	if err != nil {
		return err
	}
	_, err = a.pull(ctx, reference, task.Config, dir, func(ocispec.Descriptor) bool { return false })
	return err
}

// pull is Pull of the blobs that the caller does not have.
func (a Agent) pull(ctx context.Context, image scheme.Reference, config fetcher.DockerConfig, dir string,
	has func(ocispec.Descriptor) bool) (ocispec.Manifest, error) {
	image.Kind = scheme.Manifest
	request := fetcher.Request{URI: image.URI(), Directory: dir, Config: config}
	if _, err := a.Fetcher.Fetch(ctx, request); err != nil {
		return ocispec.Manifest{}, err
	}
	manifest, err := readManifest(filepath.Join(dir, "manifest"))
	if err != nil {
		return manifest, err
	}
	missing := missingBlobs(manifest, has)
	meter := newMeter(image, missing, a.Observe)
	calls, ctx := errgroup.WithContext(ctx)
	for _, blob := range missing {
		calls.Go(func() error {
			what := image
			what.Kind, what.Tag, what.Digest = scheme.Blob, "", blob.Digest
			request := fetcher.Request{
				URI: what.URI(), Directory: dir, Config: config,
				Observe: meter.observer(blob), ProgressInterval: progressInterval,
			}
			_, err := a.Fetcher.Fetch(ctx, request)
			if err == nil {
				meter.done(blob)
			}
			return err
		})
	}
	return manifest, calls.Wait()
}

// Reference returns the image of task, for one docker call that fetches it whole.
func (a Agent) Reference(task Task) (scheme.Reference, error) {
	registry := a.Registry
	if registry == "" {
		registry = DefaultRegistry
	}
	return task.Name.Reference(registry)
}

// blobs returns the config and the layers, each digest once.
func blobs(manifest ocispec.Manifest) []ocispec.Descriptor {
	return missingBlobs(manifest, func(ocispec.Descriptor) bool { return false })
}

// missingBlobs returns those blobs that the caller does not have.
func missingBlobs(manifest ocispec.Manifest, has func(ocispec.Descriptor) bool) []ocispec.Descriptor {
	seen := map[digest.Digest]bool{}
	var missing []ocispec.Descriptor
	for _, blob := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
		if !seen[blob.Digest] && !has(blob) {
			missing = append(missing, blob)
		}
		seen[blob.Digest] = true
	}
	return missing
}

// readManifest reads an image manifest (OCI or docker schema 2).
func readManifest(path string) (ocispec.Manifest, error) {
	var manifest ocispec.Manifest
	if err := readJSON(path, &manifest); err != nil {
		return manifest, err
	}
	if manifest.SchemaVersion != 2 || manifest.Config.Digest == "" {
		return manifest, fmt.Errorf("%s: it is not an image manifest of schema version 2", path)
	}
	for _, blob := range blobs(manifest) {
		if err := blob.Digest.Validate(); err != nil {
			return manifest, fmt.Errorf("%s: digest %q: %w", path, blob.Digest, err)
		}
	}
	return manifest, nil
}

const (
	// maxDocument bounds a manifest or an image's config, in bytes.
	maxDocument = 4 << 20
	// progressInterval is that of each blob.
	progressInterval = 250 * time.Millisecond
)

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
