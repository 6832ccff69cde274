package registry

import (
	"context"
	"net"
	"slices"
	"time"
)

const (
	// nearby is the round trip up to which no connection is made ahead: the wait
	// for one is not worth one that may go unused.
	nearby = 3 * time.Millisecond
	// keepReady is how long a connection that was made ahead waits for a
	// request: not as long as servers do, who would close it under the request.
	keepReady = 5 * time.Second
)

// Warm makes connections to the registry, TLS included, in the background, until
// there are n, those in use among them. Requests to come take them; what nobody
// takes in 5 s is closed, and what can't be made is not told. It does nothing
// where that is no gain, or not known to be one: before the first connection,
// which tells how far the registry is; where it is near, or behind a proxy; with
// a transport that makes its connections in a way of its own.
func (r *Repository) Warm(n int) {
	if d := r.pool.dialer; d != nil && r.RoundTrip() > nearby {
		d.warm(endpoint{address(r.registry), r.registry.Scheme == "https"}, n)
	}
}

// ahead is a connection that is made before a request asks for it.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when conn and err are set
	conn   net.Conn
	err    error
}

// claim takes a connection out of those made ahead, one that is ready where
// there is; nil: there is none.
func (d *dialer) claim(e endpoint) *ahead {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.ahead[e]
	if len(all) == 0 {
		return nil
	}
	a := all[max(0, slices.IndexFunc(all, (*ahead).ready))]
	d.remove(e, a)
	return a
}

// withdraw reports whether a was there, unclaimed, and removes it.
func (d *dialer) withdraw(e endpoint, a *ahead) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remove(e, a)
}

// remove is withdraw. The caller has d.mu.
func (d *dialer) remove(e endpoint, a *ahead) bool {
	at := slices.Index(d.ahead[e], a)
	if at < 0 {
		return false
	}
	if d.ahead[e] = slices.Delete(d.ahead[e], at, at+1); len(d.ahead[e]) == 0 {
		delete(d.ahead, e)
	}
	return true
}

// warm makes connections ahead until there are n.
func (d *dialer) warm(e endpoint, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range min(n, d.most) - d.open[e] {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout+handshakeTimeout)
		a := &ahead{cancel: cancel, done: make(chan struct{})}
		d.open[e]++
		d.ahead[e] = append(d.ahead[e], a)
		go d.prepare(ctx, e, a)
	}
}

// prepare makes one connection ahead. That it can't be made is not told: the
// request that needs one will find out by itself.
func (d *dialer) prepare(ctx context.Context, e endpoint, a *ahead) {
	defer a.cancel()
	a.conn, a.err = sound(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.counted(ctx, network, e)
	})(ctx, "tcp", e.address)
	close(a.done)
	if a.err != nil {
		d.withdraw(e, a)
		return
	}
	time.AfterFunc(keepReady, func() {
		if d.withdraw(e, a) {
			a.close()
		}
	})
}

func (a *ahead) ready() bool {
	select {
	case <-a.done:
		return a.err == nil
	default:
		return false
	}
}

// discard closes a connection that nobody wants any more.
func (a *ahead) discard() {
	a.cancel()
	if <-a.done; a.err == nil {
		a.close()
	}
}

// close closes the connection. One of somebody's own dial may panic, and there is
// no request that could tell.
func (a *ahead) close() {
	defer func() { _ = recover() }()
	_ = a.conn.Close()
}

// closeIdle closes what was made ahead and nobody asked for.
func (d *dialer) closeIdle() {
	d.mu.Lock()
	unclaimed := d.ahead
	d.ahead = map[endpoint][]*ahead{}
	d.mu.Unlock()
	for _, all := range unclaimed {
		for _, a := range all {
			a.discard()
		}
	}
}
