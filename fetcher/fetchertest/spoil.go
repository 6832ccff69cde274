package fetchertest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// spoil changes an answer as the fault says. What happens while the answer is
// written (Hold, Drop, Rate, StallAt, CutAt, Reset) is the reply's.
func (f Fault) spoil(q Request, a answer) answer {
	if f.Status != 0 {
		a = errorOf(q.Endpoint, f.Status)
	}
	a = f.partOf(f.blob(a), q)
	if f.Body != nil {
		a.content, a.from, a.to = bytes.NewReader(f.Body), 0, int64(len(f.Body))
	}
	if f.Corrupt {
		a.content = corrupted{a.content, a.from + a.length()/2}
	}
	a.to = max(a.from, a.to-f.Truncate)
	if f.Extra > 0 {
		a.content = extended{a.content, a.to}
		a.to += f.Extra
	}
	if f.ShortAt != 0 {
		a.to, a.chunked = min(a.to, a.from+max(f.ShortAt, 0)), true
	}
	a.chunked = a.chunked || f.Chunked
	if f.Multipart && a.status == http.StatusPartialContent {
		a = a.multipart()
	}
	return a.withAll(f.Header)
}

// blob is the whole that a range is taken of, where a is a blob.
func (f Fault) blob(a answer) answer {
	a = a.whole()
	if f.Replaced && a.takesRanges() {
		a.content = inverted{a.content}
		a = a.with("ETag", `"another"`)
	}
	return a
}

// partOf is the range of a blob that the request gets.
func (f Fault) partOf(a answer, q Request) answer {
	if !a.takesRanges() {
		return a
	}
	if f.IgnoreRange {
		q.Range = ""
	}
	if f.IgnoreIfRange {
		q.IfRange = ""
	}
	a = a.withAll(f.Header).ranged(q)
	if a.status != http.StatusPartialContent {
		return a
	}
	size := a.content.Size()
	from := min(max(a.from+f.MoveFirst, 0), size-1)
	to := min(max(a.to+f.MoveLast, from+1), size)
	a = a.part(from, to)
	if f.ContentRange == "" {
		return a
	}
	return a.with("Content-Range", strings.NewReplacer(
		"{first}", strconv.FormatInt(from, 10), "{last}", strconv.FormatInt(to-1, 10), "{size}", strconv.FormatInt(size, 10),
	).Replace(f.ContentRange))
}

// inverted changes each byte.
type inverted struct{ content }

func (i inverted) ReadAt(p []byte, off int64) (int, error) {
	n, err := i.content.ReadAt(p, off)
	for k := range p[:n] {
		p[k] ^= 0xff
	}
	return n, err
}

// corrupted changes the byte at an offset.
type corrupted struct {
	content
	at int64
}

func (c corrupted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.content.ReadAt(p, off)
	if i := c.at - off; 0 <= i && i < int64(n) {
		p[i] ^= 0xff
	}
	return n, err
}

// extended goes on for ever after size bytes.
type extended struct {
	content
	size int64
}

func (e extended) ReadAt(p []byte, off int64) (int, error) {
	truth := io.NewSectionReader(e.content, 0, e.size)
	n, err := truth.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		for i := range p[n:] {
			p[n+i] = 'x'
		}
		return len(p), nil
	}
	return n, err
}
