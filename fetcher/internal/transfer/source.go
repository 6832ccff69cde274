package transfer

import (
	"context"
	"io"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// Source is a blob that can be read from any offset.
type Source interface {
	// Open returns the bytes that r asks for, or more of them: a server that
	// ignores ranges gives all, and Content.Offset says so. It may give fewer. Its
	// errors are final: it tried again already where that could help. The end of
	// ctx ends the reads from the content too. Safe for concurrent use.
	Open(ctx context.Context, r Request) (Content, error)
}

// Request says which bytes of a blob are wanted.
type Request struct {
	Offset int64
	Length int64 // 0: to the end of the blob
	// Ranged asks by a range even from 0 to the end, so that the answer tells
	// whether the server knows ranges.
	Ranged bool
}

// Content is an opened blob.
type Content struct {
	io.ReadCloser
	Offset    int64         // of the first byte that Read gives
	Total     int64         // size of the whole blob by the server's word; -1: not said
	Ranged    bool          // answered by 206: the server knows ranges
	Validator string        // strong entity-tag of the whole blob (RFC 9110 section 8.8.3); "" for none
	RoundTrip time.Duration // to the host that serves the bytes, as connecting took; 0: unknown
	Throttled bool          // the host asked for fewer requests (429) before it answered
}

// Sink takes the bytes of a blob, in parts of any order.
type Sink interface {
	// Put writes p from offset on. Its hash is left to be done, which another
	// goroutine may do before p is used again. Parts that don't overlap may be
	// put at the same time.
	Put(p []byte, offset int64) (content.Unhashed, error)
	// Restart forgets all bytes. Nothing is written meanwhile.
	Restart() error
}
