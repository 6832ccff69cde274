package transfer_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// sink keeps what it is given, and when.
type sink struct {
	takes time.Duration // each write

	mu       sync.Mutex
	bytes    []byte
	writes   [][2]int64 // where each began and ended
	restarts int
	writing  int // now
	most     int // at once, ever
}

// newSink returns one for so many bytes.
func newSink(size int) *sink { return &sink{bytes: make([]byte, size)} }

func (s *sink) Put(p []byte, offset int64) (content.Unhashed, error) {
	end := offset + int64(len(p))
	s.began(offset, end)
	defer s.ended()
	if offset < 0 || end > int64(len(s.bytes)) {
		return content.Unhashed{}, fmt.Errorf("bytes %d to %d of a blob of %d", offset, end, len(s.bytes))
	}
	if s.takes > 0 {
		time.Sleep(s.takes)
	}
	copy(s.bytes[offset:], p) // unlocked: a byte written twice at once is a race
	return content.Unhashed{}, nil
}

func (s *sink) began(begin, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, [2]int64{begin, end})
	s.writing++
	s.most = max(s.most, s.writing)
}

func (s *sink) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing--
}

func (s *sink) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing > 0 {
		return fmt.Errorf("%d writes were going on", s.writing)
	}
	s.restarts++
	s.writes = nil
	clear(s.bytes)
	return nil
}

// holds fails the test unless the sink was given exactly the blob, each byte
// once.
func (s *sink) holds(t *testing.T, blob []byte) {
	t.Helper()
	if end := s.once(t); end != int64(len(blob)) {
		t.Errorf("bytes 0 to %d were written, want %d", end, len(blob))
		return
	}
	if !bytes.Equal(s.bytes[:len(blob)], blob) {
		t.Error("the bytes that were written are not the blob's")
	}
}

// once fails the test unless the bytes written are the first ones, each once. It
// returns how many.
func (s *sink) once(t *testing.T) (end int64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := slices.Clone(s.writes)
	slices.SortFunc(writes, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	for _, w := range writes {
		if w[0] != end {
			t.Errorf("byte %d came next to byte %d", w[0], end)
		}
		end = w[1]
	}
	return end
}

// inOrder fails the test unless each write continued the one before.
func (s *sink) inOrder(t *testing.T) {
	t.Helper()
	if !slices.IsSortedFunc(s.writes, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) }) {
		t.Errorf("one stream wrote out of order: %v", s.writes)
	}
}

// sinkFunc is a sink that keeps nothing. It is what Put does.
type sinkFunc func(p []byte, offset int64) error

func (f sinkFunc) Put(p []byte, offset int64) (content.Unhashed, error) {
	return content.Unhashed{}, f(p, offset)
}
func (f sinkFunc) Restart() error { return nil }

var discard = sinkFunc(func([]byte, int64) error { return nil })
