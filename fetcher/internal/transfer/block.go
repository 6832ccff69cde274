package transfer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

const (
	// A block is large enough that system calls cost little, and small enough
	// that its bytes are still in the processor's cache when they are hashed.
	largeBlock = 1 << 20
	// With many streams, as a far host gets, blocks are smaller, so that memory
	// stays in bounds: DefaultStreams of them are 4 MiB.
	smallBlock = 128 << 10
	// manyStreams is from when on.
	manyStreams = 4
	// beltBlocks is how many there are when a goroutine of its own hashes: one is
	// read into, one hashed, one between.
	beltBlocks = 3
	// beltLeast is what must be left of a part for that goroutine to be worth it.
	beltLeast = 4 << 20
)

var (
	largeBlocks = blockPool(largeBlock)
	smallBlocks = blockPool(smallBlock)
)

func blockPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, size)
		return &b
	}}
}

// sinkError marks what the sink said, as opposed to the network.
type sinkError struct{ error }

func (e *sinkError) Unwrap() error { return e.error }

// blocks is where a stream reads into, and how that gets to the sink: the
// stream writes and hashes each block itself, while its bytes are in the cache,
// until it finds a processor idle; then a goroutine of its own hashes while the
// next block is read and written.
type blocks struct {
	t     *transfer
	part  *part
	pool  *sync.Pool
	block *[]byte // to read into; nil: the goroutine has it

	made   int // blocks in all
	full   chan written
	empty  chan *[]byte
	ended  chan struct{} // nil: there is no goroutine
	failed atomic.Bool
	err    error
}

// written is a block that the sink has, and what is left to do with it.
type written struct {
	block *[]byte
	rest  content.Unhashed
}

func (t *transfer) blocks(p *part) *blocks {
	t.mu.Lock()
	left := p.left()
	t.mu.Unlock()
	pool := largeBlocks
	if streams, _ := t.host.load(); left <= smallBlock || streams > manyStreams || t.host.isFar() {
		pool = smallBlocks
	}
	return &blocks{t: t, part: p, pool: pool}
}

// next returns a block to read into.
func (b *blocks) next() []byte {
	switch {
	case b.block != nil:
	case b.made < 1 || b.ended != nil && b.made < beltBlocks:
		b.block = b.pool.Get().(*[]byte)
		b.made++
	default:
		select {
		case b.block = <-b.empty:
		case <-b.ended: // in a panic, which put will tell
			b.block = b.pool.Get().(*[]byte)
		}
	}
	return *b.block
}

// put writes the first n bytes of the last block.
func (b *blocks) put(n int) error {
	rest, err := b.t.write(b.part, (*b.block)[:n])
	if err != nil {
		return err
	}
	if b.ended == nil && !b.begin() {
		return b.t.hash(rest)
	}
	select {
	case b.full <- written{b.block, rest}:
		b.block = nil
	case <-b.ended:
		return context.Canceled
	}
	if b.failed.Load() {
		return b.err
	}
	return nil
}

// begin starts the goroutine if there is a processor for it.
func (b *blocks) begin() bool {
	b.t.mu.Lock()
	left := b.part.left()
	b.t.mu.Unlock()
	if left < beltLeast || b.pool != largeBlocks {
		return false
	}
	if _, spare := b.t.host.load(); !spare {
		return false
	}
	b.full, b.empty, b.ended = make(chan written, beltBlocks), make(chan *[]byte, beltBlocks), make(chan struct{})
	go b.run()
	return true
}

func (b *blocks) run() {
	defer close(b.ended)
	defer b.t.catch()
	for f := range b.full {
		if b.err == nil {
			if b.err = b.t.hash(f.rest); b.err != nil {
				b.failed.Store(true)
			}
		}
		b.empty <- f.block
	}
}

// close returns when all that was put is hashed.
func (b *blocks) close() error {
	if b.ended != nil {
		close(b.full)
		<-b.ended
		for len(b.empty) > 0 {
			b.pool.Put(<-b.empty)
		}
	}
	if b.block != nil {
		b.pool.Put(b.block)
	}
	return b.err
}

// write puts bytes in the part's next place.
func (t *transfer) write(p *part, b []byte) (content.Unhashed, error) {
	defer t.working(time.Now())
	t.mu.Lock()
	at := p.written
	t.mu.Unlock()
	rest, err := t.sink.Put(b, at)
	if err != nil {
		return rest, &sinkError{err}
	}
	t.mu.Lock()
	p.written += int64(len(b))
	t.progress += int64(len(b))
	t.mu.Unlock()
	return rest, nil
}

func (t *transfer) hash(rest content.Unhashed) error {
	defer t.working(time.Now())
	if err := rest.Hash(); err != nil {
		return &sinkError{err}
	}
	return nil
}

// working counts the time since begin as work of this machine, which may be
// what limits the host's streams.
func (t *transfer) working(begin time.Time) { t.host.worked.Add(int64(time.Since(begin))) }
