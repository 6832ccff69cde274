package fetchertest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// Internet is where registries have names. Its proxy takes a client to the
// hosts of the profiles that were added, all in this process, and to no other:
// no request leaves loopback, and no name is looked up.
type Internet struct {
	authority *authority
	life      *life
	journal   *journal
	tunnels   *tunnels
	proxy     *httptest.Server
	beyond    *http.Server // serves what comes through the tunnels

	mu    sync.RWMutex
	hosts map[string]host443
}

// host443 is a host of a site, as it is reached on port 443.
type host443 struct {
	site *site
	tls  *tls.Config
}

// NewInternet starts an internet without registries that runs until the test
// ends, as a registry of [New] does.
func NewInternet(tb testing.TB) *Internet {
	tb.Helper()
	authority, err := newAuthority()
	if err != nil {
		tb.Fatalf("fetchertest: %v", err)
	}
	n := &Internet{
		authority: authority, life: newLife(), journal: &journal{},
		tunnels: newTunnels(), hosts: map[string]host443{},
	}
	n.start(tb)
	tb.Cleanup(n.close)
	return n
}

// Add makes the internet play the profile, with nothing in its repositories
// yet. The registry is full of life as one of [New] is: images can be put,
// faults injected and tokens revoked, and its Requests are those to its hosts.
// No two profiles of an internet may have a host in common.
func (n *Internet) Add(tb testing.TB, profile Profile) *Registry {
	tb.Helper()
	site, err := newSite(n, profile)
	if err != nil {
		tb.Fatalf("fetchertest: %s: %v", profile.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range site.hosts() {
		if n.hosts[name].site != nil {
			tb.Fatalf("fetchertest: %s: the host %s is taken", profile.Name, name)
		}
		config, err := n.authority.serverConfig(name)
		if err != nil {
			tb.Fatalf("fetchertest: %v", err)
		}
		n.hosts[name] = host443{site, config}
	}
	return site.registry
}

// Proxy returns the proxy's address, as http.ProxyURL takes it. It tunnels to
// port 443 (CONNECT) and forwards http requests to port 80; to a host that no
// profile has, it answers 502.
func (n *Internet) Proxy() *url.URL {
	return &url.URL{Scheme: "http", Host: host(n.proxy.URL)}
}

// CA returns the certificate, in PEM, of the authority that signs for all hosts.
func (n *Internet) CA() []byte { return n.authority.pem() }

// CertPool returns a pool that holds [Internet.CA] and nothing else.
func (n *Internet) CertPool() *x509.CertPool { return certPool(n.CA()) }

// Requests returns what came in for all hosts since the start or the last
// Reset, in order of arrival; also what the proxy refused, with status 502.
// The tunnels themselves are no requests.
func (n *Internet) Requests() []Request {
	return n.journal.requests(func(*note) bool { return true })
}

// Reset forgets the requests. Content, tokens and faults stay.
func (n *Internet) Reset() { n.journal.forget(func(*note) bool { return true }) }

func (n *Internet) host(name string) (host443, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	h, ok := n.hosts[name]
	return h, ok
}
