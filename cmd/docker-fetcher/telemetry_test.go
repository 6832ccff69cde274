//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// collected is what a collector of OTLP over HTTP got.
type collected struct {
	came  chan struct{} // holds one
	mu    sync.Mutex
	raw   bytes.Buffer
	spans []*tracepb.Span
}

// await returns when so many spans have come.
func (c *collected) await(t *testing.T, spans int) {
	t.Helper()
	for {
		c.mu.Lock()
		n := len(c.spans)
		c.mu.Unlock()
		if n >= spans {
			return
		}
		select {
		case <-c.came:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d spans came, want %d", n, spans)
		}
	}
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	raw, err := io.ReadAll(body)
	var m collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &m)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(raw)
	fmt.Fprintf(&c.raw, "%v", &m)
	for _, resource := range m.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	select {
	case c.came <- struct{}{}:
	default:
	}
}

// tree is the spans below parent, in the order they began: name, the status of
// the answer, outcome.
func (c *collected) tree(parent []byte, indent string) (lines []string) {
	var below []*tracepb.Span
	for _, s := range c.spans {
		if bytes.Equal(s.ParentSpanId, parent) {
			below = append(below, s)
		}
	}
	slices.SortStableFunc(below, func(a, b *tracepb.Span) int { return int(a.StartTimeUnixNano - b.StartTimeUnixNano) })
	for _, s := range below {
		line := indent + s.Name
		for _, a := range s.Attributes {
			switch a.Key {
			case "docker_fetcher.to", "docker_fetcher.outcome", "docker_fetcher.request_id":
				line += " " + a.Value.GetStringValue()
			case "http.response.status_code":
				line += fmt.Sprint(" ", a.Value.GetIntValue())
			}
		}
		lines = append(append(lines, line), c.tree(s.SpanId, indent+" ")...)
	}
	return lines
}

func TestACollectorGetsATraceOfEachCallAndNoSecret(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{
		Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: username, Password: password}, Redirect: true,
	})
	image := r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 40_000)}})
	got := &collected{came: make(chan struct{}, 1)}
	server := httptest.NewServer(got)
	defer server.Close()
	c := launched(t, io.Discard, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_BSP_SCHEDULE_DELAY=20"}, "serve")
	config := func(password string) fetcher.DockerConfig {
		return fetcher.DockerConfig{JSON: fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, r.Host(), username, password)}
	}
	const host = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", host)
	if _, err := c.Fetch(ctx, fetcher.Request{
		URI: uri(t, r, scheme.Blob, image.LayerDigests[0]), Directory: t.TempDir(), Config: config(password), RequestID: "task-7",
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(t.Context(), fetcher.Request{
		URI: uri(t, r, scheme.Manifest, "1"), Directory: t.TempDir(), Config: config(password + "-wrong"), RequestID: "task-8",
	}); !errors.Is(err, fetcher.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Resolve(t.Context(), fetcher.ResolveRequest{URI: uri(t, r, scheme.Image, "1"), Config: config(password)}); err != nil {
		t.Fatal(err)
	}
	got.await(t, 16)
	_ = c.Close()
	server.Close()

	parent, _ := hex.DecodeString("b7ad6b7169203331")
	want := []string{
		"fetch task-7 OK", " prepare", " transfer",
		"  GET registry 401", "  GET token 200", "  GET registry 307", "  GET redirect 200",
	}
	if diff := cmp.Diff(want, got.tree(parent, "")); diff != "" {
		t.Errorf("in the host's trace, (-want +got):\n%s", diff)
	}
	for _, s := range got.spans {
		if bytes.Equal(s.ParentSpanId, parent) && hex.EncodeToString(s.TraceId) != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("it is in trace %x", s.TraceId)
		}
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.GetStringValue(), "?") { // where signatures are
				t.Errorf("%s is %s", a.Key, a.Value.GetStringValue())
			}
		}
	}
	want = []string{
		"fetch task-8 AUTH_FAILED", " prepare", " resolve",
		"  GET registry 401", "  GET token 401", "  POST token 401", "  GET token 401",
		"resolve OK", " GET registry 200",
	}
	if diff := cmp.Diff(want, got.tree(nil, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	seen := got.raw.String()
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(username + ":" + password))[:16]} {
		if strings.Contains(seen, secret) {
			t.Errorf("%q was sent", secret)
		}
	}
	if !strings.Contains(seen, "docker-fetcher") || strings.Contains(seen, "process.") {
		t.Error("the collector has to be told the service, and not the command line")
	}
}

