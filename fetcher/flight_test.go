package fetcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// crowd is a fetcher of which several calls want one blob at once, which the
// registry holds back until gate is closed.
type crowd struct {
	*testing.T
	registry *fetchertest.Registry
	fetcher  *Fetcher
	blob     []byte
	digest   digest.Digest
	dir      string
	gate     chan struct{}
	struck   chan struct{} // one for each request for the blob
}

func newCrowd(t *testing.T, fault fetchertest.Fault) *crowd {
	t.Helper()
	c := &crowd{
		T: t, registry: fetchertest.New(t, fetchertest.Config{}), blob: fetchertest.RandomLayer(7, 100_000),
		dir: t.TempDir(), gate: make(chan struct{}), struck: make(chan struct{}, 100),
	}
	c.digest = digest.Digest(c.registry.PutBlob("team/app", c.blob))
	fault.Match = fetchertest.Match{Endpoint: fetchertest.Blob}
	fault.Hold = c.gate
	fault.Notice = func(fetchertest.Request) { c.struck <- struct{}{} }
	c.registry.Inject(fault)
	var err error
	if c.fetcher, err = New(Config{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// outcome is what one call returned.
type outcome struct {
	result Result
	err    error
}

// call begins to fetch the blob into dir.
func (c *crowd) call(ctx context.Context, dir, config string) chan outcome {
	c.Helper()
	ref, err := scheme.Parse("docker-blob://" + c.registry.Host() + "/team/app?" + c.digest.String() + "#http")
	if err != nil {
		c.Fatal(err)
	}
	req := Request{URI: ref.URI(), Directory: dir}
	if config != "" {
		req.Config.JSON = fmt.Appendf(nil, `{"auths":{"%s":{"username":%q,"password":"x"}}}`, c.registry.Host(), config)
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := c.fetcher.Fetch(ctx, req)
		done <- outcome{result, err}
	}()
	return done
}

// together returns when n calls wait for one flight.
func (c *crowd) together(n int) {
	c.Helper()
	for {
		if c.Context().Err() != nil {
			c.Fatal("they never came together")
		}
		fs, waiting := &c.fetcher.flights, 0
		fs.mu.Lock()
		for _, f := range fs.all {
			waiting = max(waiting, f.waiting)
		}
		fs.mu.Unlock()
		if waiting == n {
			return
		}
		runtime.Gosched()
	}
}

func (c *crowd) holds(dir string) {
	c.Helper()
	got, err := os.ReadFile(filepath.Join(dir, c.digest.String()))
	if err != nil || string(got) != string(c.blob) {
		c.Errorf("the blob in %s: %d bytes, %v", dir, len(got), err)
	}
}

func TestCallsAtOnceForOneBlobInOneDirectoryShareOneDownload(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{})
	const calls = 20
	var all []chan outcome
	for range calls {
		all = append(all, c.call(t.Context(), c.dir, ""))
	}
	c.together(calls)
	close(c.gate)
	var bytes int64
	var reused int
	for _, call := range all {
		o := <-call
		if o.err != nil {
			t.Fatal(o.err)
		}
		want := Descriptor{Digest: c.digest, Size: int64(len(c.blob))}
		if diff := cmp.Diff(want, o.result.Files[0].Descriptor); diff != "" {
			t.Errorf("descriptor (-want +got):\n%s", diff)
		}
		bytes += o.result.BytesTransferred
		if o.result.Files[0].Reused {
			reused++
		}
	}
	if n := c.registry.Count(fetchertest.Blob); n != 1 {
		t.Errorf("%d requests", n)
	}
	if bytes != int64(len(c.blob)) || reused != calls-1 {
		t.Errorf("they count %d bytes and %d reused files", bytes, reused)
	}
	c.holds(c.dir)
}

func TestTheDownloadGoesOnWhenTheCallThatBeganItIsCancelled(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{})
	ctx, cancel := context.WithCancel(t.Context())
	first := c.call(ctx, c.dir, "")
	c.together(1)
	second := c.call(t.Context(), c.dir, "")
	c.together(2)
	cancel()
	if o := <-first; !errors.Is(o.err, context.Canceled) {
		t.Errorf("the cancelled call: %v", o.err)
	}
	close(c.gate)
	if o := <-second; o.err != nil {
		t.Fatal(o.err)
	}
	if n := c.registry.Count(fetchertest.Blob); n != 1 {
		t.Errorf("%d requests", n)
	}
	c.holds(c.dir)
}

func TestTheLastCallThatIsCancelledStopsTheDownload(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{})
	ctx, cancel := context.WithCancel(t.Context())
	all := []chan outcome{c.call(ctx, c.dir, ""), c.call(ctx, c.dir, "")}
	c.together(2)
	<-c.struck
	cancel()
	for _, call := range all {
		if o := <-call; !errors.Is(o.err, context.Canceled) {
			t.Error(o.err)
		}
	}
	if n := len(c.fetcher.flights.all); n != 0 {
		t.Errorf("%d flights are left", n)
	}
	if left := filesIn(t, c.dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	// The next call begins anew.
	close(c.gate)
	if o := <-c.call(t.Context(), c.dir, ""); o.err != nil {
		t.Fatal(o.err)
	}
	c.holds(c.dir)
}

func TestAFailureIsSharedWithThoseWhoWaited(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{Status: http.StatusNotFound})
	all := []chan outcome{c.call(t.Context(), c.dir, ""), c.call(t.Context(), c.dir, ""), c.call(t.Context(), c.dir, "")}
	c.together(len(all))
	close(c.gate)
	for _, call := range all {
		if o := <-call; !errors.Is(o.err, ErrNotFound) {
			t.Error(o.err)
		}
	}
	if n := c.registry.Count(fetchertest.Blob); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestAnotherReaderOrAnotherDirectoryHasADownloadOfItsOwn(t *testing.T) {
	t.Parallel()
	for title, call := range map[string]func(*crowd) chan outcome{
		"another credential": func(c *crowd) chan outcome { return c.call(c.Context(), c.dir, "tenant") },
		"another directory":  func(c *crowd) chan outcome { return c.call(c.Context(), c.TempDir(), "") },
		"one that was removed and made again": func(c *crowd) chan outcome {
			if err := os.Remove(c.dir); err != nil {
				c.Fatal(err)
			}
			return c.call(c.Context(), c.dir, "")
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t, fetchertest.Fault{})
			first := c.call(t.Context(), c.dir, "")
			<-c.struck
			second := call(c)
			<-c.struck // a request of its own
			close(c.gate)
			if o := <-second; o.err != nil {
				t.Error(o.err)
			}
			if o := <-first; o.err != nil && !strings.HasPrefix(title, "one that") {
				t.Error(o.err)
			}
		})
	}
}

