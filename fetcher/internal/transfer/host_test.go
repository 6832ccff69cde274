package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

const (
	small = 256 << 10
	large = small + 1
)

// farHost returns a host that gets so many streams from the beginning.
func farHost(streams int) *transfer.Host {
	h := transfer.NewHost(streams)
	h.RoundTrip(40 * time.Millisecond)
	return h
}

// queue is turns that come one after the other.
type queue struct {
	t     *testing.T
	mu    sync.Mutex
	begun []string
	turns map[string]*transfer.Turn
}

func newQueue(t *testing.T) *queue { return &queue{t: t, turns: map[string]*transfer.Turn{}} }

// come has a turn come; it returns when that has begun or waits.
func (q *queue) come(ctx context.Context, g *transfer.Group, size int64, name string) {
	go func() {
		turn, err := g.Turn(ctx, size)
		q.mu.Lock()
		defer q.mu.Unlock()
		if err != nil {
			q.begun = append(q.begun, name+": "+err.Error())
			return
		}
		q.begun = append(q.begun, name)
		q.turns[name] = turn
	}()
	synctest.Wait()
}

// end ends a turn that has begun.
func (q *queue) end(name string) {
	q.t.Helper()
	q.mu.Lock()
	turn := q.turns[name]
	delete(q.turns, name)
	q.mu.Unlock()
	if turn == nil {
		q.t.Fatalf("%s has not begun", name)
	}
	turn.End()
	synctest.Wait()
}

// endAll ends all turns, those too that begin only then.
func (q *queue) endAll() {
	for len(q.turns) > 0 {
		for name := range q.turns {
			q.end(name)
			break
		}
	}
}

// has fails the test unless exactly these turns began since it was asked last,
// in this order.
func (q *queue) has(when string, want ...string) {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if diff := cmp.Diff(want, slices.Clip(q.begun)); diff != "" {
		q.t.Errorf("%s, turns that began (-want +got):\n%s", when, diff)
	}
	q.begun = nil
}

func TestTurnsBeginInTheOrderOfTheirComing(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		g := farHost(2).Group(9)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			q.come(t.Context(), g, large, name)
		}
		q.has("at first", "a", "b")
		q.end("b")
		q.has("after an end", "c")
		q.end("a")
		q.has("after another", "d")
		q.end("d")
		q.has("after the third", "e")
		q.endAll()
	})
}

func TestTheGroupWithTheFewestStreamsIsNext(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := farHost(3)
		first, second := host.Group(9), host.Group(9)
		for _, name := range []string{"a1", "a2", "a3", "a4", "a5", "a6"} {
			q.come(t.Context(), first, large, name)
		}
		q.come(t.Context(), second, -1, "b1")
		q.come(t.Context(), second, -1, "b2")
		q.has("at first", "a1", "a2", "a3")
		q.end("a1")
		q.has("with two to none", "b1")
		q.end("a2")
		q.has("with one each", "a4") // who came first
		q.end("a3")
		q.has("with one each", "a5")
		q.end("a4")
		q.has("with one each", "a6")
		q.end("b1")
		q.has("with two to none", "b2")
		q.endAll()
	})
}

func TestASmallBlobCountsAQuarterOfAStream(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		g := farHost(4 * transfer.FarStreams).Group(99)
		for i := range transfer.FarStreams - 1 {
			q.come(t.Context(), g, large, fmt.Sprint("large", i))
		}
		q.begun = nil
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			q.come(t.Context(), g, small, name)
		}
		q.has("beside large ones that leave room for one", "a", "b", "c", "d")
		q.end("c")
		q.has("when a small one ends", "e")
		q.end("large3")
		q.has("when a large one ends", "f")
		q.come(t.Context(), g, large, "last")
		q.come(t.Context(), g, small, "small")
		q.has("when there is room for three small ones") // two large ones less, and a, b, d, e, f
		q.end("a")
		q.has("when there is room for four, those who came first", "last")
		q.end("b")
		q.has("when a small one ends", "small")
		q.endAll()
	})
}

