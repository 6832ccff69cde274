package fetchertest

import (
	"context"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stage is a registry without sockets, for time that a test bubble can hold.
type stage struct {
	*Registry
	gate   *gate
	digest string
}

func newStage(config Config, fault Fault, size int64) stage {
	r := newRegistry(config)
	s := stage{r, newGate(newTunnels(), config), r.PutGeneratedBlob("a", 1, size)}
	r.Inject(fault)
	return s
}

// connect is a new connection to the stage.
func (s stage) connect() *connection {
	conn, _ := net.Pipe()
	return s.gate.admit(conn)
}

// get asks for the blob and returns what came and when it was over.
func (s stage) get(conn *connection) (body string, took time.Duration) {
	start := time.Now()
	path := "/v2/a/blobs/" + s.digest
	req := httptest.NewRequest("GET", path, nil)
	w := httptest.NewRecorder()
	s.serve(w, req.WithContext(context.WithValue(req.Context(), connKey{}, conn)), registryTarget(path))
	return w.Body.String(), time.Since(start)
}

func TestRatesAndLatencyTakeExactlyTheirTime(t *testing.T) {
	t.Parallel()
	const size = 1 << 16
	tests := map[string]struct {
		link        Link
		fault       Fault
		connections int
		requests    int // of each connection, at once
		took        time.Duration
	}{
		"nothing said":                            {Link{}, Fault{}, 4, 1, 0},
		"the latency of one":                      {Link{Latency: time.Second}, Fault{}, 1, 1, time.Second},
		"the latency of many at once":             {Link{Latency: time.Second}, Fault{}, 4, 2, time.Second},
		"a trickle":                               {Link{}, Fault{Rate: size / 16}, 1, 1, 16 * time.Second},
		"a trickle is an answer's own":            {Link{}, Fault{Rate: size / 16}, 4, 1, 16 * time.Second},
		"one connection":                          {Link{ConnectionRate: size / 8}, Fault{}, 1, 1, 8 * time.Second},
		"more connections give more":              {Link{ConnectionRate: size / 8}, Fault{}, 4, 1, 8 * time.Second},
		"more requests of a connection do not":    {Link{ConnectionRate: size / 8}, Fault{}, 1, 4, 32 * time.Second},
		"one connection has all of the total":     {Link{Rate: size / 8}, Fault{}, 1, 1, 8 * time.Second},
		"more connections share the total":        {Link{Rate: size / 8}, Fault{}, 4, 1, 32 * time.Second},
		"few connections don't reach the total":   {Link{Rate: size, ConnectionRate: size / 4}, Fault{}, 2, 1, 4 * time.Second},
		"the total bounds many connections":       {Link{Rate: size, ConnectionRate: size / 4}, Fault{}, 8, 1, 8 * time.Second},
		"a trickle is slower than its connection": {Link{ConnectionRate: size}, Fault{Rate: size / 16}, 1, 1, 16 * time.Second},
		"a latency comes before a rate":           {Link{Latency: time.Second, ConnectionRate: size}, Fault{}, 1, 1, 2 * time.Second},
		"a byte a second":                         {Link{}, Fault{Truncate: size - 5, Rate: 1}, 1, 1, 5 * time.Second},
		"before and after a stall that ends":      {Link{}, Fault{StallAt: size / 2, Hold: ended(), Rate: size / 16}, 1, 1, 16 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(Config{Link: test.link}, test.fault, size)
				want := string(RandomLayer(1, size-int(test.fault.Truncate)))
				var all sync.WaitGroup
				for range test.connections {
					conn := s.connect()
					for range test.requests {
						all.Go(func() {
							// The bodies that share a pace take turns, so they end almost together.
							body, took := s.get(conn)
							if body != want || took > test.took || took < test.took*9/10 {
								t.Errorf("%d bytes in %s, not %s", len(body), took, test.took)
							}
						})
					}
				}
				start := time.Now()
				all.Wait()
				if took := time.Since(start).Round(time.Millisecond); took != test.took {
					t.Errorf("took %s, not %s", took, test.took)
				}
			})
		})
	}
}

func ended() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestARequestIsOverBeforeItsLastByteAndNotBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(Config{Limits: Limits{Requests: 1}}, Fault{Rate: 1}, 3)
		go s.get(s.connect())
		for second, want := range []int{1, 1, 0, 0} { // the last byte leaves after 3 s
			synctest.Wait()
			s.gate.mu.Lock()
			if s.gate.blobs != want {
				t.Errorf("after %d s, %d requests are being answered, not %d", second, s.gate.blobs, want)
			}
			s.gate.mu.Unlock()
			time.Sleep(time.Second)
		}
	})
}

func TestAPaceCatchesUpWithItsTimersAndNotWithPauses(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	tests := map[string]struct {
		asked []time.Duration // when 10 bytes are asked for, at 1000 bytes a second
		want  []time.Duration
	}{
		"at once":            {[]time.Duration{0, 0, 0}, []time.Duration{ms(10), ms(20), ms(30)}},
		"in time":            {[]time.Duration{0, ms(10), ms(20)}, []time.Duration{ms(10), ms(20), ms(30)}},
		"late by a little":   {[]time.Duration{0, ms(14), ms(25)}, []time.Duration{ms(10), ms(20), ms(30)}},
		"after a pause":      {[]time.Duration{0, ms(1000), ms(1000)}, []time.Duration{ms(10), ms(1000), ms(1010)}},
		"the first time":     {[]time.Duration{ms(500)}, []time.Duration{ms(510)}},
		"two that are early": {[]time.Duration{0, ms(5)}, []time.Duration{ms(10), ms(20)}},
	}
	for name, test := range tests {
		p := &pace{rate: 1000}
		for i, at := range test.asked {
			if got := p.take(10, start.Add(at)).Sub(start); got != test.want[i] {
				t.Errorf("%s: piece %d is through after %s, not %s", name, i, got, test.want[i])
			}
		}
	}
}

func TestAPieceIsAHundredthOfASecondOfTheSlowestRate(t *testing.T) {
	t.Parallel()
	for want, rates := range map[int64][]int64{
		0: {0, 0}, 1: {1, 0}, 10: {1000, 5000}, 32 << 10: {0, 1 << 40}, 50: {0, 5000},
	} {
		var ps paces
		for _, rate := range rates {
			ps = append(ps, &pace{rate: rate})
		}
		if got := ps.piece(); got != want {
			t.Errorf("%v: %d, not %d", rates, got, want)
		}
	}
}

func FuzzAPaceIsNeverFasterThanItsRate(f *testing.F) {
	f.Add(int64(1000), []byte{0, 10, 0, 10, 255, 1})
	f.Add(int64(1), []byte{1, 1})
	f.Add(int64(1<<40), []byte{200, 200})
	f.Fuzz(func(t *testing.T, rate int64, steps []byte) {
		if rate <= 0 {
			return
		}
		p := &pace{rate: rate}
		start := time.Unix(1_767_225_600, 0)
		now, bytes := start, int64(0)
		for i := 0; i+1 < len(steps); i += 2 {
			now = now.Add(time.Duration(steps[i]) * time.Millisecond)
			n := int64(steps[i+1]) * 128
			bytes += n
			// A nanosecond of each piece may be lost to rounding.
			least := time.Duration(float64(bytes)/float64(rate)*1e9) - lateness - time.Duration(i+1)
			if took := p.take(n, now).Sub(start); took < least {
				t.Fatalf("%d bytes at %d a second took %s", bytes, rate, took)
			}
		}
	})
}
