package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// far is a connection that looks as if it went to the Internet.
type far struct{ net.Conn }

func (far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(93, 184, 216, 34), Port: 80} }

// public returns a repository of r, which is registry.example on the Internet;
// intra.example is this machine.
func public(t *testing.T, r *fetchertest.Registry, transport *http.Transport) *Repository {
	t.Helper()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		name, port, _ := net.SplitHostPort(address)
		switch name {
		case "registry.example":
			conn, err := dial(ctx, network, r.Host())
			return far{conn}, err
		case "intra.example":
			address = "127.0.0.1:" + port
		}
		return dial(ctx, network, address)
	}
	c := New(transport, "test")
	t.Cleanup(c.CloseIdleConnections)
	return of(t, c, "registry.example")
}

func of(t *testing.T, c *Client, host string) *Repository {
	t.Helper()
	ref, err := scheme.Parse("docker://" + host + "/" + name + "?latest#http")
	if err != nil {
		t.Fatal(err)
	}
	return c.Repository(t.Context(), ref, credential.Match{}, nil)
}

// A connection to intra.example that a registry there left open is no way in
// for a public one.
func TestAPublicRegistryCanNotUseTheConnectionOfAnother(t *testing.T) {
	t.Parallel()
	both := NewTransport(nil)
	both.Protocols.SetHTTP2(true)
	for title, transport := range map[string]*http.Transport{"our own": NewTransport(nil), "one for HTTP/2 too": both} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			d := r.PutBlob(name, []byte("blob"))
			repository := public(t, r, transport)
			_, port, _ := net.SplitHostPort(r.Host())
			intra := "intra.example:" + port
			if got := body(t, of(t, repository.client, intra), d, 0); got != "blob" {
				t.Fatalf("got %q", got)
			}
			r.Inject(fetchertest.Fault{Times: 1, Status: 307, Header: http.Header{"Location": {"http://" + intra + "/v2/" + name + "/blobs/" + d}}})
			_, err := repository.Blob(digest.Digest(d)).Open(t.Context(), transfer.Request{})
			if !errors.Is(err, ErrInternalAddress) || !strings.Contains(err.Error(), intra) {
				t.Errorf("got %v", err)
			}
			if n := r.Count(fetchertest.Blob); n != 2 {
				t.Errorf("%d requests, want that of each registry and no more", n)
			}
		})
	}
}

func TestARegistryThatAnswersFromInsideMayLeadAnywhere(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("blob"))
	c := public(t, r, NewTransport(nil)).client
	_, port, _ := net.SplitHostPort(r.Host())
	if got := body(t, of(t, c, "intra.example:"+port), d, 0); got != "blob" {
		t.Errorf("got %q", got)
	}
}

func TestAPublicRegistryCanNotLeadInside(t *testing.T) {
	t.Parallel()
	for title, config := range map[string]fetchertest.Config{
		"by a redirect": {Redirect: true},
		"by a realm":    {Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, config)
			d := r.PutBlob(name, []byte("blob"))
			_, err := public(t, r, NewTransport(nil)).Blob(digest.Digest(d)).Open(t.Context(), transfer.Request{})
			var e *Error
			if !errors.As(err, &e) || e.Reason != "INSECURE_REGISTRY_REFUSED" || !strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("got %v", err)
			}
			if r.Count(fetchertest.CDN)+r.Count(fetchertest.Token) > 0 {
				t.Error("the internal address was asked")
			}
		})
	}
}

func TestATransportsOwnWayToSpeakTLSIsGuardedToo(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{TLS: true})
	for title, set := range map[string]func(*http.Transport){
		"with a context": func(t *http.Transport) {
			t.DialTLSContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, r.Host())
			}
		},
		"without one": func(t *http.Transport) {
			t.DialTLS = func(network, _ string) (net.Conn, error) { return net.Dial(network, r.Host()) } //nolint:staticcheck // others may set it
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			transport := NewTransport(nil)
			set(transport)
			c := New(transport, "test")
			t.Cleanup(c.CloseIdleConnections)
			req, err := http.NewRequest(http.MethodGet, "https://content.example/blob", nil)
			if err != nil {
				t.Fatal(err)
			}
			o := outgoing{client: c, registry: &url.URL{Scheme: "https", Host: "registry.example"}, pool: &c.transports}
			if _, err := o.away(req, o.pool); !errors.Is(err, ErrInternalAddress) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestInternal(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.1.2.3": true, "172.16.0.1": true, "192.168.0.1": true, "169.254.169.254": true,
		"fe80::1%eth0": true, "::ffff:192.168.0.1": true, "100.64.0.1": true, "0.0.0.0": true, "0.1.2.3": true, "::": true,
		"fd00::1": true, "fec0::1": true, "224.0.0.1": true, "64:ff9b::7f00:1%eth0": true, "64:ff9b:1::5db8:d822": true, "::7f00:1": true,
		"64:ff9b::a9fe:a9fe": true, "2002:7f00:1::": true, // 169.254.169.254 and 127.0.0.1, translated
		"192.0.0.192": true, "168.63.129.16": true, "168.63.129.17": false, "240.0.0.1": true, "255.255.255.255": true, "198.18.0.1": true,
		"198.19.255.255": true, "198.20.0.1": false, "::ffff:0:7f00:1": true, "::ffff:0:5db8:d822": false,
		"93.184.216.34": false, "2606:2800:220:1::1": false, "172.32.0.1": false, "64:ff9b::5db8:d822": false, "2002:5db8:d822::": false,
	} {
		if got := internal(netip.MustParseAddr(address)); got != want {
			t.Errorf("internal(%s) = %v", address, got)
		}
	}
}

func TestLocalhostIsLoopbackByName(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"localhost", "LOCALHOST.", "a.localhost"} {
		if addr, ok := literal(host); !ok || addr != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%s is %v", host, addr)
		}
	}
	if _, ok := literal("localhost.example"); ok {
		t.Error("localhost.example is taken for loopback")
	}
}
