package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

var errReset = errors.New("connection reset by peer")

// answer is what a server does with one connection. Its zero value gives the
// bytes that were asked for, says the size, proves that it knows ranges where it
// was asked by one, and ends well.
type answer struct {
	wait      time.Duration // Open takes so long
	refuse    error         // Open fails with it
	crash     any           // Open panics with it
	whole     bool          // the range is ignored: 200, and the bytes are those from 0 on
	ahead     int64         // the bytes begin so much after what was asked for
	total     int64         // what it says of the blob's size; 0: the truth
	validator string
	roundTrip time.Duration
	throttled bool

	length    int           // so many bytes come before the end; 0: all
	end       error         // what the last read says; nil: io.EOF
	joined    bool          // the last bytes come in the same read as the end
	stall     bool          // instead of the end, nothing comes
	crashRead any           // instead of the end, Read panics with it
	gap       time.Duration // so long it takes for the next bytes to come
	read      int           // so many come at once; 0: any number
	link      *link         // what all connections share; nil: nothing
	extra     string        // what follows after the blob's last byte
	of        []byte        // the bytes are those of another blob
}

const nothing = -1 // for answer.length

// capped is an answer from afar over a connection of 100 Mbit/s.
var capped = answer{roundTrip: 40 * time.Millisecond, wait: 40 * time.Millisecond, read: 125_000, gap: 10 * time.Millisecond}

// server is a fake Source. Connection i gets answers[i], or the last of them;
// with choose, what that says.
type server struct {
	blob    []byte
	answers []answer
	choose  func(connection int, r transfer.Request) answer

	mu     sync.Mutex
	asked  []transfer.Request
	bodies []*body
	open   int // bodies now
	most   int // at once, ever
}

// offsets returns where each Open began.
func (s *server) offsets() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var offsets []int64
	for _, r := range s.asked {
		offsets = append(offsets, r.Offset)
	}
	return offsets
}

// closes returns how often each body was closed.
func (s *server) closes() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := []int{}
	for _, b := range s.bodies {
		counts = append(counts, b.closed)
	}
	return counts
}

// next notes a request and returns the answer to it.
func (s *server) next(r transfer.Request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	i := len(s.asked) - 1
	if s.choose != nil {
		return s.choose(i, r)
	}
	return s.answers[min(i, len(s.answers)-1)]
}

func (s *server) Open(ctx context.Context, r transfer.Request) (transfer.Content, error) {
	a := s.next(r)
	if err := pause(ctx, a.wait); err != nil {
		return transfer.Content{}, err
	}
	switch {
	case a.crash != nil:
		panic(a.crash)
	case a.refuse != nil:
		return transfer.Content{}, a.refuse
	}
	ranged := !a.whole && (r.Ranged || r.Offset > 0 || r.Length > 0)
	first := max(0, r.Offset+a.ahead)
	if a.whole {
		first = 0
	}
	if a.total == 0 {
		a.total = int64(len(s.blob))
	}
	if a.end == nil {
		a.end = io.EOF
	}
	b := &body{ctx: ctx, answer: a, server: s, rest: s.bytes(a, first, r)}
	s.opened(b)
	return transfer.Content{
		ReadCloser: b, Offset: first, Total: a.total, Ranged: ranged,
		Validator: a.validator, RoundTrip: a.roundTrip, Throttled: a.throttled,
	}, nil
}

func (s *server) opened(b *body) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies = append(s.bodies, b)
	s.open++
	s.most = max(s.most, s.open)
}

// bytes returns what an answer that begins at first gives before its end.
func (s *server) bytes(a answer, first int64, r transfer.Request) []byte {
	rest := s.blob
	if a.of != nil {
		rest = a.of
	}
	rest = rest[min(first, int64(len(rest))):]
	if r.Length > 0 && !a.whole {
		rest = rest[:min(r.Length, int64(len(rest)))]
	}
	if a.extra != "" {
		rest = append(bytes.Clone(rest), a.extra...)
	}
	switch {
	case a.length == nothing:
		return nil
	case a.length > 0:
		return rest[:min(a.length, len(rest))]
	}
	return rest
}

// body is what a connection gives, for as long as its context lasts.
type body struct {
	answer
	ctx    context.Context
	server *server
	rest   []byte
	came   int // bytes that can be read without a wait
	given  int
	closed int // under server.mu
}

func (b *body) Read(p []byte) (int, error) {
	if b.came == 0 {
		if err := pause(b.ctx, b.gap+b.link.wait(b.read)); err != nil {
			return 0, err
		}
		b.came = b.read
	}
	if len(b.rest) == 0 {
		switch {
		case b.stall:
			<-b.ctx.Done()
			return 0, b.ctx.Err()
		case b.crashRead != nil:
			panic(b.crashRead)
		}
	}
	if b.read > 0 {
		p = p[:min(len(p), b.came)]
	}
	n := copy(p, b.rest)
	b.rest, b.given = b.rest[n:], b.given+n
	if b.read > 0 {
		b.came -= n
	}
	if len(b.rest) == 0 && (n == 0 || b.joined) {
		return n, b.end
	}
	return n, nil
}

func (b *body) Close() error {
	b.server.mu.Lock()
	defer b.server.mu.Unlock()
	b.closed++
	b.server.open--
	return nil
}

// link is a line that lets so many bytes per second through.
type link struct {
	rate float64

	mu   sync.Mutex
	free time.Time
}

// wait returns when the next n bytes are through, if nobody else sends any.
func (l *link) wait(n int) time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return l.free.Sub(now)
}

// pause waits, and returns what became of the context meanwhile.
func pause(ctx context.Context, d time.Duration) error {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

type sourceFunc func(context.Context, transfer.Request) (transfer.Content, error)

func (f sourceFunc) Open(ctx context.Context, r transfer.Request) (transfer.Content, error) {
	return f(ctx, r)
}
