package fetchertest

import (
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
)

// reply writes one answer, with what a fault does to its writing.
type reply struct {
	w     http.ResponseWriter
	req   *http.Request
	life  *life
	note  *note
	fault Fault
}

func (r reply) write(a answer) {
	if r.fault.Hold != nil && r.fault.StallAt == 0 {
		r.wait(r.fault.Hold)
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
		r.wait(r.fault.Hold)
	}
	if a.reaches(r.fault.CutAt) {
		r.send(body, r.fault.CutAt-sent)
		r.flush()
		r.abort()
	}
	r.send(body, a.length()-sent)
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

// send writes the next n bytes of the body, if n is more than none.
func (r reply) send(body io.Reader, n int64) int64 {
	sent, err := io.CopyN(counted{r.w, r.note}, body, max(n, 0))
	if err != nil {
		r.abort() // the client has gone
	}
	return sent
}

func (r reply) flush() {
	if err := http.NewResponseController(r.w).Flush(); err != nil {
		r.abort()
	}
}

// wait ends when release is closed. When the client goes away or the registry
// ends, the request ends. The first alone isn't enough: net/http doesn't see
// a client go whose request body is left unread.
func (r reply) wait(release <-chan struct{}) {
	select {
	case <-release:
	case <-r.req.Context().Done():
		r.abort()
	case <-r.life.done:
		r.abort()
	}
}

// abort ends the request without ending the answer.
func (r reply) abort() {
	if r.fault.Reset {
		reset(r.req)
	}
	panic(http.ErrAbortHandler)
}

// reset closes the request's connection by a TCP RST.
func reset(req *http.Request) {
	conn, _ := req.Context().Value(connKey{}).(net.Conn)
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
		_ = t.Close()
	}
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
