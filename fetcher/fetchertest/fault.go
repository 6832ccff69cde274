package fetchertest

import (
	"net/http"
	"sync"
)

// AtOnce is the position before the first byte of a body, for the At fields
// of a Fault, whose zero value means never.
const AtOnce int64 = -1

// Fault is what goes wrong with an answer. Its zero value is an answer as it
// should be; the fields may be combined.
//
// A fault with Status or Drop strikes every request it matches. Any other
// waits for an answer that delivers what was asked for (200 or 206): a 401, a
// 404 or a 307 is neither changed nor counted. One request meets one fault at
// most, the first injected that is due.
type Fault struct {
	Match Match
	After int // lets so many such requests pass first
	Times int // strikes so often; 0: always

	// Notice is called when the fault strikes, before anything is answered.
	// It runs on the server's goroutine and must not block.
	Notice func(Request)
	// Hold delays the answer until it is closed, or with StallAt the rest of
	// the body. The wait ends as well when the client goes away or the test ends.
	Hold <-chan struct{}

	// Drop closes the connection (in HTTP/2, resets the stream) without an
	// answer. Go's client sends a request again by itself when that happens
	// on a connection that had been used before.
	Drop bool
	// Status replaces the whole answer by one of this status with Header and
	// Body; the Body is the distribution-spec's error if it is nil.
	Status int
	// Header replaces fields of the answer; a field without values is
	// removed: {"Docker-Content-Digest": nil}. If-Range is judged by a blob's
	// ETag as it is here: {"ETag": {`W/"weak"`}}. In HTTP/2, {"Connection":
	// {"close"}} sends a GOAWAY: the stream ends well, and the next is another
	// connection's.
	Header http.Header
	// Body replaces the body; without Status, the status and the other fields
	// stay as they are. Nil: it does not, empty: by nothing.
	Body []byte

	// IgnoreRange makes the answer to a request for a range 200 and the whole.
	IgnoreRange bool
	// IgnoreIfRange makes it 206 whatever the If-Range says.
	IgnoreIfRange bool
	// Replaced puts another blob of the same size in this one's place: other
	// bytes, each of them, and the ETag "another", by which If-Range is judged.
	Replaced bool
	// MoveFirst and MoveLast move the ends of the range that is answered by so
	// many bytes, as far as the blob goes: it begins later or, below 0,
	// earlier than was asked, and ends likewise. The Content-Range says so.
	MoveFirst, MoveLast int64
	// ContentRange replaces that field of a 206. In it, {first}, {last} and
	// {size} stand for the truth: "bytes {first}-{last}/*".
	ContentRange string
	// Multipart wraps the range of a 206 as multipart/byteranges with one part
	// (RFC 9110 section 15.3.7.2).
	Multipart bool

	Corrupt  bool  // the body's middle byte is changed
	Truncate int64 // so many bytes are missing at the end, in Content-Length too
	Extra    int64 // so many bytes follow after the end, in Content-Length too
	Chunked  bool  // no Content-Length
	// ShortAt ends the body after so many bytes, properly, without Content-Length:
	// by its last chunk or, with Header {"Transfer-Encoding": {"identity"}}, as
	// HTTP/1.0 does, by the end of the connection.
	ShortAt int64

	// Rate is the pace of the body in bytes per second, without bursts: a
	// trickle. 0: as fast as [Config.Link] lets it.
	Rate int64
	// StallAt makes nothing follow after so many bytes of the body: for ever, or until Hold is closed.
	StallAt int64
	// CutAt closes the connection (in HTTP/2, resets the stream) after so many bytes of
	// the body, all of which reach a client that reads on. The Content-Length is true.
	CutAt int64
	// Reset makes Drop and CutAt close the TCP connection by a RST instead,
	// which may overtake bytes that are under way.
	Reset bool
}

// Match says which requests a fault is for. Its zero value is for all.
type Match struct {
	Endpoint   Endpoint
	Method     string // empty: any
	Repository string // empty: any
	Identifier string // a tag or digest, as the request has it; empty: any
	Ranged     bool   // only requests with a Range field, whatever it says
	MinOffset  int64  // only requests for a range that begins here or later; one without a range begins at 0
}

// Inject adds faults after those that are there already.
func (r *Registry) Inject(faults ...Fault) {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	for _, f := range faults {
		r.faults.list = append(r.faults.list, &due{Fault: f})
	}
}

// faults holds what was injected.
type faults struct {
	mu   sync.Mutex
	list []*due
}

// due is a fault with the number of requests that it matched.
type due struct {
	Fault
	matched int
}

// take returns the fault that strikes a request, the zero value if none does.
func (f *faults) take(q Request, a answer) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.list {
		spent := d.Times > 0 && d.matched >= d.After+d.Times
		if spent || !d.concerns(q, a) {
			continue
		}
		if d.matched++; d.matched > d.After {
			return d.Fault
		}
	}
	return Fault{}
}

func (f Fault) concerns(q Request, a answer) bool {
	return f.Match.matches(q) && (f.Status != 0 || f.Drop || a.hasContent())
}

func (m Match) matches(q Request) bool {
	b, _ := parseRange(q.Range) // the zero value where there is none
	return (m.Endpoint == Any || m.Endpoint == q.Endpoint) &&
		(m.Method == "" || m.Method == q.Method) &&
		(m.Repository == "" || m.Repository == q.Repository) &&
		(m.Identifier == "" || m.Identifier == q.Identifier) &&
		(!m.Ranged || q.Range != "") &&
		m.MinOffset <= max(b.first, 0)
}
