package plugin

import (
	"math"

	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// The functions below translate between messages and values, field by field.
// A message that is not set becomes the zero value.

func fromURI(m *pb.Uri) scheme.URI {
	if m == nil {
		return scheme.URI{}
	}
	return scheme.URI{
		Scheme: m.GetScheme(), User: m.User, Password: m.Password, Host: m.Host,
		Port: m.Port, Path: m.GetPath(), Query: m.Query, Fragment: m.Fragment,
	}
}

func toURI(u scheme.URI) *pb.Uri {
	return &pb.Uri{
		Scheme: u.Scheme, User: u.User, Password: u.Password, Host: u.Host,
		Port: u.Port, Path: u.Path, Query: u.Query, Fragment: u.Fragment,
	}
}

// fromConfig keeps "set but empty" apart from "not set": an empty config is
// broken, none is anonymous.
func fromConfig(m *pb.DockerConfig) fetcher.DockerConfig {
	set := func(b []byte) []byte { return append([]byte{}, b...) }
	switch source := m.GetSource().(type) {
	case *pb.DockerConfig_Json:
		return fetcher.DockerConfig{JSON: set(source.Json)}
	case *pb.DockerConfig_MesosSecret:
		return fetcher.DockerConfig{MesosSecret: set(source.MesosSecret)}
	case *pb.DockerConfig_MesosSecretJson:
		return fetcher.DockerConfig{MesosSecretJSON: set(source.MesosSecretJson)}
	}
	return fetcher.DockerConfig{}
}

func toConfig(c fetcher.DockerConfig) (*pb.DockerConfig, error) {
	var all []*pb.DockerConfig
	if c.JSON != nil {
		all = append(all, &pb.DockerConfig{Source: &pb.DockerConfig_Json{Json: c.JSON}})
	}
	if c.MesosSecret != nil {
		all = append(all, &pb.DockerConfig{Source: &pb.DockerConfig_MesosSecret{MesosSecret: c.MesosSecret}})
	}
	if c.MesosSecretJSON != nil {
		all = append(all, &pb.DockerConfig{Source: &pb.DockerConfig_MesosSecretJson{MesosSecretJson: c.MesosSecretJSON}})
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return nil, &fetcher.Error{
		Reason: fetcher.ConfigInvalid, Phase: fetcher.Prepare,
		Text: "the docker config is given in more than one form; give one",
	}
}

func fromPlatform(m *pb.Platform) *fetcher.Platform {
	if m == nil {
		return nil
	}
	return &fetcher.Platform{OS: m.GetOs(), Architecture: m.GetArchitecture(), Variant: m.GetVariant()}
}

func toPlatform(p *fetcher.Platform) *pb.Platform {
	if p == nil {
		return nil
	}
	return &pb.Platform{Os: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

func fromDescriptor(m *pb.Descriptor) fetcher.Descriptor {
	return fetcher.Descriptor{MediaType: m.GetMediaType(), Digest: digest.Digest(m.GetDigest()), Size: m.GetSize()}
}

func toDescriptor(d fetcher.Descriptor) *pb.Descriptor {
	if d.Digest == "" {
		return nil
	}
	return &pb.Descriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size}
}

func toFile(f fetcher.File) *pb.FetchedFile {
	return &pb.FetchedFile{Path: f.Path, Descriptor_: toDescriptor(f.Descriptor), Reused: f.Reused}
}

func fromFile(m *pb.FetchedFile) fetcher.File {
	return fetcher.File{Path: m.GetPath(), Descriptor: fromDescriptor(m.GetDescriptor_()), Reused: m.GetReused()}
}

func fromRequest(m *pb.FetchRequest) fetcher.Request {
	o := m.GetOptions()
	r := fetcher.Request{
		URI: fromURI(m.GetUri()), Directory: m.GetDirectory(), Config: fromConfig(m.GetConfig()),
		OutputFileName: m.GetOutputFileName(), RequestID: m.GetRequestId(),
		Platform: fromPlatform(o.GetPlatform()), MaxParallel: int(o.GetMaxParallel()),
		StallTimeout: o.GetStallTimeout().AsDuration(), ProgressInterval: o.GetProgressInterval().AsDuration(),
	}
	for _, d := range o.GetSkipDigests() {
		r.SkipDigests = append(r.SkipDigests, digest.Digest(d))
	}
	return r
}

func toRequest(r fetcher.Request) (*pb.FetchRequest, error) {
	config, err := toConfig(r.Config)
	if err != nil {
		return nil, err
	}
	if r.MaxParallel < 0 || r.MaxParallel > math.MaxInt32 {
		return nil, &fetcher.Error{
			Reason: fetcher.OptionInvalid, Phase: fetcher.Prepare,
			Text: "parallelism, stall timeout and progress interval must not be negative",
		}
	}
	m := &pb.FetchRequest{
		Uri: toURI(r.URI), Directory: r.Directory, Config: config, RequestId: r.RequestID,
		Options: &pb.FetchOptions{
			Platform: toPlatform(r.Platform), MaxParallel: count(r.MaxParallel),
			StallTimeout: durationpb.New(r.StallTimeout), ProgressInterval: durationpb.New(r.ProgressInterval),
		},
	}
	if r.OutputFileName != "" {
		m.OutputFileName = &r.OutputFileName
	}
	for _, d := range r.SkipDigests {
		m.Options.SkipDigests = append(m.Options.SkipDigests, d.String())
	}
	return m, nil
}

func toResult(r fetcher.Result) *pb.FetchResult {
	m := &pb.FetchResult{
		Manifest: toDescriptor(r.Manifest), BytesTransferred: r.BytesTransferred,
		Elapsed: durationpb.New(r.Elapsed), FinishedAt: timestamppb.New(r.FinishedAt),
	}
	for _, f := range r.Files {
		m.Files = append(m.Files, toFile(f))
	}
	return m
}

func fromResult(m *pb.FetchResult) fetcher.Result {
	r := fetcher.Result{
		Manifest: fromDescriptor(m.GetManifest()), BytesTransferred: m.GetBytesTransferred(),
		Elapsed: m.GetElapsed().AsDuration(), FinishedAt: m.GetFinishedAt().AsTime(),
	}
	for _, f := range m.GetFiles() {
		r.Files = append(r.Files, fromFile(f))
	}
	return r
}

// toEvent returns nil for an event that stays in the plugin: its log has it.
func toEvent(e fetcher.Event) *pb.FetchResponse {
	switch e := e.(type) {
	case fetcher.Started:
		return &pb.FetchResponse{Event: &pb.FetchResponse_Started{Started: &pb.Started{
			Manifest: toDescriptor(e.Manifest), TotalBytes: e.TotalBytes, TotalFiles: count(e.TotalFiles),
		}}}
	case fetcher.Progress:
		p := &pb.Progress{
			BytesDone: e.BytesDone, TotalBytes: e.TotalBytes,
			FilesDone: count(e.FilesDone), TotalFiles: count(e.TotalFiles),
		}
		for _, b := range e.Active {
			p.Active = append(p.Active, &pb.BlobProgress{
				Digest: b.Digest.String(), Offset: b.Offset, Size: b.Size, Attempt: count(b.Attempt),
			})
		}
		return &pb.FetchResponse{Event: &pb.FetchResponse_Progress{Progress: p}}
	case fetcher.FileDone:
		return &pb.FetchResponse{Event: &pb.FetchResponse_FileDone{FileDone: &pb.FileDone{File: toFile(e.File)}}}
	}
	return nil
}

// fromEvent returns nil for what is no event, such as the result.
func fromEvent(m *pb.FetchResponse) fetcher.Event {
	switch e := m.GetEvent().(type) {
	case *pb.FetchResponse_Started:
		return fetcher.Started{
			Manifest:   fromDescriptor(e.Started.GetManifest()),
			TotalBytes: e.Started.GetTotalBytes(), TotalFiles: int(e.Started.GetTotalFiles()),
		}
	case *pb.FetchResponse_Progress:
		p := fetcher.Progress{
			BytesDone: e.Progress.GetBytesDone(), TotalBytes: e.Progress.GetTotalBytes(),
			FilesDone: int(e.Progress.GetFilesDone()), TotalFiles: int(e.Progress.GetTotalFiles()),
		}
		for _, b := range e.Progress.GetActive() {
			p.Active = append(p.Active, fetcher.BlobProgress{
				Digest: digest.Digest(b.GetDigest()), Offset: b.GetOffset(), Size: b.GetSize(), Attempt: int(b.GetAttempt()),
			})
		}
		return p
	case *pb.FetchResponse_FileDone:
		return fetcher.FileDone{File: fromFile(e.FileDone.GetFile())}
	}
	return nil
}

// count is for files and attempts, far below what a uint32 holds.
func count(n int) uint32 { return uint32(max(0, n)) }

func toResolution(r fetcher.Resolution) *pb.ResolveResponse {
	m := &pb.ResolveResponse{Manifest: toDescriptor(r.Manifest)}
	if r.Index != nil {
		m.Index = toDescriptor(*r.Index)
	}
	if r.Config != nil {
		m.Config = toDescriptor(*r.Config)
	}
	for _, l := range r.Layers {
		m.Layers = append(m.Layers, toDescriptor(l))
	}
	return m
}

func fromResolution(m *pb.ResolveResponse) fetcher.Resolution {
	optional := func(m *pb.Descriptor) *fetcher.Descriptor {
		if m == nil {
			return nil
		}
		d := fromDescriptor(m)
		return &d
	}
	r := fetcher.Resolution{
		Manifest: fromDescriptor(m.GetManifest()), Index: optional(m.GetIndex()), Config: optional(m.GetConfig()),
	}
	for _, l := range m.GetLayers() {
		r.Layers = append(r.Layers, fromDescriptor(l))
	}
	return r
}
