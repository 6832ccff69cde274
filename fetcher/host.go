package fetcher

import (
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

const (
	maxHosts  = 1000
	maxGrants = 100_000
)

// hosts are the registries that fetches share streams to, by host and port. The
// zero value is ready.
type hosts struct {
	mu sync.Mutex
	of map[string]*transfer.Host
}

func (h *hosts) host(name string, streams int) *transfer.Host {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.of[name]; known != nil {
		return known
	}
	if len(h.of) >= maxHosts {
		maps.DeleteFunc(h.of, func(_ string, host *transfer.Host) bool { return host.Idle() })
	}
	if h.of == nil {
		h.of = map[string]*transfer.Host{}
	}
	host := transfer.NewHost(streams)
	h.of[name] = host
	return host
}

// grants is what registries let whom read: blobs of a manifest that they served.
// So a blob of the cache is handed out to nobody who could not fetch it. The
// zero value is ready.
type grants struct {
	mu  sync.Mutex
	all map[grant]bool
}

// grant is a blob and who may read it, as registry.Repository.Identity names them.
type grant struct {
	reader string
	digest digest.Digest
}

func (g *grants) add(reader string, blobs []Descriptor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil || len(g.all)+len(blobs) > maxGrants {
		g.all = map[grant]bool{}
	}
	for _, b := range blobs {
		if len(b.URLs) > 0 {
			continue // a registry takes such a manifest from who does not have the blob
		}
		g.all[grant{reader, b.Digest}] = true
	}
}

func (g *grants) has(reader string, blob digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[grant{reader, blob}]
}
