// Package fetchertest is a container registry with its token server and its
// content host, in process and on loopback, that behaves well until a test
// asks for a fault; and the registries of the world as values, reached under
// their own names through a proxy on loopback. It imports the standard library only, so that it shares
// no code, and no mistake, with what it tests.
//
//   - [Registry] and [Config]: one registry and how it is set up
//   - [Auth]: what it asks for; the token server grants accordingly
//   - [Image], [PlatformImage] and the Put methods: what it holds
//   - [Link] and [Limits]: how fast its hosts are reached, how much they take on
//   - [Fault] and [Match]: what it does wrong, to which requests, how often
//   - [Request], [Endpoint] and [Load]: what it was asked, and how much at once
//   - [Profile] and [Profiles]: how the registries of the world behave
//   - [Internet]: where they are reached under their own names
//
// Everything is a value, so a test can keep registries and faults in tables.
// All methods may be called at any time from any goroutine.
package fetchertest

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Registry is the read side of a registry (OCI distribution-spec 1.1) on a
// loopback port. Its token server and its content host have ports, and so
// origins, of their own. One that [Internet.Add] made has names instead.
type Registry struct {
	config    Config
	authority *authority
	life      *life
	store     store
	journal   *journal
	faults    faults
	tokens    tokens
	targets   targets
	pace      pace                                // of all connections together
	answers   func(Request, *http.Request) answer // before a fault spoils it

	// The addresses, without a slash at the end; realm and cdn are empty where
	// there is none. The realm is the token server's.
	registry, realm, cdn string
	servers              []*httptest.Server
	gates                map[string]*gate // by host and port
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
	// TargetUses is how many requests each address is good for that a blob was
	// redirected to; 0: any number. See also [Registry.ExpireTargets].
	TargetUses int
	// TargetExpired is the status of the content host's answer after that; 0:
	// 403, as S3 has it. Others say 400.
	TargetExpired int
	// Link slows the answers of all hosts.
	Link Link
	// Limits is how much each host takes on at once.
	Limits Limits
}

// New starts a registry that runs until the test ends. Then it cuts all
// connections, ends every request, held and stalled ones too, and waits for
// its goroutines.
func New(tb testing.TB, config Config) *Registry {
	tb.Helper()
	if err := config.Auth.check(); err != nil {
		tb.Fatalf("fetchertest: %v", err)
	}
	r := newRegistry(config)
	if config.TLS {
		var err error
		if r.authority, err = newAuthority(); err != nil {
			tb.Fatalf("fetchertest: %v", err)
		}
	}
	if config.Auth.Scheme == Bearer {
		r.realm = r.start(tb, tokenTarget) + tokenPath
	}
	if config.Redirect {
		r.cdn = r.start(tb, cdnTarget)
	}
	r.registry = r.start(tb, registryTarget) // last, for its answers name the others
	tb.Cleanup(r.close)
	return r
}

// newRegistry makes a registry without hosts.
func newRegistry(config Config) *Registry {
	r := &Registry{
		config: config, life: newLife(), journal: &journal{},
		gates: map[string]*gate{}, pace: pace{rate: config.Link.Rate},
	}
	r.answers = r.answer
	return r
}

// Host returns host and port of the registry, such as 127.0.0.1:34567.
func (r *Registry) Host() string { return host(r.registry) }

// URL returns scheme and host of the registry.
func (r *Registry) URL() string { return r.registry }

// TokenURL returns the token server's address, the challenge's realm without
// [Auth.RealmQuery]; empty where the scheme isn't bearer.
func (r *Registry) TokenURL() string { return r.realm }

// CDNHost returns host and port of the content host; empty without [Config.Redirect].
func (r *Registry) CDNHost() string { return host(r.cdn) }

// CA returns the certificate, in PEM, of the authority that signs for this
// registry's hosts and for no other registry; nil without TLS.
func (r *Registry) CA() []byte {
	if r.authority == nil {
		return nil
	}
	return r.authority.pem()
}

// CertPool returns a pool that holds [Registry.CA] and nothing else.
func (r *Registry) CertPool() *x509.CertPool { return certPool(r.CA()) }

func host(address string) string {
	_, host, _ := strings.Cut(address, "://")
	return host
}
