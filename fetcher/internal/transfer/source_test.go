package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

var errReset = errors.New("connection reset by peer")

// answer is what a server does with one connection. Its zero value gives the
// bytes that were asked for, says the size and ends well.
type answer struct {
	refuse error // Open fails with it
	whole  bool  // the range is ignored: the bytes are those from 0 on
	ahead  int64 // the bytes begin so much after what was asked for
	total  int64 // what it says of the blob's size; 0: the truth

	length int           // so many bytes come before the end; 0: all
	end    error         // what the last read says; nil: io.EOF
	joined bool          // the last bytes come in the same read as the end
	stall  bool          // instead of the end, nothing comes
	gap    time.Duration // each read takes so long
	read   int           // the most bytes that one read gives; 0: any number
	extra  string        // what follows after the blob's last byte
}

const nothing = -1 // for answer.length

// server is a fake Source. Connection i gets answers[i], or the last of them.
type server struct {
	blob    []byte
	answers []answer

	asked  []int64 // the offsets of the Opens
	bodies []*body
}

func (s *server) Open(ctx context.Context, offset int64) (transfer.Content, error) {
	a := s.answers[min(len(s.asked), len(s.answers)-1)]
	s.asked = append(s.asked, offset)
	if a.refuse != nil {
		return transfer.Content{}, a.refuse
	}
	first := offset + a.ahead
	if a.whole {
		first = 0
	}
	bytes := append(bytes.Clone(s.blob[min(first, int64(len(s.blob))):]), a.extra...)
	switch {
	case a.length == nothing:
		bytes = nil
	case a.length > 0:
		bytes = bytes[:min(a.length, len(bytes))]
	}
	if a.total == 0 {
		a.total = int64(len(s.blob))
	}
	if a.end == nil {
		a.end = io.EOF
	}
	b := &body{ctx: ctx, answer: a, rest: bytes}
	s.bodies = append(s.bodies, b)
	return transfer.Content{ReadCloser: b, Offset: first, Total: a.total}, nil
}

// closes returns how often each body was closed.
func (s *server) closes() []int {
	var counts []int
	for _, b := range s.bodies {
		counts = append(counts, b.closed)
	}
	return counts
}

// body is what a connection gives, for as long as its context lasts.
type body struct {
	answer
	ctx    context.Context
	rest   []byte
	closed int
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.pause(); err != nil {
		return 0, err
	}
	if b.read > 0 {
		p = p[:min(len(p), b.read)]
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if len(b.rest) == 0 && (n == 0 || b.joined) {
		return n, b.end
	}
	return n, nil
}

// pause waits as the answer says: for the gap, or at the end for ever.
func (b *body) pause() error {
	var wait <-chan time.Time
	if b.gap > 0 {
		wait = time.After(b.gap)
	}
	if b.stall && len(b.rest) == 0 {
		wait = make(chan time.Time)
	}
	if wait != nil {
		select {
		case <-wait:
		case <-b.ctx.Done():
		}
	}
	return b.ctx.Err()
}

func (b *body) Close() error {
	b.closed++
	return nil
}
