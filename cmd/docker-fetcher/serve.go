package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/grpclog"

	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// serve is the life of the plugin. The order matters: the logger takes the
// original stderr before Serve replaces it by a pipe that nobody may read.
func serve(ctx context.Context, o options) error {
	restrictFileMode()
	signal.Ignore(os.Interrupt) // the whole process group gets a Ctrl-C; it is for the host to answer
	logger := newLogger(os.Stderr, o.logLevel.value)
	log.SetOutput(logger.StandardWriter(&hclog.StandardLoggerOptions{InferLevels: true}))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	if err := checkSocketDir(os.Getenv("PLUGIN_UNIX_SOCKET_DIR")); err != nil {
		return err
	}
	f, _, err := o.open()
	if err != nil {
		return err
	}
	plugin.Serve(ctx, plugin.ServeConfig{Fetcher: f, Version: version, Commit: commit, Logger: logger})
	return nil
}
