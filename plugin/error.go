package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// ErrPluginGone is a call that the plugin process did not live to answer. It
// fetched nothing wrong: what is complete in the directory is verified. Open
// the plugin again and repeat the call.
var ErrPluginGone = errors.New("the plugin process is gone")

const (
	errorDomain = "docker-fetcher"
	phaseKey    = "phase"
	// maxStatusText keeps a status, which carries its text twice and percent-encoded,
	// within the 8 KiB of headers that gRPC's C core takes.
	maxStatusText = 1 << 10
)

// codeOf is the one table from kind to gRPC code. The reason in ErrorInfo says
// more; an Unavailable without ErrorInfo is not ours, but a dead process.
var codeOf = map[error]codes.Code{
	fetcher.ErrInvalid:      codes.InvalidArgument,
	fetcher.ErrUnauthorized: codes.Unauthenticated,
	fetcher.ErrDenied:       codes.PermissionDenied,
	fetcher.ErrNotFound:     codes.NotFound,
	fetcher.ErrUnsupported:  codes.FailedPrecondition,
	fetcher.ErrIntegrity:    codes.DataLoss,
	fetcher.ErrExhausted:    codes.ResourceExhausted,
	fetcher.ErrUnavailable:  codes.Unavailable,
	fetcher.ErrInternal:     codes.Internal,
}

// toStatus is the server's half of the table.
func toStatus(err error) error {
	var e *fetcher.Error
	if !errors.As(err, &e) {
		return contextStatus(err)
	}
	text := shortened(e.Text)
	info := &errdetails.ErrorInfo{Domain: errorDomain, Reason: string(e.Reason), Metadata: map[string]string{}}
	maps.Copy(info.Metadata, e.Metadata)
	if e.Phase != "" {
		info.Metadata[phaseKey] = string(e.Phase)
	}
	details := []protoadapt.MessageV1{info}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	s := status.New(codeOf[e.Reason.Kind()], text)
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return s.Err()
}

// shortened keeps both ends of a long text: what failed, and what to do.
func shortened(text string) string {
	const half = maxStatusText / 2
	if len(text) <= maxStatusText {
		return text
	}
	return strings.ToValidUTF8(text[:half], "") + " … " + strings.ToValidUTF8(text[len(text)-half:], "")
}

// contextStatus is for errors that are the caller's own doing.
func contextStatus(err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	return status.Error(code, shortened(err.Error()))
}

// fromStatus is the host's half: it makes of a status the error that a fetcher
// in process would have returned.
func fromStatus(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &fetcher.Error{Text: s.Message()}
	ours := false
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			ours = d.GetDomain() == errorDomain
			e.Reason = fetcher.Reason(d.GetReason())
			e.Metadata = maps.Clone(d.GetMetadata())
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if ours {
		e.Phase = fetcher.Phase(e.Metadata[phaseKey])
		delete(e.Metadata, phaseKey)
		return e
	}
	switch s.Code() {
	case codes.Canceled:
		return ended(s.Message(), context.Canceled)
	case codes.DeadlineExceeded:
		return ended(s.Message(), context.DeadlineExceeded)
	case codes.ResourceExhausted:
		e.Reason = fetcher.RequestTooLarge // gRPC's own limit, before our code
		return e
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrPluginGone, s.Message())
	}
	return fmt.Errorf("plugin: %w", err)
}

// ended is cause with what the message says before it.
func ended(message string, cause error) error {
	before, said := strings.CutSuffix(message, cause.Error())
	if !said {
		before += ": "
	}
	return fmt.Errorf("%s%w", before, cause)
}
