package plugin

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// begin enters a call that is let in.
func begin(t *testing.T, cs *calls) (ctx context.Context, leave func()) {
	t.Helper()
	ctx, leave, err := cs.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ctx, leave
}

// waited is how long cs.wait takes in a bubble.
func waited(cs *calls, d time.Duration, hurry <-chan struct{}) time.Duration {
	begin := time.Now()
	cs.wait(d, hurry)
	return time.Since(begin)
}

func TestClosedCallsLetNobodyInAndCancelNobody(t *testing.T) {
	t.Parallel()
	cs := newCalls()
	ctx, leave := begin(t, cs)
	defer leave()
	cs.close()
	cs.close() // again
	_, _, err := cs.enter(t.Context())
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a late call got %v", err)
	}
	var e *fetcher.Error
	if err := fromStatus(err); !errors.As(err, &e) || e.Reason != fetcher.ShuttingDown || !errors.Is(err, fetcher.ErrUnavailable) || errors.Is(err, ErrPluginGone) {
		t.Errorf("a host gets %v", err)
	}
	if ctx.Err() != nil {
		t.Errorf("the call that was in got %v", ctx.Err())
	}
}

func TestCancelTellsEachCallWhy(t *testing.T) {
	t.Parallel()
	cs := newCalls()
	first, leave := begin(t, cs)
	defer leave()
	second, leave := begin(t, cs)
	defer leave()
	own, cancel := context.WithCancel(t.Context())
	third, leave, err := cs.enter(own)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	cancel()
	cs.cancel()
	cs.cancel() // again
	for i, want := range []error{errShuttingDown, errShuttingDown, context.Canceled} {
		ctx := []context.Context{first, second, third}[i]
		if ctx.Err() == nil || !errors.Is(context.Cause(ctx), want) {
			t.Errorf("call %d: got %v because of %v, want %v", i, ctx.Err(), context.Cause(ctx), want)
		}
	}
	if _, _, err := cs.enter(t.Context()); err == nil {
		t.Error("a call was let in")
	}
}

func TestLeavingEndsTheContextOfACall(t *testing.T) {
	t.Parallel()
	cs := newCalls()
	ctx, leave := begin(t, cs)
	leave()
	leave() // again
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("got %v", context.Cause(ctx))
	}
	if len(cs.live) != 0 {
		t.Errorf("%d calls are live", len(cs.live))
	}
}

func TestWaitEndsWithTheLastCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cs := newCalls()
		for after := range 3 {
			_, leave := begin(t, cs)
			time.AfterFunc(time.Duration(after)*time.Second, leave)
		}
		cs.close()
		if took := waited(cs, time.Minute, nil); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if took := waited(cs, time.Minute, nil); took != 0 {
			t.Errorf("later it took %v", took)
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	for name, close := range map[string]func(*calls){"closed": (*calls).close, "cancelled": (*calls).cancel, "open": func(*calls) {}} {
		synctest.Test(t, func(t *testing.T) {
			cs := newCalls()
			_, leave := begin(t, cs)
			defer leave()
			close(cs)
			if took := waited(cs, drain, nil); took != drain {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}

func TestWaitOfOpenCallsIsNotOverWhenNoneIsLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cs := newCalls()
		_, leave := begin(t, cs)
		leave()
		if took := waited(cs, time.Second, nil); took != time.Second {
			t.Errorf("it took %v, though another call may come", took)
		}
		cs.close()
		if took := waited(cs, time.Second, nil); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAHurryCutsAWaitShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cs := newCalls()
		_, leave := begin(t, cs)
		defer leave()
		cs.close()
		hurry := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(hurry) })
		if took := waited(cs, time.Minute, hurry); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestCallsComeAndGoWhileThePluginEnds(t *testing.T) {
	t.Parallel()
	cs := newCalls()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				ctx, leave, err := cs.enter(context.Background())
				if err != nil {
					return
				}
				_ = ctx.Err()
				leave()
			}
		})
	}
	_, leave := begin(t, cs)
	for _, end := range []func(){cs.close, cs.cancel, cs.cancel, leave} {
		callers.Go(end)
	}
	callers.Wait()
	select {
	case <-cs.idle:
	default:
		t.Error("nobody is told that all have left")
	}
}
