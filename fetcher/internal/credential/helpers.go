package credential

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// answerLifetime is how long an answer of a helper stands. The fetches of one
// deployment come within it; a login that was renewed is seen soon.
const answerLifetime = time.Minute

// Helpers runs credential helpers and keeps their answers for a minute each,
// that there is none, too, but no failure. The zero value is ready. Safe for
// concurrent use; no lock is held over a run.
type Helpers struct {
	mu   sync.Mutex
	runs map[Helper]*run
}

// run is one run of a helper that several callers wait for, and later its answer.
type run struct {
	done     chan struct{} // closed when the answer is there
	match    Match
	ok       bool
	err      error
	panicked any       // what the run panicked with, and its stack
	expires  time.Time // zero until then
	waiting  int       // callers; the last one that leaves cancels
	cancel   context.CancelFunc
}

// Get is Helper.Get, or the answer that it gave less than a minute ago.
// Callers with the same helper and key share one run, which goes on until the
// last of them has gone.
func (hs *Helpers) Get(ctx context.Context, h Helper) (m Match, ok bool, err error) {
	hs.mu.Lock()
	r := hs.runs[h]
	if r == nil || r.expired(time.Now()) {
		r = hs.start(ctx, h)
	}
	r.waiting++
	hs.mu.Unlock()

	select {
	case <-r.done:
		if r.panicked != nil {
			panic(r.panicked) // in a goroutine of the caller, who may recover it
		}
		return r.match, r.ok, r.err
	case <-ctx.Done():
		hs.leave(h, r)
		return Match{}, false, h.gaveUp(ctx)
	}
}

func (r *run) expired(now time.Time) bool { return !r.expires.IsZero() && now.After(r.expires) }

// start begins a run. The caller has hs.mu.
func (hs *Helpers) start(ctx context.Context, h Helper) *run {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &run{done: make(chan struct{}), cancel: cancel}
	if hs.runs == nil {
		hs.runs = map[Helper]*run{}
	}
	hs.prune()
	hs.runs[h] = r
	go func() {
		defer cancel()
		m, ok, panicked, err := h.safely(ctx)
		hs.mu.Lock()
		defer hs.mu.Unlock()
		if (err != nil || panicked != nil) && hs.runs[h] == r {
			delete(hs.runs, h)
		}
		r.match, r.ok, r.panicked, r.err, r.expires = m, ok, panicked, err, time.Now().Add(answerLifetime)
		close(r.done)
	}()
	return r
}

// safely is Get, with a panic and its stack as a value.
func (h Helper) safely(ctx context.Context) (m Match, ok bool, panicked any, err error) {
	defer func() {
		if p := recover(); p != nil {
			panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	m, ok, err = h.Get(ctx)
	return m, ok, nil, err
}

// leave ends a run that nobody waits for any more, and makes room for the next.
func (hs *Helpers) leave(h Helper, r *run) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if r.waiting--; r.waiting > 0 {
		return
	}
	r.cancel()
	if hs.runs[h] == r {
		delete(hs.runs, h)
	}
}

// prune drops answers that expired, so that a long life with many registries
// does not grow. The caller has hs.mu.
func (hs *Helpers) prune() {
	now := time.Now()
	for h, r := range hs.runs {
		if r.expired(now) {
			delete(hs.runs, h)
		}
	}
}
