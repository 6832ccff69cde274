package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// Blob returns the source of one blob of the repository.
func (r *Repository) Blob(d digest.Digest) transfer.Source { return blob{r, d} }

type blob struct {
	repository *Repository
	digest     digest.Digest
}

// Open asks for the blob from offset on. A registry that ignores the range
// answers from the beginning; Content.Offset says so.
func (b blob) Open(ctx context.Context, offset int64) (transfer.Content, error) {
	header := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := b.repository.get(ctx, "blobs/"+b.digest.String(), "BLOB_NOT_FOUND", header)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable && offset > 0 {
		// There is nothing from there on: all came before the connection broke.
		return transfer.Content{ReadCloser: http.NoBody, Offset: offset, Total: -1}, nil
	}
	if err != nil {
		return transfer.Content{}, err
	}
	content, err := content(resp, offset)
	if err != nil {
		_ = resp.Body.Close()
		return transfer.Content{}, &Error{
			Reason: "REGISTRY_UNREACHABLE", Method: http.MethodGet, URL: redact(resp.Request.URL),
			Message: err.Error(), Hint: "is there a proxy in between that changes answers?",
		}
	}
	return content, nil
}

// content checks what an answer says of its bytes.
func content(resp *http.Response, offset int64) (transfer.Content, error) {
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return transfer.Content{}, fmt.Errorf("the blob came with Content-Encoding %.40q, though identity was asked for", encoding)
	}
	if resp.StatusCode == http.StatusOK {
		return transfer.Content{ReadCloser: resp.Body, Total: resp.ContentLength}, nil
	}
	first, total, err := contentRange(resp.Header.Get("Content-Range"))
	if err == nil && first != offset {
		err = fmt.Errorf("asked for the bytes from %d on, got those from %d on", offset, first)
	}
	return transfer.Content{ReadCloser: resp.Body, Offset: first, Total: total}, err
}

// contentRange reads "bytes first-last/total" (RFC 9110 section 14.4); total is
// -1 where it is "*".
func contentRange(field string) (first, total int64, err error) {
	bad := errors.New("206 with an unreadable Content-Range")
	span, ok := strings.CutPrefix(field, "bytes ")
	if !ok {
		return 0, 0, bad
	}
	span, size, ok := strings.Cut(span, "/")
	begin, end, dash := strings.Cut(span, "-")
	if !ok || !dash {
		return 0, 0, bad
	}
	first, err1 := strconv.ParseInt(begin, 10, 64)
	last, err2 := strconv.ParseInt(end, 10, 64)
	total = -1
	var err3 error
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 64)
	}
	if errors.Join(err1, err2, err3) != nil || first < 0 || last < first || size != "*" && total <= last {
		return 0, 0, bad
	}
	return first, total, nil
}
