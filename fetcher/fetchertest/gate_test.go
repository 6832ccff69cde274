package fetchertest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

func TestOneRequestForABlobTooManyIsToldToWait(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Limits: fetchertest.Limits{Requests: 2, RetryAfter: "0.5"}})
	c := newClient(t, r)
	address := r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte("0123456789"))
	r.PutManifest("a", "1", v2Type, []byte("{}"))
	hold, arrived := make(chan struct{}), make(chan fetchertest.Request, 2)
	r.Inject(fetchertest.Fault{Times: 2, StallAt: 4, Hold: hold, Notice: func(q fetchertest.Request) { arrived <- q }})
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			if a, err := c.send("GET", address, ""); err != nil || a.status != 200 || a.body != "0123456789" {
				t.Errorf("within the limit: %d %q, %v", a.status, a.body, err)
			}
		})
	}
	<-arrived
	<-arrived
	third := c.get(address)
	if third.status != 429 || third.header.Get("Retry-After") != "0.5" || third.body != `{"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests"}]}` {
		t.Errorf("beyond the limit: %d %v %s", third.status, third.header, third.body)
	}
	if got := c.get(r.URL() + "/v2/a/manifests/1").status; got != 200 {
		t.Errorf("a manifest meanwhile: %d", got)
	}
	close(hold)
	held.Wait()
	if got := c.get(address).status; got != 200 {
		t.Errorf("afterwards: %d", got)
	}
	if load := r.Load(t, r.Host()); load.BlobsAtOnce != 2 || load.Refused != 1 {
		t.Errorf("%+v", load)
	}
}

func TestOneConnectionTooManyIsReset(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]fetchertest.Config{"http": {}, "https": {TLS: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.Limits.Connections = 2
			r := fetchertest.New(t, config)
			clients := []client{newClient(t, r), newClient(t, r), newClient(t, r)}
			for _, c := range clients[:2] {
				c.get(r.URL() + "/v2/")
			}
			if _, err := clients[2].send("GET", r.URL()+"/v2/", ""); err == nil {
				t.Error("a third connection is served")
			}
			if diff := cmp.Diff(fetchertest.Load{Connections: 2, ConnectionsAtOnce: 2, Refused: 1}, r.Load(t, r.Host())); diff != "" {
				t.Errorf("load (-want +got):\n%s", diff)
			}
			clients[0].get(r.URL() + "/v2/")
			clients[0].http.CloseIdleConnections()
			for { // until the host has seen the end of the first
				if _, err := clients[2].send("GET", r.URL()+"/v2/", ""); err == nil {
					break
				}
			}
			clients[1].get(r.URL() + "/v2/")
		})
	}
}

func TestTheLoadOfAHostIsItsOwn(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	c := newClient(t, r)
	digest := r.PutBlob("a", []byte("0123456789"))
	location := c.get(r.URL() + "/v2/a/blobs/" + digest).header.Get("Location")
	hold, arrived := make(chan struct{}), make(chan fetchertest.Request, 3)
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Times: 3, StallAt: 4, Hold: hold, Notice: func(q fetchertest.Request) { arrived <- q }})
	var held sync.WaitGroup
	for range 3 {
		held.Go(func() { _, _ = c.send("GET", location, "") })
	}
	for range 3 {
		<-arrived
	}
	got := map[string]fetchertest.Load{"registry": r.Load(t, r.Host()), "content": r.Load(t, r.CDNHost())}
	want := map[string]fetchertest.Load{
		"registry": {Connections: 1, ConnectionsAtOnce: 1, BlobsAtOnce: 1},
		"content":  {Connections: 3, ConnectionsAtOnce: 3, BlobsAtOnce: 3},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("load (-want +got):\n%s", diff)
	}
	r.Reset()
	if diff := cmp.Diff(fetchertest.Load{ConnectionsAtOnce: 3, BlobsAtOnce: 3}, r.Load(t, r.CDNHost())); diff != "" {
		t.Errorf("what is still there after a reset (-want +got):\n%s", diff)
	}
	close(hold)
	held.Wait()
}

func TestRequestsSayByWhichConnectionTheyCame(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config fetchertest.Config
		atOnce int // connections of three requests at once
	}{
		"HTTP/1.1 has one for each": {fetchertest.Config{}, 3},
		"HTTP/2 has one for all":    {fetchertest.Config{TLS: true}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, test.config)
			c := newClient(t, r)
			c.get(r.URL() + "/v2/")
			c.get(r.URL() + "/v2/")
			if got := connections(r); len(got) != 1 || got[0] == "" {
				t.Errorf("two requests after each other: %q", got)
			}
			hold, arrived := make(chan struct{}), make(chan fetchertest.Request, 3)
			r.Inject(fetchertest.Fault{Hold: hold, Notice: func(q fetchertest.Request) { arrived <- q }})
			var held sync.WaitGroup
			for range 3 {
				held.Go(func() { _, _ = c.send("GET", r.URL()+"/v2/", "") })
			}
			for range 3 {
				<-arrived
			}
			if got := connections(r); len(got) != test.atOnce || len(got) != r.Load(t, r.Host()).Connections {
				t.Errorf("three requests at once: %q, %+v", got, r.Load(t, r.Host()))
			}
			close(hold)
			held.Wait()
		})
	}
}

func TestConnectionsThroughTheProxyAreToldApartToo(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	r := n.Add(t, profile(t, "Microsoft Container Registry"))
	for range 2 {
		surfer(t, n).get("https://mcr.microsoft.com/v2/")
	}
	if got := connections(r); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// connections lists those that requests came by.
func connections(r *fetchertest.Registry) []string {
	var list []string
	for _, q := range r.Requests() {
		list = append(list, q.Connection)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestAHostThatIsShutRefusesUntilItIsReopened(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]fetchertest.Config{"http": {}, "https": {TLS: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.Redirect = true
			r := fetchertest.New(t, config)
			c := newClient(t, r)
			location := c.get(r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte("0123456789"))).header.Get("Location")
			for range 2 {
				r.Inject(fetchertest.Fault{Times: 1, StallAt: 4, Notice: func(fetchertest.Request) { go r.Shut(t, r.CDNHost()) }})
				if a, err := c.send("GET", location, ""); err == nil && a.err == nil {
					t.Errorf("the connection isn't cut: %q", a.body)
				}
				if _, err := c.send("GET", location, ""); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("while it is shut: %v", err)
				}
				r.Shut(t, r.CDNHost()) // which changes nothing
				if got := c.get(r.URL() + "/v2/").status; got != 200 {
					t.Errorf("the other host: %d", got)
				}
				r.Reopen(t, r.CDNHost())
				r.Reopen(t, r.CDNHost())
				if got := c.get(location).body; got != "0123456789" {
					t.Errorf("afterwards: %q", got)
				}
			}
		})
	}
}

func TestATestMayEndWhileAHostIsShut(t *testing.T) {
	t.Parallel()
	var address string
	t.Run("it", func(t *testing.T) {
		r := fetchertest.New(t, fetchertest.Config{})
		address = r.URL()
		r.Shut(t, r.Host())
	})
	req, err := http.NewRequestWithContext(context.Background(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Error("the host is there")
	}
}
