package fetcher_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// slowness is how an answer comes, in the time of a bubble, in which the
// registry's own stalls would never end.
type slowness struct {
	wait  time.Duration // before the first byte
	head  bool          // what follows is of the head too, not only of the body
	free  int           // so many bytes of the body come at once
	every time.Duration // between two bytes from there on; 0: no more comes
}

// slowed is a dial whose connections answer as slowly as said to requests with
// this in their first line: to the first one as the first slowness says, and so
// on; to the others at once.
func slowed(dial func(context.Context, string, string) (net.Conn, error), line string, answers []slowness) func(context.Context, string, string) (net.Conn, error) {
	var mu sync.Mutex
	next := func(request []byte) *slowness {
		mu.Lock()
		defer mu.Unlock()
		first, _, _ := bytes.Cut(request, []byte("\r\n"))
		if len(answers) == 0 || !bytes.Contains(first, []byte(line)) {
			return nil
		}
		one := answers[0]
		answers = answers[1:]
		return &one
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := &slowWire{Conn: conn, next: next, asked: make(chan struct{}), closed: make(chan struct{})}
		w.ask = sync.OnceFunc(func() { close(w.asked) })
		w.hangUp = sync.OnceFunc(func() { close(w.closed) })
		return w, nil
	}
}

// slowWire is a connection for one request.
type slowWire struct {
	net.Conn
	next          func(request []byte) *slowness
	slow          *slowness // nil: at once. It is known when it was asked
	asked, closed chan struct{}
	ask, hangUp   func()
	head          []byte // of the answer
	inBody        bool
}

func (w *slowWire) Write(p []byte) (int, error) {
	select {
	case <-w.asked:
	default:
		w.slow = w.next(p)
		w.ask()
	}
	return w.Conn.Write(p)
}

func (w *slowWire) Read(p []byte) (int, error) {
	select {
	case <-w.asked:
	case <-w.closed:
		return 0, net.ErrClosed
	}
	if w.slow == nil {
		return w.Conn.Read(p)
	}
	if !w.turn() {
		return 0, net.ErrClosed
	}
	n, err := w.Conn.Read(p[:1])
	if n > 0 && !w.inBody {
		w.head = append(w.head, p[0])
		w.inBody = bytes.HasSuffix(w.head, []byte("\r\n\r\n"))
	}
	return n, err
}

// turn waits until the next byte may come, and reports false where it never does.
func (w *slowWire) turn() bool {
	wait := w.slow.wait
	w.slow.wait = 0
	switch {
	case !w.inBody && !w.slow.head:
	case w.inBody && w.slow.free > 0:
		w.slow.free--
	case w.slow.every > 0:
		wait += w.slow.every
	default:
		<-w.closed
		return false
	}
	return pause(wait, w.closed)
}

func (w *slowWire) Close() error {
	w.hangUp()
	return w.Conn.Close()
}

// line is what the first line of a request for the place has.
func (s *trial) line() string {
	switch m := s.match(); s.endpoint {
	case fetchertest.Manifest:
		return "/manifests/" + m.Identifier
	case fetchertest.Token:
		return " /token"
	case fetchertest.Blob:
		return "/blobs/" + m.Identifier
	default:
		return " /team/app/" + m.Identifier
	}
}

