package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// connection is a meter of a connection, and what it gave up with.
type connection struct {
	*meter
	ctx context.Context
	end context.CancelCauseFunc
}

func watchFor(t *testing.T, stall time.Duration) connection {
	ctx, end := context.WithCancelCause(t.Context())
	return connection{newMeter(ctx, end, stall, true), ctx, end}
}

// given returns what the connection was given up with; nil: it was not.
func (c connection) given() error {
	synctest.Wait()
	return context.Cause(c.ctx)
}

// bring has n bytes come each second, in a read that goes on in between.
func (c connection) bring(seconds int, n int64) {
	for range seconds {
		c.reading.Store(true)
		time.Sleep(time.Second)
		c.received.Add(n)
	}
}

func TestAConnectionIsStalledThatBringsTooLittle(t *testing.T) {
	t.Parallel()
	const seconds = 60
	for name, test := range map[string]struct {
		do   func(c connection)
		want string // "": not given up
	}{
		"nothing":                      {func(c connection) { c.bring(seconds, 0) }, "stalled: no byte for 1m0s"},
		"nothing for almost a minute":  {func(c connection) { c.bring(seconds-1, 0) }, ""},
		"a trickle":                    {func(c connection) { c.bring(2*seconds, 1<<10-200) }, "stalled: only 48616 bytes in 1m0s"},
		"a little more than a trickle": {func(c connection) { c.bring(10*seconds, 1<<10+200) }, ""},
		"much, and then nothing":       {func(c connection) { c.bring(30, 1<<20); c.bring(seconds+10, 0) }, "stalled: no byte for 1m0s"},
		"nothing, and then much":       {func(c connection) { c.bring(50, 0); c.bring(5*seconds, 1<<20) }, ""},
		"nothing, but for one burst": {func(c connection) {
			c.bring(30, 0)
			c.bring(1, 1<<20)
			c.bring(50, 0)
		}, ""},
		"nothing while it writes": {func(c connection) {
			c.reading.Store(false)
			time.Sleep(time.Hour)
		}, ""},
		"nothing in the pauses of long writes": {func(c connection) {
			for range 100 {
				c.bring(10, 0)
				c.reading.Store(false)
				time.Sleep(20 * time.Second)
			}
		}, ""},
		"nothing after a long write": {func(c connection) {
			c.reading.Store(false)
			time.Sleep(time.Hour)
			c.bring(seconds+10, 0)
		}, "stalled: no byte for 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := watchFor(t, seconds*time.Second)
				defer c.end(nil)
				time.Sleep(time.Millisecond) // no second is a check
				test.do(c)
				err := c.given()
				if test.want == "" && err != nil {
					t.Errorf("it was given up: %v", err)
				}
				if test.want != "" && (!errors.Is(err, ErrStalled) || err.Error() != test.want) {
					t.Errorf("it was given up with %v, want %s", err, test.want)
				}
			})
		})
	}
}

func TestAConnectionThatEndedIsNotGivenUp(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c connection){
		"by its stream":  func(c connection) { c.meter.end() },
		"by its context": func(c connection) { c.end(errors.New("over")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := watchFor(t, time.Minute)
				c.bring(29, 0)
				end(c)
				before := c.given()
				time.Sleep(time.Hour)
				if after := c.given(); after != before { //nolint:errorlint // the same one
					t.Errorf("it was given up with %v", after)
				}
			})
		})
	}
}

