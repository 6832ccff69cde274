package fetcher_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
)

// link is a network between a fetcher and a registry. What fetchertest.Link has
// is the registry's; this one delays connecting too, by which a fetcher knows
// how far a host is, and it works in the time of a synctest bubble.
type link struct {
	roundTrip time.Duration
	// rate is what each connection brings, in bytes per second, by its number; nil: any.
	rate func(connection int) int64
	// sum is what all of them bring together; 0: any.
	sum int64
	// refused is told of a connection that could not be made; may be nil.
	refused func()
	// brief closes each connection after its request.
	brief bool

	mu                 sync.Mutex
	opened, open, most int
	through            time.Time // when all is through that the connections took so far
}

// virtual runs a test in the time of a bubble: waits cost nothing. The registry
// has to be outside, and bytes under way hold the time up; that is why
// connections must not wait for a second request.
func virtual(t *testing.T, l *link, test func(t *testing.T)) {
	t.Helper()
	l.brief = true
	synctest.Test(t, func(t *testing.T) {
		test(t)
		pause(time.Minute, nil) // connections that are being made outlive their requests
	})
}

func (l *link) transport() *http.Transport {
	t := registry.NewTransport(nil)
	t.DialContext = l.dial
	t.DisableKeepAlives = l.brief
	return t
}

// dial takes a round trip. A wire hides what the kernel knows of a connection, so
// that this is what the fetcher sees.
func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !pause(l.roundTrip, ctx.Done()) {
		return nil, ctx.Err()
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		if l.refused != nil {
			l.refused()
		}
		return nil, err
	}
	return l.connection(conn), nil
}

func (l *link) connection(conn net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened++
	l.open++
	l.most = max(l.most, l.open)
	w := &wire{Conn: conn, link: l, piece: 32 * kibibyte, closed: make(chan struct{})}
	if l.rate != nil {
		w.rate = l.rate(l.opened)
		w.piece = max(1, min(w.piece, int(w.rate/20)))
	}
	w.hangUp = sync.OnceFunc(func() {
		close(w.closed)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
	})
	return w
}

// atOnce returns the most connections that were open at once.
func (l *link) atOnce() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// shared returns when n more bytes are through the link.
func (l *link) shared(n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return after(&l.through, n, l.sum)
}

// after moves through on by the time that n bytes take; 0 bytes per second: none.
func after(through *time.Time, n int, perSecond int64) time.Time {
	if perSecond == 0 {
		return time.Time{}
	}
	if now := time.Now(); through.Before(now) {
		*through = now
	}
	*through = through.Add(time.Duration(n) * time.Second / time.Duration(perSecond))
	return *through
}

// wire is a connection over a link.
type wire struct {
	net.Conn
	link   *link
	rate   int64
	piece  int // at most so many bytes come at once
	closed chan struct{}
	hangUp func()

	mu      sync.Mutex
	answer  time.Time // not before
	through time.Time
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.answer = time.Now().Add(w.link.roundTrip)
	w.mu.Unlock()
	return w.Conn.Write(p)
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p[:min(len(p), w.piece)])
	w.mu.Lock()
	until := later(w.answer, after(&w.through, n, w.rate))
	w.mu.Unlock()
	if !pause(time.Until(later(until, w.link.shared(n))), w.closed) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (w *wire) Close() error {
	w.hangUp()
	return w.Conn.Close()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// pause waits, and reports whether it did so to the end.
func pause(d time.Duration, end <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-end:
		return false
	}
}
