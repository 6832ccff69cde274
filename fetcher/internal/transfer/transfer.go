// Package transfer moves blobs from sources to sinks: each over as many streams
// as make it faster, and on from where it was when a connection fails.
//
// plan (pure) divides a blob, pace (pure) decides how many streams a host gets,
// Host shares them, meter watches each connection.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

const (
	// maxFailures in a row, without enough progress in between, end a transfer;
	// maxHostFailures those of all transfers from one host, until hostMemory later.
	maxFailures     = 5
	maxHostFailures = 40
	hostMemory      = 30 * time.Second
	// enough progress for the count of failures to begin anew: a server that
	// gives a byte and hangs up is not to be asked a million times.
	enough = 1 << 20
	// firstWait comes before the third attempt, and doubles.
	firstWait = 800 * time.Millisecond
	// maxSlow is how often a transfer gives up connections for being slow.
	maxSlow = 3

	// A part is worth a request of its own from leastPart on. Of a far host no
	// more than farPart is asked for at once, so that no stream has much to do
	// when the others have nothing left, and the connection serves again; of a
	// near one the first stream asks for all, further ones for nearPart.
	leastPart = 512 << 10
	farPart   = 4 << 20
	nearPart  = 16 << 20
	// nearRanged is the size from which a near host is asked by a range, so that
	// its answer tells whether others may help.
	nearRanged = 8 << 20
)

// Error is a transfer that failed in the network, after Offset bytes.
type Error struct {
	Offset   int64
	Attempts int
	Err      error
}

