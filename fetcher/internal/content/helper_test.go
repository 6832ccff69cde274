package content

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const name = "blob"

// open opens a directory until the end of the test.
func open(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// of is the descriptor of data.
func of(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// creator is a way to begin a file.
type creator func(*Dir, ocispec.Descriptor) (*Writer, error)

// ways are those of the platform, and of a file system that knows no file
// without a name.
var ways = map[string]creator{
	"as the platform does": func(d *Dir, desc ocispec.Descriptor) (*Writer, error) { return d.Create(name, desc) },
	"with a hidden name": func(d *Dir, desc ocispec.Descriptor) (*Writer, error) {
		file, temp, err := d.createNamed()
		if err != nil {
			return nil, d.local(err)
		}
		return begin(&place{d, name, temp}, file, desc), nil
	},
}

// eachWay runs f for each of the ways, in an empty directory.
func eachWay(t *testing.T, f func(*testing.T, *Dir, creator)) {
	t.Helper()
	t.Parallel()
	for way, begin := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f(t, open(t, t.TempDir()), begin)
		})
	}
}

// must begins a file and closes it at the end of the test.
func (c creator) must(t *testing.T, d *Dir, desc ocispec.Descriptor) *Writer {
	t.Helper()
	w, err := c(d, desc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// write has w take all of data after what it has.
func write(t *testing.T, w *Writer, data []byte) {
	t.Helper()
	writeAt(t, w, data, w.Contiguous())
}

// writeAt has w take all of data.
func writeAt(t *testing.T, w *Writer, data []byte, offset int64) {
	t.Helper()
	if n, err := w.WriteAt(data, offset); n != len(data) || err != nil {
		t.Fatalf("WriteAt %d: %d of %d bytes, %v", offset, n, len(data), err)
	}
}

// commit commits w and closes it.
func commit(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	shut(t, w)
}

func shut(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// plant makes a file behind the directory's back.
func plant(t *testing.T, d *Dir, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.path, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// holds fails the test unless the directory has these files and nothing else.
func holds(t *testing.T, d *Dir, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(d.path)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(d.path, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files %v (-want +got):\n%s", slices.Sorted(maps.Keys(got)), diff)
	}
}

var empty = map[string]string{}
