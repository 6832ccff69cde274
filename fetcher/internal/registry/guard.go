package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
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
	direct := own(original.DialContext, original.Dial) //nolint:staticcheck // somebody may still set it
	if direct == nil {
		direct = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	direct = sound(direct)
	inside, outside := original.Clone(), original.Clone()
	if original.OnProxyConnectResponse == nil { // whose error net/http has no type for
		inside.OnProxyConnectResponse, outside.OnProxyConnectResponse = connected, connected
	}
	inside.DialContext, outside.DialContext = direct, sound(guarded(direct))
	if secure := own(original.DialTLSContext, original.DialTLS); secure != nil { //nolint:staticcheck // as above
		secure = sound(secure)
		inside.DialTLSContext, outside.DialTLSContext = secure, sound(guarded(secure))
	}
	t.inside, t.outside = inside, outside
	if t.dialer = dialFor(inside, direct, t.trips); t.dialer != nil {
		dialFor(outside, guarded(direct), t.trips)
	}
	return t
}

// own is the dial that a transport was given; nil: none. One that knows no context
// counts where there is no other, as for http.Transport.
func own(with dial, without func(network, address string) (net.Conn, error)) dial {
	if with != nil || without == nil {
		return with
	}
	return func(_ context.Context, network, address string) (net.Conn, error) { return without(network, address) }
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

// sound is a dial whose panic is an error, and so is that it returns nothing:
// http.Transport dials in a goroutine of its own, where a panic would end the process.
func sound(dial dial) dial {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		defer func() {
			if p := recover(); p != nil {
				conn, err = nil, &panicError{fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
			}
		}()
		conn, err = dial(ctx, network, address)
		if conn == nil && err == nil {
			err = errNoConnection
		}
		return conn, err
	}
}

var errNoConnection = errors.New("the dial of the transport returned neither a connection nor an error")

// panicError is a panic. Its text is for everybody, what it wraps for the log.
type panicError struct{ stack error }

func (e *panicError) Error() string { return "internal error" }

func (e *panicError) Unwrap() error { return e.stack }

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
	begin := time.Now()
	resp, err := send(req, pool)
	o.tell(req, redirected, begin, resp, err)
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
// anywhere, and so may one of which the operator says so; but the URLs of a foreign
// layer are the words of whoever pushed it, and no registry's. Through a proxy it
// is the proxy that resolves names and dials; then only addresses that are
// written as such are judged.
func (o outgoing) away(req *http.Request, pool *transports) (*http.Response, error) {
	if o.anywhere || !o.led && o.client.isInside(o.registry) {
		return pool.inside.RoundTrip(req)
	}
	host := req.URL.Hostname()
	if forbidden(host) {
		return nil, fmt.Errorf("%w: %s", ErrInternalAddress, host)
	}
	if beyondASCII(host) {
		return nil, &redirectError{fmt.Errorf("the host %.100q is not written in ASCII", host)}
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

// forbidden reports whether a host is written as an internal address in any form
// that a proxy may take for one.
func forbidden(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if addr, known := literal(host); known {
		return internal(addr)
	}
	asC, known := numeric(host, 0)
	asDecimal, also := numeric(host, 10) // how some read 0127.0.0.1
	return known && internal(asC) || also && internal(asDecimal)
}

// numeric reads an IPv4 address as inet_aton does: one to four numbers, the last of
// which fills what is left. By base 0 they are decimal, octal (017) or hexadecimal
// (0x7f, and 0x for nothing).
func numeric(host string, base int) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	last := len(parts) - 1
	if last > 3 {
		return netip.Addr{}, false
	}
	address := uint64(0)
	for i, part := range parts {
		bits := 8
		if i == last {
			bits = 8 * (4 - last)
		}
		if base == 0 && strings.EqualFold(part, "0x") {
			part = "0"
		}
		n, err := strconv.ParseUint(part, base, bits)
		if err != nil {
			return netip.Addr{}, false
		}
		address = address<<bits | n
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(address)))), true
}

// beyondASCII reports whether a host has characters that no host in a URL has (RFC
// 3986): others are written as xn--. net/http maps some of them to digits.
func beyondASCII(host string) bool {
	return strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII })
}

func isInternal(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return true // a unix socket, say
	}
	return internal(tcp.AddrPort().Addr())
}

// internal reports whether an address is loopback, link-local, private or reserved,
// or stands for such by NAT64 (RFC 6052), 6to4 (RFC 3056) or SIIT (RFC 7915), or as
// an IPv4-compatible one (RFC 4291 section 2.5.5.1).
func internal(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("") // no prefix contains one with a zone
	raw := addr.As16()
	switch {
	case nat64.Contains(addr), compatible.Contains(addr), translated.Contains(addr):
		addr = netip.AddrFrom4([4]byte(raw[12:]))
	case sixToFour.Contains(addr):
		addr = netip.AddrFrom4([4]byte(raw[2:6]))
	}
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() ||
		slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// reserved are prefixes in which there is nothing for strangers, some of them with
// services of the machine's own network, such as a cloud's metadata.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),        // RFC 1122
	netip.MustParsePrefix("100.64.0.0/10"),    // RFC 6598
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's wire server
	netip.MustParsePrefix("192.0.0.0/24"),     // RFC 6890; Oracle's metadata
	netip.MustParsePrefix("198.18.0.0/15"),    // RFC 2544
	netip.MustParsePrefix("240.0.0.0/4"),      // RFC 1112, and broadcast
	netip.MustParsePrefix("64:ff9b:1::/48"),   // RFC 8215
	netip.MustParsePrefix("fec0::/10"),        // RFC 3879
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)
