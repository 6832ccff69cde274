package registry

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

func TestTheRoundTripIsKnownOfWhatWasConnectedTo(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("blob"))
	repository := open(t, r, credential.Match{})
	if got := repository.RoundTrip(); got != 0 {
		t.Errorf("%v before the first connection", got)
	}
	content, err := repository.Blob(digest.Digest(d)).Open(t.Context(), transfer.Request{})
	if err != nil {
		t.Fatal(err)
	}
	content.Close()
	if got := repository.RoundTrip(); got <= 0 || got > 10*time.Second {
		t.Errorf("%v to the registry", got)
	}
	trips := repository.client.trips
	trips.mu.Lock()
	defer trips.mu.Unlock()
	if want := trips.known[r.CDNHost()]; content.RoundTrip != want || want <= 0 {
		t.Errorf("%v to the content host, want %v", content.RoundTrip, want)
	}
}

func TestTheShortestRoundTripCountsAndTheirNumberIsBounded(t *testing.T) {
	t.Parallel()
	trips := &roundTrips{known: map[string]time.Duration{}}
	for _, took := range []time.Duration{30, 10, 20} {
		trips.note("registry.example:443", took)
	}
	if diff := cmp.Diff(map[string]time.Duration{"registry.example:443": 10}, trips.known); diff != "" {
		t.Error(diff)
	}
	for i := range int64(2 * maxHosts) {
		trips.note(itoa(i), 1)
	}
	if len(trips.known) > maxHosts {
		t.Errorf("%d hosts are known", len(trips.known))
	}
}

// The clock would say that this host is far.
func TestTheRoundTripIsTheKernelsNotTheTimeThatTheDialTook(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	trips := &roundTrips{known: map[string]time.Duration{}}
	delayed := func(ctx context.Context, network, address string) (net.Conn, error) {
		timer := time.NewTimer(50 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	conn, err := trips.dial(t.Context(), delayed, "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := trips.known[listener.Addr().String()]; got <= 0 || got >= 50*time.Millisecond {
		t.Errorf("%v", got)
	}
}
