package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// predecessor is how long the plugin before this one has to leave the address:
// a host may launch another while the last calls of the old one end.
const predecessor = 2 * time.Second

// maxReaders is how many connections there are at once; Prometheus needs one.
const maxReaders = 8

// metricsAddress is where the metrics are: unix:/path/to.sock, or an address of
// loopback and a port. The zero value is nowhere.
type metricsAddress struct{ network, address string }

func (a *metricsAddress) String() string {
	if a.network == "unix" {
		return "unix:" + a.address
	}
	return a.address
}

// Type implements pflag.Value.
func (a *metricsAddress) Type() string { return "address" }

// Set implements pflag.Value.
func (a *metricsAddress) Set(s string) error {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return errors.New("want an absolute path, such as unix:/run/agent/metrics.sock")
		}
		*a = metricsAddress{"unix", filepath.Clean(path)}
		return nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return errors.New("want unix:/path/to.sock, or an address of loopback and a port, such as 127.0.0.1:9464")
	}
	if !at.Addr().Unmap().IsLoopback() {
		return errors.New("metrics tell who fetches what, to anybody who asks: want a loopback address such as 127.0.0.1:9464, or unix:/path/to.sock")
	}
	*a = metricsAddress{"tcp", at.String()}
	return nil
}

// listen opens the address, and waits for a predecessor to leave it, for
// patience at most.
func (a *metricsAddress) listen(ctx context.Context, patience time.Duration) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		l, err := a.open(ctx)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, a.located(err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, a.located(errors.New("it is in use; give each plugin an address of its own"))
		}
	}
}

func (a *metricsAddress) located(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--metrics %s: %w", a, err)
}

// open listens. Of a socket, who has the lock beside it is the only plugin that
// removes and makes it: a killed one left what nobody answers on.
func (a *metricsAddress) open(ctx context.Context) (net.Listener, error) {
	// Not the loop's context, whose end is no reason to be told.
	ctx = context.WithoutCancel(ctx)
	if a.network != "unix" {
		return new(net.ListenConfig).Listen(ctx, a.network, a.address)
	}
	if err := checkPrivate(filepath.Dir(a.address)); err != nil {
		return nil, err
	}
	lock, err := lockFile(a.address + ".lock")
	if err != nil {
		return nil, err
	}
	l, err := a.bind(ctx)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return locked{l, lock}, nil
}

// bind makes the socket. The umask of the plugin keeps others out of it.
func (a *metricsAddress) bind(ctx context.Context) (net.Listener, error) {
	if info, err := os.Lstat(a.address); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("there is a file that is no socket; name another path")
	}
	// What another program answers on stays: it takes no such lock.
	conn, err := new(net.Dialer).DialContext(ctx, a.network, a.address)
	switch {
	case err == nil:
		_ = conn.Close()
		return nil, syscall.EADDRINUSE
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(a.address); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, a.network, a.address)
	if errors.Is(err, syscall.EINVAL) {
		return nil, errors.New("the path is too long for a unix socket; name a shorter one")
	}
	return l, err
}

// locked is a listener with the lock that is its own while it is open.
type locked struct {
	net.Listener
	lock io.Closer
}

func (l locked) Close() error { return errors.Join(l.Listener.Close(), l.lock.Close()) }

// limited is a listener that takes so many connections at once; the others wait
// in the kernel, and take no descriptor of the plugin.
type limited struct {
	net.Listener
	slots chan struct{}
	ended chan struct{}
	end   func()
}

func limit(l net.Listener, most int) limited {
	ended := make(chan struct{})
	return limited{l, make(chan struct{}, most), ended, sync.OnceFunc(func() { close(ended) })}
}

// Accept implements net.Listener.
func (l limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.ended:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	free := sync.OnceFunc(func() { <-l.slots })
	if err != nil {
		free()
		return nil, err
	}
	return counting{conn, free}, nil
}

// Close implements net.Listener.
func (l limited) Close() error {
	l.end()
	return l.Listener.Close()
}

// counting is a connection that has a slot until it is closed.
type counting struct {
	net.Conn
	free func()
}

func (c counting) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// serve answers at l until end. It takes maxReaders at once, each for one
// request, so that nobody who may connect takes the descriptors that fetches need.
func (m *meter) serve(l net.Listener) (end func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textFormat)
		_, _ = w.Write(m.text())
	})
	server := &http.Server{
		Handler: mux, ErrorLog: log.New(io.Discard, "", 0), MaxHeaderBytes: 16 << 10,
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
	}
	server.SetKeepAlivesEnabled(false)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(limit(l, maxReaders))
	}()
	return func() {
		_ = server.Close()
		<-ended
	}
}
