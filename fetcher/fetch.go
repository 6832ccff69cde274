package fetcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

const (
	manifestName = "manifest"
	indexName    = "index"
)

// Fetch fetches what req.URI names into req.Directory: the manifest as
// "manifest" (and the index it was chosen from as "index"), each blob under its
// digest. A file has its final name only once its size and digest hold; files
// that hold already are kept. On an error the complete files stay, and nothing
// partial is left.
//
// The error is an *Error, or wraps the context's.
func (f *Fetcher) Fetch(ctx context.Context, req Request) (Result, error) {
	begin := time.Now()
	watch := newWatch(ctx, req.Observe, req.ProgressInterval)
	result, phase, err := f.fetch(ctx, req, watch)
	watch.stop()
	if err != nil {
		return Result{}, failed(ctx, err, phase, &req)
	}
	result.BytesTransferred = watch.board.received.Load()
	result.FinishedAt = time.Now()
	result.Elapsed = result.FinishedAt.Sub(begin)
	return result, nil
}

// fetch is the whole machine, in reading order. ARCHITECTURE.md maps the
// phases to the methods of the original.
func (f *Fetcher) fetch(ctx context.Context, req Request, watch *watch) (Result, Phase, error) {
	watch.send(Entered{Prepare})
	j, err := f.prepare(ctx, req, watch)
	if err != nil {
		return Result{}, Prepare, err
	}
	defer j.dir.Close()

	if j.ref.Kind == scheme.Blob {
		blob := Descriptor{Digest: j.ref.Digest, Size: -1}
		watch.send(Entered{Transfer})
		watch.started(Started{TotalBytes: -1, TotalFiles: 1})
		files, err := j.transfer(ctx, []Descriptor{blob})
		return Result{Files: files}, Transfer, err
	}

	watch.send(Entered{Resolve})
	image, err := resolve(ctx, j.repository, j.ref, j.platform)
	if err != nil {
		return Result{}, Resolve, err
	}
	result := Result{Manifest: image.descriptor}
	var blobs []Descriptor
	if j.ref.Kind == scheme.Image {
		blobs = j.wanted(image.manifest.Blobs())
	}
	watch.send(Entered{Store})
	watch.started(image.started(blobs))
	if result.Files, err = j.store(image); err != nil {
		return Result{}, Store, err
	}
	if j.ref.Kind == scheme.Manifest {
		return result, Store, nil
	}

	watch.send(Entered{Transfer})
	files, err := j.transfer(ctx, blobs)
	result.Files = append(result.Files, files...)
	return result, Transfer, err
}

// job is one fetch after it was prepared.
type job struct {
	ref        scheme.Reference
	repository *registry.Repository
	dir        *content.Dir
	platform   Platform
	output     string // file name of a single file; "": its own
	skip       []digest.Digest
	parallel   int
	stall      time.Duration
	watch      *watch
}

// prepare validates the request, finds the credential and opens the directory.
func (f *Fetcher) prepare(ctx context.Context, req Request, watch *watch) (*job, error) {
	ref, err := scheme.FromURI(req.URI)
	if err != nil {
		return nil, err
	}
	j := &job{ref: ref, output: req.OutputFileName, skip: req.SkipDigests, watch: watch}
	if err := j.options(f.config, req); err != nil {
		return nil, err
	}
	match, err := f.credential(ref, req.Config, watch)
	if err != nil {
		return nil, err
	}
	if req.Directory == "" {
		return nil, invalid(DirectoryInvalid, "the directory is not specified")
	}
	if j.dir, err = content.Open(req.Directory); err != nil {
		return nil, err
	}
	j.repository = f.client.Repository(ctx, ref, match)
	return j, nil
}

// options takes the request's options, or the fetcher's where it names none.
func (j *job) options(c Config, req Request) error {
	j.parallel, j.stall, j.platform = c.MaxConcurrentBlobs, c.StallTimeout, *c.Platform
	switch {
	case req.MaxParallel < 0, req.StallTimeout < 0, req.ProgressInterval < 0:
		return invalid(OptionInvalid, "parallelism, stall timeout and progress interval must not be negative")
	case req.OutputFileName != "" && j.ref.Kind == scheme.Image:
		return invalid(OutputNameInvalid, "an output file name is for single files (docker-manifest, docker-blob), not for a whole image")
	case req.OutputFileName == indexName && j.ref.Kind == scheme.Manifest:
		return invalid(OutputNameInvalid, `the output file name "index" is that of the image index; choose another`)
	}
	if req.OutputFileName != "" {
		if err := content.CheckName(req.OutputFileName); err != nil {
			return invalid(OutputNameInvalid, "output file name: "+err.Error())
		}
	}
	for _, d := range req.SkipDigests {
		if err := d.Validate(); err != nil {
			return invalid(DigestInvalid, fmt.Sprintf("digest to skip %.100q: %v", d.String(), err))
		}
	}
	if req.MaxParallel > 0 {
		j.parallel = req.MaxParallel
	}
	if req.StallTimeout > 0 {
		j.stall = req.StallTimeout
	}
	var err error
	j.platform, err = platform(req.Platform, c.Platform)
	return err
}