// A collector that takes the connection and never answers.
func TestACollectorThatNeverAnswersHoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("app", "1", fetchertest.Image{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := launched(t, io.Discard, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String()}, "serve")
	for range 3 {
		if _, err := c.Fetch(t.Context(), fetcher.Request{URI: uri(t, r, scheme.Image, "1"), Directory: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	p := newProcess(t, append(hosted(shortDir(t)), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+l.Addr().String()))
	p.handshake()
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d: %s", code, &p.stderr)
	}
}

// exporter keeps spans, or holds on to them until it is let go.
type exporter struct {
	hold  chan struct{} // nil: it does not
	spans int
}

func (e *exporter) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.hold != nil {
		<-e.hold
	}
	e.spans += len(spans)
	return nil
}

func (e *exporter) Shutdown(context.Context) error { return nil }

func TestTheEndSendsTheLastSpansAndDoesNotWaitForLong(t *testing.T) {
	t.Parallel()
	sent, held := &exporter{}, &exporter{hold: make(chan struct{})}
	defer close(held.hold)
	for _, e := range []*exporter{sent, held} {
		p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(e))
		if _, err := (spanned{acted{events: everything}, p.Tracer("")}).Fetch(t.Context(), fetcher.Request{}); err != nil {
			t.Fatal(err)
		}
		endTracing(p)
	}
	if sent.spans != 3 { // the fetch, its phase and a request
		t.Errorf("%d spans were sent, want 3", sent.spans)
	}
}

func TestAFetchOfManyRequestsHasABoundedTrace(t *testing.T) {
	t.Parallel()
	e := &exporter{}
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(e))
	events := slices.Repeat([]fetcher.Event{fetcher.Asked{}}, 5000)
	if _, err := (spanned{acted{events: events}, p.Tracer("")}).Fetch(t.Context(), fetcher.Request{}); err != nil {
		t.Fatal(err)
	}
	if e.spans != maxRequestSpans+1 {
		t.Errorf("%d spans were sent, want %d", e.spans, maxRequestSpans+1)
	}
}

func TestTracesAreMadeWhereOpenTelemetrysEnvironmentSaysSo(t *testing.T) {
	t.Parallel()
	const at = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	for _, c := range []struct {
		name        string
		environment []string
		wanted      bool
		err         string
	}{
		{"nothing", nil, false, ""},
		{"an endpoint", []string{at}, true, ""},
		{"one of traces", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c.example/v1/traces"}, true, ""},
		{"all said", []string{at, "OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_SDK_DISABLED=false"}, true, ""},
		{"disabled", []string{at, "OTEL_SDK_DISABLED=TRUE"}, false, ""},
		{"no exporter", []string{at, "OTEL_TRACES_EXPORTER=none"}, false, ""},
		{"an exporter that there is not", []string{at, "OTEL_TRACES_EXPORTER=zipkin"}, false, "OTEL_TRACES_EXPORTER: want otlp or none"},
		{"a protocol that there is not", []string{at, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, false, "OTEL_EXPORTER_OTLP_PROTOCOL: want http/protobuf"},
		{"no URL", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=canary:4318"}, false, "OTEL_EXPORTER_OTLP_ENDPOINT: want a URL such as http://127.0.0.1:4318"},
		{"a URL with a password", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:canary@c.example"}, false, "OTEL_EXPORTER_OTLP_ENDPOINT: want a URL such as http://127.0.0.1:4318"},
	} {
		wanted, err := tracesWanted(func(name string) string {
			for _, e := range c.environment {
				if n, value, _ := strings.Cut(e, "="); n == name {
					return value
				}
			}
			return ""
		})
		if text := fmt.Sprint(err); wanted != c.wanted || (err == nil) != (c.err == "") || err != nil && text != c.err {
			t.Errorf("%s: got %v, %v", c.name, wanted, err)
		}
	}
}

// kept is a log; safe for concurrent use.
type kept struct {
	mu sync.Mutex
	bytes.Buffer
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Buffer.Write(p)
}

func TestNoPieceOfTheEnvironmentNorOfACollectorsAnswerIsLogged(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("app", "1", fetchertest.Image{})
	refused := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "canary-answer", http.StatusBadRequest)
		refused <- struct{}{}
	}))
	defer server.Close()
	var log kept
	c := launched(t, &log, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL + "/canary-path", "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_HEADERS=canary-header",
		"OTEL_RESOURCE_ATTRIBUTES=canary-resource,a=%zz-canary-escape", "OTEL_TRACES_SAMPLER=canary-sampler", "OTEL_EXPORTER_OTLP_TIMEOUT=canary-timeout",
	}, "serve")
	if _, err := c.Fetch(t.Context(), fetcher.Request{URI: uri(t, r, scheme.Image, "1"), Directory: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-refused:
	case <-time.After(30 * time.Second):
		t.Error("the collector got nothing")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	text := log.String()
	for _, want := range []string{errSettings.Error(), errSpans.Error()} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s\nwant %s", text, want)
		}
	}
	if strings.Contains(text, "canary") {
		t.Errorf("got %s", text)
	}
	if n := strings.Count(text, errSettings.Error()); n != 1 {
		t.Errorf("the settings were told of %d times", n)
	}
}

func TestAnEnvironmentOfOpenTelemetryThatIsWrongIsAWarning(t *testing.T) {
	t.Parallel()
	p := newProcess(t, append(hosted(shortDir(t)), "OTEL_EXPORTER_OTLP_ENDPOINT=http://u:canary-5ecret@c.example", "OTEL_RESOURCE_ATTRIBUTES=a"))
	p.handshake()
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d: %s", code, &p.stderr)
	}
	if text := p.stderr.String(); !strings.Contains(text, `"@message":"no traces"`) || strings.Contains(text, "canary-5ecret") {
		t.Errorf("got %s", text)
	}
}
