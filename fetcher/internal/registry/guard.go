package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// ErrInternalAddress is a public registry that leads to this machine or its
// private network, by a realm or a redirect: the way to a cloud's metadata
// service, or to whatever else trusts who is near.
var ErrInternalAddress = errors.New("a public registry leads to an internal address, which is refused")

// transports are two pools of connections. What a public registry leads to goes
// through outside, which has no connection to an internal address: no name
// server can answer one thing to a check and another to the dial, and no
// connection that was made for somebody else is there to be found.
type transports struct {
	given           http.RoundTripper // what both were made of
	inside, outside http.RoundTripper
	dialer          *dialer // of inside; nil: its connections are not ours to make
	trips           *roundTrips
}

// newTransports makes both of one, which is left as it is; nil:
// NewTransport(nil). A RoundTripper that is no *http.Transport serves as both:
// then only addresses that are written as such are judged.
func newTransports(given http.RoundTripper) transports {
	if given == nil {
		given = NewTransport(nil)
	}
	t := transports{given: given, inside: given, outside: given, trips: &roundTrips{known: map[string]time.Duration{}}}
	original, ok := given.(*http.Transport)
	if !ok {
		return t
	}
	direct := original.DialContext
	if direct == nil {
		direct = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	inside, outside := original.Clone(), original.Clone()
	if original.OnProxyConnectResponse == nil { // whose error net/http has no type for
		inside.OnProxyConnectResponse, outside.OnProxyConnectResponse = connected, connected
	}
	outside.DialContext = guarded(direct)
	if own := outside.DialTLSContext; own != nil {
		outside.DialTLSContext = guarded(own)
	}
	t.inside, t.outside = inside, outside
	if t.dialer = dialFor(inside, direct, t.trips); t.dialer != nil {
		dialFor(outside, guarded(direct), t.trips)
	}
	return t
}

// guarded is a dial that has no connection to an internal address.
func guarded(dial dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if isInternal(conn.RemoteAddr()) {
			_ = conn.Close()
			return nil, fmt.Errorf("%w: %s", ErrInternalAddress, address)
		}
		return conn, nil
	}
}

// CloseIdleConnections closes the connections that no request uses.
func (t *transports) CloseIdleConnections() {
	if t.dialer != nil {
		t.dialer.closeIdle()
	}
	for _, pool := range []http.RoundTripper{t.inside, t.outside} {
		if pool, ok := pool.(interface{ CloseIdleConnections() }); ok {
			pool.CloseIdleConnections()
		}
	}
}

// roundTrip sends one request to which the registry led. What the registry names
// for itself, such as its token server, has the host's own TLS; where it
// redirects to has not.
func (o outgoing) roundTrip(req *http.Request, redirected bool) (*http.Response, error) {
	send, pool := o.away, o.pool
	if sameOrigin(req.URL, o.registry) {
		send = o.home
	} else if redirected {
		pool = &o.client.transports
	}
	resp, err := send(req, pool)
	if err == nil && !bulk(req, resp) {
		resp.Body = hurry(resp.Body)
	}
	return resp, err
}

// home sends a request to the registry itself, which may be anywhere, and notes
// where it is, unless its name says so.
func (o outgoing) home(req *http.Request, pool *transports) (*http.Response, error) {
	if _, known := literal(o.registry.Hostname()); known || pool.proxied(req) {
		return pool.inside.RoundTrip(req)
	}
	var at net.Addr
	resp, err := pool.inside.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { at = info.Conn.RemoteAddr() },
	})))
	if err == nil && at != nil {
		c := o.client
		c.mu.Lock()
		note(c.internal, o.registry.Host, isInternal(at))
		c.mu.Unlock()
	}
	return resp, err
}

// away sends a request to where the registry led. One that is inside may lead
// anywhere, and so may one of which the operator says so. Through a proxy it is
// the proxy that resolves names and dials; then only addresses that are written
// as such are judged.
func (o outgoing) away(req *http.Request, pool *transports) (*http.Response, error) {
	if o.anywhere || o.client.isInside(o.registry) {
		return pool.inside.RoundTrip(req)
	}
	if addr, known := literal(req.URL.Hostname()); known && internal(addr) {
		return nil, fmt.Errorf("%w: %s", ErrInternalAddress, req.URL.Hostname())
	}
	if pool.proxied(req) {
		return pool.inside.RoundTrip(req)
	}
	return pool.outside.RoundTrip(req)
}

// bulk reports whether a body is a blob's, which the transfer watches; any other
// is small and must not trickle.
func bulk(req *http.Request, resp *http.Response) bool {
	return resp.StatusCode < 300 && req.Header.Get("Accept-Encoding") == "identity"
}

// isInside reports whether a registry is at an internal address: by its name, or
// by the connection on which it answered last.
func (c *Client) isInside(registry *url.URL) bool {
	if addr, known := literal(registry.Hostname()); known {
		return internal(addr)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.internal[registry.Host]
}

// proxied reports whether a request goes through a proxy.
func (p *transports) proxied(req *http.Request) bool {
	t, ok := p.inside.(*http.Transport)
	if !ok || t.Proxy == nil {
		return false
	}
	proxy, err := t.Proxy(req)
	return err == nil && proxy != nil
}

// literal returns the address that a host is written as; names below localhost
// are the loopback address (RFC 6761 section 6.3).
func literal(host string) (netip.Addr, bool) {
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

func isInternal(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return true // a unix socket, say
	}
	return internal(tcp.AddrPort().Addr())
}

// internal reports whether an address is loopback, link-local, private, or
// stands for such by NAT64 (RFC 6052) or 6to4 (RFC 3056).
func internal(addr netip.Addr) bool {
	addr = addr.Unmap()
	raw := addr.As16()
	switch {
	case nat64.Contains(addr):
		addr = netip.AddrFrom4([4]byte(raw[12:]))
	case sixToFour.Contains(addr):
		addr = netip.AddrFrom4([4]byte(raw[2:6]))
	}
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() ||
		shared.Contains(addr) || thisNetwork.Contains(addr) || addr.IsUnspecified() || siteLocal.Contains(addr)
}

var (
	shared      = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122
	siteLocal   = netip.MustParsePrefix("fec0::/10")     // RFC 3879
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour   = netip.MustParsePrefix("2002::/16")
)
