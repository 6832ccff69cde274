package content

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const benchSize = 64 << 20

// BenchmarkWriter writes 64 MiB as a transfer does, a MiB at a time.
func BenchmarkWriter(b *testing.B) {
	buffer := make([]byte, mib)
	part := func(b *testing.B, w *Writer, i int) {
		if _, err := w.WriteAt(buffer, int64(i)*mib); err != nil {
			b.Error(err)
		}
	}
	for _, way := range []struct {
		label string
		write func(b *testing.B, w *Writer)
	}{
		{"in order", func(b *testing.B, w *Writer) {
			for i := range benchSize / mib {
				part(b, w, i)
			}
		}},
		// As from one connection that is read by one while another writes.
		{"in order by 4 that take turns", func(b *testing.B, w *Writer) {
			var turn sync.Mutex
			next := 0
			together(4, func(int) {
				for {
					turn.Lock()
					i := next
					next++
					turn.Unlock()
					if i >= benchSize/mib {
						return
					}
					part(b, w, i)
				}
			})
		}},
		{"in any order by 8", func(b *testing.B, w *Writer) {
			order := rand.New(rand.NewPCG(1, 2)).Perm(benchSize / mib)
			together(8, func(g int) {
				for i := g; i < len(order); i += 8 {
					part(b, w, order[i])
				}
			})
		}},
	} {
		b.Run(way.label, func(b *testing.B) {
			d := open(b, b.TempDir())
			desc := ocispec.Descriptor{Digest: digest.FromBytes(make([]byte, benchSize)), Size: benchSize}
			b.SetBytes(benchSize)
			b.ReportAllocs()
			for b.Loop() {
				w, err := d.Create(name, desc)
				if err != nil {
					b.Fatal(err)
				}
				way.write(b, w)
				if err := w.Commit(); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				free(b, d, name)
			}
		})
	}
}

// together has n goroutines run f, and waits for them.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// BenchmarkWriterSmall writes small blobs in one part each: what a file costs,
// not its bytes.
func BenchmarkWriterSmall(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			d := open(b, b.TempDir())
			data := make([]byte, size)
			desc := of(data)
			var names []string
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				names = append(names, strconv.Itoa(len(names)))
				w, err := d.Create(names[len(names)-1], desc)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.WriteAt(data, 0); err != nil {
					b.Fatal(err)
				}
				if err := w.Commit(); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				if len(names) == 1000 {
					free(b, d, names...)
					names = names[:0]
				}
			}
		})
	}
}

// free makes names free again, off the clock: a fetch seldom replaces a file.
func free(b *testing.B, d *Dir, names ...string) {
	b.StopTimer()
	for _, name := range names {
		if err := d.root.Remove(name); err != nil {
			b.Fatal(err)
		}
	}
	b.StartTimer()
}

func BenchmarkHolds(b *testing.B) {
	d := open(b, b.TempDir())
	data := make([]byte, benchSize)
	desc := of(data)
	if err := d.WriteFile(name, data, desc.Digest); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := d.Holds(b.Context(), name, desc); !ok {
			b.Fatal("the file is not held")
		}
	}
}
