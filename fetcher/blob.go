package fetcher

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
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
	return min(n, j.room.streams())
}

// permitted makes sure that the registry lets this reader have a blob before
// one of the cache is handed out: nothing was asked of it yet. Where it won't
// tell, the blob is fetched without the cache.
func (j *job) permitted(ctx context.Context, blob Descriptor) (Descriptor, error) {
	if j.cache == nil || j.grants.has(j.reader, blob.Digest) {
		return blob, nil
	}
	size, err := j.route.Has(ctx, blob.Digest)
	if untold(err) {
		j.cache = nil
		return blob, nil
	}
	if err != nil {
		return blob, err
	}
	if size > 0 && j.route.File == "" { // some answer 0 to any HEAD, and a mirror's word is not the registry's
		blob.Size = size
	}
	j.grants.add(j.reader, []Descriptor{blob})
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
	lanes := j.lanes(j.route.Able(false))
	for _, l := range lanes {
		if _, down := l.repository.Down(); !down {
			l.repository.Warm(j.connections(blobs))
			break
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(j.parallel, len(blobs)) { // not one for each blob: that many stacks would have to grow
		group.Go(func() (err error) {
			defer recovered(&err)
			pilot := newPilot()
			defer close(pilot)
			for n := next.Add(1); n <= int64(len(order)) && err == nil && ctx.Err() == nil; n = next.Add(1) {
				i := order[n-1]
				files[i], err = j.blob(ctx, pilot, lanes, blobs[i])
			}
			return cmp.Or(err, ctx.Err())
		})
	}
	return files, group.Wait()
}

// blob fetches one blob, or takes part in the flight that does.
func (j *job) blob(ctx context.Context, pilot pilot, lanes []lane, desc Descriptor) (File, error) {
	name := cmp.Or(j.output, content.BlobName(desc.Digest))
	to := destination{j.dir.Path(), name, desc.Digest, j.reader, j.stall, strings.Join(desc.URLs, " ")}
	f, flying := j.flights.join(ctx, to, j, desc.Size)
	mine := flying != nil
	if mine {
		pilot <- func() {
			j.flights.fly(to, f, func() (File, error) { return j.obtain(flying, lanes, name, desc, f.progress) })
		}
	} else {
		defer j.watch.show(f.progress)()
	}
	file, err := j.flights.wait(ctx, to, f, desc.Size)
	switch {
	case !mine && desc.Size < 0 && errors.Is(err, content.ErrSize):
		return j.blob(ctx, pilot, lanes, desc) // it was another call's manifest that was wrong
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
func (j *job) obtain(ctx context.Context, lanes []lane, name string, desc Descriptor, progress *active) (File, error) {
	if err := j.room.enter(ctx); err != nil {
		return File{}, err
	}
	defer j.room.leave()
	if j.cache != nil && len(desc.URLs) == 0 { // who pushes a manifest with URLs need not have had the blob
		file, err := j.cached(ctx, lanes, name, desc, progress)
		if !j.cache.Failed(err) {
			return file, err
		}
		j.watch.warn("without the cache: " + err.Error())
	}
	if size, ok := j.dir.Holds(ctx, name, desc); ok {
		return reused(name, desc, size), nil
	}
	d := download{job: j, desc: desc, progress: progress}
	hide := func() {}
	d.open = func() (w *content.Writer, err error) {
		if w, err = j.dir.Create(name, desc); err == nil {
			hide = j.watch.show(progress)
		}
		return w, err
	}
	defer func() {
		hide()
		d.close()
	}()
	size, err := d.run(ctx, lanes)
	desc.Size = size
	return File{Path: name, Descriptor: desc}, err
}

// cached hands out a blob of the cache, and fetches it into that if it has to.
func (j *job) cached(ctx context.Context, lanes []lane, name string, desc Descriptor, progress *active) (File, error) {
	defer j.watch.show(progress)()
	w, size, err := j.cache.Obtain(ctx, j.dir, name, desc, progress.follow)
	if err != nil {
		return File{}, err
	}
	if w == nil {
		file := reused(name, desc, size)
		file.Cached = true
		return file, nil
	}
	defer w.Close()
	if size, ok := j.dir.Holds(ctx, name, desc); ok { // from before there was a cache
		return reused(name, desc, size), nil
	}
	progress.follow(w.Contiguous())
	d := download{job: j, desc: desc, progress: progress, w: w}
	size, err = d.run(ctx, lanes)
	desc.Size = size
	return File{Path: name, Descriptor: desc}, err
}

func reused(name string, desc Descriptor, size int64) File {
	desc.Size = size
	return File{Path: name, Descriptor: desc, Reused: true}
}
