package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/manifest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// invalid is an error of the request itself.
func invalid(reason Reason, text string) *Error { return &Error{Reason: reason, Text: text} }

// failed is the error of a call: the context's own where that has ended the
// call, and it is not hidden; else what describe makes of err.
func failed(ctx context.Context, err error, phase Phase, req *Request) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return fmt.Errorf("%s: %w", phase, err)
	}
	return describe(err, phase, req)
}

// describe turns a failure into the error that the caller gets: its reason,
// phase, facts for programs, and one line of text for people.
func describe(err error, phase Phase, req *Request) error {
	e := &Error{Phase: phase, Text: printable(err.Error()), Metadata: metadata(req), cause: err}
	var own *Error
	if errors.As(err, &own) {
		e.Reason, e.cause = own.Reason, own.cause
		return e
	}
	if e.Reason = reason(err); e.Reason == Panicked {
		e.cause = innermost(err)
	}
	if hint := hints[e.Reason]; hint != "" {
		e.Text += "; " + hint
	}
	var answered *registry.Error
	if errors.As(err, &answered) {
		e.RetryAfter = answered.RetryAfter
		if answered.Status != 0 {
			e.add("http_status", strconv.Itoa(answered.Status))
		}
	}
	return e
}

// recovered turns a panic in a goroutine of a fetch, which no caller could
// recover, into that fetch's error. The stack is its cause, for the log.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &Error{
			Reason: Panicked, Text: "internal error; please report it with the log",
			cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack()),
		}
	}
}

// innermost is the cause of all that wraps it: of a panic the stack.
func innermost(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}

// hints say what to do where the failing part can't know.
var hints = map[Reason]string{
	DigestMismatch:   "the registry, or something in between, changed the bytes; nothing of them was kept",
	SizeMismatch:     "the registry, or something in between, changed the bytes; nothing of them was kept",
	DiskFull:         "make room and fetch again",
	LocalLimit:       "raise the limit of this process (ulimit -n for open files, ulimit -f for the size of a file)",
	LocalPermission:  "give the user that runs the fetcher write permission, or choose another directory",
	ManifestInvalid:  "is there a login page or a proxy in between?",
	PlatformNotFound: "choose a platform that is there",
	Stalled:          "try again, or give a longer stall timeout",
}

// reason finds the reason of an error of the packages below.
func reason(err error) Reason {
	var uri *scheme.Error
	var answered *registry.Error
	var local *content.LocalError
	var path *fs.PathError
	var broken *transfer.Error
	var hosts *registry.HostsError
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EFBIG):
		return LocalLimit
	case errors.As(err, &uri):
		return uriReason(uri)
	case errors.As(err, &answered):
		return Reason(answered.Reason)
	case errors.As(err, &hosts):
		return HostsInvalid
	case errors.Is(err, credential.ErrReference):
		return SecretReferenceUnresolved
	case errors.Is(err, credential.ErrSecret):
		return SecretInvalid
	case errors.Is(err, credential.ErrConfig):
		return ConfigInvalid
	case errors.Is(err, manifest.ErrNoPlatform):
		return PlatformNotFound
	case errors.Is(err, manifest.ErrUnsupported):
		return MediaTypeUnsupported
	case errors.Is(err, manifest.ErrInvalid):
		return ManifestInvalid
	case errors.Is(err, content.ErrDigest):
		return DigestMismatch
	case errors.Is(err, content.ErrSize):
		return SizeMismatch
	case errors.Is(err, content.ErrTooBig):
		return BlobTooLarge
	case errors.Is(err, transfer.ErrStalled):
		return Stalled
	case errors.As(err, &broken):
		return RegistryUnreachable
	case errors.As(err, &local), errors.As(err, &path):
		return localReason(err)
	}
	return Bug
}

func uriReason(err *scheme.Error) Reason {
	switch {
	case err.Part == scheme.PartScheme:
		return URISchemeUnsupported
	case err.Part == scheme.PartHost && err.Missing:
		return URIHostMissing
	case err.Part == scheme.PartQuery && err.Missing:
		return URIQueryMissing
	case err.Part == scheme.PartDigest:
		return DigestInvalid
	}
	return URIInvalid
}

func localReason(err error) Reason {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return LocalPermission
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, errQuota):
		return DiskFull
	}
	return DirectoryInvalid
}

// metadata are the facts of a request that programs may want.
func metadata(req *Request) map[string]string {
	if req == nil {
		return nil
	}
	facts := map[string]string{"request_id": req.RequestID}
	if ref, err := scheme.FromURI(req.URI); err == nil {
		maps.Copy(facts, map[string]string{
			"scheme": string(ref.Kind), "registry": ref.Registry, "repository": ref.Repository, "url_host": ref.Host(),
			"reference": ref.Tag, "digest": ref.Digest.String(),
		})
	}
	maps.DeleteFunc(facts, func(_, value string) bool { return value == "" })
	return facts
}

func (e *Error) add(name, value string) {
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata[name] = value
}

// printable escapes control characters, those of Unicode too, which a peer may
// have sent to paint on a terminal or to forge a line of a log.
func printable(s string) string {
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
