// Package fetcher fetches what a docker, docker-manifest or docker-blob URI
// names into a directory, verified.
//
// Around it: scheme says what a URI means; plugin offers the same Fetch over a
// process boundary. Below it: internal/credential finds the credential,
// internal/registry speaks to the registry with the help of internal/auth,
// internal/manifest reads manifests, internal/transfer moves blobs and
// internal/content owns the directory.
package fetcher

import (
	"fmt"
	"net/http"
	"time"

	"github.com/containerd/platforms"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// The defaults of Config.
const (
	DefaultMaxConcurrentBlobs = transfer.DefaultStreams
	DefaultStallTimeout       = time.Minute
)

// Config configures a Fetcher. The zero value works.
type Config struct {
	// DefaultDockerConfig is a docker config.json for all calls. The config of
	// a call goes before it, per registry. It is the operator's: it may name
	// credential helpers, which are run; those that a call's config names are
	// not, since a tenant does not choose what runs on the node. Nil: none.
	DefaultDockerConfig []byte
	// Platform is chosen from an index when a request names none. Nil: that of
	// this machine.
	Platform *Platform
	// MaxConcurrentBlobs bounds the blobs of one fetch that are transferred at
	// once; how many really are, the fetcher decides by what the network gives.
	// 0: DefaultMaxConcurrentBlobs.
	MaxConcurrentBlobs int
	// ChunksPerBlob bounds the parts of one blob that are transferred at once.
	// 1: whole blobs only. 0: as many as make it faster.
	ChunksPerBlob int
	// CacheDir is the directory of the cache that all fetchers of this machine
	// may share: each registry's apart. It belongs to the user that runs them,
	// alone. Empty: no cache.
	CacheDir string
	// HostsDir is a directory in containerd's form (docs/hosts.md there): for a
	// registry HOST[:PORT], HOST[:PORT]/hosts.toml says which mirrors to ask first,
	// and with which certificates. Empty: none.
	HostsDir string
	// StallTimeout is how long a transfer may stand still. 0: DefaultStallTimeout.
	StallTimeout time.Duration
	// Transport sends the requests to registries and token servers. It must
	// neither follow redirects nor decompress. Of an *http.Transport a clone is
	// made that refuses to connect to internal addresses, for where a public
	// registry leads to; any other must see to that itself, and
	// has nothing of the certificates in HostsDir. Nil: HTTP/1.1 with
	// the proxies of the environment and the system's roots.
	Transport http.RoundTripper
	// UserAgent is sent with each request. Empty: "docker-fetcher".
	UserAgent string
}

// Fetcher fetches. It keeps connections and tokens from one call to the next,
// apart for each credential. Safe for concurrent use.
type Fetcher struct {
	config   Config
	defaults *credential.Set
	helpers  credential.Helpers // that defaults names
	client   *registry.Client
	caches   *content.Caches    // nil: none
	hostsDir *registry.HostsDir // nil: none
	hosts    hosts
	grants   grants
	flights  flights
	room     room
}

// New returns a fetcher, or an *Error for a config that does not hold.
func New(config Config) (*Fetcher, error) {
	f := &Fetcher{config: config, room: newRoom(maxFiles())}
	if config.MaxConcurrentBlobs < 0 || config.ChunksPerBlob < 0 || config.StallTimeout < 0 {
		return nil, invalid(OptionInvalid, "concurrent blobs, chunks per blob and stall timeout must not be negative")
	}
	if config.MaxConcurrentBlobs == 0 {
		f.config.MaxConcurrentBlobs = DefaultMaxConcurrentBlobs
	}
	if config.StallTimeout == 0 {
		f.config.StallTimeout = DefaultStallTimeout
	}
	if config.UserAgent == "" {
		f.config.UserAgent = "docker-fetcher"
	}
	if config.Platform == nil {
		host := platforms.DefaultSpec()
		f.config.Platform = &host
	}
	if config.DefaultDockerConfig != nil {
		set, err := credential.Parse(config.DefaultDockerConfig)
		if err != nil {
			return nil, describe(fmt.Errorf("default docker config: %w", err), Prepare, nil)
		}
		f.defaults = set
	}
	if config.CacheDir != "" {
		caches, err := content.OpenCaches(config.CacheDir)
		if err != nil {
			return nil, describe(fmt.Errorf("cache: %w", err), Prepare, nil)
		}
		f.caches = caches
	}
	if config.HostsDir != "" {
		dir, err := registry.OpenHostsDir(config.HostsDir)
		if err != nil {
			return nil, describe(err, Prepare, nil)
		}
		f.hostsDir = dir
	}
	f.client = registry.New(config.Transport, f.config.UserAgent)
	return f, nil
}
