package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// maxRegistries is how many registries have series of their own; URIs are the
// tenants' to choose.
const maxRegistries = 100

// other stands for what has no label of its own.
const other = "other"

// The bounds of histograms, in seconds: to the header of an answer, and to the
// end of a fetch.
var (
	answerBounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	fetchBounds  = []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}
)

// meter is what the plugin counts. docs/observability.md says what each
// means. Safe for concurrent use.
type meter struct {
	fetches, fetchSeconds, inFlight, resolves *family
	received, blobs                           *family
	requests, requestSeconds, retries         *family
	authentications                           *family
	vitals                                    vitals
	all                                       []*family // in the order of the text
	registries                                bounded
}

func newMeter() *meter {
	m := &meter{registries: bounded{most: maxRegistries}}
	m.fetches = m.family(counterType, "fetches_total", "Fetches that ended, by the reason of their failure.", "registry", "kind", "outcome")
	m.fetchSeconds = m.family(histogramType, "fetch_duration_seconds", "How long fetches took.", "kind", "class")
	m.fetchSeconds.bounds = fetchBounds
	m.inFlight = m.family(gaugeType, "in_flight", "Fetches that go on now.")
	m.inFlight.add(0)
	m.resolves = m.family(counterType, "resolves_total", "Resolve calls that ended, by the reason of their failure.", "registry", "outcome")
	m.received = m.family(counterType, "received_bytes_total", "Bytes of blobs that came over the network in fetches that succeeded.")
	m.received.add(0)
	m.blobs = m.family(counterType, "blobs_total", "Blobs that became complete, by where they came from.", "from")
	m.requests = m.family(counterType, "requests_total", "HTTP requests, each redirect by itself.", "registry", "to", "code")
	m.requestSeconds = m.family(histogramType, "request_duration_seconds", "Time until the header of the answer was there.", "registry", "to")
	m.requestSeconds.bounds = answerBounds
	m.retries = m.family(counterType, "retries_total", "Requests that were repeated after a passing failure.", "registry")
	m.authentications = m.family(counterType, "authentications_total", "What came of each way to be let in.", "registry", "step", "outcome")
	build := m.family(gaugeType, "build_info", "Always 1; the labels say which build it is.", "version", "commit", "goversion")
	build.set(1, version, commit, runtime.Version())
	for _, from := range []string{"registry", "directory", "cache"} {
		m.blobs.add(0, from) // a ratio needs them all
	}
	m.vitals.families(m)
	return m
}

// family makes one of ours.
func (m *meter) family(kind, name, help string, labels ...string) *family {
	return m.foreign(kind, "docker_fetcher_"+name, help, labels...)
}

// foreign makes one whose name all programs share.
func (m *meter) foreign(kind, name, help string, labels ...string) *family {
	f := &family{name: name, help: help, kind: kind, labels: labels}
	m.all = append(m.all, f)
	return f
}

// text is all in the text format. It is whole before anybody reads it: a slow
// reader holds up no fetch.
func (m *meter) text() []byte {
	m.vitals.read()
	var b bytes.Buffer
	for _, f := range m.all {
		f.write(&b)
	}
	return b.Bytes()
}

// bounded is a set of labels that takes so many. Who made up names that nobody
// answers to would else fill it. Safe for concurrent use.
type bounded struct {
	most  int
	mu    sync.Mutex
	known map[string]bool
}

// answered takes a name into the set, unless that is full.
func (b *bounded) answered(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known = map[string]bool{}
	}
	if len(b.known) < b.most {
		b.known[name] = true
	}
}

// label returns name, or other where the set is without it.
func (b *bounded) label(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known[name] {
		return name
	}
	return other
}

// counted counts what a Fetcher does.
type counted struct {
	next plugin.Fetcher
	*meter
}

// Fetch implements plugin.Fetcher.
func (c counted) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	begin, kind, registry := time.Now(), kindLabel(r.URI.Scheme), authority(r.URI)
	ended, class := string(fetcher.Panicked), className(fetcher.ErrInternal)
	c.inFlight.add(1)
	defer func() { // also of a panic
		c.inFlight.add(-1)
		c.fetches.add(1, c.registries.label(registry), kind, ended)
		c.fetchSeconds.observe(time.Since(begin).Seconds(), kind, class)
	}()
	var phase fetcher.Phase
	r.Observe = tapped(r.Observe, r.Trace, func(e fetcher.Event) {
		switch e := e.(type) {
		case fetcher.Entered:
			phase = e.Phase
		case fetcher.FileDone:
			if phase == fetcher.Transfer {
				c.blobs.add(1, origin(e.File))
			}
		default:
			c.event(registry, e)
		}
	})
	r.Trace = true
	result, err := c.next.Fetch(ctx, r)
	ended, class = outcome(err), className(err)
	c.received.add(float64(result.BytesTransferred))
	return result, err
}

