package registry

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// public returns a client to which r is a registry on the Internet,
// registry.example, and everything else what it is.
func public(t *testing.T, r *fetchertest.Registry) *Repository {
	t.Helper()
	transport := NewTransport(nil)
	t.Cleanup(transport.CloseIdleConnections)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "registry.example:80" {
			address = r.Host()
		}
		return dial(ctx, network, address)
	}
	c := New(transport, "test")
	c.inside["registry.example"] = false
	ref, err := scheme.Parse("docker://registry.example/" + name + "?latest#http")
	if err != nil {
		t.Fatal(err)
	}
	return c.Repository(t.Context(), ref, credential.Match{}, nil)
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
			_, err := public(t, r).Blob(digest.Digest(d)).Open(t.Context(), 0)
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

func TestWhatANameResolvesToCounts(t *testing.T) {
	t.Parallel()
	ctx := context.WithValue(t.Context(), outsider{}, true)
	for address, refused := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:443": true, "10.1.2.3:443": true, "169.254.169.254:80": true, "[fe80::1%eth0]:80": true,
		"[::ffff:192.168.0.1]:80": true, "100.64.0.1:80": true, "0.0.0.0:80": true, "[fd00::1]:80": true,
		"93.184.216.34:443": false, "[2606:2800:220:1::1]:443": false, "172.32.0.1:443": false,
	} {
		if err := refuseInternal(ctx, "tcp", address, nil); errors.Is(err, ErrInternalAddress) != refused {
			t.Errorf("%s: %v", address, err)
		}
		if err := refuseInternal(t.Context(), "tcp", address, nil); err != nil {
			t.Errorf("%s, of an inside registry: %v", address, err)
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
