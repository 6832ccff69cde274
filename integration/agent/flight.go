package agent

import (
	"context"
	"sync"
)

// flights are the pulls that go on. The zero value has none.
type flights struct {
	mu    sync.Mutex
	going map[string]*flight
}

// flight is one pull and those who wait for it.
type flight struct {
	cancel  context.CancelFunc
	waiting int           // guarded by flights.mu
	done    chan struct{} // closed once the rest is set
	image   Image
	err     error
}

// share returns what work returns; callers with the same key share one call of
// it. A caller whose context ends leaves; the last one who leaves ends the
// context of work, and waits for it to return.
func (f *flights) share(ctx context.Context, key string, work func(context.Context) (Image, error)) (Image, error) {
	if err := ctx.Err(); err != nil {
		return Image{}, err
	}
	shared := f.join(ctx, key, work)
	select {
	case <-shared.done:
		return shared.image, shared.err
	case <-ctx.Done():
		f.leave(key, shared)
		return Image{}, ctx.Err()
	}
}

// join returns the flight of key, which it starts if none goes on.
func (f *flights) join(ctx context.Context, key string, work func(context.Context) (Image, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	shared, found := f.going[key]
	if !found {
		life, cancel := context.WithCancel(context.WithoutCancel(ctx))
		shared = &flight{cancel: cancel, done: make(chan struct{})}
		if f.going == nil {
			f.going = map[string]*flight{}
		}
		f.going[key] = shared
		go func() {
			defer cancel()
			shared.image, shared.err = work(life)
			f.mu.Lock()
			f.forget(key, shared)
			f.mu.Unlock()
			close(shared.done)
		}()
	}
	shared.waiting++
	return shared
}

func (f *flights) leave(key string, shared *flight) {
	f.mu.Lock()
	shared.waiting--
	last := shared.waiting == 0
	if last {
		f.forget(key, shared) // who comes now must not get what is cancelled
	}
	f.mu.Unlock()
	if last {
		shared.cancel()
		<-shared.done
	}
}

// forget has the next caller start anew. The lock is held.
func (f *flights) forget(key string, shared *flight) {
	if f.going[key] == shared {
		delete(f.going, key)
	}
}