// TestAConnectionIsSlowBesideFasterOnes has the first of some connections read
// rates for so many ticks.
func TestAConnectionIsSlowBesideFasterOnes(t *testing.T) {
	t.Parallel()
	const ticks = int(slowTime / tickInterval)
	for name, test := range map[string]struct {
		rates []int64 // bytes per tick of each connection
		ticks int
		set   func(m *meter) // for the first one
		slow  bool
	}{
		"a tenth of the others":               {[]int64{999, 10_000, 10_000}, ticks, nil, true},
		"a tenth of the others, for a while":  {[]int64{999, 10_000, 10_000}, ticks - 1, nil, false},
		"just a tenth of the others":          {[]int64{1000, 10_000, 10_000}, ticks, nil, false},
		"a tenth of the average of them":      {[]int64{999, 19_000, 1_000}, ticks, nil, true},
		"nothing":                             {[]int64{0, 10_000}, ticks, nil, true},
		"nothing, when the others have less":  {[]int64{0, 6_553}, ticks, nil, false},
		"nothing, and there are no others":    {[]int64{0}, ticks, nil, false},
		"a connection that is writing":        {[]int64{0, 10_000}, ticks, func(m *meter) { m.reading.Store(false) }, false},
		"a connection that can't be given up": {[]int64{0, 10_000}, ticks, func(m *meter) { m.ranged = false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var meters []*meter
				var first connection
				for i := range test.rates {
					c := watchFor(t, time.Hour)
					defer c.end(nil)
					c.reading.Store(true)
					meters = append(meters, c.meter)
					if i == 0 {
						first = c
					}
				}
				if test.set != nil {
					test.set(first.meter)
				}
				var usual float64
				for range test.ticks {
					for i, m := range meters {
						m.received.Add(test.rates[i])
					}
					usual = slowest(meters, tickInterval, usual)
				}
				if err := first.given(); errors.Is(err, errSlow) != test.slow {
					t.Errorf("it was given up with %v, want slow: %v", err, test.slow)
				}
				if test.slow && first.given().Error() != "stalled: less than a 10th of what other connections bring" {
					t.Error(first.given())
				}
				for _, m := range meters[1:] {
					if err := m.ctx.Err(); err != nil {
						t.Errorf("another was given up: %v", context.Cause(m.ctx))
					}
				}
			})
		})
	}
}

// TestTheLastConnectionIsHeldAgainstThoseThatEnded has the others end after half a
// minute.
func TestTheLastConnectionIsHeldAgainstThoseThatEnded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rate int64 // of the last one, per tick
		wait int   // ticks before it gets slow
		slow bool
	}{
		"slow":                         {1000, 0, true},
		"a twentieth":                  {5000, 0, true},
		"a fifth":                      {20_000, 0, false},
		"slow, when that is long past": {1000, 300, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				last, other, third := watchFor(t, time.Hour), watchFor(t, time.Hour), watchFor(t, time.Hour)
				defer last.end(nil)
				defer other.end(nil)
				defer third.end(nil)
				last.reading.Store(true)
				var usual float64
				for range 300 {
					for _, c := range []connection{last, other, third} {
						c.received.Add(100_000)
					}
					usual = slowest([]*meter{last.meter, other.meter, third.meter}, tickInterval, usual)
				}
				for tick := range test.wait + 60 {
					if last.received.Add(test.rate); tick < test.wait {
						last.received.Add(100_000)
					}
					usual = slowest([]*meter{last.meter}, tickInterval, usual)
				}
				if err := last.given(); errors.Is(err, errSlow) != test.slow {
					t.Errorf("it was given up with %v, want slow: %v", err, test.slow)
				}
			})
		})
	}
}

// TestASlowConnectionThatCatchesUpIsKept has a connection that is slow again and
// again, but never for long.
func TestASlowConnectionThatCatchesUpIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow, fast := watchFor(t, time.Hour), watchFor(t, time.Hour)
		defer slow.end(nil)
		defer fast.end(nil)
		slow.reading.Store(true)
		var usual float64
		for tick := range 1000 {
			fast.received.Add(1 << 20)
			if tick%40 == 0 {
				slow.received.Add(1 << 20)
			}
			usual = slowest([]*meter{slow.meter, fast.meter}, tickInterval, usual)
		}
		if err := slow.given(); err != nil {
			t.Errorf("it was given up: %v", err)
		}
	})
}

// TestConnectionsOfAboutTheSameSpeedAreNeverSlow draws what each brings.
func TestConnectionsOfAboutTheSameSpeedAreNeverSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var meters []*meter
		for range 16 {
			c := watchFor(t, time.Hour)
			defer c.end(nil)
			c.reading.Store(true)
			meters = append(meters, c.meter)
		}
		var usual float64
		for range 2000 {
			for _, m := range meters {
				m.received.Add(random.Int64N(2 << 20)) // bursts, and ticks with nothing
			}
			usual = slowest(meters, tickInterval, usual)
		}
		for i, m := range meters {
			if m.ctx.Err() != nil {
				t.Errorf("connection %d was given up: %v", i, context.Cause(m.ctx))
			}
		}
	})
}
