package fetchertest

import (
	"sync"
	"time"
)

// Link is the way between a registry's hosts and their clients. The zero value
// is loopback as it is.
type Link struct {
	// Latency passes between a request and the first byte of its answer,
	// whatever that is.
	Latency time.Duration
	// ConnectionRate is that of each TCP connection, in bytes of bodies per
	// second: the more connections, the more comes. 0: no limit.
	ConnectionRate int64
	// Rate is that of all connections to all hosts together, in bytes of
	// bodies per second: more connections don't help. 0: no limit.
	Rate int64
}

// pace holds bytes to a rate. The zero value lets all through at once. What was
// not used in time is lost, so there is no burst after a pause.
type pace struct {
	rate int64 // bytes per second; 0: no limit

	mu   sync.Mutex
	next time.Time // when what was let through so far is over
}

// lateness is how far a pace catches up after a timer that fired late, for
// without it the rate would be too low.
const lateness = 10 * time.Millisecond

// take returns when n more bytes are through.
func (p *pace) take(n int64, now time.Time) time.Time {
	if p.rate <= 0 {
		return now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.IsZero() {
		p.next = now
	} else if earliest := now.Add(-lateness); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return p.next
}

// paces hold an answer, which goes by the slowest of them.
type paces []*pace

// maxPiece bounds what leaves at once, so that connections which share a pace
// take turns.
const maxPiece = 32 << 10

// piece is how many bytes may leave at once: a hundredth of a second's; 0: any
// number.
func (ps paces) piece() int64 {
	piece := int64(0)
	for _, p := range ps {
		if p.rate <= 0 {
			continue
		}
		if n := min(max(p.rate/100, 1), maxPiece); piece == 0 || n < piece {
			piece = n
		}
	}
	return piece
}

// take returns when n more bytes are through.
func (ps paces) take(n int64, now time.Time) time.Time {
	through := now
	for _, p := range ps {
		if t := p.take(n, now); t.After(through) {
			through = t
		}
	}
	return through
}
