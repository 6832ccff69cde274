package registry

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

func TestADialTakesAConnectionThatIsReadyOrSoonWillBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{takes: 10 * time.Millisecond}
		d := w.dialer()
		d.warm(there, 3)
		time.Sleep(4 * time.Millisecond)
		for i, want := range []time.Duration{6 * time.Millisecond, 0, 0, w.takes} {
			conn, took := take(t, d)
			if took != want {
				t.Errorf("connection %d was there after %v, want %v", i, took, want)
			}
			defer conn.Close()
		}
		if n := w.dials.Load(); n != 4 {
			t.Errorf("%d dials", n)
		}
	})
}

func TestAConnectionThatIsReadyGoesBeforeOneThatSoonWillBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := (&wire{first: []time.Duration{time.Second, 0}}).dialer()
		d.warm(there, 1)
		synctest.Wait()
		d.warm(there, 2)
		synctest.Wait()
		for _, want := range []time.Duration{0, time.Second} {
			conn, took := take(t, d)
			if took != want {
				t.Errorf("the connection was there after %v, want %v", took, want)
			}
			conn.Close()
		}
	})
}

func TestThereAreNeverMoreConnectionsThanAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		d := w.dialer()
		first, _ := take(t, d)
		for i, step := range []struct {
			n    int
			want int64 // dials so far
		}{{1, 1}, {3, 3}, {3, 3}, {2, 3}, {0, 3}, {-1, 3}} {
			d.warm(there, step.n)
			synctest.Wait()
			if got := w.dials.Load(); got != step.want {
				t.Errorf("step %d: %d dials, want %d", i, got, step.want)
			}
		}
		first.Close()
		first.Close() // net/http may do so
		d.warm(there, 3)
		synctest.Wait()
		if got := w.dials.Load(); got != 4 {
			t.Errorf("%d dials after one connection of three was closed", got)
		}
		d.closeIdle()
	})
}

func TestAConnectionThatNobodyTakesIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := (&wire{}).dialer()
		d.warm(there, 2)
		time.Sleep(keepReady - 1)
		taken, _ := take(t, d)
		if got := d.state(there); got != [2]int{2, 1} {
			t.Errorf("connections in all, and ahead: %v", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := d.state(there); got != [2]int{1, 0} {
			t.Errorf("connections in all, and ahead: %v, after their time", got)
		}
		taken.Close()
		if len(d.open)+len(d.ahead) > 0 {
			t.Errorf("something is left: %v, %v", d.open, d.ahead)
		}
	})
}

func TestAFailureAheadIsNoRequestsFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{takes: time.Millisecond}
		w.fails.Store(3)
		d := w.dialer()
		d.warm(there, 1)
		time.Sleep(w.takes)
		synctest.Wait()
		if got := d.state(there); got != [2]int{} {
			t.Errorf("connections in all, and ahead: %v", got)
		}
		d.warm(there, 2)
		conn, took := take(t, d) // after the first had failed, by a dial of its own
		if took != 2*w.takes {
			t.Errorf("it took %v", took)
		}
		conn.Close()
		if got := d.state(there); got != [2]int{} || w.dials.Load() != 4 {
			t.Errorf("connections in all, and ahead: %v, after %d dials", got, w.dials.Load())
		}
	})
}

func TestWhoStopsWaitingLeavesNoConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := (&wire{takes: time.Second}).dialer()
		d.warm(there, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.take(ctx, "tcp", there); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if got := d.state(there); got != [2]int{} {
			t.Errorf("connections in all, and ahead: %v", got)
		}
	})
}

func TestTheEndOfAllLeavesNoConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, takes := range []time.Duration{0, time.Minute} { // ready, and in the making
			d := (&wire{takes: takes}).dialer()
			d.warm(there, 4)
			synctest.Wait()
			begin := time.Now()
			d.closeIdle()
			if got := d.state(there); got != [2]int{} || time.Since(begin) > 0 {
				t.Errorf("connections in all, and ahead: %v, after %v", got, time.Since(begin))
			}
		}
	})
}

// settle waits until what a client makes ahead is made.
func settle(c *Client) {
	if c.dialer == nil {
		return
	}
	c.dialer.mu.Lock()
	var waiting []*ahead
	for _, all := range c.dialer.ahead {
		waiting = append(waiting, all...)
	}
	c.dialer.mu.Unlock()
	for _, a := range waiting {
		<-a.done
	}
}

