package plugin

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// drain is how long Serve waits for fetches to clean up after the host said
// goodbye. The host kills the process 2 s after that.
const drain = 1500 * time.Millisecond

// ServeConfig configures Serve. All fields are needed.
type ServeConfig struct {
	Fetcher Fetcher
	Version string // semver of the executable
	Commit  string
	// Logger writes to the process' original stderr, and nothing else may: Serve
	// replaces os.Stdout and os.Stderr by pipes that a host need not read.
	Logger hclog.Logger
}

// Serve answers the host that launched this process, until the host says
// goodbye or ctx ends; then it waits, up to 1.5 s, for fetches to clean up. The
// caller has checked that a host launched it.
func Serve(ctx context.Context, config ServeConfig) {
	s := newServer(config)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: set(s),
		Logger:           config.Logger,
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			g := grpc.NewServer(s.options(options)...)
			context.AfterFunc(ctx, g.Stop)
			return g
		},
	})
	ended := make(chan struct{})
	go func() {
		s.live.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(drain):
	}
}

// options adds to go-plugin's own. Not grpc.WaitForHandlers: with it go-plugin's
// Shutdown waits for itself.
func (s *server) options(options []grpc.ServerOption) []grpc.ServerOption {
	return append(options,
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
			defer s.recovered(info.FullMethod, &err)
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
			defer s.recovered(info.FullMethod, &err)
			return handle(srv, stream)
		}),
	)
}

// recovered turns a panic of one call into that call's error: gRPC itself would
// end the process, and all other fetches with it.
func (s *server) recovered(method string, err *error) {
	p := recover()
	if p == nil {
		return
	}
	s.logger.Error("panic", "method", method, "panic", p, "stack", string(debug.Stack()))
	*err = toStatus(&fetcher.Error{Reason: fetcher.Panicked, Text: "internal error in " + method + "; the plugin's log has the details, please report them"})
}
