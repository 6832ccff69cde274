package transfer

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultStreams is how many streams one host gets at most.
const DefaultStreams = 32

const (
	// smallBlob is one whose transfer is mostly the wait for its first byte.
	smallBlob = 256 << 10
	// A stream counts as so many units of a host's budget, that of a small blob as one.
	streamUnits = 4

	tickInterval    = 100 * time.Millisecond
	maxTickInterval = 500 * time.Millisecond
)

// Host shares the streams to one registry among all who transfer from it. Safe
// for concurrent use.
type Host struct {
	received atomic.Int64 // bytes, of all streams ever
	worked   atomic.Int64 // nanoseconds that they spent writing and hashing

	mu        sync.Mutex
	pace      pace
	roundTrip time.Duration
	streams   int     // that run
	units     int     // that they take
	waiting   []*Turn // in the order of their coming
	copies    []*transfer
	meters    []*meter
	gone      []*meter    // that ended since the last tick
	usual     float64     // what a connection brings, bytes per second
	ticker    *time.Timer // nil: nothing runs
	last      reading
	failed    reading
	failures  int // in a row
}

// reading is what a tick compares with.
type reading struct {
	at       time.Time
	received int64
	worked   int64
}

// NewHost returns a host that gets at most so many streams at once.
func NewHost(streams int) *Host {
	return &Host{pace: pace{target: min(runtime.GOMAXPROCS(0), streams), max: streams}}
}

// RoundTrip tells how long a round trip to the host takes; 0: unknown.
func (h *Host) RoundTrip(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.distance(d)
	h.grant()
}

// distance notes a round trip. The caller has h.mu.
func (h *Host) distance(d time.Duration) {
	if d > 0 {
		h.roundTrip = d
		h.pace.distance(d)
	}
}

// Idle reports whether nobody transfers from the host or waits to.
func (h *Host) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams == 0 && len(h.waiting) == 0
}

// Group is the transfers of one fetch.
type Group struct {
	host    *Host
	limit   int
	streams int // under host.mu
}

// Group returns a group that has at most limit streams at once.
func (h *Host) Group(limit int) *Group { return &Group{host: h, limit: limit} }

// Turn is the right to transfer one blob: that to one stream, which the host may
// add others to.
type Turn struct {
	group *Group
	units int
	ready chan struct{}
}

// Turn waits until a blob of this size (negative: unknown) may be transferred.
// End it in any case.
func (g *Group) Turn(ctx context.Context, size int64) (*Turn, error) {
	t := &Turn{group: g, units: streamUnits, ready: make(chan struct{})}
	if size >= 0 && size <= smallBlob {
		t.units = 1
	}
	h := g.host
	h.mu.Lock()
	h.waiting = append(h.waiting, t)
	h.grant()
	h.mu.Unlock()
	select {
	case <-t.ready:
		return t, nil
	case <-ctx.Done():
		t.withdraw()
		return nil, ctx.Err()
	}
}

// End gives the stream to the next.
func (t *Turn) End() { t.group.host.ended(t.group, t.units) }

// withdraw ends a turn that may not have begun.
func (t *Turn) withdraw() {
	h := t.group.host
	h.mu.Lock()
	at := slices.Index(h.waiting, t)
	if at >= 0 {
		h.waiting = slices.Delete(h.waiting, at, at+1)
		h.grant()
	}
	h.mu.Unlock()
	if at < 0 {
		t.End()
	}
}

// grant begins what the budget has room for: blobs that wait, of the group with
// the fewest streams first; then further streams for the blob that has most left
// for each of its own. The caller has h.mu.
func (h *Host) grant() {
	for h.streams < h.pace.max {
		if t := h.nextTurn(); t != nil {
			h.begin(t.group, t.units)
			close(t.ready)
			continue
		}
		if !h.pace.split || !h.room(streamUnits) { // those that wait now, wait for their own group
			return
		}
		t := h.neediest()
		if t == nil {
			return
		}
		h.begin(t.group, streamUnits)
		t.addHelper()
	}
}

// running counts the streams as the target does. The caller has h.mu.
func (h *Host) running() int { return (h.units + streamUnits - 1) / streamUnits }

func (h *Host) room(units int) bool { return h.units+units <= h.pace.target*streamUnits }

