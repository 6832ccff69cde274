package fetcher_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

func TestTheSizeOfABlobTakesOneRequestAndNoByte(t *testing.T) {
	t.Parallel()
	blob := fetchertest.RandomLayer(3, 12_345)
	head := fetchertest.Match{Endpoint: fetchertest.Blob, Method: http.MethodHead}
	for title, test := range map[string]struct {
		kind  string
		fault fetchertest.Fault
		size  int64
		err   error
	}{
		"the registry tells":            {"docker-blob", fetchertest.Fault{}, int64(len(blob)), nil},
		"it says nothing to a HEAD":     {"docker-blob", fetchertest.Fault{Match: head, Status: http.StatusMethodNotAllowed}, -1, nil},
		"it has no such blob":           {"docker-blob", fetchertest.Fault{Match: head, Status: http.StatusNotFound}, 0, fetcher.ErrNotFound},
		"a manifest's URI is no blob's": {"docker-manifest", fetchertest.Fault{}, 0, fetcher.ErrInvalid},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			digest := r.PutBlob("team/app", blob)
			if test.fault.Status != 0 {
				r.Inject(test.fault)
			}
			size, err := newFetcher(t, fetcher.Config{}).BlobSize(t.Context(), fetcher.ResolveRequest{URI: uri(t, r, test.kind, "team/app", digest)})
			if size != test.size || !errors.Is(err, test.err) {
				t.Errorf("got %d, %v", size, err)
			}
			for _, q := range r.Requests() {
				if q.Method != http.MethodHead && strings.Contains(q.Path, digest) {
					t.Errorf("%s %s", q.Method, q.Path)
				}
			}
		})
	}
}
