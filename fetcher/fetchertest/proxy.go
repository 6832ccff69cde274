package fetchertest

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// start begins to listen, for the proxy's clients and in the tunnels.
func (n *Internet) start(tb testing.TB) {
	errorLog := n.life.log(tb)
	n.beyond = &http.Server{
		Handler: n.living(n.arrive), ErrorLog: errorLog, ConnContext: remember, ReadHeaderTimeout: time.Minute,
	}
	n.life.running.Go(func() { _ = n.beyond.Serve(n.tunnels) }) // ends with close
	n.proxy = httptest.NewUnstartedServer(n.living(n.forward))
	n.proxy.Config.ErrorLog, n.proxy.Config.ConnContext = errorLog, remember
	n.proxy.Listener = newGate(n.proxy.Listener, Config{})
	n.proxy.Start()
}

// living is a handler that ends with the internet.
func (n *Internet) living(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if !n.life.begin() {
			panic(http.ErrAbortHandler)
		}
		defer n.life.end()
		serve(w, req)
	}
}

// forward is the proxy (RFC 9110 section 9.3.6, RFC 9112 section 3.2.2).
func (n *Internet) forward(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodConnect {
		n.tunnel(w, req)
		return
	}
	name, port := splitPort(req.URL.Host, "80")
	if h, ok := n.host(name); ok && req.URL.Scheme == "http" && port == "80" {
		h.site.serve(w, req, name)
		return
	}
	n.refuse(w, req, name)
}

// tunnel hands the client's connection to the host that it names, which then
// speaks TLS on it.
func (n *Internet) tunnel(w http.ResponseWriter, req *http.Request) {
	name, port := splitPort(req.Host, "443")
	h, ok := n.host(name)
	if !ok || port != "443" {
		n.refuse(w, req, name)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // HTTP/1.1 can be hijacked
	}
	_, err = conn.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	if err != nil || buffered.Reader.Buffered() > 0 || !n.tunnels.add(tls.Server(conn, h.tls)) {
		_ = conn.Close() // the client has gone, or spoke before it may, or the end has come
	}
}

// arrive serves a request that came through a tunnel.
func (n *Internet) arrive(w http.ResponseWriter, req *http.Request) {
	name, _ := splitPort(req.Host, "443")
	h, ok := n.host(name)
	if !ok || name != req.TLS.ServerName {
		http.Error(w, "this host is not "+name, http.StatusMisdirectedRequest)
		return
	}
	h.site.serve(w, req, name)
}

func (n *Internet) refuse(w http.ResponseWriter, req *http.Request, name string) {
	q := newRequest(req, target{endpoint: Other})
	q.Host = name
	n.journal.add(nil, q).status(http.StatusBadGateway)
	http.Error(w, "there is no host "+name, http.StatusBadGateway)
}

// close ends all requests and connections.
func (n *Internet) close() {
	n.life.finish()
	n.proxy.CloseClientConnections()
	n.proxy.Close()
	n.tunnels.end()
	_ = n.beyond.Close()
	n.life.running.Wait()
}

// splitPort cuts a port off; there is always one afterwards.
func splitPort(authority, otherwise string) (host, port string) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		return authority, otherwise
	}
	return host, port
}

// tunnels are connections that a server accepts.
type tunnels struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newTunnels() *tunnels {
	return &tunnels{conns: make(chan net.Conn), done: make(chan struct{})}
}

// add hands a connection over, or reports false because the end has come.
func (t *tunnels) add(conn net.Conn) bool {
	select {
	case t.conns <- conn:
		return true
	case <-t.done:
		return false
	}
}

func (t *tunnels) end() { t.once.Do(func() { close(t.done) }) }

// Accept implements net.Listener.
func (t *tunnels) Accept() (net.Conn, error) {
	select {
	case conn := <-t.conns:
		return conn, nil
	case <-t.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (t *tunnels) Close() error {
	t.end()
	return nil
}

// Addr implements net.Listener.
func (t *tunnels) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
