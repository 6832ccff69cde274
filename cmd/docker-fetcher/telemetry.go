package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

const (
	// lastSpans is how long the end of the process waits for the collector. The
	// host waits for the process, and kills it after a while.
	lastSpans = 200 * time.Millisecond
	// maxRequestSpans is how many requests of one fetch get a span. A large blob
	// may take thousands.
	maxRequestSpans = 1000
)

// tracesWanted reports whether OpenTelemetry's environment asks for traces
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
// An error says what it asks for that there is not; no value is in it, as those
// may hold a credential.
func tracesWanted(getenv func(string) string) (bool, error) {
	first := func(names ...string) (name, value string) {
		for _, name = range names {
			if value = getenv(name); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	name, endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	exporter := getenv("OTEL_TRACES_EXPORTER")
	if endpoint == "" || exporter == "none" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	if exporter != "" && exporter != "otlp" {
		return false, errors.New("OTEL_TRACES_EXPORTER: want otlp or none")
	}
	if name, protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return false, fmt.Errorf("%s: want http/protobuf", name)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return false, fmt.Errorf("%s: want a URL such as http://127.0.0.1:4318", name)
	}
	return true, nil
}

// What goes wrong with traces. The errors of the SDK have pieces of the
// environment and of the collector's answers in them, which may hold a credential.
var (
	errExporter = errors.New("OTEL_EXPORTER_OTLP_*: the exporter of OpenTelemetry does not take what they say")
	errSettings = errors.New("a setting of OpenTelemetry is wrong, and left out: want OTEL_RESOURCE_ATTRIBUTES as key=value,key=value and OTEL_TRACES_SAMPLER as its specification names them")
	errSpans    = errors.New("spans were dropped: the collector that OTEL_EXPORTER_OTLP_* name does not take them")
)

// newTracing sends spans to the collector that the environment names. problem
// is told what goes wrong with that: it is no reason not to fetch.
func newTracing(ctx context.Context, problem func(error)) (*sdktrace.TracerProvider, error) {
	otel.SetLogger(logr.Discard())                             // it would write to stderr
	settings := sync.OnceFunc(func() { problem(errSettings) }) // each is read twice
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { settings() }))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, errExporter
	}
	// Not the command line, which the SDK can add.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "docker-fetcher"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		settings() // about has what could be read
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), // drops spans rather than wait
		sdktrace.WithResource(about),
	)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { problem(errSpans) }))
	return provider, nil
}

// endTracing sends what is left, if that is soon done.
func endTracing(p *sdktrace.TracerProvider) {
	ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
	defer cancel()
	_ = p.Shutdown(ctx)
}

// spanned makes a trace of each call.
type spanned struct {
	next   plugin.Fetcher
	tracer trace.Tracer
}

// Fetch implements plugin.Fetcher.
func (s spanned) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	ctx, call := s.start(ctx, "fetch", r.URI)
	defer call.end()
	call.span.SetAttributes(attribute.String("docker_fetcher.request_id", r.RequestID))
	r.Observe = tapped(r.Observe, r.Trace, call.event)
	r.Trace = true
	result, err := s.next.Fetch(ctx, r)
	call.span.SetAttributes(attribute.Int64("docker_fetcher.bytes", result.BytesTransferred))
	call.outcome(err)
	return result, err
}

// Resolve implements plugin.Fetcher.
func (s spanned) Resolve(ctx context.Context, r fetcher.ResolveRequest) (fetcher.Resolution, error) {
	ctx, call := s.start(ctx, "resolve", r.URI)
	defer call.end()
	r.Observe = tapped(r.Observe, r.Trace, call.event)
	r.Trace = true
	resolution, err := s.next.Resolve(ctx, r)
	call.outcome(err)
	return resolution, err
}

// callSpan is the span of a call, and those within it. Its methods are called
// by one goroutine at a time.
type callSpan struct {
	tracer   trace.Tracer
	ctx      context.Context // holds the span, for those within it
	span     trace.Span
	phase    trace.Span // nil: none has begun
	within   context.Context
	requests int
}

// start begins the span of a call, within the host's trace if its traceparent
// came as metadata (https://www.w3.org/TR/trace-context/).
func (s spanned) start(ctx context.Context, name string, u scheme.URI) (context.Context, *callSpan) {
	ctx, span := s.tracer.Start(joined(ctx), name, trace.WithSpanKind(trace.SpanKindServer))
	span.SetAttributes(attribute.String("docker_fetcher.kind", kindLabel(u.Scheme)))
	if ref, err := scheme.FromURI(u); err == nil {
		span.SetAttributes(
			attribute.String("docker_fetcher.registry", ref.Authority()),
			attribute.String("docker_fetcher.repository", ref.Repository),
			attribute.String("docker_fetcher.reference", ref.Identifier()),
		)
	}
	return ctx, &callSpan{tracer: s.tracer, ctx: ctx, span: span, within: ctx}
}

func joined(ctx context.Context) context.Context {
	incoming, _ := metadata.FromIncomingContext(ctx)
	carrier := propagation.MapCarrier{}
	for _, name := range (propagation.TraceContext{}).Fields() {
		if values := incoming.Get(name); len(values) > 0 {
			carrier[name] = values[0]
		}
	}
	return propagation.TraceContext{}.Extract(ctx, carrier)
}

// event makes spans of phases and requests, and notes what else there is.
func (c *callSpan) event(e fetcher.Event) {
	switch e := e.(type) {
	case fetcher.Entered:
		c.endPhase()
		c.within, c.phase = c.tracer.Start(c.ctx, string(e.Phase))
	case fetcher.Asked:
		c.request(e)
	case fetcher.Waiting:
		c.current().AddEvent("waiting", trace.WithAttributes(attribute.Int64("docker_fetcher.wait_ms", e.For.Milliseconds())))
	case fetcher.Decided:
		c.current().AddEvent("decided", trace.WithAttributes(attribute.String("docker_fetcher.step", e.Step)))
	case fetcher.Warning:
		c.current().AddEvent("warning", trace.WithAttributes(attribute.String("docker_fetcher.warning", e.Text)))
	}
}

// current is the span of the phase, or that of the call.
func (c *callSpan) current() trace.Span { return trace.SpanFromContext(c.within) }

// request makes a span of a request that was answered just now. Its URL has no
// query, so no signature is in it.
func (c *callSpan) request(e fetcher.Asked) {
	if c.requests++; c.requests > maxRequestSpans {
		return
	}
	now := time.Now()
	_, span := c.tracer.Start(c.within, e.Method, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now.Add(-e.Elapsed)))
	span.SetAttributes(
		attribute.String("http.request.method", e.Method),
		attribute.String("url.full", e.URL),
		attribute.String("docker_fetcher.to", target(e)),
	)
	if e.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", e.Status))
	}
	if e.Status == 0 || e.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, e.Err)
	}
	span.End(trace.WithTimestamp(now))
}

func (c *callSpan) endPhase() {
	if c.phase != nil {
		c.phase.End()
	}
	c.phase, c.within = nil, c.ctx
}

// outcome notes how the call ended. An error's text holds no secret.
func (c *callSpan) outcome(err error) {
	c.span.SetAttributes(attribute.String("docker_fetcher.outcome", outcome(err)))
	if err != nil {
		c.span.SetStatus(codes.Error, err.Error())
	}
}

func (c *callSpan) end() {
	c.endPhase()
	if c.requests > maxRequestSpans {
		c.span.SetAttributes(attribute.Int("docker_fetcher.requests_without_span", c.requests-maxRequestSpans))
	}
	c.span.End()
}
