package plugin

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
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
				s.logRequest("Fetch", m)
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
