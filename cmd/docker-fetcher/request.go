package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// letGo is how long an interrupted call may take to clean up.
const letGo = time.Second

// answer fetches what a host says that speaks no gRPC: its request comes from a
// file, or from stdin for "-". On stdout it gets one line for each event and, at
// last, for the result or the error.
func answer(cmd *cobra.Command, o options, file string, args []string) error {
	switch {
	case file == "":
		return usageError{errors.New("--request: want a FILE or - for stdin")}
	case len(args) > 0:
		return misuse(cmd, errors.New("the URI and the directory are in the --request; give no arguments beside it"))
	case o.dockerConfig != "":
		return misuse(cmd, errors.New("the docker config is in the --request; give no --docker-config or DOCKER_FETCHER_DOCKER_CONFIG beside it"))
	}
	o.oneShot = false // a host's call reads no home directory
	f, _, err := o.open()
	if err != nil {
		return err
	}
	return interruptible(cmd.Context(), func() error {
		request, err := readRequest(cmd.Context(), file, cmd.InOrStdin())
		if errors.As(err, new(usageError)) {
			return err
		}
		var result fetcher.Result
		if err == nil {
			mode := o.progress.value
			if mode == "auto" {
				mode = "none" // a program reads it on stdout
			}
			show := newObserver(mode, o.logLevel.value, cmd.ErrOrStderr())
			result, err = converse(cmd.Context(), f, request, show, cmd.OutOrStdout())
		}
		line, failed := plugin.OutcomeJSON(result, err)
		if failed == nil {
			_, failed = cmd.OutOrStdout().Write(append(line, '\n'))
		}
		if failed != nil {
			return failed
		}
		return err
	})
}

// converse fetches, and shows and writes the events. The fetch ends where nobody
// takes them: then its host is gone.
func converse(ctx context.Context, f plugin.Fetcher, request fetcher.Request, show func(fetcher.Event), w io.Writer) (fetcher.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request.Observe = func(e fetcher.Event) {
		show(e)
		line, err := plugin.EventJSON(e)
		if err == nil && line != nil {
			_, err = w.Write(append(line, '\n'))
		}
		if err != nil {
			cancel()
		}
	}
	return f.Fetch(ctx, request)
}

// readRequest reads a request up to its end. To open a FIFO, or to read a pipe
// that nobody closes, can't be cancelled; it is left behind.
func readRequest(ctx context.Context, file string, stdin io.Reader) (fetcher.Request, error) {
	var request fetcher.Request
	done := make(chan error, 1)
	go func() {
		done <- caught(func() error {
			source := io.NopCloser(stdin)
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return usageError{fmt.Errorf("--request: %w", err)}
				}
				source = f
			}
			defer source.Close()
			read, err := plugin.ReadRequest(source)
			if err != nil && !errors.As(err, new(*fetcher.Error)) {
				err = usageError{fmt.Errorf("--request: %w", err)}
			}
			request = read
			return err
		})
	}()
	select {
	case err := <-done:
		return request, err
	case <-ctx.Done():
		return fetcher.Request{}, ctx.Err()
	case <-time.After(configTimeout):
		return fetcher.Request{}, usageError{fmt.Errorf("--request: no end of it within %v; write one request and close the pipe", configTimeout)}
	}
}

// interruptible does the work, and leaves it behind when it does not end soon
// after ctx: a write to a pipe that nobody reads can't be cancelled.
func interruptible(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- caught(work) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(letGo):
		return ctx.Err()
	}
}
