package fetchertest

import (
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// reply writes one answer, with what a fault does to its writing.
type reply struct {
	w       http.ResponseWriter
	req     *http.Request
	life    *life
	note    *note
	conn    *connection
	leave   func() // the request is over, as its client sees it
	fault   Fault
	latency time.Duration
	paces   paces
}

func (r reply) write(a answer) {
	if r.latency > 0 {
		r.waitUntil(time.Now().Add(r.latency))
	}
	if r.fault.Hold != nil && r.fault.StallAt == 0 {
		wait(r, r.fault.Hold)
	}
	if r.fault.Drop {
		r.abort()
	}
	r.writeHead(a)
	if r.req.Method == http.MethodHead {
		return
	}
	body, sent := a.body(), int64(0)
	if a.reaches(r.fault.StallAt) {
		sent = r.send(body, r.fault.StallAt)
		r.flush()
		wait(r, r.fault.Hold)
	}
	if a.reaches(r.fault.CutAt) {
		r.send(body, r.fault.CutAt-sent)
		r.flush()
		r.abort()
	}
	left := a.length() - sent
	r.send(body, left-1)
	r.leave()
	r.send(body, min(left, 1))
}

func (r reply) writeHead(a answer) {
	if !a.chunked {
		r.w.Header().Set("Content-Length", strconv.FormatInt(a.length(), 10))
	}
	maps.Copy(r.w.Header(), a.header)
	r.note.status(a.status)
	r.w.WriteHeader(a.status)
	if a.chunked {
		r.flush() // else net/http counts a short body itself
	}
}

// reaches reports whether a position of a Fault comes before the end of the
// answer, which a client knows from the Content-Length if there is one.
func (a answer) reaches(at int64) bool {
	return at != 0 && (at < a.length() || a.chunked && at == a.length())
}

// send writes the next n bytes of the body, if n is more than none, as fast as
// the paces let it.
func (r reply) send(body io.Reader, n int64) int64 {
	n = max(n, 0)
	piece := r.paces.piece()
	if piece == 0 {
		r.copy(body, n)
		return n
	}
	for left := n; left > 0; left -= piece {
		piece = min(piece, left)
		r.waitUntil(r.paces.take(piece, time.Now()))
		r.copy(body, piece)
		r.flush()
	}
	return n
}

func (r reply) copy(body io.Reader, n int64) {
	if _, err := io.CopyN(counted{r.w, r.note}, body, n); err != nil {
		r.abort() // the client has gone
	}
}

func (r reply) flush() {
	if err := http.NewResponseController(r.w).Flush(); err != nil {
		r.abort()
	}
}

// wait ends when release is closed. When the client goes away or the registry
// ends, the request ends. The first alone isn't enough: net/http doesn't see
// a client go whose request body is left unread.
func wait[T any](r reply, release <-chan T) {
	select {
	case <-release:
	case <-r.req.Context().Done():
		r.abort()
	case <-r.life.done:
		r.abort()
	}
}

func (r reply) waitUntil(t time.Time) {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	wait(r, timer.C)
}

// abort ends the request without ending the answer.
func (r reply) abort() {
	if r.fault.Reset {
		r.conn.reset()
	}
	panic(http.ErrAbortHandler)
}

// counted counts what it writes before it is written, so that no client sees
// a byte that isn't counted.
type counted struct {
	w    io.Writer
	note *note
}

func (c counted) Write(p []byte) (int, error) {
	c.note.body(int64(len(p)))
	n, err := c.w.Write(p)
	c.note.body(int64(n - len(p)))
	return n, err
}
