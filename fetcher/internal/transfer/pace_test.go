package transfer

import (
	"testing"
	"time"
)

const megabit = 1e6 / 8

// work is a sample with which a host gets more: all streams run, and there is
// work for more.
func work(streams int, rate float64) sample {
	return sample{streams: streams, wanted: true, rate: rate}
}

func TestThePaceDecidesTheTargetByWhatTheLastTicksBrought(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begin   pace
		samples []sample
		target  int
	}{
		"streams that work are doubled":                        {pace{target: 2, max: 32, split: true}, []sample{work(2, 100)}, 4},
		"a near blob is split before there are more streams":   {pace{target: 2, max: 32}, []sample{work(2, 100), work(2, 100)}, 2},
		"after that they are doubled":                          {pace{target: 2, max: 32}, []sample{work(2, 100), work(2, 100), work(2, 100)}, 4},
		"more than the most are not had":                       {pace{target: 5, max: 8, split: true}, []sample{work(5, 100)}, 8},
		"the most are not raised":                              {pace{target: 8, max: 8, split: true}, []sample{work(8, 100)}, 8},
		"without work for more there are no more":              {pace{target: 2, max: 32, split: true}, []sample{{streams: 2, rate: 100}}, 2},
		"streams that do not run yet are waited for":           {pace{target: 4, max: 32, split: true}, []sample{work(3, 100)}, 4},
		"streams that mostly write get no others":              {pace{target: 2, max: 32, split: true}, []sample{{streams: 2, wanted: true, rate: 100, busy: 0.5}}, 2},
		"the tick after a raise decides nothing":               {pace{target: 2, max: 32, split: true}, []sample{work(2, 100), work(4, 400)}, 4},
		"a raise that brought much is followed by the next":    {pace{target: 2, max: 32, split: true}, []sample{work(2, 100), work(4, 0), work(4, 111)}, 8},
		"a raise that brought nothing is taken back":           {pace{target: 2, max: 32, split: true}, []sample{work(2, 100), work(4, 0), work(4, 109)}, 2},
		"a raise after which nothing runs is taken back":       {pace{target: 2, max: 32, split: true}, []sample{work(2, 100), {}, {}}, 2},
		"a raise that was taken back is not tried at once":     {pace{target: 2, max: 32, split: true}, append([]sample{work(2, 100), work(4, 0), work(4, 109)}, again(contentTicks, work(2, 100))...), 2},
		"it is tried again later":                              {pace{target: 2, max: 32, split: true}, append([]sample{work(2, 100), work(4, 0), work(4, 109)}, again(contentTicks+1, work(2, 100))...), 4},
		"a raise that brought much is kept, though they write": {pace{target: 2, max: 32, split: true}, []sample{work(2, 100), work(4, 0), {streams: 4, wanted: true, rate: 200, busy: 0.6}}, 4},
		"no raise is tried for a while after less":             {less(16, 8), again(humbleTicks, work(8, 100)), 8},
		"after a while it is":                                  {less(16, 8), again(humbleTicks+1, work(8, 100)), 16},
		"less than one stream is one":                          {less(16, 0), nil, 1},
		"less is never more":                                   {less(4, 8), nil, 4},
		"a raise during which the host wanted less is ended":   {trialThenLess(), again(humbleTicks, work(2, 1e6)), 2},
		"the first ticks of a far host are no baseline":        {far(), again(farTicks, work(farStreams, 0)), farStreams},
		"the ticks after them are":                             {far(), again(farTicks+1, work(farStreams, 100)), 2 * farStreams},
		"a host that wants less is far":                        {lessThenFar(), again(humbleTicks, work(farStreams, 100)), farStreams},
		"a host found far during a raise keeps its streams":    {trialThenFar(), []sample{work(4, 0), {streams: farStreams, rate: 100}}, farStreams},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := test.begin
			for _, s := range test.samples {
				p.tick(s)
			}
			if p.target != test.target {
				t.Errorf("the target is %d, want %d", p.target, test.target)
			}
		})
	}
}

func again(n int, s sample) []sample {
	var all []sample
	for range n {
		all = append(all, s)
	}
	return all
}

// less is a host with a target that asked for less.
func less(target, to int) pace {
	p := pace{target: target, max: 32, split: true}
	p.less(to)
	return p
}

// trialThenLess is a host that asked for less after a raise.
func trialThenLess() pace {
	p := pace{target: 2, max: 32, split: true}
	p.tick(work(2, 100))
	p.less(2)
	return p
}

// trialThenFar is a host that turned out to be far after a raise.
func trialThenFar() pace {
	p := pace{target: 2, max: 32, split: true}
	p.tick(work(2, 100))
	p.distance(40 * time.Millisecond)
	return p
}

