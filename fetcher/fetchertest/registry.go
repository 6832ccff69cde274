// Package fetchertest is a container registry with its token server and its
// content host, in process and on loopback, that behaves well until a test
// asks for a fault. It imports the standard library only, so that it shares
// no code, and no mistake, with what it tests.
//
//   - [Registry] and [Config]: one registry and how it is set up
//   - [Auth]: what it asks for; the token server grants accordingly
//   - [Image], [PlatformImage] and the Put methods: what it holds
//   - [Fault] and [Match]: what it does wrong, to which requests, how often
//   - [Request] and [Endpoint]: what it was asked
//
// Everything is a value, so a test can keep registries and faults in tables.
// All methods may be called at any time from any goroutine.
package fetchertest

import (
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"
)

// Registry is the read side of a registry (OCI distribution-spec 1.1) on a
// loopback port. Its token server and its content host have ports, and so
// origins, of their own.
type Registry struct {
	config    Config
	authority *authority
	life      *life
	store     store
	journal   journal
	faults    faults
	tokens    tokens

	registry, token, cdn *httptest.Server // token and cdn are nil where the config has none
}

// Config says how a registry is set up. The zero value is an open registry
// that speaks http and serves its blobs itself.
type Config struct {
	// TLS makes all hosts speak https, HTTP/2 too, with certificates of [Registry.CA].
	TLS bool
	// Auth says what the registry asks for.
	Auth Auth
	// Redirect makes blobs answer 307 to the content host with a signed query.
	// As S3 does, that host answers 400 to a request that carries
	// Authorization, and 403 to one whose signature is missing or wrong.
	Redirect bool
}

// New starts a registry that runs until the test ends. Then it cuts all
// connections, ends every request, held and stalled ones too, and waits for
// its goroutines.
func New(tb testing.TB, config Config) *Registry {
	tb.Helper()
	if err := config.Auth.check(); err != nil {
		tb.Fatalf("fetchertest: %v", err)
	}
	r := &Registry{config: config, life: newLife()}
	if config.TLS {
		var err error
		if r.authority, err = newAuthority(); err != nil {
			tb.Fatalf("fetchertest: %v", err)
		}
	}
	if config.Auth.Scheme == Bearer {
		r.token = r.start(tb, tokenTarget)
	}
	if config.Redirect {
		r.cdn = r.start(tb, cdnTarget)
	}
	r.registry = r.start(tb, registryTarget) // last, for its answers name the others
	tb.Cleanup(r.close)
	return r
}

// Host returns host and port of the registry, such as 127.0.0.1:34567.
func (r *Registry) Host() string { return host(r.registry) }

// URL returns scheme and host of the registry.
func (r *Registry) URL() string { return r.registry.URL }

// TokenURL returns the token server's address, the challenge's realm without
// [Auth.RealmQuery]; empty where the scheme isn't bearer.
func (r *Registry) TokenURL() string {
	if r.token == nil {
		return ""
	}
	return r.token.URL + tokenPath
}

// CDNHost returns host and port of the content host; empty without [Config.Redirect].
func (r *Registry) CDNHost() string {
	if r.cdn == nil {
		return ""
	}
	return host(r.cdn)
}

// CA returns the certificate, in PEM, of the authority that signs for this
// registry's hosts and for no other registry; nil without TLS.
func (r *Registry) CA() []byte {
	if r.authority == nil {
		return nil
	}
	return r.authority.pem()
}

// CertPool returns a pool that holds [Registry.CA] and nothing else.
func (r *Registry) CertPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.CA())
	return pool
}

func host(s *httptest.Server) string {
	_, host, _ := strings.Cut(s.URL, "://")
	return host
}
