package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// dial makes a connection to address, as net.Dialer.DialContext does.
type dial func(ctx context.Context, network, address string) (net.Conn, error)

// dialer makes the connections of one http.Transport. The transport asks for a
// connection where it has none idle. That is the place for some to be ready:
// net/http has no other for connections before their first request.
type dialer struct {
	dial      dial
	config    *tls.Config
	handshake time.Duration // the longest that a TLS handshake may take; 0: any time
	most      int           // connections to one endpoint, for those made ahead
	trips     *roundTrips

	mu    sync.Mutex
	open  map[endpoint]int      // connections, those in the making too
	ahead map[endpoint][]*ahead // not asked for so far
}

// endpoint is what a connection leads to.
type endpoint struct {
	address string // host:port
	secure  bool   // TLS is spoken
}

// dialFor lets a dialer make the connections of t, by dial. It returns nil, and
// t is as it was, where t has a way of its own to make them or may speak HTTP/2,
// whose one connection needs no others.
func dialFor(t *http.Transport, dial dial, trips *roundTrips) *dialer {
	own := t.DialTLSContext != nil || t.Dial != nil || t.DialTLS != nil //nolint:staticcheck // somebody may still set them
	if own || t.Protocols == nil || t.Protocols.HTTP2() || t.Protocols.UnencryptedHTTP2() {
		return nil
	}
	d := &dialer{
		dial: dial, config: t.TLSClientConfig, handshake: t.TLSHandshakeTimeout, most: idlePerHost, trips: trips,
		open: map[endpoint]int{}, ahead: map[endpoint][]*ahead{},
	}
	if t.MaxConnsPerHost > 0 {
		d.most = min(d.most, t.MaxConnsPerHost)
	}
	t.DialContext = sound(func(ctx context.Context, network, address string) (net.Conn, error) {
		return d.take(ctx, network, endpoint{address, false})
	})
	t.DialTLSContext = sound(func(ctx context.Context, network, address string) (net.Conn, error) {
		return d.take(ctx, network, endpoint{address, true}) // whose config may have functions of others
	})
	return d
}

// take returns a connection that was made ahead, also one that is soon ready,
// or else makes one.
func (d *dialer) take(ctx context.Context, network string, e endpoint) (net.Conn, error) {
	for a := d.claim(e); a != nil; a = d.claim(e) {
		select {
		case <-a.done:
			if a.err == nil {
				return a.conn, nil
			}
		case <-ctx.Done():
			go a.discard()
			return nil, ctx.Err()
		}
	}
	return d.connect(ctx, network, e)
}

// connect makes a connection.
func (d *dialer) connect(ctx context.Context, network string, e endpoint) (net.Conn, error) {
	d.mu.Lock()
	d.open[e]++
	d.mu.Unlock()
	return d.counted(ctx, network, e)
}

// counted makes a connection that is counted in d.open already, until it is closed.
func (d *dialer) counted(ctx context.Context, network string, e endpoint) (net.Conn, error) {
	end := sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.open[e]--; d.open[e] == 0 {
			delete(d.open, e)
		}
	})
	raw, err := d.trips.dial(ctx, d.dial, network, e.address)
	if err != nil {
		end()
		return nil, err
	}
	conn := &connection{raw, end}
	if !e.secure {
		return conn, nil
	}
	return d.secured(ctx, conn, e.address)
}

// secured speaks TLS on a connection, as http.Transport does where it has no
// DialTLSContext.
func (d *dialer) secured(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	config := d.config.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	if d.handshake > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.handshake, errHandshake)
		defer cancel()
	}
	secured := tls.Client(conn, config)
	err := secured.HandshakeContext(ctx)
	if err == nil {
		return secured, nil
	}
	_ = conn.Close()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, err
}

var errHandshake = fmt.Errorf("TLS handshake: %w", os.ErrDeadlineExceeded)

// connection tells when it is closed.
type connection struct {
	net.Conn
	closed func()
}

// Close may be called more than once.
func (c *connection) Close() error {
	c.closed()
	return c.Conn.Close()
}
