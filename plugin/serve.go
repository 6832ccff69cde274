package plugin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

const (
	// drain is how long fetches may go on after the process was told to end, and
	// how long their clean-up may take after the host said goodbye. The host kills
	// the process 2 s after that.
	drain = 1500 * time.Millisecond
	// haste is how long the clean-up of cancelled fetches may take once nobody
	// waits for their answers.
	haste = 500 * time.Millisecond
	// farewell is how long the last answers have to be written.
	farewell = 100 * time.Millisecond
)

// ServeConfig configures Serve. Those fields that do not say what happens
// without them are needed.
type ServeConfig struct {
	Fetcher Fetcher
	Version string // semver of the executable
	Commit  string
	// Logger writes to the process' original stderr, and nothing else may: Serve
	// replaces os.Stdout and os.Stderr by pipes that a host need not read.
	Logger hclog.Logger
	// Stay lets the plugin go on when the process that launched it is gone, for
	// hosts that reattach. False: it ends within a second.
	Stay bool
	// Debug serves without a host: it gets the JSON that Config.Reattach and other
	// go-plugin hosts need to attach. Nil: a host launched this process.
	Debug func(reattach []byte)
}

// Serve answers the host that launched this process, until that says goodbye,
// is gone, or ctx ends. Then new calls get SHUTTING_DOWN, those in flight may end
// within 1.5 s if anybody still waits for them, and are cancelled and cleaned
// up after. The caller has checked that a host launched it. An error says that
// the host's certificate is none, or that there could be no socket.
func Serve(ctx context.Context, config ServeConfig) error {
	// go-plugin puts others in their place: nobody holds them then, and they would
	// be closed, and their numbers given to other files.
	defer runtime.KeepAlive([]*os.File{os.Stdout, os.Stderr}) //nolint:forbidigo // see above
	s := newServer(config)
	served := make(chan struct{})
	defer close(served)
	serve := &goplugin.ServeConfig{HandshakeConfig: Handshake, VersionedPlugins: set(s), Logger: config.Logger}
	if config.Debug != nil {
		serve.Test = debugging(served, config.Debug)
	} else if host := os.Getenv(hostCertificate); host != "" {
		half, err := servedTLS(host)
		if err == nil {
			err = announce(half)
		}
		if err != nil {
			return fmt.Errorf("mutual TLS: %w", err)
		}
		serve.TLSProvider = func() (*tls.Config, error) { return half, nil }
	}
	var gone <-chan struct{} // nil: nobody to watch
	if !config.Stay && config.Debug == nil {
		var stop func()
		gone, stop = hostGone()
		defer stop()
	}
	begun, ended := false, make(chan struct{}) // ended: the calls have had their time
	serve.GRPCServer = func(options []grpc.ServerOption) *grpc.Server {
		begun = true
		g := grpc.NewServer(s.options(options)...)
		go func() {
			defer close(ended)
			s.watch(ctx, gone, served, g)
		}()
		return g
	}
	goplugin.Serve(serve)
	if !begun {
		return errors.New("go-plugin did not begin to serve; its own line of log says why")
	}
	s.calls.cancel() // a host that says goodbye has cancelled them with that
	s.calls.wait(drain, ended)
	return nil
}

// watch ends the server when ctx does or when the host is gone, unless it was
// served to the end.
func (s *server) watch(ctx context.Context, gone, served <-chan struct{}, g *grpc.Server) {
	select {
	case <-ctx.Done():
		s.logger.Info("told to end")
		s.calls.close()
		s.calls.wait(drain, gone)
	case <-gone:
		s.logger.Info("the host is gone")
	case <-served:
		return
	}
	s.end(g)
}

// end cancels the calls and ends the server.
func (s *server) end(g *grpc.Server) {
	s.calls.cancel()
	s.calls.wait(haste, nil)
	// GracefulStop writes the last answers, but would wait for go-plugin's own
	// streams for ever, and for a call that does not end, even after Stop.
	time.AfterFunc(farewell, g.Stop)
	go g.GracefulStop()
}

// debugging is go-plugin's way to serve without a host.
func debugging(served <-chan struct{}, tell func([]byte)) *goplugin.ServeTestConfig {
	attach := make(chan *goplugin.ReattachConfig, 1)
	go func() {
		select {
		case a := <-attach:
			line, err := json.Marshal(reattach{a.Protocol, a.ProtocolVersion, a.Pid, a.Test, address{a.Addr.Network(), a.Addr.String()}})
			if err == nil {
				tell(line)
			}
		case <-served:
		}
	}()
	return &goplugin.ServeTestConfig{ReattachConfigCh: attach}
}

// reattach is the JSON form of goplugin.ReattachConfig that hosts of go-plugin
// have in common.
type reattach struct {
	Protocol        goplugin.Protocol
	ProtocolVersion int
	Pid             int
	Test            bool
	Addr            address
}

type address struct{ Network, String string }
