package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// ErrInternalAddress is a public registry that leads to this machine or its
// private network, by a realm or a redirect: the way to a cloud's metadata
// service, or to whatever else trusts who is near.
var ErrInternalAddress = errors.New("a public registry leads to an internal address, which is refused")

// outsider marks the context of a request that may dial no internal address.
type outsider struct{}

// guard lets a registry lead to its own host, and, if it is inside, anywhere.
// Otherwise the address that is dialled decides, so that no name server can
// answer one thing to the check and another to the dial. Through a proxy it is
// the proxy that resolves names; then addresses are checked as they are written.
func (c *Client) guard(req *http.Request, registry *url.URL) (*http.Request, error) {
	host := req.URL.Hostname()
	if host == registry.Hostname() || c.isInside(req.Context(), registry) {
		return req, nil
	}
	if addr, known := literal(host); known && internal(addr) {
		return nil, fmt.Errorf("%w: %s", ErrInternalAddress, host)
	}
	if c.proxied(req) {
		return req, nil
	}
	return req.WithContext(context.WithValue(req.Context(), outsider{}, true)), nil
}

// refuseInternal is the dialer's part of guard.
func refuseInternal(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if ctx.Value(outsider{}) == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if addr, known := literal(host); !known || internal(addr) {
		return fmt.Errorf("%w: %s", ErrInternalAddress, host)
	}
	return nil
}

// isInside reports whether the registry itself is at an internal address. What
// can't be resolved counts as public.
func (c *Client) isInside(ctx context.Context, registry *url.URL) bool {
	host := registry.Hostname()
	if addr, known := literal(host); known {
		return internal(addr)
	}
	c.mu.Lock()
	inside, known := c.inside[host]
	c.mu.Unlock()
	if known {
		return inside
	}
	if !c.proxied(&http.Request{URL: registry}) {
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return false
		}
		for _, addr := range addresses {
			inside = inside || internal(addr)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside[host] = inside
	return inside
}

// proxied reports whether a request goes through a proxy.
func (c *Client) proxied(req *http.Request) bool {
	t, ok := c.transport.(*http.Transport)
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

// internal reports whether an address is loopback, link-local, private
// (RFC 1918, RFC 4193), shared (RFC 6598) or none at all.
func internal(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() ||
		addr.IsUnspecified() || shared.Contains(addr)
}

var shared = netip.MustParsePrefix("100.64.0.0/10")
