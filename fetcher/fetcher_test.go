package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// What a fetch leaves, and how it fails, is specified by the acceptance tests
// of package plugin, which run on this package and on the plugin alike.

func TestNewRefusesAConfigThatDoesNotHold(t *testing.T) {
	t.Parallel()
	for title, config := range map[string]Config{
		"a broken default docker config": {DefaultDockerConfig: []byte(`{"auths":"c4n4ry"}`)},
		"negative parallelism":           {MaxConcurrentBlobs: -1},
		"a negative stall timeout":       {StallTimeout: -1},
	} {
		_, err := New(config)
		if !errors.Is(err, ErrInvalid) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "c4n4ry") {
			t.Errorf("%s: got %v", title, err)
		}
	}
}

func TestTheCallsConfigGoesBeforeTheDefaultOnePerRegistry(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "right", Password: "p"}})
	image := r.PutImage("team/app", "latest", fetchertest.Image{})
	entry := func(host, user string) []byte {
		return fmt.Appendf(nil, `{"auths":{"https://%s/v1/":{"username":%q,"password":"p"}}}`, host, user)
	}
	for title, test := range map[string]struct {
		defaults, call []byte
		works          bool
	}{
		"the default serves where the call has none":                  {entry(r.Host(), "right"), nil, true},
		"the default serves where the call's is for another registry": {entry(r.Host(), "right"), entry("other.example", "x"), true},
		"the call's serves before a wrong default":                    {entry(r.Host(), "wrong"), entry(r.Host(), "right"), true},
		"a wrong one of the call is not replaced by the default":      {entry(r.Host(), "right"), entry(r.Host(), "wrong"), false},
	} {
		f, err := New(Config{DefaultDockerConfig: test.defaults})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := scheme.NewManifest("team/app", image.ManifestDigest, "127.0.0.1", "http", port(t, r))
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Resolve(t.Context(), ResolveRequest{URI: ref.URI(), Config: DockerConfig{JSON: test.call}})
		if (err == nil) != test.works {
			t.Errorf("%s: %v", title, err)
		}
	}
}

// A helper leaves a file where it ran.
func TestOnlyTheDefaultConfigMayNameACredentialHelper(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	script := "#!/bin/sh\ncat >" + ran + `
echo '{"ServerURL":"x","Username":"right","Secret":"p"}'
`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "right", Password: "p"}})
	r.PutImage("team/app", "latest", fetchertest.Image{})
	config := fmt.Appendf(nil, `{"credHelpers":{%q:"test"}}`, r.Host())
	ref, err := scheme.NewManifest("team/app", "latest", "127.0.0.1", "http", port(t, r))
	if err != nil {
		t.Fatal(err)
	}
	for _, trusted := range []bool{false, true} {
		c, call := Config{}, DockerConfig{JSON: config}
		if trusted {
			c, call = Config{DefaultDockerConfig: config}, DockerConfig{}
		}
		f, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		var warned []string
		_, err = f.Resolve(t.Context(), ResolveRequest{URI: ref.URI(), Config: call, Observe: func(e Event) {
			if w, ok := e.(Warning); ok {
				warned = append(warned, w.Text)
			}
		}})
		_, statErr := os.Stat(ran)
		if hasRun := statErr == nil; hasRun != trusted || (err == nil) != trusted || (len(warned) == 0) != trusted {
			t.Errorf("trusted %v: ran %v, %v, warnings %q", trusted, hasRun, err, warned)
		}
	}
}

