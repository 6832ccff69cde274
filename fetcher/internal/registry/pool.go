package registry

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"time"
)

// maxPools is how many hosts have connections of their own. Those of hosts whose
// files changed are among them until then.
const maxPools = 1000

// pool returns the connections to a host: its own where its files ask for
// something that others don't have, the client's for all else. Where the first
// byte may take long, the pool waits as long as the request does.
func (c *Client) pool(h *Host) *transports {
	given, ok := c.given.(*http.Transport)
	if h == nil || !ok || h.TLS == nil && h.DialTimeout == 0 && h.Wait == 0 && !h.Mirror {
		return &c.transports
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.pools[h]; known != nil {
		return known
	}
	if len(c.pools) >= maxPools {
		maps.DeleteFunc(c.pools, func(_ *Host, t *transports) bool {
			t.CloseIdleConnections()
			return true
		})
	}
	t := newTransports(h.transport(given))
	c.pools[h] = &t
	return &t
}

// transport is given as the host wants it.
func (h *Host) transport(given *http.Transport) *http.Transport {
	t := given.Clone()
	if h.Mirror || h.Wait > 0 {
		t.ResponseHeaderTimeout = 0
	}
	if h.DialTimeout > 0 {
		t.DialContext = within(h.DialTimeout, given.DialContext)
		t.TLSHandshakeTimeout = h.DialTimeout
	}
	if h.TLS == nil {
		return t
	}
	config := &tls.Config{}
	if t.TLSClientConfig != nil {
		config = t.TLSClientConfig.Clone()
	}
	config.Certificates, config.InsecureSkipVerify = h.TLS.Certificates, h.TLS.InsecureSkipVerify
	if h.TLS.RootCAs != nil {
		config.RootCAs = h.TLS.RootCAs
	}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0) // no session of one identity resumes under another
	t.TLSClientConfig = config
	return t
}

// within is a dial that has so long.
func within(d time.Duration, direct dial) dial {
	if direct == nil {
		direct = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return direct(ctx, network, address)
	}
}
