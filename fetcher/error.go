package fetcher

import (
	"errors"
	"time"
)

// The kinds of failure. A kind answers "what should the caller do": each has
// one gRPC code and one exit code. errors.Is(err, ErrNotFound) holds for an
// *Error of that kind, in process and through a plugin alike; context.Canceled
// and context.DeadlineExceeded are never hidden behind a kind.
var (
	ErrInvalid      = errors.New("invalid request")        // URI, directory, docker config: do not retry
	ErrUnauthorized = errors.New("unauthorized")           // no credential, or the registry refused it
	ErrDenied       = errors.New("denied")                 // authenticated, but not allowed; or a local permission
	ErrNotFound     = errors.New("not found")              // no such manifest, blob or platform
	ErrUnsupported  = errors.New("unsupported")            // a manifest that this fetcher can't read
	ErrIntegrity    = errors.New("integrity check failed") // wrong digest or size
	ErrExhausted    = errors.New("exhausted")              // rate limit, disk, a size bound
	ErrUnavailable  = errors.New("unavailable")            // network, TLS, 5xx, stall: retry later
	ErrInternal     = errors.New("internal error")         // a defect of the fetcher: report it
)

// Reason names one cause of failure. It travels as google.rpc.ErrorInfo.reason,
// so a value once published keeps its name.
type Reason string

// The reasons, by kind.
const (
	URISchemeUnsupported      Reason = "URI_SCHEME_UNSUPPORTED"
	URIHostMissing            Reason = "URI_HOST_MISSING"
	URIQueryMissing           Reason = "URI_QUERY_MISSING"
	URIInvalid                Reason = "URI_INVALID"
	DigestInvalid             Reason = "DIGEST_INVALID"
	DirectoryInvalid          Reason = "DIRECTORY_INVALID"
	OutputNameInvalid         Reason = "OUTPUT_NAME_INVALID"
	OptionInvalid             Reason = "OPTION_INVALID"
	ConfigInvalid             Reason = "CONFIG_INVALID"
	HostsInvalid              Reason = "HOSTS_INVALID"
	SecretInvalid             Reason = "SECRET_INVALID"
	SecretReferenceUnresolved Reason = "SECRET_REFERENCE_UNRESOLVED"

	AuthRequired       Reason = "AUTH_REQUIRED"
	AuthFailed         Reason = "AUTH_FAILED"
	TokenServerRefused Reason = "TOKEN_SERVER_REFUSED"

	RegistryDenied  Reason = "REGISTRY_DENIED"
	HostsClosed     Reason = "HOSTS_CLOSED"
	LocalPermission Reason = "LOCAL_PERMISSION"

	ManifestNotFound Reason = "MANIFEST_NOT_FOUND"
	BlobNotFound     Reason = "BLOB_NOT_FOUND"
	PlatformNotFound Reason = "PLATFORM_NOT_FOUND"

	MediaTypeUnsupported    Reason = "MEDIA_TYPE_UNSUPPORTED"
	ManifestInvalid         Reason = "MANIFEST_INVALID"
	InsecureRegistryRefused Reason = "INSECURE_REGISTRY_REFUSED"

	DigestMismatch Reason = "DIGEST_MISMATCH"
	SizeMismatch   Reason = "SIZE_MISMATCH"

	RateLimited     Reason = "RATE_LIMITED"
	DiskFull        Reason = "DISK_FULL"
	LocalLimit      Reason = "LOCAL_LIMIT"
	BlobTooLarge    Reason = "BLOB_TOO_LARGE"
	RequestTooLarge Reason = "REQUEST_TOO_LARGE"

	RegistryUnreachable Reason = "REGISTRY_UNREACHABLE"
	Registry5xx         Reason = "REGISTRY_5XX"
	TLSFailed           Reason = "TLS_FAILED"
	Stalled             Reason = "STALLED"
	ShuttingDown        Reason = "SHUTTING_DOWN"

	Panicked Reason = "PANIC"
	Bug      Reason = "BUG"
)

// kinds is the one table from reason to kind.
var kinds = map[Reason]error{
	URISchemeUnsupported: ErrInvalid, URIHostMissing: ErrInvalid, URIQueryMissing: ErrInvalid, URIInvalid: ErrInvalid,
	DigestInvalid: ErrInvalid, DirectoryInvalid: ErrInvalid, OutputNameInvalid: ErrInvalid, OptionInvalid: ErrInvalid,
	ConfigInvalid: ErrInvalid, HostsInvalid: ErrInvalid, SecretInvalid: ErrInvalid, SecretReferenceUnresolved: ErrInvalid,
	AuthRequired: ErrUnauthorized, AuthFailed: ErrUnauthorized, TokenServerRefused: ErrUnauthorized,
	RegistryDenied: ErrDenied, HostsClosed: ErrDenied, LocalPermission: ErrDenied,
	ManifestNotFound: ErrNotFound, BlobNotFound: ErrNotFound, PlatformNotFound: ErrNotFound,
	MediaTypeUnsupported: ErrUnsupported, ManifestInvalid: ErrUnsupported, InsecureRegistryRefused: ErrUnsupported,
	DigestMismatch: ErrIntegrity, SizeMismatch: ErrIntegrity,
	RateLimited: ErrExhausted, DiskFull: ErrExhausted, LocalLimit: ErrExhausted, BlobTooLarge: ErrExhausted, RequestTooLarge: ErrExhausted,
	RegistryUnreachable: ErrUnavailable, Registry5xx: ErrUnavailable, TLSFailed: ErrUnavailable,
	Stalled: ErrUnavailable, ShuttingDown: ErrUnavailable,
	Panicked: ErrInternal, Bug: ErrInternal,
}

// Kind returns the kind that r belongs to, ErrInternal for a reason this
// version doesn't know.
func (r Reason) Kind() error {
	if kind, ok := kinds[r]; ok {
		return kind
	}
	return ErrInternal
}

// Error is what Fetch and Resolve return, in process and through a plugin.
// It is a value of texts and numbers only, so that it crosses the process
// boundary whole; none of them holds a secret.
type Error struct {
	Reason Reason
	Phase  Phase
	// Text is the whole message: what failed, what was tried, what to do.
	// Control characters of a peer are escaped in it.
	Text string
	// RetryAfter is how long the registry asked to wait; 0: it did not say.
	RetryAfter time.Duration
	// Metadata are facts for programs: request_id, scheme, registry,
	// repository, reference, digest, http_status, url_host. Nil where there are none.
	Metadata map[string]string

	cause error
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// Is reports whether target is the kind of e.
func (e *Error) Is(target error) bool { return target == e.Reason.Kind() }

// Unwrap returns the cause within this process; nil for an error that came
// through a plugin.
func (e *Error) Unwrap() error { return e.cause }