func port(t *testing.T, r *fetchertest.Registry) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(r.Host(), "127.0.0.1:%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASecondFetchInAProcessNeedsNoToken(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	r.PutImage("team/app", "latest", fetchertest.Image{Layers: [][]byte{{1}, {2}, {3}}})
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := scheme.NewImage("team/app", "latest", "127.0.0.1", "http", port(t, r))
	if err != nil {
		t.Fatal(err)
	}
	const blobs = 4 // the config and three layers
	for _, want := range []int{3 + blobs, 1 + blobs} {
		r.Reset()
		if _, err := f.Fetch(t.Context(), Request{URI: ref.URI(), Directory: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		if n := r.Count(fetchertest.Any); n != want {
			t.Errorf("%d requests, want %d", n, want)
		}
	}
}

func TestASecretPrintsAsNothing(t *testing.T) {
	t.Parallel()
	request := Request{Config: DockerConfig{JSON: []byte("c4n4ry"), MesosSecret: []byte("c4n4ry")}}
	marshalled, err := json.Marshal(request.Config)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", request.Config)
	for _, text := range []string{
		fmt.Sprint(request), fmt.Sprintf("%v %+v %#v %s %q %x", request, request, request, request.Config, request.Config, request.Config),
		string(marshalled), log.String(),
	} {
		if strings.Contains(text, "c4n4ry") || strings.Contains(text, "99 52 110") || strings.Contains(text, "63346e347279") {
			t.Errorf("the secret shows in %s", text)
		}
	}
}

// The packages below name reasons as texts, since they can't import these.
func TestEveryReasonInTheCodeIsKnown(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("internal/registry/error.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`"([A-Z][A-Z0-9]*_[A-Z0-9_]+)"`).FindAllSubmatch(source, -1)
	if len(names) < 8 {
		t.Fatalf("found only %d reasons; where have they gone?", len(names))
	}
	for _, m := range names {
		if name := Reason(m[1]); name != "SSL_CERT_FILE" && kinds[name] == nil {
			t.Errorf("reason %s has no kind", name)
		}
	}
}

func TestLocalFailuresHaveTheirReasons(t *testing.T) {
	t.Parallel()
	for errno, want := range map[syscall.Errno]Reason{
		syscall.EACCES: LocalPermission, syscall.EROFS: LocalPermission, syscall.EPERM: LocalPermission,
		syscall.EMFILE: LocalLimit, syscall.ENFILE: LocalLimit, syscall.EFBIG: LocalLimit,
		syscall.ENOSPC: DiskFull, syscall.ENOENT: DirectoryInvalid, syscall.ENOTDIR: DirectoryInvalid,
	} {
		for _, err := range []error{&content.LocalError{Dir: "/d", Err: errno}, &os.PathError{Op: "mkdir", Path: "/d", Err: errno}} {
			var e *Error
			if !errors.As(describe(err, Prepare, nil), &e) || e.Reason != want {
				t.Errorf("%v has reason %v, want %s", err, e, want)
			}
		}
	}
}

func TestAnErrorIsOneLineThatPaintsNothing(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain – ünïcode":     "plain – ünïcode",
		"a\nb\r\tc":           `a\nb\r\tc`,
		"\x1b[31mred\x07":     `\x1b[31mred\a`,
		"\u202eevil\u2028":    `\u202eevil\u2028`,
		"\u200f\u061c\ufeff":  `\u200f\u061c\ufeff`,
		"bad \xff utf-8 \x9b": "bad \uFFFD utf-8 \uFFFD",
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTheContextsErrorsAreNotHiddenAndThoseOfATransportAreNotTheContexts(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Time{})
	defer cancel()
	var e *Error
	for _, ctx := range []context.Context{cancelled, late} {
		err := failed(ctx, fmt.Errorf("blob: %w", ctx.Err()), Transfer, nil)
		if !errors.Is(err, ctx.Err()) || errors.As(err, &e) || !strings.HasPrefix(err.Error(), "transfer: ") {
			t.Errorf("got %v", err)
		}
	}
	err := failed(t.Context(), &registry.Error{Reason: "REGISTRY_UNREACHABLE", Err: context.DeadlineExceeded}, Resolve, nil)
	if !errors.As(err, &e) || e.Reason != RegistryUnreachable {
		t.Errorf("got %v", err)
	}
}

func TestASlowObserverGetsTheLatestProgressAndEveryFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var seen []Event
		w := newWatch(t.Context(), func(e Event) {
			<-release
			seen = append(seen, e)
		}, time.Second)
		w.started(Started{TotalBytes: 100, TotalFiles: 2})
		progress := w.blob(Descriptor{Digest: "sha256:a", Size: 50})
		hide := w.show(progress)
		for range 50 { // a minute in which the observer does not come back
			progress.more(1, 1)
			time.Sleep(time.Second)
		}
		w.done(File{Path: "a", Descriptor: Descriptor{Digest: "sha256:a", Size: 50}})
		hide()
		close(release)
		synctest.Wait()
		time.Sleep(time.Second)
		w.stop()
		var told []Progress
		var files int
		for _, e := range seen {
			switch e := e.(type) {
			case Progress:
				told = append(told, e)
			case FileDone:
				files++
			}
		}
		if len(told) == 0 || len(told) > 2 || told[len(told)-1].BytesDone != 50 || files != 1 {
			t.Errorf("saw %v", seen)
		}
	})
}

