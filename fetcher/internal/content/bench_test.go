package content

import (
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const benchSize = 64 << 20

// BenchmarkWriter writes 64 MiB as a transfer does, a MiB at a time.
func BenchmarkWriter(b *testing.B) {
	d := open(b, b.TempDir())
	buffer := make([]byte, 1<<20)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(make([]byte, benchSize)), Size: benchSize}
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		w, err := d.Create(name, desc)
		if err != nil {
			b.Fatal(err)
		}
		for range benchSize / len(buffer) {
			if _, err := w.Write(buffer); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		free(b, d)
	}
}

// BenchmarkWriterSmall writes a blob of 1 KiB: what a file costs, not its bytes.
func BenchmarkWriterSmall(b *testing.B) {
	d := open(b, b.TempDir())
	data := make([]byte, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		if err := commitAll(d, ways["as the platform does"], data); err != nil {
			b.Fatal(err)
		}
		free(b, d)
	}
}

// free makes the name free again, off the clock: a fetch seldom replaces a file.
func free(b *testing.B, d *Dir) {
	b.StopTimer()
	if err := d.root.Remove(name); err != nil {
		b.Fatal(err)
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
