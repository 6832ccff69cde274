package content

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// model is what a writer is held to: the first bytes that come to a place stay.
type model struct {
	bytes   []byte
	written []bool
}

func (m *model) write(part []byte, offset int) {
	for i, b := range part {
		at := offset + i
		for at >= len(m.bytes) {
			m.bytes, m.written = append(m.bytes, 0), append(m.written, false)
		}
		if !m.written[at] {
			m.bytes[at], m.written[at] = b, true
		}
	}
}

func (m *model) size() (n int64) {
	for _, w := range m.written {
		if w {
			n++
		}
	}
	return n
}

func (m *model) contiguous() int64 {
	for i, w := range m.written {
		if !w {
			return int64(i)
		}
	}
	return int64(len(m.written))
}

// commits returns what a Commit says.
func (m *model) commits(desc ocispec.Descriptor) error {
	switch {
	case desc.Size >= 0 && m.size() != desc.Size, m.contiguous() != m.size():
		return ErrSize
	case digest.FromBytes(m.bytes) != desc.Digest:
		return ErrDigest
	}
	return nil
}

// FuzzWriter writes parts of data anywhere, some of them wrong, restarts and
// commits in between, and holds the writer to the model: what it takes, what it
// refuses, and what the name has afterwards. more is how much larger than data
// the descriptor says it is; three bytes of steps are what to do, where, and
// with how many bytes.
func FuzzWriter(f *testing.F) {
	const write, wrong, restart, commit = 0, 1, 2, 3
	f.Add([]byte("data"), []byte{write, 0, 1, write, 1, 3}, int8(0), false)
	f.Add([]byte("data"), []byte{write, 0, 2, write, 2, 2}, int8(-1), false)
	f.Add([]byte("data"), []byte{write, 0, 9}, int8(1), true)
	f.Add([]byte("data"), []byte{write, 2, 2, write, 0, 2}, int8(0), true)
	f.Add([]byte("data"), []byte{write, 2, 2, commit, 0, 0, write, 0, 3}, int8(0), true)
	f.Add([]byte("data"), []byte{wrong, 2, 2, write, 0, 4, commit, 0, 0, restart, 0, 0, write, 0, 4}, int8(0), false)
	f.Add([]byte("data"), []byte{wrong, 0, 9, restart, 0, 0, write, 0, 4}, int8(0), true)
	f.Add([]byte("long data"), []byte{write, 0, 2, write, 4, 2, write, 7, 2, write, 1, 6, write, 6, 2}, int8(0), false)
	f.Add([]byte(""), []byte{}, int8(0), false)
	f.Fuzz(func(t *testing.T, data, steps []byte, more int8, unknown bool) {
		d := open(t, t.TempDir())
		desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: max(0, int64(len(data))+int64(more))}
		if unknown {
			desc.Size = -1
		}
		for way, begin := range ways {
			plant(t, d, []byte("old"))
			w := begin.must(t, d, desc)
			var m model
			for rest := steps; len(rest) >= 3; rest = rest[3:] {
				offset := int(rest[1])
				part := make([]byte, rest[2])
				if offset < len(data) {
					copy(part, data[offset:])
				}
				switch rest[0] % 4 {
				case wrong:
					for i := range part {
						part[i] ^= rest[0]
					}
					fallthrough
				case write:
					fits := unknown || int64(offset+len(part)) <= desc.Size
					n, err := w.WriteAt(part, int64(offset))
					switch {
					case fits && (n != len(part) || err != nil):
						t.Fatalf("%s: a write that fits: %d of %d, %v", way, n, len(part), err)
					case !fits && (n != 0 || !errors.Is(err, ErrSize)):
						t.Fatalf("%s: a write that does not fit: %d, %v", way, n, err)
					case fits:
						m.write(part, offset)
					}
				case restart:
					if err := w.Restart(); err != nil {
						t.Fatalf("%s: Restart: %v", way, err)
					}
					m = model{}
				case commit:
					if want := m.commits(desc); want != nil {
						if err := w.Commit(); !errors.Is(err, want) {
							t.Fatalf("%s: Commit: got %v, want %v", way, err, want)
						}
					} else if err := w.Verify(t.Context()); err != nil {
						t.Fatalf("%s: Verify: %v", way, err)
					}
				}
				if w.Size() != m.size() || w.Contiguous() != m.contiguous() {
					t.Fatalf("%s: Size is %d, Contiguous %d, want %d and %d", way, w.Size(), w.Contiguous(), m.size(), m.contiguous())
				}
			}
			want := m.commits(desc)
			if err := w.Commit(); !errors.Is(err, want) {
				t.Fatalf("%s: Commit: got %v, want %v", way, err, want)
			}
			shut(t, w)
			now := "old"
			if want == nil {
				now = string(m.bytes)
			}
			holds(t, d, map[string]string{name: now})
			if _, ok := d.Holds(t.Context(), name, desc); ok != (want == nil) && string(data) != "old" {
				t.Errorf("%s: Holds says %v", way, ok)
			}
		}
	})
}
