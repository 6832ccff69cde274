package fetchertest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
)

// Limits is how much each host of a registry takes on at once. The zero value
// is no limit.
type Limits struct {
	// Requests for blobs that are answered at once. One more gets a 429. A
	// request is over before its last byte leaves, so that a client which waits
	// for that byte is never refused for it.
	Requests int
	// RetryAfter is that field of the 429, whatever it says; empty: none.
	RetryAfter string
	// Connections that are open at once. One more is reset as it comes. A
	// connection is open until the host has seen its end.
	Connections int
}

// Load is what one host had to carry since the start or the last Reset.
type Load struct {
	Connections       int // accepted
	ConnectionsAtOnce int // the most that were open
	BlobsAtOnce       int // the most requests for blobs that were being answered
	Refused           int // connections and requests beyond [Limits]
}

// Load returns what one of the registry's hosts had to carry. The host is named
// with its port, as [Registry.Host] and [Registry.CDNHost] do; the test ends
// where there is no such host. A registry of [Internet.Add] has none.
func (r *Registry) Load(tb testing.TB, host string) Load {
	tb.Helper()
	g := r.gate(tb, host)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.load
}

// Shut makes a host refuse connections and cuts those it has, as when its
// process is killed. The test ends where there is no such host.
func (r *Registry) Shut(tb testing.TB, host string) {
	tb.Helper()
	r.gate(tb, host).shut()
}

// Reopen makes a host that was shut accept connections again, at the same
// address. The test ends where there is no such host, or where something else
// has taken the port meanwhile.
func (r *Registry) Reopen(tb testing.TB, host string) {
	tb.Helper()
	if err := r.gate(tb, host).reopen(tb.Context()); err != nil {
		tb.Fatalf("fetchertest: reopen %s: %v", host, err)
	}
}

func (r *Registry) gate(tb testing.TB, host string) *gate {
	tb.Helper()
	g := r.gates[host]
	if g == nil {
		tb.Fatalf("fetchertest: the registry has no host %q of its own", host)
	}
	return g
}

// gate is where the connections to one host come in: a listener that counts
// them, and that can be shut and opened again.
type gate struct {
	address net.Addr
	config  Config

	mu       sync.Mutex
	changed  *sync.Cond   // the listener changed, or the end came
	listener net.Listener // nil while the gate is shut
	ended    bool
	open     map[*connection]bool
	blobs    int // requests that are being answered
	load     Load
}

func newGate(l net.Listener, config Config) *gate {
	g := &gate{address: l.Addr(), config: config, listener: l, open: map[*connection]bool{}}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// Accept implements net.Listener. It waits while the gate is shut.
func (g *gate) Accept() (net.Conn, error) {
	for {
		l, err := g.current()
		if err != nil {
			return nil, err
		}
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed): // shut, or the end
		case err != nil:
			return nil, err
		default:
			if c := g.admit(conn); c != nil {
				return c, nil
			}
		}
	}
}

// current waits for an open listener or the end.
func (g *gate) current() (net.Listener, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.listener == nil && !g.ended {
		g.changed.Wait()
	}
	if g.ended {
		return nil, net.ErrClosed
	}
	return g.listener, nil
}

// admit counts a connection, or resets it and returns nil.
func (g *gate) admit(conn net.Conn) *connection {
	c := &connection{Conn: conn, gate: g, pace: pace{rate: g.config.Link.ConnectionRate}}
	g.mu.Lock()
	defer g.mu.Unlock()
	full := g.config.Limits.Connections > 0 && len(g.open) >= g.config.Limits.Connections
	if full {
		g.load.Refused++
	}
	if full || g.listener == nil { // shut while the connection was on its way
		c.reset()
		return nil
	}
	g.open[c] = true
	g.load.Connections++
	g.load.ConnectionsAtOnce = max(g.load.ConnectionsAtOnce, len(g.open))
	return c
}

// enter counts a request until leave is called, which may be more than once;
// ok is false where that is one too many. Only requests for blobs count.
func (g *gate) enter(e Endpoint) (leave func(), ok bool) {
	if e != Blob && e != CDN {
		return func() {}, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.config.Limits.Requests > 0 && g.blobs >= g.config.Limits.Requests {
		g.load.Refused++
		return func() {}, false
	}
	g.blobs++
	g.load.BlobsAtOnce = max(g.load.BlobsAtOnce, g.blobs)
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.blobs--
	}), true
}

// forget begins to count anew.
func (g *gate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.load = Load{ConnectionsAtOnce: len(g.open), BlobsAtOnce: g.blobs}
}

func (g *gate) shut() {
	g.mu.Lock()
	l, open := g.listener, g.open
	g.listener, g.open = nil, map[*connection]bool{}
	g.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	for c := range open {
		_ = c.Conn.Close() // the server closes c itself
	}
}

func (g *gate) reopen(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != nil || g.ended {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, g.address.Network(), g.address.String())
	if err != nil {
		return err
	}
	g.listener = l
	g.changed.Broadcast()
	return nil
}

// Close implements net.Listener: it is the end of the gate.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.changed.Broadcast()
	if g.listener == nil {
		return nil
	}
	return g.listener.Close()
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr { return g.address }

// connection is one that a gate admitted.
type connection struct {
	net.Conn
	gate *gate
	pace pace
}

// Close implements net.Conn. The connection is no longer counted when its
// client sees the end.
func (c *connection) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.open, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// reset closes the connection by a TCP RST.
func (c *connection) reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// connKey finds the connection in a request's context.
type connKey struct{}

// remember puts the connection into the context of its requests.
func remember(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, conn)
}

func connectionOf(req *http.Request) *connection {
	return req.Context().Value(connKey{}).(*connection) // all listeners are gates
}