// nextTurn takes the turn that is next from those that wait; nil: none may begin.
// Where there is no room for it yet, no other begins either: small blobs could
// pass a large one for ever.
func (h *Host) nextTurn() *Turn {
	best := -1
	for i, t := range h.waiting {
		if t.group.streams >= t.group.limit {
			continue
		}
		if best < 0 || t.group.streams < h.waiting[best].group.streams {
			best = i
		}
	}
	if best < 0 || !h.room(h.waiting[best].units) {
		return nil
	}
	t := h.waiting[best]
	h.waiting = slices.Delete(h.waiting, best, best+1)
	return t
}

// neediest returns the transfer that one more stream helps most; nil: none.
func (h *Host) neediest() *transfer {
	var neediest *transfer
	var most int64
	for _, t := range h.copies {
		if t.group.streams >= t.group.limit {
			continue
		}
		if need := t.need(); need > most {
			neediest, most = t, need
		}
	}
	return neediest
}

// begin counts a stream in. The caller has h.mu.
func (h *Host) begin(g *Group, units int) {
	h.streams++
	h.units += units
	g.streams++
	if h.ticker == nil {
		h.last, h.usual = h.read(), 0
		h.ticker = time.AfterFunc(h.interval(), h.tick)
	}
}

// ended counts a stream out.
func (h *Host) ended(g *Group, units int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
	h.units -= units
	g.streams--
	if h.streams == 0 && len(h.waiting) == 0 && h.ticker != nil {
		h.ticker.Stop()
		h.ticker, h.gone = nil, nil
	}
	h.grant()
}

// surplus reports whether a helper of the group should end: there are more
// streams than the target, or a blob waits that its stream would let begin.
func (h *Host) surplus(g *Group) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.units > h.pace.target*streamUnits || slices.ContainsFunc(h.waiting, func(t *Turn) bool {
		return t.group == g || t.group.streams < t.group.limit
	})
}

// load tells how many streams run, and whether a processor would be idle if
// each had one.
func (h *Host) load() (streams int, spare bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams, h.streams+len(h.waiting) < runtime.GOMAXPROCS(0)
}

// join and leave tell which transfers may be helped.
func (h *Host) join(t *transfer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.copies = append(h.copies, t)
}

func (h *Host) leave(t *transfer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.copies = slices.DeleteFunc(h.copies, func(c *transfer) bool { return c == t })
}

// answered takes what an answer tells of the host.
func (h *Host) answered(c Content) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.distance(c.RoundTrip)
	if c.Throttled {
		h.pace.less(max(h.running(), h.pace.target) / 2) // many at once say it once
	}
	h.grant()
}

// refused takes it that the host would not have one more stream.
func (h *Host) refused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pace.less(h.running() - 1)
}

// distant tells whether a round trip is dear, and how many streams there are for
// each of the blobs.
func (h *Host) distant() (far bool, share int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pace.far, max(1, h.pace.target/max(1, len(h.copies)+len(h.waiting)))
}

func (h *Host) isFar() bool {
	far, _ := h.distant()
	return far
}

// broke takes a connection that failed, and reports whether to go on trying.
func (h *Host) broke() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, received := time.Now(), h.received.Load()
	if received-h.failed.received >= enough || now.Sub(h.failed.at) > hostMemory {
		h.failures = 0
	}
	h.failed = reading{at: now, received: received}
	h.failures++
	return h.failures < maxHostFailures
}

// watch and unwatch tell which connections there are.
func (h *Host) watch(m *meter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meters = append(h.meters, m)
}

func (h *Host) unwatch(m *meter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meters = slices.DeleteFunc(h.meters, func(o *meter) bool { return o == m })
	h.gone = append(h.gone, m)
}

// interval is long enough for a stream to answer in.
func (h *Host) interval() time.Duration {
	return min(max(tickInterval, 2*h.roundTrip), maxTickInterval)
}

func (h *Host) read() reading {
	return reading{at: time.Now(), received: h.received.Load(), worked: h.worked.Load()}
}

// tick samples what happened and begins what the pace allows.
func (h *Host) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.read()
	elapsed := now.at.Sub(h.last.at)
	if h.ticker == nil || elapsed < tickInterval/2 { // it was stopped too late
		return
	}
	h.pace.tick(sample{
		streams: h.running(),
		wanted:  len(h.waiting) > 0 || h.neediest() != nil,
		rate:    float64(now.received-h.last.received) / elapsed.Seconds(),
		busy:    float64(now.worked-h.last.worked) / float64(elapsed) / float64(h.streams),
	})
	h.last = now
	h.usual = slowest(slices.Concat(h.meters, h.gone), elapsed, h.usual)
	h.gone = nil
	h.grant()
	h.ticker.Reset(h.interval())
}