// far is a host that was found to be far.
func far() pace {
	p := pace{target: 2, max: 4 * farStreams}
	p.distance(40 * time.Millisecond)
	return p
}

// lessThenFar is a host that asked for less, and turned out to be far.
func lessThenFar() pace {
	p := less(16, 8)
	p.distance(40 * time.Millisecond)
	return p
}

func TestAFarHostBeginsWithMoreStreamsOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		target, max int
		roundTrips  []time.Duration
		far         bool
		want        int
	}{
		"a near host":                     {2, 32, []time.Duration{farRoundTrip - 1}, false, 2},
		"a far host":                      {2, 32, []time.Duration{farRoundTrip}, true, farStreams},
		"a far host with a smaller bound": {2, 4, []time.Duration{time.Second}, true, 4},
		"a far host that has more":        {farStreams + 1, 32, []time.Duration{time.Second}, true, farStreams + 1},
		"near at first":                   {2, 32, []time.Duration{time.Millisecond, time.Second}, true, farStreams},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pace{target: test.target, max: test.max}
			for _, d := range test.roundTrips {
				p.distance(d)
			}
			if p.target != test.want || p.far != test.far || p.split != test.far {
				t.Errorf("target %d, far %v, split %v; want %d, %v, %v", p.target, p.far, p.split, test.want, test.far, test.far)
			}
			if p.less(1); p.target != 1 {
				t.Errorf("the target is %d after less, want 1", p.target)
			}
			if p.distance(time.Second); test.far && p.target != 1 {
				t.Errorf("a far host got its streams a second time: %d", p.target)
			}
		})
	}
}

// network is a model of what n streams bring.
type network struct {
	link       float64 // bytes per second of all of them
	connection float64 // of one
	writing    float64 // what one could write and hash
}

func (n network) sample(streams int) sample {
	const processors = 2
	rate := min(n.link, n.connection*float64(streams), n.writing*processors)
	return sample{streams: streams, wanted: true, rate: rate, busy: rate / n.writing / float64(streams)}
}

// TestTheTargetSettlesWhereTheNetworkGivesMost runs a minute of ticks with more
// work than streams.
func TestTheTargetSettlesWhereTheNetworkGivesMost(t *testing.T) {
	t.Parallel()
	const writing = 1.2e9
	for name, test := range map[string]struct {
		network     network
		begin       int
		roundTrip   time.Duration
		least, most int
	}{
		"connections of 100 Mbit/s on a far link of 1 Gbit/s":      {network{1000 * megabit, 100 * megabit, writing}, 2, 40 * time.Millisecond, 8, 16},
		"connections of 100 Mbit/s on a near link of 1 Gbit/s":     {network{1000 * megabit, 100 * megabit, writing}, 2, time.Millisecond, 8, 16},
		"one processor and connections of 100 Mbit/s":              {network{1000 * megabit, 100 * megabit, writing}, 1, time.Millisecond, 8, 16},
		"connections of 10 Mbit/s on a far link of 1 Gbit/s":       {network{1000 * megabit, 10 * megabit, writing}, 2, 40 * time.Millisecond, 32, 32},
		"connections of 300 Mbit/s on a near link of 1 Gbit/s":     {network{1000 * megabit, 300 * megabit, writing}, 2, time.Millisecond, 4, 4},
		"one connection fills a near link":                         {network{1000 * megabit, 1000 * megabit, writing}, 2, time.Millisecond, 2, 2},
		"one connection fills a far link":                          {network{1000 * megabit, 1000 * megabit, writing}, 2, 40 * time.Millisecond, farStreams, farStreams},
		"loopback, where writing takes the time":                   {network{100e9, 3e9, writing}, 2, 0, 2, 2},
		"a disk that is slower than the link":                      {network{1000 * megabit, 1000 * megabit, 50e6}, 2, 0, 2, 2},
		"a far link that brings more than can be written":          {network{100e9, 200e6, writing}, 2, 40 * time.Millisecond, 8, 16},
		"a near link of which a connection can have only a little": {network{100e9, 100e6, writing}, 2, 0, 16, 32},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pace{target: test.begin, max: 32, split: true}
			p.distance(test.roundTrip)
			beyond := 0 // ticks, in trials after it had settled
			for tick := range 600 {
				p.tick(test.network.sample(p.target))
				if p.target > p.max || p.target < 1 {
					t.Fatalf("the target is %d", p.target)
				}
				if tick < 20 || p.target >= test.least && p.target <= test.most {
					continue
				}
				if beyond++; !p.trial {
					t.Fatalf("the target is %d in tick %d, want %d to %d", p.target, tick, test.least, test.most)
				}
			}
			if beyond > 60 {
				t.Errorf("in %d of 580 ticks the target was not between %d and %d", beyond, test.least, test.most)
			}
		})
	}
}