func (e *Error) Error() string {
	return fmt.Sprintf("broke off after %d bytes, in %d attempts: %v", e.Offset, e.Attempts, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Options bound a transfer.
type Options struct {
	Size    int64         // of the blob; -1: unknown, then it ends where the server ends it
	Have    int64         // so many first bytes are in the sink already
	Stall   time.Duration // the longest wait for bytes that matter; positive
	Streams int           // at most so many for this blob; 0: no bound of its own; 1: no ranges but to resume
	Once    bool          // the first connection that breaks ends it: there is another host to go on from
	// Progress is told, with each read, how many more bytes arrived, and that
	// they and Have are gone again when the blob begins anew; may be nil.
	// Concurrent.
	Progress func(more int64, attempt int)
}

// Copy writes the whole blob to sink, each byte once, over the turn's stream
// and those that the host adds. It does not verify them. pieced tells that
// they came in more than one answer: if they are wrong then, they may be right
// when they come in one. What Open or sink return is returned as it is, the end
// of ctx as ctx.Err(), a server that has a blob of another size as
// content.ErrSize; any other failure is an *Error.
func (u *Turn) Copy(ctx context.Context, source Source, sink Sink, o Options) (pieced bool, err error) {
	t := &transfer{Options: o, group: u.group, host: u.group.host, source: source, sink: sink}
	t.plan = newPlan(o.Size, o.Have)
	t.pieced = o.Have > 0
	t.changed = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.helped, t.dismiss = context.WithCancel(ctx)
	t.stop = cancel
	err = t.helpedRun(ctx)
	if t.panicked != nil {
		panic(t.panicked)
	}
	if t.fatal != nil {
		err = t.fatal
	}
	return t.pieced, err
}

// transfer is one Copy.
type transfer struct {
	Options
	group  *Group
	host   *Host
	source Source
	sink   Sink
	stop   context.CancelFunc

	helpers sync.WaitGroup
	helped  context.Context // of the helpers
	dismiss context.CancelFunc
	changed chan struct{} // holds one: a part was released

	opened   atomic.Int64 // connections
	reported atomic.Int64 // bytes

	mu        sync.Mutex
	plan      plan
	helping   int    // streams besides the first
	ranges    bool   // an answer proved them
	alone     bool   // ranges turned out wrong
	pieced    bool   // more than one answer
	validator string // of the first answer
	failures  int
	again     bool // begun anew
	slow      int
	progress  int64 // bytes written since the last failure of the first stream
	fatal     error // what a helper met and nobody can mend
	panicked  any
}

// What is wrong with an answer, as opposed to its bytes.
var (
	errNoRange = errors.New("the server gave the whole blob, not the part asked for")
	errChanged = errors.New("the blob changed while it was fetched")
)

// readError marks what came from the network, as opposed to the sink.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// helpedRun lets the host add helpers to the run. They are gone when it returns,
// or panics.
func (t *transfer) helpedRun(ctx context.Context) error {
	t.host.join(t)
	defer t.sendAway()
	return t.run(ctx)
}

// run fetches parts until none is left: the one stream that every blob has.
func (t *transfer) run(ctx context.Context) error {
	for {
		p, err := t.next(ctx)
		if p == nil {
			return err
		}
		before := t.host.received.Load()
		err = t.stream(ctx, p, false)
		t.release(p)
		if err != nil && t.host.received.Load() > before && throttled(err) {
			t.host.refused() // it serves others of ours, so it will serve this one too
			err = &readError{err}
		}
		if err == nil {
			continue
		}
		if err := t.recover(ctx, err); err != nil {
			return err
		}
	}
}

// next returns the part to fetch next, nil when all bytes are there. It waits
// while others have the last ones.
func (t *transfer) next(ctx context.Context) (*part, error) {
	for {
		p, complete := t.give(t.partLimit(false))
		if p != nil || complete {
			return p, nil
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// give returns a part for the first stream; nil: there is none to be had now, or
// all is complete.
func (t *transfer) give(limit int64) (p *part, complete bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ranges && !t.alone {
		p = t.plan.assign(limit, leastPart)
	} else {
		p = t.plan.take(limit)
	}
	return p, t.plan.complete()
}

// throttled reports whether the host wants fewer requests.
func throttled(err error) bool {
	var refused interface{ Throttled() bool }
	return errors.As(err, &refused) && refused.Throttled()
}

// recover decides what follows an error of the first stream: nil to go on.
func (t *transfer) recover(ctx context.Context, err error) error {
	var broken *readError
	var local *sinkError
	switch {
	case errors.Is(err, errChanged):
		return t.restart()
	case errors.As(err, &local):
		return local.error
	case !errors.As(err, &broken):
		return err
	case errors.Is(err, errSlow):
		return ctx.Err()
	}
	alive := t.host.broke()
	t.mu.Lock()
	if t.progress >= enough {
		t.failures = 0
	}
	t.progress = 0
	t.failures++
	failures := t.failures
	end := &Error{Offset: t.plan.reached(), Attempts: t.attempt(), Err: broken.error}
	t.mu.Unlock()
	if t.Once || failures >= maxFailures || !alive {
		return end
	}
	return wait(ctx, failures)
}

// restart begins the blob anew, in one stream, once.
func (t *transfer) restart() error {
	if t.sendAway(); t.again {
		return &Error{Attempts: t.attempt(), Err: errChanged}
	}
	t.again = true
	if err := t.sink.Restart(); err != nil {
		return err
	}
	t.plan, t.validator, t.pieced = newPlan(t.Size, 0), "", false
	if t.Progress != nil {
		t.Progress(-t.reported.Swap(0)-t.Have, t.attempt())
	}
	t.Have = 0
	return nil
}

// sendAway sends the helpers away and returns when they are gone.
func (t *transfer) sendAway() {
	t.host.leave(t) // which sends no more of them
	t.mu.Lock()
	t.alone = true
	t.mu.Unlock()
	t.dismiss()
	t.helpers.Wait()
}

// partLimit is how much one stream should ask for at once; 0: all.
func (t *transfer) partLimit(helper bool) int64 {
	far, share := t.host.distant()
	share = min(share, t.group.limit)
	if t.Streams > 0 {
		share = min(share, t.Streams)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.Streams == 1 || t.alone || t.Size < 2*leastPart:
		return 0
	case far:
		// Ever smaller parts, so that all streams end at about the same time.
		return min(max(t.plan.left()/int64(2*share), leastPart), farPart)
	case helper:
		return nearPart
	}
	return 0
}

// request asks for what is left of a part.
func (t *transfer) request(p *part) (Request, bool) {
	far, _ := t.host.distant()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened.Add(1)
	r := Request{Offset: p.written}
	if p.end < t.Size {
		r.Length = p.end - p.written
	}
	r.Ranged = t.Streams != 1 && !t.alone && (t.Size >= nearRanged || far && t.Size >= 2*leastPart)
	return r, r.Length > 0 || r.Offset > 0 || r.Ranged
}

// agree holds an answer against what is known of the blob, before bytes of
// another one come.
func (t *transfer) agree(c Content, p *part, asked, helper bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.Total < 0:
	case t.Size < 0 && c.Total < p.written:
		return fmt.Errorf("%w: the server has %d bytes, but gave %d before", content.ErrSize, c.Total, p.written)
	case t.Size < 0:
		t.Size, p.end = c.Total, c.Total
	case t.Size != c.Total:
		return fmt.Errorf("%w: the server has %d bytes, expected were %d", content.ErrSize, c.Total, t.Size)
	}
	if t.validator != "" && c.Validator != "" && t.validator != c.Validator {
		return errChanged
	}
	if t.validator == "" {
		t.validator = c.Validator
	}
	switch {
	case c.Ranged:
		t.ranges = t.Size >= 0
	case asked:
		t.ranges, t.alone = false, true
		if helper {
			return errNoRange
		}
	}
	t.pieced = t.pieced || p.written > 0
	return nil
}

// attempt is the number of the connection, for the reports.
func (t *transfer) attempt() int { return int(t.opened.Load()) }

// need tells how many bytes each stream has to bring yet; 0: another one would
// be of no help.
func (t *transfer) need() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	streams := 1 + t.helping
	failing := t.failures > 0 && t.progress < enough // helpers would only ask in the pauses
	if !t.ranges || t.alone || failing || t.helped.Err() != nil ||
		t.Streams > 0 && streams >= t.Streams || !t.plan.divisible(leastPart) {
		return 0
	}
	return max(1, t.plan.left()/int64(streams))
}

// addHelper begins one more stream. The caller has host.mu.
func (t *transfer) addHelper() {
	t.mu.Lock()
	t.helping++
	t.mu.Unlock()
	t.helpers.Add(1)
	go t.help()
}

// help fetches parts until none is left, or the host has streams enough. What
// goes wrong here is the first stream's to meet again, but for the sink.
func (t *transfer) help() {
	defer t.helpers.Done()
	defer t.host.ended(t.group, streamUnits)
	defer func() {
		t.mu.Lock()
		t.helping--
		t.mu.Unlock()
		t.signal()
	}()
	defer t.catch()
	for {
		p := t.more()
		if p == nil {
			return
		}
		err := t.stream(t.helped, p, true)
		t.release(p)
		var local *sinkError
		switch {
		case errors.As(err, &local):
			t.fail(local.error)
			return
		case err != nil && t.helped.Err() == nil && !errors.Is(err, errSlow):
			t.host.refused()
			return
		case t.host.surplus(t.group):
			return
		}
	}
}

// more returns a part for a helper; nil: there is none.
func (t *transfer) more() *part {
	limit := t.partLimit(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.helped.Err() != nil || t.alone {
		return nil
	}
	return t.plan.assign(limit, leastPart)
}

// release ends a part, whole or not.
func (t *transfer) release(p *part) {
	defer t.signal()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan.release(p)
}

func (t *transfer) signal() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// fail ends the transfer with what a helper met.
func (t *transfer) fail(err error) {
	t.mu.Lock()
	t.fatal = err
	t.mu.Unlock()
	t.stop()
}

// catch keeps a panic for the goroutine that called Copy.
func (t *transfer) catch() {
	if r := recover(); r != nil {
		t.mu.Lock()
		t.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
		t.mu.Unlock()
		t.stop()
	}
}

// wait pauses before the next attempt; the first one follows at once, since a
// connection that broke in the middle says nothing about the server.
func wait(ctx context.Context, failures int) error {
	if failures <= 1 {
		return ctx.Err()
	}
	pause := firstWait << (failures - 2)
	timer := time.NewTimer(pause/2 + rand.N(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
