package fetcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

const defaultProgressInterval = time.Second

// watch hands the events of one fetch to its observer, from one goroutine, so
// that a slow observer never holds up a transfer: events other than Progress
// wait in a queue that the number of files bounds, with a trace that of requests,
// and of Progress only the latest counts.
type watch struct {
	board   board
	observe func(Event) // nil: nobody listens
	tracing bool        // it is told of each request and decision

	mu    sync.Mutex
	queue []Event
	over  bool          // nobody takes from the queue any more
	wake  chan struct{} // holds one
	quit  chan struct{}
	ended chan struct{}
	err   error // a panic of observe; read after ended
}

// newWatch begins to hand events to observe until stop or the end of ctx.
func newWatch(ctx context.Context, observe func(Event), interval time.Duration) *watch {
	w := &watch{observe: observe}
	if observe == nil {
		return w
	}
	if interval <= 0 {
		interval = defaultProgressInterval
	}
	w.wake, w.quit, w.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go w.run(ctx, interval)
	return w
}

func (w *watch) run(ctx context.Context, interval time.Duration) {
	defer close(w.ended)
	defer w.leave()
	defer recovered(&w.err)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.quit:
			w.flush()
			return
		case <-w.wake:
			w.flush()
		case <-ticker.C:
			if p, ok := w.board.progress(); ok {
				w.observe(p)
			}
		}
	}
}

// leave drops what comes late: a shared download may outlive the call that began it.
func (w *watch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over, w.queue = true, nil
}

func (w *watch) flush() {
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	w.mu.Unlock()
	for _, e := range queue {
		w.observe(e)
	}
}

// chose tells which credential goes to a host.
func (w *watch) chose(host string, m credential.Match) {
	if w.tracing {
		w.send(Chosen{Host: host, Key: m.Key, Helper: m.Helper})
	}
}

// stop hands over what is queued and returns when the observer has it.
func (w *watch) stop() error {
	if w.observe == nil {
		return nil
	}
	close(w.quit)
	<-w.ended
	return w.err
}

func (w *watch) send(e Event) {
	if w.observe == nil {
		return
	}
	w.mu.Lock()
	if !w.over {
		w.queue = append(w.queue, e)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) started(s Started) {
	w.board.start(s)
	w.send(s)
}

func (w *watch) done(file File) {
	w.board.finish(file)
	w.send(FileDone{file})
}

// blob returns the state of a transfer whose bytes are this fetch's.
func (w *watch) blob(desc Descriptor) *active {
	return &active{digest: desc.Digest, size: desc.Size, received: &w.board.received}
}

// show puts a transfer on the board; hide takes it off.
func (w *watch) show(a *active) (hide func()) {
	w.board.add(a)
	return func() { w.board.remove(a) }
}

// more takes the bytes that came, at the cost of three atomic operations; fewer
// than none when the blob begins anew.
func (a *active) more(n int64, attempt int) {
	a.offset.Add(n)
	a.received.Add(max(n, 0))
	a.attempt.Store(int64(attempt))
}

// follow takes how far somebody else is who fetches the blob.
func (a *active) follow(offset int64) { a.offset.Store(offset) }

// board is where a fetch is.
type board struct {
	received atomic.Int64 // bytes from the network

	mu         sync.Mutex
	known      bool
	totalBytes int64
	totalFiles int
	doneBytes  int64
	doneFiles  int
	active     []*active
}

// active is a blob in transfer, on the board of each fetch that waits for it.
type active struct {
	received *atomic.Int64 // of the fetch that began it
	digest   digest.Digest
	size     int64
	offset   atomic.Int64
	attempt  atomic.Int64
}

func (b *board) start(s Started) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known, b.totalBytes, b.totalFiles = true, s.TotalBytes, s.TotalFiles
}

func (b *board) add(a *active) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active = append(b.active, a)
}

func (b *board) remove(a *active) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.active {
		if b.active[i] == a {
			b.active = append(b.active[:i], b.active[i+1:]...)
			return
		}
	}
}

// finish counts a file, and takes its transfer from the board so that its bytes
// count once.
func (b *board) finish(file File) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doneFiles++
	b.doneBytes += file.Descriptor.Size
	for i := range b.active {
		if b.active[i].digest == file.Descriptor.Digest {
			b.active = append(b.active[:i], b.active[i+1:]...)
			return
		}
	}
}

// progress returns the picture of now; false before there is one.
func (b *board) progress() (Progress, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := Progress{BytesDone: b.doneBytes, TotalBytes: b.totalBytes, FilesDone: b.doneFiles, TotalFiles: b.totalFiles}
	for _, a := range b.active {
		offset := a.offset.Load()
		p.BytesDone += offset
		p.Active = append(p.Active, BlobProgress{
			Digest: a.digest, Offset: offset, Size: a.size, Attempt: max(1, int(a.attempt.Load())),
		})
	}
	return p, b.known
}

func (w *watch) warn(text string) { w.send(Warning{printable(text)}) }