// TestASlowAnswerIsWaitedForOrReportedInTime: whatever hangs, the design promises
// a report within 30 seconds.
func TestASlowAnswerIsWaitedForOrReportedInTime(t *testing.T) {
	t.Parallel()
	always := func(s slowness) []slowness { return []slowness{s, s, s, s, s, s, s, s} }
	const second = time.Second
	for _, test := range []struct {
		name        string
		at          []place
		answers     []slowness
		words       string // "": every byte is right
		least, most time.Duration
		wants       string
	}{
		{"an answer that never begins is reported", places, always(slowness{head: true}), "timeout awaiting response headers", 15 * second, 18 * second, ""},
		{"a head that trickles is reported", places, always(slowness{head: true, every: second}), "timeout awaiting response headers", 15 * second, 18 * second, "200"},
		{"an answer that begins late is waited for", places, []slowness{{wait: 10 * second, free: 1 << 20}}, "", 10 * second, 10 * second, "200"},
		{"a head that comes slowly is waited for", places, []slowness{{head: true, free: 1 << 20, every: 10 * time.Millisecond}}, "", second, 10 * second, "200"},
		{"a document that never comes is reported", documents, always(slowness{}), "the answer trickles in too slowly", 10 * second, 12 * second, "200"},
		{"a document that stops is reported", documents, always(slowness{free: 100}), "the answer trickles in too slowly", 10 * second, 12 * second, "200"},
		{"a document that trickles is reported", documents, always(slowness{every: second}), "the answer trickles in too slowly", 10 * second, 12 * second, "200"},
		{"a document that is slow is waited for", documents, []slowness{{every: 5 * time.Millisecond}}, "", second, 10 * second, "200"},
		{"a document that begins late and stops is reported", documents, always(slowness{wait: 14 * second, free: 1}), "", 18 * second, 28 * second, "200"},
		{"a blob that never comes is asked for again", blobs, []slowness{{}}, "", 5 * second, 10 * second, "200 200"},
		{"a blob that stops is continued", blobs, []slowness{{free: 10_000}, {free: 5000}}, "", 10 * second, 15 * second, "200 206 206"},
		{"a blob that trickles is continued", blobs, []slowness{{every: 100 * time.Millisecond}}, "", 5 * second, 10 * second, "200 206"},
	} {
		for _, p := range test.at {
			t.Run(test.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				s := newTrial(t, p, fetchertest.Config{})
				virtual(t, s.link, func(t *testing.T) {
					transport := s.link.transport()
					transport.DialContext = slowed(s.link.dial, s.line(), test.answers)
					s.ready(t, fetcher.Config{Transport: transport})
					begin := time.Now()
					if len(test.answers) == 8 {
						s.failed(fetcher.RegistryUnreachable, test.words)
					} else {
						s.fetched()
					}
					if took := time.Since(begin); took < test.least || took > test.most {
						t.Errorf("it took %v, want %v to %v", took, test.least, test.most)
					}
					if test.wants != "" { // of what never begins, the registry may not have heard yet
						s.wants(test.wants)
					}
				})
			})
		}
	}
}

// TestARegistryThatRepeatsASlowFailureIsReportedInTime adds up what a registry can
// make a fetch wait for: answers that come late, and say to come again.
func TestARegistryThatRepeatsASlowFailureIsReportedInTime(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fetchertest.Fault{
		"503":                      {Status: http.StatusServiceUnavailable},
		"429":                      {Status: http.StatusTooManyRequests},
		"429 that asks for 5 s":    {Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"5"}}},
		"401 of nobody":            {Status: http.StatusUnauthorized},
		"a redirect to the same":   {Status: http.StatusFound, Header: http.Header{"Location": {"?again"}}},
		"a body that breaks off":   {CutAt: 10},
		"a connection that breaks": {Drop: true},
	} {
		for _, wait := range []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 14 * time.Second} {
			for _, p := range documents {
				t.Run(name+", after "+wait.String()+"/"+p.name, func(t *testing.T) {
					t.Parallel()
					s := newTrial(t, p, fetchertest.Config{})
					s.inject(fault)
					virtual(t, s.link, func(t *testing.T) {
						transport, late := s.link.transport(), make([]slowness, 100)
						for i := range late {
							late[i] = slowness{wait: wait, free: 1 << 20}
						}
						transport.DialContext = slowed(s.link.dial, s.line(), late)
						s.ready(t, fetcher.Config{Transport: transport})
						begin := time.Now()
						if err := s.fetch(); err == nil {
							t.Error("it was fetched")
						}
						if took := time.Since(begin); took > 30*time.Second {
							t.Errorf("it took %v\n%s", took, s.asked())
						}
						s.wholeOnly()
					})
				})
			}
		}
	}
}
