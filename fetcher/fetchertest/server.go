package fetchertest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// start serves one host of the registry on a loopback port, and returns its address.
func (r *Registry) start(tb testing.TB, locate func(path string) target) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.life.begin() {
			panic(http.ErrAbortHandler)
		}
		defer r.life.end()
		r.serve(w, req, locate(req.URL.Path))
	}))
	s.Config.ErrorLog = r.life.log(tb)
	s.Config.ConnContext = remember
	gate := newGate(s.Listener, r.config)
	s.Listener, r.gates[s.Listener.Addr().String()] = gate, gate
	r.servers = append(r.servers, s)
	if r.authority == nil {
		s.Start()
		return s.URL
	}
	s.TLS = r.authority.loopback
	s.EnableHTTP2 = true
	s.StartTLS()
	return s.URL
}

// serve notes the request, decides the answer, spoils it if a fault says so,
// and writes it.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request, t target) {
	if req.Method == http.MethodPost {
		req.Body = http.MaxBytesReader(w, req.Body, 64<<10)
		_ = req.ParseForm() // what could not be parsed is missing, and judged so
	}
	request := newRequest(req, t)
	note := r.journal.add(r, request)
	conn := connectionOf(req)
	a, leave := r.admit(conn.gate, request, req)
	defer leave()
	fault := r.faults.take(request, a)
	if fault.Notice != nil {
		fault.Notice(request)
	}
	out := reply{
		w: w, req: req, life: r.life, note: note, conn: conn, leave: leave, fault: fault,
		latency: r.config.Link.Latency, paces: paces{&r.pace, &conn.pace, {rate: fault.Rate}},
	}
	out.write(fault.spoil(request, a))
}

// admit decides the answer, if the request isn't one too many, and counts it until leave.
func (r *Registry) admit(g *gate, q Request, req *http.Request) (a answer, leave func()) {
	leave, ok := g.enter(q.Endpoint)
	if !ok {
		return r.config.Limits.tooMany(q.Endpoint), leave
	}
	return r.answers(q, req), leave
}

// close ends all requests and servers.
func (r *Registry) close() {
	r.life.finish()
	for _, s := range r.servers {
		s.CloseClientConnections()
		s.Close()
	}
	r.life.running.Wait() // httptest waits for connections, but not for HTTP/2 handlers
}

// life knows which requests are running, and when they have to end.
type life struct {
	done    chan struct{} // closed when the registry or the internet ends
	running sync.WaitGroup

	mu       sync.Mutex
	finished bool
}

func newLife() *life { return &life{done: make(chan struct{})} }

// begin registers a request, or reports false because the end has come.
func (l *life) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		return false
	}
	l.running.Add(1)
	return true
}

func (l *life) end() { l.running.Done() }

func (l *life) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = true
	close(l.done)
}

// log is for a server's errors while the test runs. What its connections say
// when they are cut at the end, or after it, is noise.
func (l *life) log(tb testing.TB) *log.Logger {
	return log.New(errorLog{l, tb.Output()}, "fetchertest: ", 0)
}

type errorLog struct {
	life *life
	w    io.Writer
}

func (e errorLog) Write(p []byte) (int, error) {
	e.life.mu.Lock()
	defer e.life.mu.Unlock()
	if e.life.finished {
		return len(p), nil
	}
	return e.w.Write(p)
}
