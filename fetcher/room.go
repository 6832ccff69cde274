package fetcher

import (
	"context"
	"math"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

const (
	// filesApart are open whatever is fetched: the process's own, the directories
	// of some calls, and the connections that they ask for manifests by.
	filesApart = 24
	// filesPerBlob are the most that one blob has open: its entry in the cache, the
	// partial and a copy of it; a connection to the registry, and one to where that
	// redirects.
	filesPerBlob = 5
)

// room is for the blobs that all calls of a process have open at once. Who finds
// none waits for another to be done: that is no error, as the lack of file
// descriptors is. It covers neither the directories of more calls than a few, nor
// the connections of blobs in more than one stream or from more than one host:
// those that stay idle are few, and what is lacking then is LOCAL_LIMIT.
type room chan struct{}

// newRoom returns the room in a process that may have so many files open; at
// least one blob has room.
func newRoom(files uint64) room {
	blobs := max(1, (int64(min(files, math.MaxInt32))-filesApart)/filesPerBlob)
	return make(room, blobs)
}

// enter waits for room. Who has entered has to leave.
func (r room) enter(ctx context.Context) error {
	select {
	case r <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r room) leave() { <-r }

// share is how many blobs one call fetches at once that would like so many: half of
// the room at most, so that one that is slow leaves room to others.
func (r room) share(asked int) int { return min(asked, max(1, cap(r)/2)) }

// streams are the most that one host gets.
func (r room) streams() int { return min(transfer.DefaultStreams, cap(r)) }
