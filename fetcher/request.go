package fetcher

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// Descriptor is the image-spec's descriptor. Size is -1 where the manifest
// does not give it (docker schema 1).
type Descriptor = ocispec.Descriptor

// Platform is the image-spec's platform.
type Platform = ocispec.Platform

// Request is one fetch: what, where to and with whose credentials. The first
// three fields and OutputFileName are the arguments of the original's
// mesos::uri::Fetcher::Plugin::fetch(uri, directory, data, outputFileName).
type Request struct {
	// URI names what to fetch; scheme docker, docker-manifest or docker-blob.
	URI scheme.URI
	// Directory is where the files go; made if missing. Relative paths are
	// taken from the working directory of the process that fetches.
	Directory string
	// Config is the secret data: the docker config with the credentials of this call.
	Config DockerConfig
	// OutputFileName replaces the file's name; docker-manifest and docker-blob
	// only. Empty: "manifest", or the blob's digest.
	OutputFileName string
	// Platform is chosen from an image index; nil: Config.Platform of the fetcher.
	Platform *Platform
	// StallTimeout overrides Config.StallTimeout; 0: it does not.
	StallTimeout time.Duration
	// ProgressInterval is the least time between two Progress events; 0: one second.
	ProgressInterval time.Duration
	// MaxParallel overrides Config.MaxConcurrentBlobs; 0: it does not.
	MaxParallel int
	// SkipDigests are blobs that the caller has already.
	SkipDigests []digest.Digest
	// RequestID appears in logs and in Error.Metadata.
	RequestID string
	// Observe gets the events of this fetch, one at a time; nil: nobody does.
	// A slow Observe never slows the transfer: Progress events are dropped for
	// the latest one. It must return once the fetch's context ends.
	Observe func(Event)
	// Trace has Observe told of each request and decision as well. In a shared
	// download those of the call that began it are told, to its observer. Through
	// a plugin there is no trace.
	Trace bool
}

// DockerConfig is secret: the bytes of a docker config.json (or legacy
// .dockercfg), bare or inside a Mesos Secret. At most one field is set; all
// nil means no config. It prints as [redacted], whatever the verb.
type DockerConfig struct {
	JSON            []byte // config.json as it is
	MesosSecret     []byte // a serialized mesos.v1.Secret of type VALUE
	MesosSecretJSON []byte // the same Secret as JSON
}

// LogValue implements slog.LogValuer.
func (DockerConfig) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Format implements fmt.Formatter, so that no verb shows the bytes.
func (DockerConfig) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[redacted]") }

// MarshalText implements encoding.TextMarshaler, so that no encoder shows the bytes.
func (DockerConfig) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// File is one file that a fetch left in the directory.
type File struct {
	Path       string     // relative to Request.Directory: "manifest", "sha256:..."
	Descriptor Descriptor // what it holds
	Reused     bool       // it was there already, or in the cache, and its digest held
	Cached     bool       // it came from Config.CacheDir; a plugin does not tell
}

// Result is what a fetch did.
type Result struct {
	// Manifest is the image's manifest, after the platform choice; zero for docker-blob.
	Manifest Descriptor
	// Files in the order manifest, index, config, layers; each digest once.
	Files []File
	// BytesTransferred counts what came over the network into files.
	BytesTransferred int64
	Elapsed          time.Duration
	FinishedAt       time.Time
}

// ResolveRequest asks what a docker or docker-manifest URI names.
type ResolveRequest struct {
	URI      scheme.URI
	Config   DockerConfig
	Platform *Platform
	// Observe gets Warning events, as in a Request; nil: nobody does. Through a
	// plugin they go to its log.
	Observe func(Event)
	Trace   bool // as in a Request
}

// Resolution is what a URI names, in digests and sizes.
type Resolution struct {
	Manifest Descriptor
	Index    *Descriptor  // set where the reference named an index or list
	Config   *Descriptor  // nil for docker schema 1
	Layers   []Descriptor // base layer first, duplicates kept
	// Platforms are the manifests that the index offers, in its order, each with
	// its Platform; nil where the reference named a manifest. A plugin does not tell.
	Platforms []Descriptor
}
