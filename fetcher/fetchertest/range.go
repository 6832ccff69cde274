package fetchertest

import (
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

// ranged answers a request for a part of a (RFC 9110 section 14.2); a has an
// ETag. If-Range holds for a strong match only.
func (a answer) ranged(q Request) answer {
	b, ok := parseRange(q.Range)
	if !ok || q.Method != http.MethodGet || q.IfRange != "" && q.IfRange != a.header.Get("ETag") {
		return a
	}
	size := strconv.FormatInt(a.content.Size(), 10)
	from, to, ok := b.of(a.content.Size())
	if !ok {
		return textAnswer(http.StatusRequestedRangeNotSatisfiable, "invalid range: failed to overlap\n").
			with("Content-Range", "bytes */"+size)
	}
	a.status, a.from, a.to = http.StatusPartialContent, from, to
	return a.with("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10)+"/"+size)
}

// whole takes ranged back.
func (a answer) whole() answer {
	if a.status == http.StatusPartialContent {
		a.status, a.from, a.to = http.StatusOK, 0, a.content.Size()
		a.header.Del("Content-Range")
	}
	return a
}
