package fetcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// flights are the blobs on their way into a directory, each once: calls that
// want the same one at the same time share it. The zero value is ready.
type flights struct {
	mu  sync.Mutex
	all map[destination]*flight
}

// destination says which calls may share a flight: those of one reader, as
// registry.Route.Identity names it, since what one is refused another may have.
type destination struct {
	dir, name string
	digest    digest.Digest
	reader    string
	stall     time.Duration // one call's patience is not another's
	urls      string        // of a foreign layer: another manifest may name none
}

// flight is one transfer that several calls wait for. It goes on until the last
// of them has left.
type flight struct {
	dir      *content.Dir // of the call that began it
	size     int64        // by its descriptor
	progress *active
	cancel   context.CancelFunc
	waiting  int // guarded by flights.mu

	done chan struct{} // closed when file and err are there
	file File
	err  error
}

// join returns the flight to there, and begins one where there is none that this
// call can share: of another directory that was at the same path, or for
// another size. Then the caller has to fly it.
func (fs *flights) join(ctx context.Context, to destination, j *job, size int64) (f *flight, flying context.Context) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f = fs.all[to]
	if f != nil && f.dir.Same(j.dir) && (f.size == size || f.size < 0 || size < 0) {
		f.waiting++
		return f, nil
	}
	f = &flight{
		dir: j.dir, size: size, progress: j.watch.blob(Descriptor{Digest: to.digest, Size: size}),
		waiting: 1, done: make(chan struct{}),
	}
	flying, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if fs.all == nil {
		fs.all = map[destination]*flight{}
	}
	fs.all[to] = f
	f.dir.Share()
	return f, flying
}

// fly fetches the blob for all who wait.
func (fs *flights) fly(to destination, f *flight, fetch func() (File, error)) {
	file, err := safely(fetch)
	f.cancel()
	_ = f.dir.Close()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.forget(to, f)
	f.file, f.err = file, err
	close(f.done)
}

// safely returns a panic as an error.
func safely(fetch func() (File, error)) (file File, err error) {
	defer recovered(&err)
	return fetch()
}

// wait returns what the flight brought, if that is of the wanted size; or when
// ctx ends. The last one to leave waits until the transfer has stopped, so that
// nothing of it comes after the call's end.
func (fs *flights) wait(ctx context.Context, to destination, f *flight, size int64) (File, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		if fs.leave(to, f) {
			<-f.done
		}
		return File{}, ctx.Err()
	}
	if f.err == nil && size >= 0 && f.file.Descriptor.Size != size {
		return File{}, fmt.Errorf("blob %s: %w: got %d bytes, the manifest says %d", to.digest, content.ErrSize, f.file.Descriptor.Size, size)
	}
	return f.file, f.err
}

// leave ends a flight that nobody waits for any more, and makes room for the next.
func (fs *flights) leave(to destination, f *flight) (last bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return false
	}
	f.cancel()
	fs.forget(to, f)
	return true
}

// forget has the next caller begin anew. The caller has fs.mu.
func (fs *flights) forget(to destination, f *flight) {
	if fs.all[to] == f {
		delete(fs.all, to)
	}
}

// pilot flies, one after the other, the flights that one goroutine of a call
// begins. It is another goroutine, since that call may end before they do; and
// one for many flights, as the stack of each new one would have to grow.
type pilot chan func()

func newPilot() pilot {
	p := make(pilot)
	go func() {
		for fly := range p {
			fly()
		}
	}()
	return p
}
