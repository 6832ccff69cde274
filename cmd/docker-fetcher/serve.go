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
	err = plugin.Serve(ctx, plugin.ServeConfig{
		Fetcher: f, Version: version, Commit: commit, Logger: logger,
		Stay: o.orphan.value == "stay", Debug: debug,
	})
	if err != nil {
		return usageError{err}
	}
	return nil
}

// reattachTo writes what a host needs to attach to a plugin under a debugger.
func reattachTo(w io.Writer) func([]byte) {
	return func(line []byte) { _, _ = fmt.Fprintf(w, "%s\n", line) }
}
