package fetchertest_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

func TestAGeneratedBlobIsRandomLayerWhateverPartIsRead(t *testing.T) {
	t.Parallel()
	const size = 100_003
	layer := fetchertest.RandomLayer(7, size)
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	digest := r.PutGeneratedBlob("a", 7, size)
	if want := sha256Of(string(layer)); digest != want {
		t.Fatalf("digest %s, want %s", digest, want)
	}
	address := r.URL() + "/v2/a/blobs/" + digest
	if got := c.get(address); got.body != string(layer) || got.length != size {
		t.Errorf("the whole differs: %d bytes", len(got.body))
	}
	for _, part := range [][2]int{{0, 0}, {0, 7}, {1, 7}, {3, 4}, {7, 8}, {5, 21}, {8, 15}, {99_999, size - 1}, {4097, 70_001}} {
		got := c.get(address, "Range", fmt.Sprintf("bytes=%d-%d", part[0], part[1]))
		if got.status != 206 || got.body != string(layer[part[0]:part[1]+1]) {
			t.Errorf("bytes %v differ: %d, %d bytes", part, got.status, len(got.body))
		}
	}
}

func TestRandomLayersDifferBySeedAndAgreeInTheirBeginnings(t *testing.T) {
	t.Parallel()
	one, two := fetchertest.RandomLayer(1, 1000), fetchertest.RandomLayer(2, 1000)
	if bytes.Equal(one, two) || !bytes.Equal(one, fetchertest.RandomLayer(1, 1000)) || !bytes.HasPrefix(one, fetchertest.RandomLayer(1, 13)) {
		t.Error("the layers of seeds 1 and 2 aren't as they should be")
	}
	for i := 8; i+8 <= len(one); i++ {
		if bytes.Contains(two, one[i-8:i]) {
			t.Fatalf("seed 2 repeats seed 1 at %d", i)
		}
	}
	if len(fetchertest.RandomLayer(1, 0)) != 0 {
		t.Error("an empty layer has bytes")
	}
}

func BenchmarkRandomLayer(b *testing.B) {
	b.SetBytes(1 << 20)
	for b.Loop() {
		fetchertest.RandomLayer(1, 1<<20)
	}
}