// atOnce opens so many blobs, all before the first is answered.
func atOnce(t *testing.T, r *fetchertest.Registry, repository *Repository, n int) {
	t.Helper()
	d := r.PutBlob(name, []byte("blob"))
	all := make(chan struct{})
	var arrived atomic.Int64
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Hold: all, Notice: func(fetchertest.Request) {
		if arrived.Add(1) == int64(n) {
			close(all)
		}
	}})
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			if got, err := read(t, repository.Blob(digest.Digest(d)), transfer.Request{}); got != "blob 0 4 false" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	group.Wait()
}

func TestRequestsUseTheConnectionsThatWereMadeAhead(t *testing.T) {
	t.Parallel()
	for title, config := range map[string]fetchertest.Config{"http": {}, "https": {TLS: true}} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, config)
			c, dials := distant(t, r, nil)
			repository := repository(t, c, r, credential.Match{})
			repository.Warm(5)
			settle(c)
			if n := dials.Load(); n != 5 {
				t.Fatalf("%d connections were made ahead", n)
			}
			atOnce(t, r, repository, 6)
			if n := dials.Load(); n != 6 {
				t.Errorf("%d connections for 6 requests at once", n)
			}
			repository.Warm(7)
			settle(c)
			if n := dials.Load(); n != 7 {
				t.Errorf("%d connections after 6 were there", n)
			}
			c.CloseIdleConnections()
			if e := (endpoint{r.Host(), config.TLS}); c.dialer.state(e)[1] != 0 {
				t.Errorf("connections in all, and ahead: %v", c.dialer.state(e))
			}
		})
	}
}

func TestConnectionsAreMadeWhileTheTokenIsAskedFor(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	image := r.PutImage(name, "latest", fetchertest.Image{})
	c, dials := distant(t, r, nil)
	repository := repository(t, c, r, credential.Match{})
	repository.Ahead = 4
	held := make(chan struct{})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Token}, Hold: held, Notice: func(fetchertest.Request) {
		settle(c)
		if n := dials.Load(); n != 4+1 { // the fifth is the token server's
			t.Errorf("%d connections, before there is a token", n)
		}
		close(held)
	}})
	if m, err := repository.Manifest(t.Context(), "latest"); err != nil || string(m.Body) != string(image.Manifest) {
		t.Errorf("got %q, %v", m.Body, err)
	}
}

func TestNoConnectionIsMadeAheadWhereItGainsNothing(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	for title, test := range map[string]struct {
		set   func(*http.Transport)
		then  func(*Client, *fetchertest.Registry)
		ahead int
		want  int64
	}{
		"to a host that is near": {then: func(c *Client, r *fetchertest.Registry) { c.trips.note(r.Host(), nearby) }, ahead: 4},
		"to a host of unknown distance": {
			then: func(c *Client, _ *fetchertest.Registry) { clear(c.trips.known) }, ahead: 4,
		},
		"by a transport that speaks TLS in its own way": {
			set: func(t *http.Transport) { t.DialTLSContext = t.DialContext }, ahead: 4,
		},
		"by a transport that may speak HTTP/2": {set: func(t *http.Transport) { t.Protocols.SetHTTP2(true) }, ahead: 4},
		"by a transport that nothing is known of": {
			then: func(c *Client, _ *fetchertest.Registry) { c.transports = newTransports(roundTripper(nil)) }, ahead: 4,
		},
		"through a proxy": {
			set:  func(t *http.Transport) { t.Proxy = http.ProxyURL(n.Proxy()) },
			then: func(c *Client, _ *fetchertest.Registry) { clear(c.trips.known) }, ahead: 4,
		},
		"where none is wished":             {},
		"beyond what is kept":              {ahead: 1000, want: idlePerHost},
		"beyond what the transport allows": {set: func(t *http.Transport) { t.MaxConnsPerHost = 3 }, ahead: 4, want: 3},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			c, dials := distant(t, r, test.set)
			if test.then != nil {
				test.then(c, r)
			}
			repository(t, c, r, credential.Match{}).Warm(test.ahead)
			settle(c)
			if got := dials.Load(); got != test.want {
				t.Errorf("%d connections", got)
			}
		})
	}
}