func TestSmallBlobsDoNotPassALargeOneForEver(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := transfer.NewHost(8)
		host.SetTarget(1)
		first, second := host.Group(9), host.Group(9)
		q.come(t.Context(), first, small, "small1")
		q.come(t.Context(), second, large, "large")
		q.come(t.Context(), first, small, "small2")
		q.has("at first", "small1")
		q.end("small1")
		q.has("when there is room for the large one", "large")
		q.end("large")
		q.has("after it", "small2")
		q.endAll()
	})
}

func TestALargeBlobThatIsGivenUpHoldsUpNoSmallOne(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := transfer.NewHost(8)
		host.SetTarget(1)
		g := host.Group(9)
		ctx, cancel := context.WithCancel(t.Context())
		q.come(t.Context(), g, small, "small1")
		q.come(ctx, g, large, "large")
		q.come(t.Context(), g, small, "small2")
		q.has("at first", "small1")
		cancel()
		synctest.Wait()
		q.mu.Lock()
		slices.Sort(q.begun)
		q.mu.Unlock()
		q.has("when the large one is given up", "large: context canceled", "small2")
		q.endAll()
	})
}

func TestThereAreNeverMoreStreamsThanTheMost(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		g := farHost(3).Group(99)
		for _, name := range []string{"a", "b", "c", "d"} {
			q.come(t.Context(), g, 0, name)
		}
		q.has("at first", "a", "b", "c")
		q.end("a")
		q.has("after an end", "d")
		q.endAll()
	})
}

func TestAGroupHasNoMoreStreamsThanItsLimitAndHoldsUpNoOther(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := farHost(8)
		narrow, wide := host.Group(2), host.Group(8)
		for _, name := range []string{"a", "b", "c", "d"} {
			q.come(t.Context(), narrow, small, name)
		}
		q.has("at first", "a", "b")
		q.come(t.Context(), wide, large, "e")
		q.has("of another group", "e")
		q.end("e")
		q.has("when another group's ends")
		q.end("a")
		q.has("when its own ends", "c")
		q.endAll()
	})
}

func TestAHostThatTurnsOutToBeFarBeginsWhatWaits(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := transfer.NewHost(2 * transfer.FarStreams)
		near := host.Target()
		g := host.Group(2 * transfer.FarStreams)
		for i := range 2 * transfer.FarStreams {
			q.come(t.Context(), g, large, fmt.Sprint(i))
		}
		if len(q.begun) != near {
			t.Errorf("%d turns began, want as many as there are processors, %d", len(q.begun), near)
		}
		host.RoundTrip(0) // unknown
		host.RoundTrip(time.Millisecond)
		if len(q.begun) != near {
			t.Errorf("%d turns began on a near host, want %d", len(q.begun), near)
		}
		host.RoundTrip(40 * time.Millisecond)
		synctest.Wait()
		if want := max(near, transfer.FarStreams); len(q.begun) != want {
			t.Errorf("%d turns began, want %d", len(q.begun), want)
		}
		q.endAll()
	})
}

func TestATurnWhoseContextEndsLetsTheNextOnesPass(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := farHost(1)
		g := host.Group(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.come(t.Context(), g, large, "a")
		q.come(ctx, g, large, "b")
		q.come(t.Context(), g, large, "c")
		q.has("at first", "a")
		time.Sleep(time.Second)
		synctest.Wait()
		q.has("after the end of the context", "b: context deadline exceeded")
		q.end("a")
		q.has("after the end of the first", "c")
		if host.Idle() {
			t.Error("the host is idle while a turn lasts")
		}
		q.endAll()
		if !host.Idle() {
			t.Error("the host is not idle")
		}
	})
}

