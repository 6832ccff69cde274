package agent

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// Progress is how far the pull of an image is. The first comes with the
// manifest, the last with the last blob.
type Progress struct {
	Image     scheme.Reference
	Blobs     int   // to fetch: those that the store lacks
	BlobsDone int   // verified
	Bytes     int64 // of the blobs to fetch, as the manifest has it
	BytesDone int64
}

// meter adds up the progress of the blob calls of one pull.
type meter struct {
	observe func(Progress)

	mu      sync.Mutex // also held over observe, so that what it gets is in order
	sum     Progress
	arrived map[digest.Digest]int64
}

// newMeter returns a meter and reports the start; observe may be nil.
func newMeter(image scheme.Reference, missing []ocispec.Descriptor, observe func(Progress)) *meter {
	m := &meter{observe: observe, arrived: map[digest.Digest]int64{}}
	m.sum.Image, m.sum.Blobs = image, len(missing)
	for _, blob := range missing {
		m.sum.Bytes += blob.Size
	}
	if observe != nil {
		observe(m.sum)
	}
	return m
}

// observer returns what to give the call for a blob as its Observe.
func (m *meter) observer(blob ocispec.Descriptor) func(fetcher.Event) {
	if m.observe == nil {
		return nil
	}
	return func(event fetcher.Event) {
		if p, ok := event.(fetcher.Progress); ok {
			m.add(blob.Digest, p.BytesDone, 0)
		}
	}
}

// done reports that the call for a blob succeeded.
func (m *meter) done(blob ocispec.Descriptor) {
	if m.observe != nil {
		m.add(blob.Digest, blob.Size, 1)
	}
}

func (m *meter) add(blob digest.Digest, arrived int64, done int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum.BytesDone += arrived - m.arrived[blob]
	m.arrived[blob] = arrived
	m.sum.BlobsDone += done
	m.observe(m.sum)
}
