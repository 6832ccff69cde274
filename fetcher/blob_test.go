package fetcher

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// TestACancelEndsTheHashOfWhatWasThereBefore has a writer with all bytes, of
// which the last are not hashed: they came ahead of their turn.
func TestACancelEndsTheHashOfWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	const size, first = 16 << 20, 1 << 20
	blob := bytes.Repeat([]byte("layer..."), size/8)
	desc := Descriptor{Digest: digest.FromBytes(blob), Size: size}
	dir, err := content.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	w, err := dir.Create("layer", desc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteAt(blob[first:], first); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(blob[:first], 0); err != nil {
		t.Fatal(err)
	}
	turn, err := transfer.NewHost(1).Group(1).Turn(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	defer turn.End()

	d := download{job: &job{}, desc: desc, w: w}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.copy(ctx, turn, lane{repository: &registry.Repository{}}, transfer.Options{Size: size, Have: size, Stall: time.Minute})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
	if _, ok := dir.Holds(t.Context(), "layer", desc); ok {
		t.Error("the file has its name")
	}
}
