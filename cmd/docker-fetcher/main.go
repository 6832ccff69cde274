// Docker-fetcher fetches container images. A container agent launches it and
// calls it through hashicorp/go-plugin; a person calls its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// Stamped by the linker.
var (
	version = "0.1.0-dev"
	commit  = ""
)

// The exit codes, in the order of the table in README.md.
const (
	exitOK = iota
	exitOther
	exitUsage
	exitNotFound
	exitUnauthorized
	exitIntegrity
	exitUnavailable
	exitInterrupted = 130
)

func main() { os.Exit(run()) }

func run() int {
	// A broken stdout or stderr is an error of a write, not the end of the
	// process: a plugin whose host died has to clean up.
	signal.Ignore(syscall.SIGPIPE)
	hosted := launchedByHost()
	// Not stopped at the end, as the process ends too: to stop takes a new
	// thread, and a tenth of the time of a short command.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if !hosted {
		context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
		go putOffCollection()        // has time while an answer is awaited
	}
	cmd := newCommand(hosted)
	cmd.SetArgs(arguments(os.Args))
	err := caught(func() error { return cmd.ExecuteContext(ctx) })
	if err != nil {
		report(cmd.ErrOrStderr(), hosted, err)
		explainPanic(cmd.ErrOrStderr(), err, debugging(cmd, arguments(os.Args)))
	}
	return exitCode(err)
}

// launchedByHost reports whether a host launched this process, by the magic cookie.
func launchedByHost() bool {
	return os.Getenv(plugin.Handshake.MagicCookieKey) == plugin.Handshake.MagicCookieValue
}

// report says on one line why the process ends: to a person as text, to a host
// as a line of log, since go-plugin's hosts hide all other lines.
func report(w io.Writer, hosted bool, err error) {
	text := oneLine(err.Error())
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	if hosted {
		newLogger(w, "error").Error(text)
		return
	}
	fmt.Fprintln(w, "error: "+text)
}

// defect is a panic of a command. Its text says nothing of it.
type defect struct{ stack error }

func (e *defect) Error() string {
	return "internal error: this is a defect of docker-fetcher; please report it, with what --log-level debug adds"
}

func (e *defect) Unwrap() error { return e.stack }

// caught returns a panic of work as an error.
func caught(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &defect{fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return work()
}

// explainPanic prints the stack of an error that was a panic, to who wants to
// report it.
func explainPanic(w io.Writer, err error, debugging bool) {
	var e *fetcher.Error
	var own *defect
	switch {
	case !debugging:
	case errors.As(err, &own):
		fmt.Fprintln(w, own.stack)
	case errors.As(err, &e) && e.Reason == fetcher.Panicked && e.Unwrap() != nil:
		fmt.Fprintln(w, e.Unwrap())
	}
}

// debugging reports whether the command that args name has --log-level debug.
func debugging(root *cobra.Command, args []string) bool {
	cmd, _, err := root.Find(args)
	if err != nil {
		return false
	}
	level := cmd.Flags().Lookup("log-level")
	return level != nil && level.Value.String() == "debug"
}

// oneLine escapes control characters. The fetcher has done so with what came
// from a registry; arguments and names of files remain.
func oneLine(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var usage usageError
	var e *fetcher.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.Is(err, fetcher.ErrInvalid):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, fetcher.ErrNotFound):
		return exitNotFound
	case errors.Is(err, fetcher.ErrIntegrity):
		return exitIntegrity
	case errors.Is(err, fetcher.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	case errors.As(err, &e) && e.Reason == fetcher.RateLimited:
		return exitUnavailable
	case errors.As(err, &e) && e.Reason == fetcher.LocalPermission:
		return exitOther // not the registry's no
	case errors.Is(err, fetcher.ErrUnauthorized), errors.Is(err, fetcher.ErrDenied):
		return exitUnauthorized
	}
	return exitOther
}
