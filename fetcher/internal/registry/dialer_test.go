package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// wire is a network in process, for virtual time.
type wire struct {
	takes time.Duration   // to connect
	first []time.Duration // to connect, for the first dials; may be empty
	fails atomic.Int64    // so many dials
	dials atomic.Int64
}

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	takes := w.takes
	if n := int(w.dials.Add(1)); n <= len(w.first) {
		takes = w.first[n-1]
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if w.fails.Add(-1) >= 0 {
		return nil, errors.New("refused")
	}
	conn, _ := net.Pipe()
	return conn, nil
}

func (w *wire) dialer() *dialer {
	return &dialer{
		dial: w.dial, most: idlePerHost, trips: &roundTrips{known: map[string]time.Duration{}},
		open: map[endpoint]int{}, ahead: map[endpoint][]*ahead{},
	}
}

// state is what a dialer has: connections in all, and those nobody asked for.
func (d *dialer) state(e endpoint) [2]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return [2]int{d.open[e], len(d.ahead[e])}
}

var there = endpoint{address: "registry.example:443"}

// take takes a connection, and says after how long it was there.
func take(t *testing.T, d *dialer) (net.Conn, time.Duration) {
	t.Helper()
	begin := time.Now()
	conn, err := d.take(t.Context(), "tcp", there)
	if err != nil {
		t.Fatal(err)
	}
	return conn, time.Since(begin)
}

// distant returns a client whose transport seems to need 50 ms to the registry,
// and what counts its connections.
func distant(t *testing.T, r *fetchertest.Registry, set func(*http.Transport)) (*Client, *atomic.Int64) {
	t.Helper()
	dials := new(atomic.Int64)
	config := &tls.Config{}
	if strings.HasPrefix(r.URL(), "https") {
		config.RootCAs = r.CertPool()
	}
	transport := NewTransport(config)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	if set != nil {
		set(transport)
	}
	c := New(transport, "test")
	t.Cleanup(c.CloseIdleConnections)
	c.trips.note(r.Host(), 50*time.Millisecond)
	if c.dialer != nil {
		c.dialer.trips = &roundTrips{known: map[string]time.Duration{}} // the truth is kept elsewhere
	}
	return c, dials
}

func TestHTTPSGoesThroughAProxyByCONNECT(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	var profile fetchertest.Profile
	for _, p := range fetchertest.Profiles {
		if p.Name == "Microsoft Container Registry" {
			profile = p
		}
	}
	r := n.Add(t, profile)
	place := profile.Public
	image := r.PutImage(place.Repository, place.Tag, fetchertest.Image{})
	transport := NewTransport(&tls.Config{RootCAs: n.CertPool()})
	transport.Proxy = http.ProxyURL(n.Proxy())
	c := New(transport, "test")
	t.Cleanup(c.CloseIdleConnections)
	ref, err := scheme.Parse(place.URI)
	if err != nil {
		t.Fatal(err)
	}
	repository := c.Repository(t.Context(), ref, credential.Match{}, nil)
	m, err := repository.Manifest(t.Context(), place.Tag)
	if err != nil || string(m.Body) != string(image.Manifest) || repository.RoundTrip() != 0 {
		t.Errorf("got %q, %v, with a round trip of %v", m.Body, err, repository.RoundTrip())
	}
}

func TestATLSSessionIsResumed(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{TLS: true})
	c := client(t, r)
	for _, want := range []bool{false, true} {
		req, err := http.NewRequest(http.MethodGet, r.URL()+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.inside.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		discard(resp)
		if resp.TLS.DidResume != want || resp.ProtoMajor != 1 {
			t.Errorf("resumed: %v, by %s", resp.TLS.DidResume, resp.Proto)
		}
		c.CloseIdleConnections()
	}
}

func TestATLSHandshakeIsBoundedAndItsErrorsAreThoseOfNetHTTP(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() }) // the backlog accepts, nobody answers
	for title, test := range map[string]struct {
		host  string
		limit time.Duration
		want  string
	}{
		"a server that says nothing":      {silent.Addr().String(), 20 * time.Millisecond, "TLS handshake: i/o timeout"},
		"a server that speaks plain http": {fetchertest.New(t, fetchertest.Config{}).Host(), handshakeTimeout, "plain http: say so with #http"},
		"a server of another authority":   {fetchertest.New(t, fetchertest.Config{TLS: true}).Host(), handshakeTimeout, "SSL_CERT_FILE"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			transport := NewTransport(nil)
			transport.TLSHandshakeTimeout = test.limit
			c := New(transport, "test")
			t.Cleanup(c.CloseIdleConnections)
			req, err := http.NewRequest(http.MethodGet, "https://"+test.host+"/v2/", nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.inside.RoundTrip(req)
			if _, hint := transportMeaning(err, ""); err == nil || !strings.Contains(err.Error()+hint, test.want) {
				t.Errorf("got %v", err)
			}
			if n := len(c.dialer.open); n != 0 {
				t.Errorf("connections to %d endpoints are left", n)
			}
		})
	}
}

func TestACancelledHandshakeIsACancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := (&wire{}).dialer()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.take(ctx, "tcp", endpoint{there.address, true}); !errors.Is(err, context.Canceled) || len(d.open) != 0 {
			t.Errorf("got %v", err)
		}
	})
}

func TestPartsOneAfterTheOtherUseOneConnection(t *testing.T) {
	t.Parallel()
	for title, fault := range map[string]fetchertest.Fault{"of known length": {}, "chunked": {Chunked: true}} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			d := r.PutBlob(name, []byte("0123456789"))
			r.Inject(fault)
			c, dials := distant(t, r, nil)
			source := repository(t, c, r, credential.Match{}).Blob(digest.Digest(d))
			for offset := range int64(5) {
				if _, err := read(t, source, transfer.Request{Offset: offset, Length: 2}); err != nil {
					t.Fatal(err)
				}
			}
			if n := dials.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestATransportIsNotChangedByItsClient(t *testing.T) {
	t.Parallel()
	transport := NewTransport(nil)
	New(transport, "test")
	if transport.DialTLSContext != nil {
		t.Error("it makes TLS connections in another way")
	}
}
