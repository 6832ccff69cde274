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
	inside, outside http.RoundTripper
}

// newTransports makes both of one; nil: NewTransport(nil). A RoundTripper that
// is no *http.Transport serves as both: then only addresses that are written as
// such are judged.
func newTransports(given http.RoundTripper) transports {
	if given == nil {
		given = NewTransport(nil)
	}
	inside, ok := given.(*http.Transport)
	if !ok {
		return transports{given, given}
	}
	outside := inside.Clone()
	dial := outside.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	outside.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
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
	return transports{inside, outside}
}

// roundTrip sends one request to which registry led. The registry itself may be
// anywhere, and one that is inside may lead anywhere. Through a proxy it is the
// proxy that resolves names and dials; then only addresses that are written as
// such are judged.
func (c *Client) roundTrip(req *http.Request, registry *url.URL) (*http.Response, error) {
	transport := c.inside
	own := sameOrigin(req.URL, registry)
	proxied := c.proxied(req)
	if !own && !c.isInside(registry) {
		if addr, known := literal(req.URL.Hostname()); known && internal(addr) {
			return nil, fmt.Errorf("%w: %s", ErrInternalAddress, req.URL.Hostname())
		}
		if !proxied {
			transport = c.outside
		}
	}
	var at net.Addr
	if own && !proxied {
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { at = info.Conn.RemoteAddr() },
		}))
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if at != nil {
		c.mu.Lock()
		note(c.internal, registry.Host, isInternal(at))
		c.mu.Unlock()
	}
	if !bulk(req, resp) {
		resp.Body = hurry(resp.Body)
	}
	return resp, nil
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
func (c *Client) proxied(req *http.Request) bool {
	t, ok := c.inside.(*http.Transport)
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
