package registry

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// Blob returns the source of one blob of the repository.
func (r *Repository) Blob(d digest.Digest) transfer.Source {
	return &blob{repository: r, digest: d}
}

// blob is a source that learns on the way: where the registry redirects to, and
// that a host knows no ranges.
type blob struct {
	repository *Repository
	digest     digest.Digest
	target     atomic.Pointer[url.URL] // of another origin than the registry's; nil: none, or it failed
	rangeless  atomic.Bool
}

// Open asks for the bytes of r. A registry that ignores the range answers from
// the beginning; Content.Offset says so. One whose answer to a range can't be
// that is asked for the whole, from then on.
func (b *blob) Open(ctx context.Context, r transfer.Request) (transfer.Content, error) {
	content, err := b.open(ctx, r)
	var unusable *rangeError
	if errors.As(err, &unusable) && rangeField(r) != "" && ctx.Err() == nil {
		b.rangeless.Store(true)
		return b.open(ctx, r)
	}
	return content, err
}

func (b *blob) open(ctx context.Context, r transfer.Request) (transfer.Content, error) {
	q := b.repository.blobRequest(http.MethodGet, b.digest)
	if field := rangeField(r); field != "" && !b.rangeless.Load() {
		q.header["Range"] = []string{field}
	}
	resp, err := b.repository.inTime(ctx, q, b.ask)
	switch {
	case err != nil && r.Offset > 0 && nothingLeft(err):
		// All came before the connection broke.
		return transfer.Content{ReadCloser: http.NoBody, Offset: r.Offset, Total: -1}, nil
	case err != nil:
		return transfer.Content{}, err
	}
	content, err := contentOf(resp, r)
	if err != nil {
		_ = resp.Body.Close()
		return transfer.Content{}, &Error{
			Reason: "REGISTRY_UNREACHABLE", Method: q.method, URL: redact(resp.Request.URL),
			Message: err.Error(), Hint: "is there a proxy in between that changes answers?", Err: err,
		}
	}
	content.RoundTrip = b.repository.pool.trips.to(resp.Request.URL)
	content.Throttled = q.throttled
	return content, nil
}

// ask asks where the registry redirected to before, else the registry; and it
// without a range where that is what it does not like.
func (b *blob) ask(ctx context.Context, q *request) (*http.Response, error) {
	if target := b.target.Load(); target != nil {
		if resp := b.straight(ctx, q, target); resp != nil {
			return resp, nil
		}
	}
	resp, err := b.repository.ask(ctx, q)
	if err != nil && fromStart(q.header) && dislikesRanges(err) {
		q.header = maps.Clone(q.header)
		delete(q.header, "Range")
		resp, err = b.repository.ask(ctx, q)
		b.rangeless.Store(err == nil)
	}
	if err == nil && !sameOrigin(resp.Request.URL, b.repository.registry) {
		b.target.Store(resp.Request.URL)
	}
	return resp, err
}

// straight asks the target alone. Where it does not serve, the answer is nil
// and the target forgotten: its signature has expired, or its host fails, and
// the registry knows of another.
func (b *blob) straight(ctx context.Context, q *request, target *url.URL) *http.Response {
	req := (&http.Request{Method: q.method, URL: target, Header: travelling(q.header)}).WithContext(ctx)
	resp, err := b.repository.follow(req, true)
	if err == nil {
		if served(resp) {
			return resp
		}
		q.throttled = q.throttled || resp.StatusCode == http.StatusTooManyRequests
		discard(resp)
	}
	if ended := context.Cause(ctx); ended == nil || errors.As(ended, new(lateError)) {
		b.target.CompareAndSwap(target, nil)
	}
	return nil
}

// Has asks, by HEAD, whether this credential may read a blob, and returns its
// size, -1 where that is not said. Errors are those of a GET. Redirects are
// followed, since some registries redirect whatever they are asked for.
func (r *Repository) Has(ctx context.Context, d digest.Digest) (size int64, err error) {
	resp, err := r.inTime(ctx, r.blobRequest(http.MethodHead, d), r.ask)
	if err != nil {
		return -1, err
	}
	_ = resp.Body.Close()
	return resp.ContentLength, nil
}

func (r *Repository) blobRequest(method string, d digest.Digest) *request {
	q := r.request(method, "blobs/"+d.String(), blobMissing, http.Header{"Accept": anything, "Accept-Encoding": identity})
	if r.place != nil {
		q.url, q.header = r.place.url, travelling(q.header)
	}
	return q
}

const blobMissing = "BLOB_NOT_FOUND"

var anything, identity = []string{"*/*"}, []string{"identity"}

// rangeField is the Range field for r (RFC 9110 section 14.2); "": none is needed.
func rangeField(r transfer.Request) string {
	first := strconv.FormatInt(r.Offset, 10)
	switch {
	case r.Length > 0:
		return "bytes=" + first + "-" + strconv.FormatInt(r.Offset+r.Length-1, 10)
	case r.Offset > 0, r.Ranged:
		return "bytes=" + first + "-"
	}
	return ""
}

// fromStart reports whether a request asks by a range that begins at byte 0: the
// same request without the range serves as well.
func fromStart(header http.Header) bool {
	return len(header["Range"]) > 0 && strings.HasPrefix(header["Range"][0], "bytes=0-")
}

// dislikesRanges reports whether the request may fare better without a range: an
// empty blob has none that could be satisfied, and some servers know none.
func dislikesRanges(err error) bool {
	var refused *Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Status {
	case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		return true
	}
	return false
}

// nothingLeft reports whether there is nothing where the range begins.
func nothingLeft(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable
}
