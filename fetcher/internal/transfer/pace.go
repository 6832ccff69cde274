package transfer

import "time"

const (
	// A host is far when a round trip costs more than what a stream could read
	// meanwhile on a fast network.
	farRoundTrip = 3 * time.Millisecond
	// farStreams is what a far host begins with. One connection there is bound by
	// its window, its losses or a limit of the host's.
	farStreams = 16
	// gain is what doubling the streams must bring, or it is taken back.
	gain = 1.1
	// saturated is the share of their time above which streams that write and
	// hash don't wait for the network: this machine is the limit. It is a share of
	// the streams' own time, so other work on the machine does not change it.
	saturated = 0.4

	// ticks without a new trial: after a raise, for connections to get up to
	// speed; at a far host's beginning, for the first bytes too; after a raise that
	// brought nothing; after the host asked for less.
	settleTicks  = 1
	farTicks     = 3
	contentTicks = 30
	humbleTicks  = 100
)

// pace decides how many streams a host gets: more for as long as that makes
// the sum faster, fewer when the host says so. It decides and does nothing else.
type pace struct {
	target  int // streams
	max     int
	far     bool
	split   bool // one blob may have several streams
	wait    int  // ticks before the next decision
	trial   bool
	before  int     // the target before the trial
	earlier float64 // the rate before the trial
}

// sample is what happened in one tick.
type sample struct {
	streams int     // that ran
	wanted  bool    // there was work for more
	rate    float64 // bytes per second, of all streams together
	busy    float64 // share of their time that they wrote and hashed, 0 to 1
}

// tick takes the sample of one tick and decides the target for the next.
func (p *pace) tick(s sample) {
	if p.wait > 0 {
		p.wait--
		return
	}
	if p.trial {
		p.trial = false
		if s.rate < p.earlier*gain {
			p.target, p.wait = p.before, contentTicks
			return
		}
	}
	switch {
	case !s.wanted || !(s.busy < saturated): // also not a number
	case !p.split:
		p.split, p.wait = true, settleTicks
	case s.streams >= p.target && p.target < p.max: // those granted last are at work
		p.before, p.earlier = p.target, s.rate
		p.target = min(2*p.target, p.max)
		p.trial, p.wait = true, settleTicks
	}
}

// distance tells how long a round trip takes. What is found to be far begins
// with more streams.
func (p *pace) distance(roundTrip time.Duration) {
	if roundTrip >= farRoundTrip && !p.far {
		p.far, p.split, p.trial = true, true, false
		p.target, p.wait = max(p.target, min(farStreams, p.max)), max(p.wait, farTicks)
	}
}

// less takes streams away for a while: the host does not want so many.
func (p *pace) less(target int) {
	p.target, p.trial, p.wait = max(1, min(target, p.target)), false, humbleTicks
}