func TestProgressCountsEachByteOnce(t *testing.T) {
	t.Parallel()
	var b board
	w := &watch{}
	w.started(Started{TotalBytes: 30, TotalFiles: 3})
	first, second := w.blob(Descriptor{Digest: "sha256:a", Size: 10}), w.blob(Descriptor{Digest: "sha256:b", Size: 20})
	w.show(first)
	w.show(second)
	first.more(4, 1)
	second.more(9, 1)
	second.more(-9, 1) // it begins anew
	second.more(7, 2)
	first.more(6, 1)
	w.done(File{Descriptor: Descriptor{Digest: "sha256:a", Size: 10}})
	got, ok := w.board.progress()
	want := Progress{
		BytesDone: 17, TotalBytes: 30, FilesDone: 1, TotalFiles: 3,
		Active: []BlobProgress{{Digest: "sha256:b", Offset: 7, Size: 20, Attempt: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := w.board.received.Load(); n != 26 { // those in vain too
		t.Errorf("received %d bytes", n)
	}
	if _, ok := b.progress(); ok {
		t.Error("there is progress before the start")
	}
}

// defective panics where a blob is asked for.
type defective struct{ http.RoundTripper }

func (d defective) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.Contains(req.URL.Path, "/blobs/") {
		panic("defect")
	}
	return d.RoundTripper.RoundTrip(req)
}

func TestAPanicInATransferFailsThatFetchOnly(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("team/app", "latest", fetchertest.Image{})
	f, err := New(Config{Transport: defective{&http.Transport{}}})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := scheme.NewImage("team/app", "latest", "127.0.0.1", "http", port(t, r))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Fetch(t.Context(), Request{URI: ref.URI(), Directory: t.TempDir()})
	var e *Error
	if !errors.As(err, &e) || e.Reason != Panicked || strings.Contains(err.Error(), "defect") || !strings.Contains(e.Unwrap().Error(), "defect") {
		t.Errorf("got %v", err)
	}
}

// counting counts the blobs that are in transfer, from request to Close.
type counting struct {
	http.RoundTripper
	now, most int
	mu        sync.Mutex
	full      func() // called when three are
}

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	blob := strings.Contains(req.URL.Path, "/blobs/")
	if blob {
		c.count(1)
	}
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil && blob {
		resp.Body = closing{resp.Body, func() { c.count(-1) }}
	}
	return resp, err
}

func (c *counting) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	if c.most = max(c.most, c.now); c.now == 3 {
		c.full()
	}
}

type closing struct {
	io.ReadCloser
	closed func()
}

func (c closing) Close() error {
	c.closed()
	return c.ReadCloser.Close()
}

func TestBlobsAreTransferredSomeAtATime(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	layers := make([][]byte, 12)
	for i := range layers {
		layers[i] = []byte{byte(i)}
	}
	r.PutImage("team/app", "latest", fetchertest.Image{Layers: layers})
	gate := make(chan struct{})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Hold: gate})
	transport := &counting{RoundTripper: &http.Transport{}, full: sync.OnceFunc(func() { close(gate) })}
	f, err := New(Config{MaxConcurrentBlobs: 3, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := scheme.NewImage("team/app", "latest", "127.0.0.1", "http", port(t, r))
	if err != nil {
		t.Fatal(err)
	}
	result, err := f.Fetch(t.Context(), Request{URI: ref.URI(), Directory: t.TempDir()})
	if err != nil || len(result.Files) != 14 || transport.most != 3 {
		t.Errorf("got %d files with %d transfers at once, %v", len(result.Files), transport.most, err)
	}
}

func TestADigestToSkipMustBeOne(t *testing.T) {
	t.Parallel()
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := scheme.NewImage("team/app", "latest", "127.0.0.1", "http", 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Fetch(t.Context(), Request{URI: ref.URI(), Directory: t.TempDir(), SkipDigests: []digest.Digest{"sha256:x"}})
	var e *Error
	if !errors.As(err, &e) || e.Reason != DigestInvalid {
		t.Errorf("got %v", err)
	}
}
