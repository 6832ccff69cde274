package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

const (
	// aheadConnections are made to a far registry while a token is asked for,
	// before the manifest has told how many blobs there are.
	aheadConnections = 32
	// aheadPart is how much of a blob one connection is made for.
	aheadPart = 4 << 20
)

// connections is how many a far registry will have to serve these blobs.
func (j *job) connections(blobs []Descriptor) int {
	n := 0
	for _, b := range blobs {
		if j.cache != nil && j.cache.Stored(b.Digest) {
			continue
		}
		n += 1 + int(min(max(b.Size, 0)/aheadPart, transfer.DefaultStreams))
	}
	return min(n, transfer.DefaultStreams)
}

// permitted makes sure that the registry lets this reader have a blob before
// one of the cache is handed out: nothing was asked of it yet. Where it won't
// tell, the blob is fetched without the cache.
func (j *job) permitted(ctx context.Context, blob Descriptor) (Descriptor, error) {
	if j.cache == nil || j.grants.has(j.repository.Identity(), blob.Digest) {
		return blob, nil
	}
	size, err := j.repository.Has(ctx, blob.Digest)
	if untold(err) {
		j.cache = nil
		return blob, nil
	}
	if err != nil {
		return blob, err
	}
	if size > 0 { // some answer 0 to any HEAD
		blob.Size = size
	}
	j.grants.add(j.repository.Identity(), []Descriptor{blob})
	return blob, nil
}

// untold reports whether the answer to a HEAD says nothing of a GET: a content
// host's address may be signed for GET only.
func untold(err error) bool {
	var refused *registry.Error
	return errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.Reason == string(RegistryUnreachable)
}

// transfer fetches the blobs, some at a time: small ones first, since they cost
// little and those who wait for the image's config have it early. The first
// failure stops the others.
func (j *job) transfer(ctx context.Context, blobs []Descriptor) ([]File, error) {
	order := make([]int, len(blobs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(uint64(blobs[a].Size), uint64(blobs[b].Size)) }) // unknown last
	files := make([]File, len(blobs))
	j.host.RoundTrip(j.repository.RoundTrip())
	j.repository.Warm(j.connections(blobs))
	streams := j.host.Group(transfer.DefaultStreams)
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(j.parallel, len(blobs)) { // not one for each blob: that many stacks would have to grow
		group.Go(func() (err error) {
			defer recovered(&err)
			pilot := newPilot()
			defer close(pilot)
			for n := next.Add(1); n <= int64(len(order)) && err == nil && ctx.Err() == nil; n = next.Add(1) {
				i := order[n-1]
				files[i], err = j.blob(ctx, pilot, streams, blobs[i])
			}
			return cmp.Or(err, ctx.Err())
		})
	}
	return files, group.Wait()
}

// blob fetches one blob, or takes part in the flight that does.
func (j *job) blob(ctx context.Context, pilot pilot, streams *transfer.Group, desc Descriptor) (File, error) {
	name := cmp.Or(j.output, content.BlobName(desc.Digest))
	r := route{j.dir.Path(), name, desc.Digest, j.repository.Identity(), j.stall}
	f, flying := j.flights.join(ctx, r, j, desc.Size)
	mine := flying != nil
	if mine {
		pilot <- func() {
			j.flights.fly(r, f, func() (File, error) { return j.obtain(flying, streams, name, desc, f.progress) })
		}
	} else {
		defer j.watch.show(f.progress)()
	}
	file, err := j.flights.wait(ctx, r, f, desc.Size)
	switch {
	case !mine && desc.Size < 0 && errors.Is(err, content.ErrSize):
		return j.blob(ctx, pilot, streams, desc) // it was another call's manifest that was wrong
	case err != nil:
		return File{}, err
	}
	desc.Size = file.Descriptor.Size
	file.Descriptor = desc             // as this call's manifest has it
	file.Reused = file.Reused || !mine // its bytes are counted once
	j.watch.done(file)
	return file, nil
}

// obtain finds that a blob is there, or fetches it.
func (j *job) obtain(ctx context.Context, streams *transfer.Group, name string, desc Descriptor, progress *active) (File, error) {
	if j.cache != nil {
		return j.cached(ctx, streams, name, desc, progress)
	}
	if size, ok := j.dir.Holds(ctx, name, desc); ok {
		return reused(name, desc, size), nil
	}
	turn, err := streams.Turn(ctx, desc.Size) // before a file is open
	if err != nil {
		return File{}, err
	}
	defer turn.End()
	w, err := j.dir.Create(name, desc)
	if err != nil {
		return File{}, err
	}
	defer w.Close()
	defer j.watch.show(progress)()
	return j.fetched(ctx, turn, w, name, desc, progress)
}

// cached hands out a blob of the cache, and fetches it into that if it has to.
func (j *job) cached(ctx context.Context, streams *transfer.Group, name string, desc Descriptor, progress *active) (File, error) {
	defer j.watch.show(progress)()
	w, size, err := j.cache.Obtain(ctx, j.dir, name, desc, progress.follow)
	if err != nil {
		return File{}, err
	}
	if w == nil {
		return reused(name, desc, size), nil
	}
	defer w.Close()
	if size, ok := j.dir.Holds(ctx, name, desc); ok { // from before there was a cache
		return reused(name, desc, size), nil
	}
	progress.follow(w.Contiguous())
	turn, err := streams.Turn(ctx, desc.Size)
	if err != nil {
		return File{}, err
	}
	defer turn.End()
	return j.fetched(ctx, turn, w, name, desc, progress)
}

func reused(name string, desc Descriptor, size int64) File {
	desc.Size = size
	return File{Path: name, Descriptor: desc, Reused: true}
}

// fetched transfers a blob and commits it. One that came in pieces and is wrong
// may be right in one piece: not all that answer for a host need have the same.
func (j *job) fetched(ctx context.Context, turn *transfer.Turn, w *content.Writer, name string, desc Descriptor, progress *active) (File, error) {
	options := transfer.Options{Size: desc.Size, Have: w.Contiguous(), Stall: j.stall, Streams: j.chunks, Progress: progress.more}
	pieced, err := j.copied(ctx, turn, w, desc, options)
	if pieced && errors.Is(err, content.ErrDigest) {
		progress.more(-progress.offset.Load(), 1)
		options.Have, options.Streams = 0, 1
		if err = w.Restart(); err == nil {
			_, err = j.copied(ctx, turn, w, desc, options)
		}
	}
	if err != nil {
		return File{}, fmt.Errorf("blob %s of %s: %w", desc.Digest, j.ref.Name(), err)
	}
	desc.Size = w.Size()
	return File{Path: name, Descriptor: desc}, nil
}

func (j *job) copied(ctx context.Context, turn *transfer.Turn, w *content.Writer, desc Descriptor, o transfer.Options) (pieced bool, err error) {
	pieced, err = turn.Copy(ctx, j.repository.Blob(desc.Digest), w, o)
	if err == nil {
		err = w.Verify(ctx) // most of a large partial is hashed only now
	}
	if err == nil {
		err = w.Commit()
	}
	return pieced, err
}
