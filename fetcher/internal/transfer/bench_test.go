package transfer_test

import (
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// zeros gives as much as a TLS record holds with each read.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	p = p[:min(len(p), 16<<10)]
	clear(p)
	return len(p), nil
}

// memory is a source of so many zeros, without a network.
type memory int64

func (m memory) Open(_ context.Context, r transfer.Request) (transfer.Content, error) {
	n := int64(m) - r.Offset
	if r.Length > 0 {
		n = r.Length
	}
	return transfer.Content{
		ReadCloser: io.NopCloser(io.LimitReader(zeros{}, n)),
		Offset:     r.Offset, Total: int64(m), Ranged: r.Ranged || r.Offset > 0 || r.Length > 0,
	}, nil
}

// network is a host with so many streams, and the blobs that come from it.
type network struct {
	name    string
	size    memory
	streams int
	far     bool
}

var networks = []network{
	{"64 KiB", 64 << 10, 1, false},
	{"64 MiB in one stream", 64 << 20, 1, false},
	{"64 MiB in 16 streams", 64 << 20, 16, true},
}

// host returns the network's host with all of its streams.
func (n network) host() *transfer.Host {
	h := transfer.NewHost(n.streams)
	if n.far {
		h.RoundTrip(40 * time.Millisecond)
		h.SetTarget(n.streams)
	}
	return h
}

// copy copies a blob from a host that others may copy from too.
func (n network) copy(ctx context.Context, h *transfer.Host, source transfer.Source, sink transfer.Sink) error {
	turn, err := h.Group(n.streams).Turn(ctx, int64(n.size))
	if err != nil {
		return err
	}
	defer turn.End()
	_, err = turn.Copy(ctx, source, sink, transfer.Options{Size: int64(n.size), Stall: stall})
	return err
}

func BenchmarkCopy(b *testing.B) {
	for _, n := range networks {
		b.Run(n.name, func(b *testing.B) {
			host := n.host()
			b.SetBytes(int64(n.size))
			b.ReportAllocs()
			for b.Loop() {
				if err := n.copy(b.Context(), host, n.size, discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestWhatIsAllocatedGoesByTheConnections holds what BenchmarkCopy shows: blocks
// are pooled, and a byte more costs nothing. It is not parallel, since the counts
// are those of the process.
func TestWhatIsAllocatedGoesByTheConnections(t *testing.T) {
	const runs = 20
	for _, n := range []network{
		{"1 KiB", 1 << 10, 1, false},
		{"16 MiB in one stream", 16 << 20, 1, false},
		{"256 MiB in one stream", 256 << 20, 1, false},
		{"16 MiB in 16 streams", 16 << 20, 16, true},
		{"256 MiB in 16 streams", 256 << 20, 16, true},
	} {
		t.Run(n.name, func(t *testing.T) {
			var connections atomic.Int64
			source := sourceFunc(func(ctx context.Context, r transfer.Request) (transfer.Content, error) {
				connections.Add(1)
				return n.size.Open(ctx, r)
			})
			host := n.host()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				if err := n.copy(t.Context(), host, source, discard); err != nil {
					t.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			opened := uint64(connections.Load())
			count, size := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
			t.Logf("%d copies over %d connections: %d allocations, %d bytes", runs, opened, count, size)
			if count > 30*runs+20*opened {
				t.Errorf("%d allocations for %d copies over %d connections", count, runs, opened)
			}
			// A pool loses some: those of a large blob's one stream, or a part's.
			if most := runs*2<<20 + opened*128<<10; size > most {
				t.Errorf("%d bytes allocated for %d copies over %d connections, want at most %d", size, runs, opened, most)
			}
		})
	}
}

// TestManyPartsTakeTheMemoryOfTheStreamsThatFetchThem looks at the heap in the
// middle of a blob.
func TestManyPartsTakeTheMemoryOfTheStreamsThatFetchThem(t *testing.T) {
	n := network{"512 MiB in 32 streams", 512 << 20, 32, true}
	var writes atomic.Int64
	var before, during uint64
	sink := sinkFunc(func([]byte, int64) error {
		if writes.Add(1) == 1000 {
			during = live()
		}
		return nil
	})
	before = live()
	if err := n.copy(t.Context(), n.host(), n.size, sink); err != nil {
		t.Fatal(err)
	}
	if during == 0 {
		t.Fatalf("there were only %d writes", writes.Load())
	}
	if during > before+12<<20 {
		t.Errorf("the heap grew from %d to %d bytes, want 12 MiB at most: a block for each stream, and a few more", before, during)
	}
	t.Logf("the heap grew from %d to %d bytes", before, during)
}

// live returns the size of the heap without garbage, and without what pools keep.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