// TestATurnThatBeginsAndEndsAtTheSameTimeLosesNoStream has contexts end while
// their turns begin.
func TestATurnThatBeginsAndEndsAtTheSameTimeLosesNoStream(t *testing.T) {
	t.Parallel()
	host := transfer.NewHost(1)
	g := host.Group(1)
	var callers sync.WaitGroup
	for range 1000 {
		first, err := g.Turn(t.Context(), large)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		callers.Go(func() {
			switch second, err := g.Turn(ctx, large); {
			case err == nil:
				second.End()
			case !errors.Is(err, context.Canceled):
				t.Error(err)
			}
		})
		go cancel()
		first.End()
		callers.Wait()
		if !host.Idle() {
			t.Fatal("the host is not idle")
		}
	}
}

// TestHelpersComeOnlyWhenNobodyWaits has a large blob that streams could help,
// beside blobs that have not begun.
func TestHelpersComeOnlyWhenNobodyWaits(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := farHost(4)
		ctx, cancel := context.WithCancel(t.Context())
		group, source := host.Group(4), &server{blob: layer()[:32*mebibyte], answers: []answer{{length: 1000, stall: true}}}
		for _, name := range []string{"a", "b", "c"} {
			q.come(t.Context(), group, large, name)
		}
		done := make(chan error)
		go func() { done <- copyTurn(ctx, group, source) }()
		synctest.Wait()
		q.come(t.Context(), group, large, "d")
		q.has("at first", "a", "b", "c")
		if n := len(source.offsets()); n != 1 {
			t.Errorf("the blob has %d streams while others wait to begin, want 1", n)
		}
		q.end("a")
		q.has("after an end", "d")
		if n := len(source.offsets()); n != 1 {
			t.Errorf("the blob has %d streams while all are taken, want 1", n)
		}
		q.end("b")
		q.end("c")
		if n := len(source.offsets()); n != 3 {
			t.Errorf("the blob has %d streams when two are free, want 3", n)
		}
		cancel()
		exactly(t, <-done, context.Canceled)
		q.endAll()
		if !host.Idle() || host.Watched() != 0 {
			t.Error("something is left")
		}
	})
}

// TestHelpersGiveWayToABlobThatWaits has a blob come while all streams fetch
// another, in parts of some seconds.
func TestHelpersGiveWayToABlobThatWaits(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]func(*transfer.Host, *transfer.Group) *transfer.Group{
		"of the same fetch": func(_ *transfer.Host, g *transfer.Group) *transfer.Group { return g },
		"of another":        func(h *transfer.Host, _ *transfer.Group) *transfer.Group { return h.Group(1) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				host := farHost(8)
				first := host.Group(8)
				done := make(chan error, 1)
				slow := with(func(a *answer) { a.read /= 10 })
				go func() { done <- copyTurn(t.Context(), first, &server{blob: layer(), answers: []answer{slow}}) }()
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				begin := time.Now()
				turn, err := group(host, first).Turn(t.Context(), small)
				if err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(begin); waited > 3500*time.Millisecond {
					t.Errorf("it waited %v, want at most the 3.4 s of a part", waited)
				}
				turn.End()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				left(t, host)
			})
		})
	}
}

// TestAFullGroupKeepsNoHelpersFromAnother has a group whose blobs wait for its
// own limit, and one whose blob could have more streams.
func TestAFullGroupKeepsNoHelpersFromAnother(t *testing.T) {
	virtual(t, func(t *testing.T) {
		q := newQueue(t)
		host := farHost(8)
		full := host.Group(1)
		q.come(t.Context(), full, large, "a")
		q.come(t.Context(), full, large, "b")
		ctx, cancel := context.WithCancel(t.Context())
		source := &server{blob: layer()[:32*mebibyte], answers: []answer{{length: 1000, stall: true}}}
		done := make(chan error)
		go func() { done <- copyTurn(ctx, host.Group(5), source) }()
		synctest.Wait()
		if n := len(source.offsets()); n != 5 {
			t.Errorf("the blob has %d streams, want as many as its group may have, 5", n)
		}
		cancel()
		exactly(t, <-done, context.Canceled)
		q.endAll()
	})
}

