package registry

import (
	"context"
	"net"
	"net/url"
	"sync"
	"time"
)

// RoundTrip returns the time of a round trip to the registry: the shortest that
// making a connection showed. 0: unknown, as through a proxy.
func (r *Repository) RoundTrip() time.Duration {
	if r.place != nil {
		return r.client.trips.to(r.place.url)
	}
	return r.pool.trips.to(r.registry)
}

// roundTrips are the shortest round trips to hosts, as making connections showed.
type roundTrips struct {
	mu    sync.Mutex
	known map[string]time.Duration // by host:port
}

// dial makes a connection and notes its round trip. The kernel's measure is the
// better one: the clock counts the wait for a processor and for a name server
// too, and takes a near host for a far one on a busy machine.
func (t *roundTrips) dial(ctx context.Context, dial dial, network, address string) (net.Conn, error) {
	begin := time.Now()
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	took, known := kernelRoundTrip(conn)
	if !known {
		took = time.Since(begin)
	}
	t.note(address, took)
	return conn, nil
}

// note keeps the shortest time: others had to wait for more than the network.
func (t *roundTrips) note(address string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, known := t.known[address]; !known || took < before {
		note(t.known, address, took)
	}
}

// to returns the round trip to the host of u; 0: unknown, as where a proxy is
// in between.
func (t *roundTrips) to(u *url.URL) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[address(u)]
}

// address is the host and port of a URL, as http.Transport dials them.
func address(u *url.URL) string { return net.JoinHostPort(u.Hostname(), port(u)) }
