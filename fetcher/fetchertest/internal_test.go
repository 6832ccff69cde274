package fetchertest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

func TestParseRangeTakesOneRangeAndIgnoresTheRest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		want byteRange
		ok   bool
	}{
		"bytes=0-":                     {byteRange{first: 0, last: -1}, true},
		"bytes=5-9":                    {byteRange{first: 5, last: 9}, true},
		"bytes=5-5":                    {byteRange{first: 5, last: 5}, true},
		"Bytes=5-":                     {byteRange{first: 5, last: -1}, true},
		"bytes=-3":                     {byteRange{first: -1, n: 3}, true},
		"":                             {},
		"bytes":                        {},
		"bytes=":                       {},
		"bytes=-":                      {},
		"bytes=9-5":                    {},
		"bytes=0-1,5-6":                {},
		"bytes=+1-":                    {},
		"bytes=--1":                    {},
		"items=0-1":                    {},
		"bytes=0-99999999999999999999": {},
	}
	for header, test := range tests {
		if got, ok := parseRange(header); got != test.want || ok != test.ok {
			t.Errorf("%q: %+v, %v", header, got, ok)
		}
	}
}

func TestCutSchemeWantsSomethingAfterTheScheme(t *testing.T) {
	t.Parallel()
	for authorization, want := range map[string]string{"Bearer t": "t", "bEARER  t u": "t u", "Bearer": "", "Bearer ": "", "Bearert": "", "Basic t": "", "": ""} {
		if got, ok := cutScheme(authorization, Bearer); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", authorization, got, ok)
		}
	}
}

func TestAHeldRequestEndsWithItsClient(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	r := New(t, Config{})
	r.Inject(Fault{Hold: make(chan struct{}), Notice: func(Request) { close(arrived) }})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL()+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-arrived
		cancel()
	}()
	resp, err := http.DefaultClient.Do(req)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	r.life.running.Wait() // hangs if the request doesn't end
}

func TestAGateThatIsShutWaitsForItsOpeningOrTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(newTunnels(), Config{})
		g.shut()
		accepted := make(chan error, 1)
		go func() {
			_, err := g.Accept()
			accepted <- err
		}()
		synctest.Wait()
		select {
		case err := <-accepted:
			t.Errorf("while it is shut: %v", err)
		default:
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestAConnectionThatWasOnItsWayWhenTheGateWasShutIsClosed(t *testing.T) {
	t.Parallel()
	g := newGate(newTunnels(), Config{})
	g.shut()
	client, server := net.Pipe()
	if c := g.admit(server); c != nil || g.load != (Load{}) {
		t.Errorf("admitted, %+v", g.load)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client got %v", err)
	}
}

func FuzzParseRangeStaysInsideTheContent(f *testing.F) {
	f.Add("bytes=0-", int64(10))
	f.Add("bytes=5-9", int64(7))
	f.Add("bytes=-3", int64(2))
	f.Add("bytes=1-2,3-4", int64(0))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		b, ok := parseRange(header)
		if !ok || size < 0 {
			return
		}
		if from, to, ok := b.of(size); ok && (from < 0 || from >= to || to > size) {
			t.Errorf("%q of %d: %d to %d", header, size, from, to)
		}
	})
}

func FuzzGrantGivesPullOnly(f *testing.F) {
	f.Add("repository:a/b:pull")
	f.Add("repository:host:5000/a:pull,push repository:b:push")
	f.Add("registry:catalog:*")
	f.Fuzz(func(t *testing.T, scopes string) {
		granted, ok := grant(scopes)
		for _, g := range granted {
			if !ok || len(g.Actions) != 1 || g.Actions[0] != "pull" || !strings.Contains(scopes, "repository:"+g.Name+":") {
				t.Errorf("%q: %+v, %v", scopes, g, ok)
			}
		}
	})
}

func FuzzRegistryTargetNamesPartsOfThePath(f *testing.F) {
	f.Add("/v2/")
	f.Add("/v2/a/b/manifests/latest")
	f.Add("/v2/a/manifests/blobs/sha256:00")
	f.Fuzz(func(t *testing.T, path string) {
		got := registryTarget(path)
		want := map[Endpoint]string{
			Root: "/v2/", Other: path,
			Manifest: "/v2/" + got.repository + "/manifests/" + got.identifier,
			Blob:     "/v2/" + got.repository + "/blobs/" + got.identifier,
		}[got.endpoint]
		if path != want {
			t.Errorf("%q: %+v", path, got)
		}
	})
}
