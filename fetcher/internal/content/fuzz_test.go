package content

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FuzzWriter cuts data into writes and holds the writer to a model of a few
// lines: what it takes, what it refuses, and what the name has afterwards. more
// is how much larger than data the descriptor says it is.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("data"), []byte{1, 3}, int8(0), false)
	f.Add([]byte("data"), []byte{2, 2}, int8(-1), false)
	f.Add([]byte("data"), []byte{0, 9}, int8(1), true)
	f.Add([]byte(""), []byte{}, int8(0), false)
	f.Fuzz(func(t *testing.T, data, sizes []byte, more int8, unknown bool) {
		d := open(t, t.TempDir())
		for way, begin := range ways {
			plant(t, d, []byte("old"))
			desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: max(0, int64(len(data))+int64(more))}
			if unknown {
				desc.Size = -1
			}
			w := begin.must(t, d, desc)
			var model []byte
			rest := data
			for _, size := range sizes {
				part := rest[:min(int(size), len(rest))]
				rest = rest[len(part):]
				fits := unknown || int64(len(model)+len(part)) <= desc.Size
				n, err := w.Write(part)
				switch {
				case fits && (n != len(part) || err != nil):
					t.Fatalf("%s: a write that fits: %d of %d, %v", way, n, len(part), err)
				case !fits && (n != 0 || !errors.Is(err, ErrSize)):
					t.Fatalf("%s: a write that does not fit: %d, %v", way, n, err)
				case fits:
					model = append(model, part...)
				}
			}
			var want error
			switch {
			case !unknown && int64(len(model)) != desc.Size:
				want = ErrSize
			case digest.FromBytes(model) != desc.Digest:
				want = ErrDigest
			}
			if err := w.Commit(); !errors.Is(err, want) {
				t.Fatalf("%s: Commit: got %v, want %v", way, err, want)
			}
			shut(t, w)
			if w.Size() != int64(len(model)) {
				t.Errorf("%s: Size is %d, want %d", way, w.Size(), len(model))
			}
			now := "old"
			if want == nil {
				now = string(model)
			}
			holds(t, d, map[string]string{name: now})
			if _, ok := d.Holds(t.Context(), name, desc); ok != (want == nil) && string(data) != "old" {
				t.Errorf("%s: Holds says %v", way, ok)
			}
		}
	})
}
