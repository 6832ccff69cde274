package fetchertest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// byteRange is one range of a Range header (RFC 9110 section 14.1.2).
type byteRange struct {
	first int64 // -1: the range is the last n bytes
	last  int64 // -1: until the end
	n     int64 // only where first is -1
}

// parseRange reads a Range header with one range. It reports false for what a
// server may ignore: other units, several ranges, what is malformed.
func parseRange(header string) (byteRange, bool) {
	unit, set, _ := strings.Cut(header, "=")
	first, last, dash := strings.Cut(strings.TrimSpace(set), "-")
	if !strings.EqualFold(unit, "bytes") || !dash {
		return byteRange{}, false
	}
	a, okA := parseOffset(first)
	b, okB := parseOffset(last)
	switch {
	case first == "" && okB:
		return byteRange{first: -1, n: b}, true
	case okA && last == "":
		return byteRange{first: a, last: -1}, true
	case okA && okB && a <= b:
		return byteRange{first: a, last: b}, true
	}
	return byteRange{}, false
}

// parseOffset reads digits only, no sign.
func parseOffset(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}

// of returns the part of a content of size bytes, and false if none of it is there.
func (b byteRange) of(size int64) (from, to int64, ok bool) {
	switch {
	case b.first < 0:
		return max(0, size-b.n), size, b.n > 0 && size > 0
	case b.last < 0:
		return b.first, size, b.first < size
	}
	return b.first, min(b.last, size-1) + 1, b.first < size
}

// ranged answers a request for a part of a (RFC 9110 section 14.2). If-Range
// holds for a strong match with a's ETag only.
func (a answer) ranged(q Request) answer {
	b, ok := parseRange(q.Range)
	if !ok || q.Method != http.MethodGet || q.IfRange != "" && !strongMatch(q.IfRange, a.header.Get("ETag")) {
		return a
	}
	from, to, ok := b.of(a.content.Size())
	if !ok {
		return textAnswer(http.StatusRequestedRangeNotSatisfiable, "invalid range: failed to overlap\n").
			with("Content-Range", fmt.Sprintf("bytes */%d", a.content.Size()))
	}
	return a.part(from, to)
}

// strongMatch is the strong comparison of RFC 9110 section 8.8.3.2.
func strongMatch(a, b string) bool { return a == b && !strings.HasPrefix(a, "W/") }

// part is the 206 with the bytes of a from from to before to.
func (a answer) part(from, to int64) answer {
	a.status, a.from, a.to = http.StatusPartialContent, from, to
	return a.with("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, a.content.Size()))
}

// takesRanges reports whether a is a blob.
func (a answer) takesRanges() bool { return a.header.Get("Accept-Ranges") == "bytes" }

// multipart is a as the only part of a multipart/byteranges (RFC 9110 section 14.6).
func (a answer) multipart() answer {
	const boundary = "fetchertest"
	head := "--" + boundary + "\r\nContent-Type: " + a.header.Get("Content-Type") +
		"\r\nContent-Range: " + a.header.Get("Content-Range") + "\r\n\r\n"
	a.content = joined{
		strings.NewReader(head), io.NewSectionReader(a.content, a.from, a.length()), strings.NewReader("\r\n--" + boundary + "--\r\n"),
	}
	a.from, a.to = 0, a.content.Size()
	return a.with("Content-Type", "multipart/byteranges; boundary="+boundary).with("Content-Range")
}

// joined is contents one after the other.
type joined []content

func (j joined) Size() (size int64) {
	for _, c := range j {
		size += c.Size()
	}
	return size
}

func (j joined) ReadAt(p []byte, off int64) (n int, err error) {
	for _, c := range j {
		if n < len(p) && off < c.Size() {
			m, err := c.ReadAt(p[n:], off)
			if n += m; err != nil && !errors.Is(err, io.EOF) {
				return n, err
			}
			off = c.Size()
		}
		off -= c.Size()
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// whole takes ranged back.
func (a answer) whole() answer {
	if a.status == http.StatusPartialContent {
		a.status, a.from, a.to = http.StatusOK, 0, a.content.Size()
		a.header.Del("Content-Range")
	}
	return a
}