// lying begins to fetch an image whose manifest says that the blob is a byte larger.
func (c *crowd) lying() chan error {
	c.Helper()
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%[1]q,"size":%[2]d},"layers":[]}`, c.digest, len(c.blob)+1)
	c.registry.PutManifest("team/app", "latest", "application/vnd.oci.image.manifest.v1+json", manifest)
	ref, err := scheme.Parse("docker://" + c.registry.Host() + "/team/app?latest#http")
	if err != nil {
		c.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.fetcher.Fetch(c.Context(), Request{URI: ref.URI(), Directory: c.dir})
		done <- err
	}()
	return done
}

func TestAWaiterHoldsTheBlobToItsOwnSize(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{})
	first := c.call(t.Context(), c.dir, "")
	c.together(1)
	image := c.lying()
	c.together(2)
	close(c.gate)
	if o := <-first; o.err != nil {
		t.Error(o.err)
	}
	if err := <-image; !errors.Is(err, ErrIntegrity) || !strings.Contains(err.Error(), "got 100000 bytes, the manifest says 100001") {
		t.Error(err)
	}
}

func TestAWrongManifestFailsNoOtherCall(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{})
	image := c.lying()
	<-c.struck
	blob := c.call(t.Context(), c.dir, "") // which takes part, without a size of its own
	c.together(2)
	close(c.gate)
	if err := <-image; !errors.Is(err, ErrIntegrity) {
		t.Error(err)
	}
	if o := <-blob; o.err != nil {
		t.Error(o.err)
	}
	c.holds(c.dir)
}

func TestAPanicOfAnObserverFailsThatFetchOnly(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, fetchertest.Fault{})
	close(c.gate)
	ref, err := scheme.Parse("docker-blob://" + c.registry.Host() + "/team/app?" + c.digest.String() + "#http")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.fetcher.Fetch(t.Context(), Request{URI: ref.URI(), Directory: c.dir, Observe: func(Event) { panic("observer") }})
	var e *Error
	if !errors.As(err, &e) || e.Reason != Panicked || !strings.Contains(errors.Unwrap(err).Error(), "observer") {
		t.Errorf("%v, caused by %v", err, errors.Unwrap(err))
	}
	if o := <-c.call(t.Context(), c.dir, ""); o.err != nil {
		t.Error(o.err)
	}
}
