package transfer_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// TestAWriterHashesWhatStreamsBring has the writer of a file as the sink, and each
// of the ways in which its bytes are hashed: by the stream, by a goroutine beside
// it, and out of order.
func TestAWriterHashesWhatStreamsBring(t *testing.T) {
	t.Parallel()
	dir, err := content.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	for name, test := range map[string]struct {
		host   func() *transfer.Host
		size   int
		answer answer
		pieced bool
	}{
		"a small blob":                         {nearHost, 1000, answer{}, false},
		"a large blob in one stream":           {oneStream, 64 * mebibyte, answer{}, false},
		"a large blob of a far host":           {farHost8, 64 * mebibyte, answer{}, true},
		"a large blob over broken connections": {farHost8, 64 * mebibyte, answer{length: 3 * mebibyte, end: errReset}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &server{blob: layer()[:test.size], answers: []answer{test.answer}}
			desc := ocispec.Descriptor{Digest: digest.FromBytes(s.blob), Size: int64(test.size)}
			w, err := dir.Create(desc.Digest.String(), desc)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			pieced, err := copyFrom(t.Context(), test.host(), s, w)
			if err != nil {
				t.Fatal(err)
			}
			if test.pieced != pieced {
				t.Errorf("pieced is %v, want %v", pieced, test.pieced)
			}
			if err := w.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
}

func oneStream() *transfer.Host { return transfer.NewHost(1) }

// TestAWriterThatIsClosedEndsTheCopy closes it while a blob comes.
func TestAWriterThatIsClosedEndsTheCopy(t *testing.T) {
	t.Parallel()
	dir, err := content.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, host := range map[string]func() *transfer.Host{"near": nearHost, "far": farHost8} {
		t.Run(name, func(t *testing.T) {
			s := &server{blob: layer()}
			desc := ocispec.Descriptor{Digest: digest.FromBytes(s.blob), Size: int64(len(s.blob))}
			w, err := dir.Create(desc.Digest.String(), desc)
			if err != nil {
				t.Fatal(err)
			}
			s.choose = func(connection int, _ transfer.Request) answer {
				if connection == 0 {
					return answer{length: 10 * mebibyte, end: errReset}
				}
				_ = w.Close()
				return answer{}
			}
			_, err = copyFrom(t.Context(), host(), s, w)
			var local *content.LocalError
			if !errors.As(err, &local) || !errors.Is(err, fs.ErrClosed) {
				t.Errorf("got %v, want the writer's %v", err, fs.ErrClosed)
			}
		})
	}
}
