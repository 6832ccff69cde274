package plugin

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// server answers calls with a Fetcher.
type server struct {
	pb.UnimplementedFetcherServiceServer
	fetcher Fetcher
	info    *pb.GetInfoResponse
	logger  hclog.Logger
	calls   *calls
}

func newServer(config ServeConfig) *server {
	return &server{
		fetcher: config.Fetcher, logger: config.Logger, calls: newCalls(),
		info: &pb.GetInfoResponse{
			Name: "docker", Version: config.Version, Commit: config.Commit,
			Schemes:         []string{string(scheme.Image), string(scheme.Manifest), string(scheme.Blob)},
			ProtocolVersion: ProtocolVersion,
			Capabilities: []pb.Capability{
				pb.Capability_CAPABILITY_RESOLVE, pb.Capability_CAPABILITY_MANIFEST_LIST, pb.Capability_CAPABILITY_OCI,
				pb.Capability_CAPABILITY_SCHEMA1, pb.Capability_CAPABILITY_RESUME,
			},
			MaxRequestBytes: maxRequestBytes, Pid: int64(os.Getpid()),
		},
	}
}

// GetInfo implements the service.
func (s *server) GetInfo(ctx context.Context, r *pb.GetInfoRequest) (*pb.GetInfoResponse, error) {
	s.log(ctx).Debug("info", "host", r.GetHostName(), "host_version", r.GetHostVersion())
	return s.info, nil
}

// Resolve implements the service.
func (s *server) Resolve(ctx context.Context, r *pb.ResolveRequest) (*pb.ResolveResponse, error) {
	log := s.log(ctx)
	resolution, err := s.fetcher.Resolve(ctx, fetcher.ResolveRequest{
		URI: fromURI(r.GetUri()), Config: fromConfig(r.GetConfig()), Platform: fromPlatform(r.GetPlatform()),
		Observe: func(e fetcher.Event) { warn(log, e) },
	})
	if err != nil {
		log.Error("resolve failed", "error", err)
		return nil, toStatus(err)
	}
	return toResolution(resolution), nil
}

// Fetch implements the service. Events are sent from the one goroutine that
// observes the fetch, and the result after that has ended.
func (s *server) Fetch(r *pb.FetchRequest, stream grpc.ServerStreamingServer[pb.FetchResponse]) error {
	result, err := s.fetch(stream.Context(), r, func(e fetcher.Event) {
		if m := toEvent(e); m != nil {
			_ = stream.Send(m) // a broken stream ends the context, and with it the fetch
		}
	})
	if err != nil {
		return err
	}
	return stream.Send(&pb.FetchResponse{Event: &pb.FetchResponse_Result{Result: toResult(result)}})
}

// FetchSync implements the service.
func (s *server) FetchSync(ctx context.Context, r *pb.FetchSyncRequest) (*pb.FetchSyncResponse, error) {
	result, err := s.fetch(ctx, cmp.Or(r.GetFetch(), &pb.FetchRequest{}), func(fetcher.Event) {})
	if err != nil {
		return nil, err
	}
	return &pb.FetchSyncResponse{Result: toResult(result)}, nil
}

// fetch is what both calls share.
func (s *server) fetch(ctx context.Context, r *pb.FetchRequest, observe func(fetcher.Event)) (fetcher.Result, error) {
	request, err := requestOf(r)
	if err != nil {
		return fetcher.Result{}, toStatus(err)
	}
	log := s.log(ctx)
	request.Observe = func(e fetcher.Event) {
		warn(log, e)
		observe(e)
	}
	result, err := s.fetcher.Fetch(ctx, request)
	if err != nil {
		log.Error("fetch failed", "error", cmp.Or(context.Cause(ctx), err)) // a shutdown is the cause of a cancel
		if errors.Is(err, fetcher.ErrInternal) {
			log.Error("defect", "cause", errors.Unwrap(err))
		}
		return fetcher.Result{}, toStatus(err)
	}
	// As texts: hosts of go-plugin read JSON's numbers as floats.
	log.Info("fetched", "files", strconv.Itoa(len(result.Files)), "bytes", strconv.FormatInt(result.BytesTransferred, 10),
		"elapsed", result.Elapsed.String())
	return result, nil
}

// warn logs a warning; other events are not for the log.
func warn(log hclog.Logger, e fetcher.Event) {
	if w, ok := e.(fetcher.Warning); ok {
		log.Warn(w.Text)
	}
}
