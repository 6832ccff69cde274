package plugin

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

// options adds to go-plugin's own. Not grpc.WaitForHandlers: with it go-plugin's
// Shutdown waits for itself.
func (s *server) options(options []grpc.ServerOption) []grpc.ServerOption {
	return append(options,
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.streaming),
	)
}

// ours reports whether a method is the fetcher's: go-plugin serves its own
// services beside it, whose streams last as long as the process.
func ours(method string) bool {
	return strings.HasPrefix(method, "/"+pb.FetcherService_ServiceDesc.ServiceName+"/")
}

func (s *server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	if !ours(info.FullMethod) {
		return handle(ctx, req)
	}
	err = s.around(ctx, info.FullMethod, func(ctx context.Context) error {
		s.arrived(ctx, info.FullMethod, req)
		resp, err = handle(ctx, req)
		return err
	})
	return resp, err
}

func (s *server) streaming(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if !ours(info.FullMethod) {
		return handle(srv, stream)
	}
	return s.around(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		return handle(srv, &logged{stream, ctx, s, info.FullMethod})
	})
}

// logged is a stream whose request is logged when it comes.
type logged struct {
	grpc.ServerStream
	ctx    context.Context
	server *server
	method string
}

// Context implements grpc.ServerStream.
func (l *logged) Context() context.Context { return l.ctx }

// RecvMsg implements grpc.ServerStream.
func (l *logged) RecvMsg(m any) error {
	err := l.ServerStream.RecvMsg(m)
	if err == nil {
		l.server.arrived(l.ctx, l.method, m)
	}
	return err
}

// around is what each call of the service goes through: it is admitted, or
// refused while the plugin shuts down; its end is logged; its panic is its own
// failure. gRPC would end the process for it, and all other fetches with it.
func (s *server) around(ctx context.Context, method string, handle func(context.Context) error) (err error) {
	if method != pb.FetcherService_GetInfo_FullMethodName { // which never fails
		var leave func()
		if ctx, leave, err = s.calls.enter(ctx); err != nil {
			return err
		}
		defer leave()
	}
	begin, ctx := time.Now(), identified(ctx)
	defer func() {
		if p := recover(); p != nil {
			s.log(ctx).Error("panic", "method", method, "panic", p, "stack", string(debug.Stack()))
			err = toStatus(&fetcher.Error{
				Reason: fetcher.Panicked,
				Text:   "internal error in " + method + "; the plugin's log has the details, please report them",
			})
		}
		if err != nil && errors.Is(context.Cause(ctx), errShuttingDown) {
			err = shuttingDown()
		}
		s.log(ctx).Debug("answered", "method", method, "code", status.Code(err).String(), "elapsed", time.Since(begin).String())
	}()
	return handle(ctx)
}

// idKey finds the request_id of a call in its context. The host's own is known
// only once the request has come.
type idKey struct{}

// identified gives a call a request_id of this plugin's making.
func identified(ctx context.Context) context.Context {
	id := strings.ToLower(rand.Text()[:8])
	return context.WithValue(ctx, idKey{}, &id)
}

// log returns the logger for what is said of a call: each line has its request_id.
func (s *server) log(ctx context.Context) hclog.Logger {
	if id, ok := ctx.Value(idKey{}).(*string); ok {
		return s.logger.With("request_id", *id)
	}
	return s.logger
}

// arrived takes the request_id of the host. Where that gave none, the request gets
// the one that was made, so that the error and the log tell of the same call.
func (s *server) arrived(ctx context.Context, method string, req any) {
	fetch, ok := req.(*pb.FetchRequest)
	if sync, is := req.(*pb.FetchSyncRequest); is && sync.GetFetch() != nil {
		fetch, ok = sync.GetFetch(), true
	}
	if id, known := ctx.Value(idKey{}).(*string); ok && known {
		*id = cmp.Or(fetch.GetRequestId(), *id)
		fetch.RequestId = *id
	}
	s.logRequest(ctx, method, req)
}

// logRequest logs a request without what is secret in it.
func (s *server) logRequest(ctx context.Context, method string, req any) {
	if m, ok := req.(proto.Message); ok && s.logger.IsDebug() {
		s.log(ctx).Debug("called", "method", method, "request", shortened(redacted(m)))
	}
}

// redacted is the JSON form of m without the fields that fetcher.proto marks as
// secret, and without those that this version does not know.
func redacted(m proto.Message) string {
	m = proto.Clone(m)
	redact(m.ProtoReflect())
	text, err := protojson.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func redact(m protoreflect.Message) {
	m.SetUnknown(nil)
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case secret(field):
			m.Clear(field)
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				redact(value.List().Get(i).Message())
			}
		default:
			redact(value.Message())
		}
		return true
	})
}

// secret reports whether fetcher.proto marks the field.
func secret(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options != nil && proto.GetExtension(options, pb.E_Secret).(bool)
}
