package registry

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// contentOf holds what an answer says of its bytes against what was asked for.
func contentOf(resp *http.Response, asked transfer.Request) (transfer.Content, error) {
	c := transfer.Content{ReadCloser: resp.Body, Total: resp.ContentLength, Validator: strong(resp.Header.Get("ETag"))}
	if encoding := encoded(resp); encoding != "" {
		return c, fmt.Errorf("the blob came with Content-Encoding %.40q, though identity was asked for", encoding)
	}
	if resp.StatusCode == http.StatusOK {
		return c, nil
	}
	if err := partial(resp, asked, &c); err != nil {
		return c, &rangeError{err}
	}
	return c, nil
}

// encoded is how an answer was packed on its way (RFC 9110 section 8.4), so that
// its bytes are not those that have the digest; "": not at all.
func encoded(resp *http.Response) string {
	encoding := resp.Header.Get("Content-Encoding")
	if encoding == "identity" {
		return ""
	}
	return encoding
}

// rangeError is an answer to a range that can't be what was asked for; the whole
// blob may be had still.
type rangeError struct{ error }

func (e *rangeError) Unwrap() error { return e.error }

// partial holds a 206 against the range that was asked for.
func partial(resp *http.Response, asked transfer.Request, c *transfer.Content) error {
	if mediaType := resp.Header.Get("Content-Type"); strings.HasPrefix(strings.ToLower(mediaType), "multipart/") {
		return fmt.Errorf("the range came as %.40q, though it is one", mediaType)
	}
	first, last, total, err := contentRange(resp.Header.Get("Content-Range"))
	length := last - first + 1
	switch {
	case err != nil:
		return err
	case first != asked.Offset:
		return fmt.Errorf("asked for the bytes from %d on, got those from %d on", asked.Offset, first)
	case asked.Length > 0 && length > asked.Length:
		return fmt.Errorf("asked for %d bytes, got %d", asked.Length, length)
	case resp.ContentLength >= 0 && resp.ContentLength != length:
		return fmt.Errorf("206 with Content-Length %d, but a Content-Range of %d bytes", resp.ContentLength, length)
	case resp.ContentLength < 0:
		c.ReadCloser = part{io.LimitReader(resp.Body, length), resp.Body}
	}
	c.Offset, c.Total, c.Ranged = first, total, true
	return nil
}

// part is a body that does not say itself where it ends.
type part struct {
	io.Reader
	io.Closer
}

// contentRange reads "bytes first-last/total" (RFC 9110 section 14.4); total is
// -1 where it is "*".
func contentRange(field string) (first, last, total int64, err error) {
	bad := errors.New("206 with an unreadable Content-Range")
	span, ok := strings.CutPrefix(field, "bytes ")
	if !ok {
		return 0, 0, 0, bad
	}
	span, size, ok := strings.Cut(span, "/")
	begin, end, dash := strings.Cut(span, "-")
	if !ok || !dash {
		return 0, 0, 0, bad
	}
	from, err1 := strconv.ParseUint(begin, 10, 63)
	to, err2 := strconv.ParseUint(end, 10, 63)
	of, err3 := uint64(math.MaxInt64), error(nil)
	if total = -1; size != "*" {
		of, err3 = strconv.ParseUint(size, 10, 63)
		total = int64(of)
	}
	if errors.Join(err1, err2, err3) != nil || to < from || of <= to {
		return 0, 0, 0, bad
	}
	return int64(from), int64(to), total, nil
}

// strong returns an entity-tag if it is a strong one (RFC 9110 section 8.8.3),
// else "": W/ marks a weak one, and what is malformed proves nothing.
func strong(tag string) string {
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return ""
	}
	for _, c := range []byte(tag[1 : len(tag)-1]) {
		if c <= ' ' || c == '"' || c == 0x7f {
			return ""
		}
	}
	return tag
}
