package fetcher

import (
	"context"
	"errors"
	"math"
	"testing"
)

func TestThereIsRoomForAsManyBlobsAsFilesMayBeOpen(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]struct{ blobs, streams int }{
		0: {1, 1}, 12: {1, 1}, 29: {1, 1}, 34: {2, 2}, 64: {8, 8}, 256: {46, 32}, 1024: {200, 32}, math.MaxUint64: {429496724, 32},
	} {
		if r := newRoom(files); cap(r) != want.blobs || r.streams() != want.streams {
			t.Errorf("%d files: %d blobs, %d streams, want %v", files, cap(r), r.streams(), want)
		}
	}
}

func TestACallTakesHalfOfTheRoomAtMost(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]struct{ all, three int }{0: {1, 1}, 34: {1, 1}, 39: {1, 1}, 44: {2, 2}, 64: {4, 3}, 256: {23, 3}, 1024: {32, 3}} {
		f := Fetcher{room: newRoom(files), config: Config{MaxConcurrentBlobs: DefaultMaxConcurrentBlobs, Platform: &Platform{}}}
		for asked, want := range map[int]int{0: want.all, 3: want.three, DefaultMaxConcurrentBlobs: want.all} {
			j := &job{room: f.room}
			if err := j.options(f.config, Request{MaxParallel: asked}); err != nil || j.parallel != want {
				t.Errorf("%d files, %d asked for: %d blobs at once, want %d (%v)", files, asked, j.parallel, want, err)
			}
		}
	}
}

func TestTheWaitForRoomEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRoom(0)
	if err := r.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.leave()
	if err := r.enter(t.Context()); err != nil {
		t.Error(err)
	}
}