// Resolve implements plugin.Fetcher.
func (c counted) Resolve(ctx context.Context, r fetcher.ResolveRequest) (fetcher.Resolution, error) {
	registry, ended := authority(r.URI), string(fetcher.Panicked)
	defer func() { c.resolves.add(1, c.registries.label(registry), ended) }()
	r.Observe = tapped(r.Observe, r.Trace, func(e fetcher.Event) { c.event(registry, e) })
	r.Trace = true
	resolution, err := c.next.Resolve(ctx, r)
	ended = outcome(err)
	return resolution, err
}

// tapped has tap told of all events, and observe of those that its caller asked
// for.
func tapped(observe func(fetcher.Event), trace bool, tap func(fetcher.Event)) func(fetcher.Event) {
	return func(e fetcher.Event) {
		tap(e)
		if observe != nil && (trace || !tracing(e)) {
			observe(e)
		}
	}
}

// tracing reports whether an event comes only where the request asks for a trace.
func tracing(e fetcher.Event) bool {
	switch e.(type) {
	case fetcher.Entered, fetcher.Started, fetcher.Progress, fetcher.FileDone, fetcher.Warning:
		return false
	}
	return true
}

// event counts an event of a call to a registry.
func (m *meter) event(registry string, e fetcher.Event) {
	switch e := e.(type) {
	case fetcher.Waiting:
		m.retries.add(1, m.registries.label(registry))
	case fetcher.Asked:
		if e.Status != 0 {
			m.registries.answered(registry)
		}
		label := m.registries.label(registry)
		m.requests.add(1, label, target(e), codeLabel(e.Status))
		m.requestSeconds.observe(e.Elapsed.Seconds(), label, target(e))
		if decides(e) {
			m.authentications.add(1, label, way(e), verdict(e))
		}
	}
}

// authority is that of the registry that a URI names, or other.
func authority(u scheme.URI) string {
	ref, err := scheme.FromURI(u)
	if err != nil {
		return other
	}
	return ref.Authority()
}

func kindLabel(name string) string {
	if slices.Contains([]scheme.Kind{scheme.Image, scheme.Manifest, scheme.Blob}, scheme.Kind(name)) {
		return name
	}
	return other
}

// outcome is how a call ended: OK, a reason, or what the caller did.
func outcome(err error) string {
	var e *fetcher.Error
	switch {
	case err == nil:
		return "OK"
	case errors.Is(err, context.Canceled):
		return "CANCELED"
	case errors.Is(err, context.DeadlineExceeded):
		return "DEADLINE_EXCEEDED"
	case errors.As(err, &e) && (e.Reason == fetcher.Panicked || !errors.Is(e.Reason.Kind(), fetcher.ErrInternal)):
		return string(e.Reason)
	}
	return string(fetcher.Bug)
}

// classes are the kinds of failure.
var classes = []struct {
	kind error
	name string
}{
	{context.Canceled, "canceled"}, {context.DeadlineExceeded, "canceled"},
	{fetcher.ErrInvalid, "invalid"}, {fetcher.ErrUnauthorized, "unauthorized"}, {fetcher.ErrDenied, "denied"},
	{fetcher.ErrNotFound, "not_found"}, {fetcher.ErrUnsupported, "unsupported"}, {fetcher.ErrIntegrity, "integrity"},
	{fetcher.ErrExhausted, "exhausted"}, {fetcher.ErrUnavailable, "unavailable"},
}

func className(err error) string {
	if err == nil {
		return "ok"
	}
	for _, c := range classes {
		if errors.Is(err, c.kind) {
			return c.name
		}
	}
	return "internal"
}

// origin is where a blob came from. One that another call brought is in the
// directory.
func origin(f fetcher.File) string {
	switch {
	case f.Cached:
		return "cache"
	case f.Reused:
		return "directory"
	}
	return "registry"
}

// target is whom a request went to.
func target(e fetcher.Asked) string {
	switch {
	case e.Token:
		return "token"
	case e.Redirected:
		return "redirect"
	}
	return "registry"
}

// codeLabel is a status that HTTP knows, or its class; a peer may send any.
func codeLabel(status int) string {
	switch {
	case status == 0:
		return "none"
	case http.StatusText(status) != "":
		return strconv.Itoa(status)
	case status >= 100 && status <= 599:
		return strconv.Itoa(status/100) + "xx"
	}
	return other
}

// way is the way to be let in that a request took.
func way(e fetcher.Asked) string {
	switch {
	case e.Token:
		return "token"
	case e.Authorization == "Basic":
		return "basic"
	case e.Authorization != "":
		return "bearer"
	}
	return "anonymous"
}

// decides reports whether an answer says who is let in. A registry that
// redirects has let in; a token server that does has not said yet.
func decides(e fetcher.Asked) bool {
	if e.Token {
		return e.Location == ""
	}
	return !e.Redirected
}

// verdict is what a registry or token server made of it. A token server that
// gives no token refuses, whatever it calls that.
func verdict(e fetcher.Asked) string {
	switch {
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return "refused"
	case cmp.Or(e.Status, http.StatusBadGateway) >= 500, e.Status == http.StatusTooManyRequests:
		return "unavailable"
	case e.Token && e.Status/100 != 2:
		return "refused"
	}
	return "accepted"
}
