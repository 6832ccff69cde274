package fetchertest

import (
	"bytes"
	"errors"
	"io"
)

// spoil changes an answer as the fault says. What happens while the answer is
// written (Hold, Drop, StallAt, CutAt, Reset) is the reply's.
func (f Fault) spoil(q Request, a answer) answer {
	if f.Status != 0 {
		a = errorOf(q.Endpoint, f.Status)
	}
	if f.IgnoreRange {
		a = a.whole()
	}
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
	for name, values := range f.Header {
		a = a.with(name, values...)
	}
	return a
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
