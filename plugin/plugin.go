// Package plugin carries a fetcher over hashicorp/go-plugin: Serve is the
// executable's half, Open the host's. Both sides have the same Fetch, with the
// same requests, results, events and errors as a fetcher in process.
//
// The wire is protocol/dockerfetcher/v1/fetcher.proto; docs/hosts.md says what a
// host has to do, in Go and in other languages.
package plugin

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

// Handshake is what host and executable have to agree on. It is no secret and
// no security: it tells a launch by a host from one by hand.
var Handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  ProtocolVersion,
	MagicCookieKey:   "DOCKER_FETCHER_PLUGIN",
	MagicCookieValue: "6a2f0c4be1d94d7f8f53a1c97e20b5d8",
}

const (
	// ProtocolVersion is the major version of the protocol package.
	ProtocolVersion = 1
	// Name is the name under which a host dispenses the fetcher.
	Name = "fetcher"
	// maxRequestBytes is what the server takes in one message: gRPC's default.
	// A docker config has kilobytes.
	maxRequestBytes = 4 << 20
)

// Fetcher is what is served. *fetcher.Fetcher and *Client are Fetchers.
type Fetcher interface {
	Fetch(context.Context, fetcher.Request) (fetcher.Result, error)
	Resolve(context.Context, fetcher.ResolveRequest) (fetcher.Resolution, error)
}

var (
	_ Fetcher = (*fetcher.Fetcher)(nil)
	_ Fetcher = (*Client)(nil)
)

// set returns what go-plugin wants to know, for either half.
func set(s *server) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{ProtocolVersion: {Name: &halves{server: s}}}
}

// halves implements goplugin.GRPCPlugin; the host's half has no server.
type halves struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer registers the service.
func (h *halves) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if h.server == nil {
		return errors.New("the host's half can't be served")
	}
	pb.RegisterFetcherServiceServer(s, h.server)
	return nil
}

// GRPCClient returns the connection.
func (h *halves) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
