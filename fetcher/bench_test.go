package fetcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// The registry runs in the same process: its time and its allocations are in the
// figures. Where it holds connections to a rate, it allocates as much as it sends.

// BenchmarkColdFetch fetches an image that is nowhere yet over loopback.
func BenchmarkColdFetch(b *testing.B) {
	for _, image := range []struct{ layers, size int }{{4, 4 * mebibyte}, {100, 16 * kibibyte}} {
		b.Run(fmt.Sprintf("%d layers of %d KiB", image.layers, image.size/kibibyte), func(b *testing.B) {
			p := newPull(b, setting{layers: randomLayers(image.layers, image.size)})
			p.fetches(b, "latest")
		})
	}
}

// BenchmarkColdFetchCapped fetches a large layer from a registry that gives each
// connection 8 MiB/s.
func BenchmarkColdFetchCapped(b *testing.B) {
	for name, chunks := range map[string]int{"in one stream": 1, "in as many as help": 0} {
		b.Run(name, func(b *testing.B) {
			p := newPull(b, setting{
				registry: fetchertest.Config{Link: fetchertest.Link{ConnectionRate: 8 * mebibyte}},
				fetcher:  fetcher.Config{ChunksPerBlob: chunks},
				layers:   randomLayers(1, 64*mebibyte),
			})
			p.fetches(b, "latest")
		})
	}
}

// BenchmarkWarmFetch fetches an image that the cache has. By tag that is one
// request.
func BenchmarkWarmFetch(b *testing.B) {
	for _, by := range []string{"tag", "digest"} {
		b.Run("by "+by, func(b *testing.B) {
			p := newPull(b, setting{cached: true, layers: randomLayers(10, 64*kibibyte)})
			identifier := "latest"
			if by == "digest" {
				identifier = p.image.ManifestDigest
			}
			p.fetched()
			p.fetches(b, identifier)
			if n := p.registry.Count(fetchertest.Blob); n != 11 {
				b.Errorf("%d requests for blobs, want those of the first fetch", n)
			}
		})
	}
}

func randomLayers(n, size int) (layers [][]byte) {
	for i := range n {
		layers = append(layers, fetchertest.RandomLayer(uint64(i), size))
	}
	return layers
}

// fetches measures fetches of the image, each into a new directory.
func (p *pull) fetches(b *testing.B, identifier string) {
	size := len(p.image.Config)
	for _, layer := range p.layers {
		size += len(layer)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	req := fetcher.Request{URI: p.uri("docker", identifier), Directory: filepath.Join(b.TempDir(), "sandbox")}
	for b.Loop() {
		if _, err := p.fetcher.Fetch(b.Context(), req); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := os.RemoveAll(req.Directory); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
