package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrStalled is a connection on which too little came for the stall timeout, or
// far less than on others.
var ErrStalled = errors.New("stalled")

const (
	// leastPerSecond is what a connection must bring while nothing else is known
	// of the network; less is a trickle.
	leastPerSecond = 1 << 10
	// checks is how often a stall timeout is looked at.
	checks = 8
	// A connection is slow that brings, for slowTime, less than a slowShare of
	// what the others of its host bring on average.
	slowTime  = 5 * time.Second
	slowShare = 10
	// slowRate is what the others must bring a second for that to mean anything.
	slowRate = 64 << 10
	// usualTime is for how long it counts what others brought.
	usualTime = 10 * time.Second
)

// meter watches what one connection brings while its stream waits for bytes;
// the time that writing takes does not count.
type meter struct {
	received atomic.Int64
	reading  atomic.Bool
	ctx      context.Context // of the connection
	give     context.CancelCauseFunc
	stall    time.Duration
	check    *time.Timer

	seen    int64 // at the last check
	quiet   int   // checks in a row with too little
	trickle int64 // what came in them

	// Of the ticks, under host.mu.
	ranged   bool // giving up costs nothing that was received
	measured int64
	rate     float64
	slow     time.Duration
}

// newMeter watches until the end of ctx, which give ends.
func newMeter(ctx context.Context, give context.CancelCauseFunc, stall time.Duration, ranged bool) *meter {
	m := &meter{ctx: ctx, give: give, stall: stall, ranged: ranged}
	m.check = time.AfterFunc(time.Hour, m.look)
	m.check.Reset(stall / checks) // by now look finds it
	return m
}

// end lets go of the connection.
func (m *meter) end() { m.check.Stop() }

// look runs every eighth of the stall timeout.
func (m *meter) look() {
	if m.ctx.Err() != nil {
		return
	}
	n := m.received.Load()
	came := n - m.seen
	m.seen = n
	if m.reading.Load() && came <= int64(m.stall/checks)*leastPerSecond/int64(time.Second) {
		m.quiet++
		m.trickle += came
	} else {
		m.quiet, m.trickle = 0, 0
	}
	if m.quiet >= checks {
		m.give(m.stalled())
		return
	}
	m.check.Reset(m.stall / checks)
}

func (m *meter) stalled() error {
	if m.trickle == 0 {
		return fmt.Errorf("%w: no byte for %v", ErrStalled, m.stall)
	}
	return fmt.Errorf("%w: only %d bytes in %v", ErrStalled, m.trickle, m.stall)
}

// slowest gives up the connections that bring far less than the others do, or
// did a moment ago: the last bytes of a blob have no others beside them. elapsed
// is the time since the last call, usual what that returned.
func slowest(meters []*meter, elapsed time.Duration, usual float64) float64 {
	var sum float64
	for _, m := range meters {
		sum += m.measure(elapsed)
	}
	usual *= max(0, 1-elapsed.Seconds()/usualTime.Seconds())
	for _, m := range meters {
		if len(meters) > 1 {
			usual = max(usual, (sum-m.rate)/float64(len(meters)-1))
		}
	}
	for _, m := range meters {
		m.compare(usual, elapsed)
	}
	return usual
}

// measure takes what came since the last tick.
func (m *meter) measure(elapsed time.Duration) float64 {
	n := m.received.Load()
	m.rate = float64(n-m.measured) / elapsed.Seconds()
	m.measured = n
	return m.rate
}

// compare holds the rate against that of the others.
func (m *meter) compare(usual float64, elapsed time.Duration) {
	slow := m.ranged && m.reading.Load() && usual >= slowRate && m.rate < usual/slowShare
	if !slow {
		m.slow = 0
	} else if m.slow += elapsed; m.slow >= slowTime {
		m.slow = 0
		m.give(errSlow)
	}
}

// errSlow is a connection that others are far faster than.
var errSlow = fmt.Errorf("%w: less than a %dth of what other connections bring", ErrStalled, slowShare)