// copyTurn copies a source's blob in a turn of the group.
func copyTurn(ctx context.Context, g *transfer.Group, s *server) error {
	turn, err := g.Turn(ctx, int64(len(s.blob)))
	if err != nil {
		return err
	}
	defer turn.End()
	_, err = turn.Copy(ctx, s, discard, transfer.Options{Size: int64(len(s.blob)), Stall: stall})
	return err
}

// TestTheStreamsGoToTheBlobThatHasMostLeftForEach has one blob that is twice as
// large as the other.
func TestTheStreamsGoToTheBlobThatHasMostLeftForEach(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(8)
		ctx, cancel := context.WithCancel(t.Context())
		group, held := host.Group(8), newQueue(t)
		for i := range 6 {
			held.come(t.Context(), group, large, fmt.Sprint(i))
		}
		stalls := answer{wait: time.Millisecond, length: 1000, stall: true}
		one := &server{blob: layer()[:16*mebibyte], answers: []answer{stalls}}
		two := &server{blob: layer()[:32*mebibyte], answers: []answer{stalls}}
		done := make(chan error)
		for _, s := range []*server{one, two} {
			go func() { done <- copyTurn(ctx, group, s) }()
		}
		time.Sleep(2 * stalls.wait)
		synctest.Wait()
		held.endAll()
		time.Sleep(2 * stalls.wait)
		synctest.Wait()
		if a, b := len(one.offsets()), len(two.offsets()); a+b != 8 || b < 5 || a < 2 {
			t.Errorf("the blobs have %d and %d streams, want 3 and 5 or 2 and 6", a, b)
		}
		cancel()
		exactly(t, <-done, context.Canceled)
		exactly(t, <-done, context.Canceled)
	})
}

// TestTheConnectionsOfAHostThatBreakAreCountedTogether has every transfer break
// before it brings anything: each has its own five attempts, all together have
// forty.
func TestTheConnectionsOfAHostThatBreakAreCountedTogether(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(1)
		source := &server{blob: blob(1000), answers: []answer{{length: nothing, end: errReset}}}
		var attempts []int
		fetch := func() {
			var broken *transfer.Error
			if err := copyTurn(t.Context(), host.Group(1), source); !errors.As(err, &broken) {
				t.Fatal(err)
			}
			attempts = append(attempts, broken.Attempts)
		}
		for range 10 {
			fetch()
		}
		time.Sleep(31 * time.Second) // the host is forgiven
		fetch()
		want := append(slices.Repeat([]int{5}, 8), 1, 1, 5)
		if diff := cmp.Diff(want, attempts); diff != "" {
			t.Errorf("attempts of each transfer (-want +got):\n%s", diff)
		}
	})
}

// TestACopyThatWasCancelledIsNoFailureOfTheHost has more of them than the host may
// have broken connections.
func TestACopyThatWasCancelledIsNoFailureOfTheHost(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(1)
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			source := &server{blob: layer()[:1000], answers: []answer{{length: 300, stall: true}}}
			exactly(t, copyTurn(ctx, host.Group(1), source), context.Canceled)
		}
		source := &server{blob: layer()[:1000], answers: []answer{{length: 300, end: errReset}, {}}}
		if err := copyTurn(t.Context(), host.Group(1), source); err != nil {
			t.Errorf("a connection may break once: %v", err)
		}
	})
}

func TestProgressForgivesAHostItsBrokenConnections(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(1)
		breaks := &server{blob: blob(1000), answers: []answer{{length: nothing, end: errReset}}}
		works := &server{blob: layer()[:mebibyte], answers: []answer{{}}}
		for range 10 {
			var broken *transfer.Error
			if err := copyTurn(t.Context(), host.Group(1), breaks); !errors.As(err, &broken) || broken.Attempts != 5 {
				t.Fatal(err)
			}
			if err := copyTurn(t.Context(), host.Group(1), works); err != nil {
				t.Fatal(err)
			}
		}
	})
}
