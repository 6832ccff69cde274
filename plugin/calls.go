package plugin

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// calls are the calls in flight, which Serve ends before the process does.
type calls struct {
	mu     sync.Mutex
	closed bool
	live   map[*call]bool
	idle   chan struct{} // closed when closed and none is live
}

type call struct{ cancel context.CancelCauseFunc }

var errShuttingDown = errors.New("the plugin is shutting down")

func newCalls() *calls { return &calls{live: map[*call]bool{}, idle: make(chan struct{})} }

// enter admits a call until leave, unless the plugin is shutting down.
func (cs *calls) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, nil, shuttingDown()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := &call{cancel}
	cs.live[c] = true
	return ctx, func() {
		cancel(nil)
		cs.mu.Lock()
		defer cs.mu.Unlock()
		delete(cs.live, c)
		cs.settle()
	}, nil
}

// close admits no more calls.
func (cs *calls) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	cs.settle()
}

// cancel closes, and cancels what is live.
func (cs *calls) cancel() {
	cs.close()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.live {
		c.cancel(errShuttingDown)
	}
}

// settle tells those who wait. The caller has cs.mu.
func (cs *calls) settle() {
	if !cs.closed || len(cs.live) > 0 {
		return
	}
	select {
	case <-cs.idle:
	default:
		close(cs.idle)
	}
}

// wait returns when calls were closed and none is live, after d at the latest,
// or when hurry is closed.
func (cs *calls) wait(d time.Duration, hurry <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-cs.idle:
	case <-timer.C:
	case <-hurry:
	}
}

// shuttingDown is the answer to a call that came too late, or that did not end
// in time.
func shuttingDown() error {
	return toStatus(&fetcher.Error{
		Reason: fetcher.ShuttingDown,
		Text:   errShuttingDown.Error() + "; launch it again and repeat the call, what is complete in the directory is kept",
	})
}
