package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/grpclog"

	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// lastLines is how long the end of the process waits for its log to be read.
const lastLines = 100 * time.Millisecond

// serve is the life of the plugin. The order matters: the logger takes the
// original stderr before Serve replaces it by a pipe that nobody may read.
func serve(ctx context.Context, o options, debug func(reattach []byte)) error {
	restrictFileMode()
	if debug == nil {
		// The whole process group gets a Ctrl-C, and the end of the terminal; both
		// are for the host to answer.
		signal.Ignore(os.Interrupt, syscall.SIGHUP)
	}
	lines := newBacklog(os.Stderr)
	defer lines.end(lastLines)
	logger := newLogger(lines, o.logLevel.value)
	log.SetOutput(logger.StandardWriter(&hclog.StandardLoggerOptions{InferLevels: true}))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	if err := checkSocketDir(os.Getenv("PLUGIN_UNIX_SOCKET_DIR")); err != nil {
		return err
	}
	f, _, err := o.open()
	if err != nil {
		return err
	}
	watched, end := o.watched(ctx, f, logger)
	defer end()
	err = plugin.Serve(ctx, plugin.ServeConfig{
		Fetcher: watched, Version: version, Commit: commit, Logger: logger,
		Stay: o.orphan.value == "stay", Debug: debug,
	})
	if err != nil {
		return usageError{err}
	}
	return nil
}

// watched adds metrics and traces, where they are asked for, until end. Without
// them it is f itself. That there can be none is no reason not to fetch.
func (o *options) watched(ctx context.Context, f plugin.Fetcher, logger hclog.Logger) (_ plugin.Fetcher, end func()) {
	f, endMetrics := o.measured(ctx, f, logger)
	problem := func(err error) { logger.Warn("no traces", "error", err) }
	wanted, err := tracesWanted(os.Getenv)
	if err != nil {
		problem(err)
	}
	if !wanted {
		return f, endMetrics
	}
	traces, err := newTracing(ctx, problem)
	if err != nil {
		problem(err)
		return f, endMetrics
	}
	end = func() {
		endMetrics()
		endTracing(traces)
	}
	return spanned{f, traces.Tracer("github.com/docker-fetcher/docker-fetcher")}, end
}

// measured adds metrics.
func (o *options) measured(ctx context.Context, f plugin.Fetcher, logger hclog.Logger) (_ plugin.Fetcher, end func()) {
	if o.metrics == (metricsAddress{}) {
		return f, func() {}
	}
	l, err := o.metrics.listen(ctx, predecessor)
	if err != nil {
		logger.Error("there are no metrics until the next launch", "error", err)
		return f, func() {}
	}
	m := newMeter()
	logger.Info("metrics", "address", l.Addr().String())
	return counted{f, m}, m.serve(l)
}

// reattachTo writes what a host needs to attach to a plugin under a debugger.
func reattachTo(w io.Writer) func([]byte) {
	return func(line []byte) { _, _ = fmt.Fprintf(w, "%s\n", line) }
}
