package fetcher

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
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
	result, phase, err := f.fetch(watch.traced(ctx, req.Trace), req, watch)
	if err = cmp.Or(err, watch.stop()); err != nil {
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
		blob, err := j.permitted(ctx, Descriptor{Digest: j.ref.Digest, Size: -1})
		if err != nil {
			return Result{}, Transfer, err
		}
		watch.send(Entered{Transfer})
		watch.started(Started{TotalBytes: -1, TotalFiles: 1})
		files, err := j.transfer(ctx, []Descriptor{blob})
		return Result{Files: files}, Transfer, err
	}

	watch.send(Entered{Resolve})
	image, err := resolve(ctx, j.documents, j.ref, j.platform)
	if err != nil {
		return Result{}, Resolve, err
	}
	j.grants.add(j.reader, image.manifest.Blobs())
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
	ref       scheme.Reference
	route     *registry.Route
	reader    string // the route's identity
	hosts     *hosts
	dir       *content.Dir
	platform  Platform
	output    string // file name of a single file; "": its own
	skip      []digest.Digest
	parallel  int // blobs at once
	chunks    int // parts of a blob at once; 0: as many as help
	stall     time.Duration
	documents documents
	cache     *content.Cache // of the registry; nil: none
	grants    *grants
	flights   *flights
	room      room
	watch     *watch
}

// store writes the manifest and the index as they were served.
func (j *job) store(image image) ([]File, error) {
	name := cmp.Or(j.output, manifestName)
	files := []File{{Path: name, Descriptor: image.descriptor}}
	if err := j.dir.WriteFile(name, image.raw, digest.FromBytes(image.raw)); err != nil {
		return nil, err
	}
	switch {
	case image.index != nil:
		files = append(files, File{Path: indexName, Descriptor: *image.index})
		if err := j.dir.WriteFile(indexName, image.indexRaw, digest.FromBytes(image.indexRaw)); err != nil {
			return nil, err
		}
	case j.output == "":
		// An index of an earlier fetch is not that of this manifest.
		if err := j.dir.Remove(indexName); err != nil {
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
