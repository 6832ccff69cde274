package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// messages calls f for every message of fetcher.proto.
func messages(f func(protoreflect.MessageDescriptor)) {
	var walk func(protoreflect.MessageDescriptors)
	walk = func(all protoreflect.MessageDescriptors) {
		for i := range all.Len() {
			f(all.Get(i))
			walk(all.Get(i).Messages())
		}
	}
	walk(pb.File_dockerfetcher_v1_fetcher_proto.Messages())
}

func TestEveryFieldThatMayHoldASecretIsMarked(t *testing.T) {
	t.Parallel()
	telling := regexp.MustCompile(`secret|password|token|credential|auth`)
	marked := 0
	messages(func(m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			// All bytes of this contract are docker configs.
			suspect := telling.MatchString(string(f.Name())) || f.Kind() == protoreflect.BytesKind
			if f.Message() == nil && suspect && !secret(f) {
				t.Errorf("%s is not marked as (secret)", f.FullName())
			}
			if secret(f) {
				marked++
			}
		}
	})
	if marked != 4 { // password and the three forms of a config
		t.Errorf("%d fields are marked", marked)
	}
}

func TestALoggedRequestHasNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "kanarienvogel"
	sources := map[string]*pb.DockerConfig{
		"json":              {Source: &pb.DockerConfig_Json{Json: []byte(canary)}},
		"mesos_secret":      {Source: &pb.DockerConfig_MesosSecret{MesosSecret: []byte(canary)}},
		"mesos_secret_json": {Source: &pb.DockerConfig_MesosSecretJson{MesosSecretJson: []byte(canary)}},
	}
	for title, config := range sources {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			fetch := &pb.FetchRequest{
				Uri:    &pb.Uri{Scheme: "docker", Password: proto.String(canary), Path: "team/app"},
				Config: config, RequestId: "task-7",
			}
			unknown := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), canary)
			fetch.ProtoReflect().SetUnknown(unknown)
			fetch.Uri.ProtoReflect().SetUnknown(unknown)
			for _, m := range []proto.Message{
				fetch,
				&pb.FetchSyncRequest{Fetch: fetch},
				&pb.ResolveRequest{Uri: fetch.Uri, Config: config},
			} {
				before := proto.Clone(m)
				var log bytes.Buffer
				s := newServer(ServeConfig{Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: &log})})
				s.logRequest(t.Context(), "Fetch", m)
				if !strings.Contains(log.String(), "team/app") || strings.Contains(log.String(), canary) ||
					strings.Contains(log.String(), "a2FuYXJpZW52b2dlb") { // base64
					t.Errorf("%T: %s", m, &log)
				}
				if !proto.Equal(before, m) {
					t.Errorf("%T was changed", m)
				}
			}
		})
	}
}

// logLine is what a line of log says of a call.
type logLine struct {
	Message   string `json:"@message"`
	RequestID string `json:"request_id"`
}

// served is a client of s, whose log is its own.
func served(t *testing.T, s *server) *Client {
	t.Helper()
	g := grpc.NewServer(s.options(nil)...)
	pb.RegisterFetcherServiceServer(g, s)
	pipe := bufconn.Listen(64 << 10)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///fetcher", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-ended
	})
	c := &child{conn: conn, kill: func() {}}
	if err := c.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &Client{child: c}
}

// Each call alone, so that all lines there are must be its own.
func TestEachLineOfLogOfACallHasItsRequestID(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
	made := regexp.MustCompile(`^[a-z2-7]{8}$`)
	given := regexp.MustCompile(`^task-7$`)
	image := func(t *testing.T, tag, id string) fetcher.Request {
		return fetcher.Request{URI: uri(t, scheme.Image, r, tag), Directory: filepath.Join(short(t), "image"), RequestID: id}
	}
	failed := func(err error, wantID *regexp.Regexp) error {
		var e *fetcher.Error
		if !errors.As(err, &e) || !wantID.MatchString(e.Metadata["request_id"]) {
			return errors.New("the error has not the call's request_id: " + err.Error())
		}
		return nil
	}
	type call struct {
		name    string
		fetcher Fetcher
		call    func(*testing.T, *Client) error
		id      *regexp.Regexp
		lines   []string
	}
	for _, c := range []call{
		{"a fetch with an ID of the host", engine(t), func(t *testing.T, c *Client) error {
			_, err := c.Fetch(t.Context(), image(t, "latest", "task-7"))
			return err
		}, given, []string{"called", "fetched", "answered"}},
		{"a fetch without one", engine(t), func(t *testing.T, c *Client) error {
			_, err := c.Fetch(t.Context(), image(t, "latest", ""))
			return err
		}, made, []string{"called", "fetched", "answered"}},
		{"a fetch that fails", engine(t), func(t *testing.T, c *Client) error {
			_, err := c.Fetch(t.Context(), image(t, "missing", ""))
			return failed(err, made)
		}, made, []string{"called", "fetch failed", "answered"}},
		{"a fetch without streams", engine(t), func(t *testing.T, c *Client) error {
			_, err := synced{c}.Fetch(t.Context(), image(t, "missing", "task-7"))
			return failed(err, given)
		}, given, []string{"called", "fetch failed", "answered"}},
		{"a request without a fetch in it", engine(t), func(t *testing.T, c *Client) error {
			_, err := c.child.service.FetchSync(t.Context(), &pb.FetchSyncRequest{})
			if err = fromStatus(err); !errors.Is(err, fetcher.ErrInvalid) {
				return errors.New("it is no invalid request: " + err.Error())
			}
			return nil
		}, made, []string{"called", "answered"}},
		{"a question for a digest", engine(t), func(t *testing.T, c *Client) error {
			_, err := c.Resolve(t.Context(), fetcher.ResolveRequest{URI: uri(t, scheme.Image, r, "latest")})
			return err
		}, made, []string{"called", "answered"}},
		{"one without an answer", engine(t), func(t *testing.T, c *Client) error {
			if _, err := c.Resolve(t.Context(), fetcher.ResolveRequest{URI: uri(t, scheme.Image, r, "missing")}); err == nil {
				return errors.New("it was found")
			}
			return nil
		}, made, []string{"called", "resolve failed", "answered"}},
		{"a panic", broken{}, func(t *testing.T, c *Client) error {
			if _, err := c.Fetch(t.Context(), image(t, "latest", "task-7")); !errors.Is(err, fetcher.ErrInternal) {
				return err
			}
			return nil
		}, given, []string{"called", "panic", "answered"}},
		{"a question for the plugin's name", engine(t), func(t *testing.T, c *Client) error {
			_, err := c.Info(t.Context())
			return err
		}, made, []string{"called", "info", "answered"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log trace
			client := served(t, newServer(ServeConfig{Fetcher: c.fetcher, Logger: hclog.New(&hclog.LoggerOptions{
				Level: hclog.Trace, Output: &log, JSONFormat: true,
			})}))
			if err := c.call(t, client); err != nil {
				t.Error(err)
			}
			var messages []string
			ids := map[string]bool{}
			for text := range strings.Lines(log.String()) {
				var line logLine
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
				messages, ids[line.RequestID] = append(messages, line.Message), true
				if !c.id.MatchString(line.RequestID) {
					t.Errorf("got %s, want a request_id such as %s", text, c.id)
				}
			}
			if diff := cmp.Diff(c.lines, messages); diff != "" || len(ids) != 1 {
				t.Errorf("got IDs %v and lines (-want +got):\n%s", ids, diff)
			}
		})
	}
}