// platform returns the asked platform, normalised, or the default.
func platform(asked, otherwise *Platform) (Platform, error) {
	if asked == nil {
		return *otherwise, nil
	}
	if asked.OS == "" || asked.Architecture == "" {
		return Platform{}, invalid(OptionInvalid, "a platform needs an operating system and an architecture, such as linux/arm64")
	}
	return platforms.Normalize(*asked), nil
}

// credential finds what the call's config, else the default one, has for the repository.
func (f *Fetcher) credential(ref scheme.Reference, config DockerConfig, watch *watch) (credential.Match, error) {
	secret, err := config.set()
	if err != nil {
		return credential.Match{}, err
	}
	match, _, err := credential.Lookup(ref.Host(), ref.Repository, secret, f.defaults)
	if err != nil {
		return credential.Match{}, err
	}
	for _, text := range credential.Warnings(ref.Host(), ref.Repository, secret, f.defaults) {
		watch.send(Warning{text})
	}
	return match, nil
}

// set decodes the config; nil where there is none.
func (c DockerConfig) set() (*credential.Set, error) {
	sources := 0
	for _, b := range [][]byte{c.JSON, c.MesosSecret, c.MesosSecretJSON} {
		if b != nil {
			sources++
		}
	}
	var config []byte
	var err error
	switch {
	case sources == 0:
		return nil, nil
	case sources > 1:
		return nil, invalid(ConfigInvalid, "the docker config is given in more than one form; give one")
	case c.MesosSecret != nil:
		config, err = credential.DecodeSecret(c.MesosSecret)
	case c.MesosSecretJSON != nil:
		config, err = credential.DecodeSecretJSON(c.MesosSecretJSON)
	default:
		config = c.JSON
	}
	if err != nil {
		return nil, err
	}
	return credential.Parse(config)
}

// store writes the manifest and the index as they were served.
func (j *job) store(image image) ([]File, error) {
	name := j.output
	if name == "" {
		name = manifestName
	}
	files := []File{{Path: name, Descriptor: image.descriptor}}
	if err := j.dir.WriteFile(name, image.raw, digest.FromBytes(image.raw)); err != nil {
		return nil, err
	}
	if image.index != nil {
		files = append(files, File{Path: indexName, Descriptor: *image.index})
		if err := j.dir.WriteFile(indexName, image.indexRaw, digest.FromBytes(image.indexRaw)); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		j.watch.done(file)
	}
	return files, nil
}

// wanted drops what the caller has already.
func (j *job) wanted(blobs []Descriptor) []Descriptor {
	return slices.DeleteFunc(blobs, func(d Descriptor) bool { return slices.Contains(j.skip, d.Digest) })
}

// transfer fetches the blobs, some at a time. The first failure stops the others.
func (j *job) transfer(ctx context.Context, blobs []Descriptor) ([]File, error) {
	files := make([]File, len(blobs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(j.parallel)
	for i, blob := range blobs {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			files[i], err = j.blob(ctx, blob)
			return err
		})
	}
	return files, group.Wait()
}

// blob fetches one blob, or finds that it is there.
func (j *job) blob(ctx context.Context, desc Descriptor) (File, error) {
	name := j.output
	if name == "" {
		name = content.BlobName(desc.Digest)
	}
	if size, ok := j.dir.Holds(name, desc); ok {
		desc.Size = size
		file := File{Path: name, Descriptor: desc, Reused: true}
		j.watch.done(file)
		return file, nil
	}
	w, err := j.dir.Create(name, desc)
	if err != nil {
		return File{}, err
	}
	defer w.Close()
	report, finish := j.watch.blob(desc)
	defer finish()
	options := transfer.Options{Size: desc.Size, Stall: j.stall, Progress: report}
	if err := transfer.Copy(ctx, j.repository.Blob(desc.Digest), w, options); err != nil {
		return File{}, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if err := w.Commit(); err != nil {
		return File{}, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	desc.Size = w.Size()
	file := File{Path: name, Descriptor: desc}
	j.watch.done(file)
	return file, nil
}
