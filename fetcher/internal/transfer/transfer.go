// Package transfer moves one blob from a source to a writer, and goes on where
// it was when a connection fails.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// Source is a blob that can be read from any offset.
type Source interface {
	// Open returns the bytes from offset on, or all of them. Its errors are
	// final: it tried again already where that could help. The end of ctx ends
	// the reads from the content too.
	Open(ctx context.Context, offset int64) (Content, error)
}

// Content is an opened blob.
type Content struct {
	io.ReadCloser
	Offset int64 // of the first byte that Read gives
	Total  int64 // size of the whole blob by the server's word; -1: not said
}

const (
	// bufferSize is large enough that system calls cost little, and small
	// enough that the bytes are still in the processor's cache when hashed.
	bufferSize = 1 << 20
	// maxFailures in a row, without enough progress in between, end a transfer.
	maxFailures = 5
	// enough progress for the count of failures to begin anew: a server that
	// gives a byte and hangs up is not to be asked a million times.
	enough = 1 << 20
	// firstWait comes before the third attempt, and doubles.
	firstWait = 800 * time.Millisecond
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// ErrStalled is a connection on which nothing came for the stall timeout.
var ErrStalled = errors.New("stalled")

// Error is a transfer that failed in the network, after Offset bytes.
type Error struct {
	Offset   int64
	Attempts int
	Err      error
}

func (e *Error) Error() string {
	return fmt.Sprintf("broke off after %d bytes, in %d attempts: %v", e.Offset, e.Attempts, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Options bound a transfer.
type Options struct {
	Size  int64         // of the blob; -1: unknown, then it ends where the server ends it
	Stall time.Duration // the longest wait for a byte; positive
	// Progress is told, with each read, how many bytes arrived; may be nil.
	Progress func(offset int64, attempt int)
}

// Copy writes the whole blob to w, in order, each byte once. It does not verify
// them: that is the part of w. What Open or w return is returned as it is, the
// end of ctx as ctx.Err(), a server that has a blob of another size as
// content.ErrSize; any other failure is an *Error.
func Copy(ctx context.Context, source Source, w io.Writer, o Options) error {
	t := &transfer{source: source, w: w, Options: o}
	for failures := 0; ; {
		t.attempt++
		before := t.offset
		err := t.stream(ctx)
		var broken *readError
		if !errors.As(err, &broken) {
			return err
		}
		if t.offset-before >= enough {
			failures = 0
		}
		if failures++; failures >= maxFailures {
			return &Error{Offset: t.offset, Attempts: t.attempt, Err: broken.error}
		}
		if err := t.wait(ctx, failures); err != nil {
			return err
		}
	}
}

// transfer is the state of one Copy.
type transfer struct {
	Options
	source  Source
	w       io.Writer
	offset  int64 // bytes written
	attempt int
}

// readError marks what came from the network, as opposed to the writer.
type readError struct{ error }

// stream reads one connection to its end.
func (t *transfer) stream(ctx context.Context) error {
	connection, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opened, err := t.source.Open(connection, t.offset)
	if err != nil {
		return err
	}
	defer opened.Close()
	if err := t.agree(opened.Total); err != nil {
		return err
	}
	watch := time.AfterFunc(t.Stall, func() { cancel(ErrStalled) })
	defer watch.Stop()
	body := &watched{opened, watch, t.Stall}

	if err := skip(body, t.offset-opened.Offset); err != nil {
		return t.failed(ctx, connection, err)
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, ended, err := t.fill(body, buffer[:])
		if n > 0 {
			if _, err := t.w.Write(buffer[:n]); err != nil {
				return err
			}
			t.offset += int64(n)
		}
		switch {
		case err != nil:
			return t.failed(ctx, connection, err)
		case ended:
			return t.end()
		}
	}
}

// agree holds the size that a server says against the known one, before bytes
// of another blob come; where none is known, it is that one from then on.
func (t *transfer) agree(total int64) error {
	switch {
	case total < 0:
	case t.Size < 0:
		t.Size = total
	case t.Size != total:
		return fmt.Errorf("%w: the server has %d bytes, expected were %d", content.ErrSize, total, t.Size)
	}
	return nil
}

// report tells how many bytes arrived, n of them not yet written.
func (t *transfer) report(n int) {
	if t.Progress != nil {
		t.Progress(t.offset+int64(n), t.attempt)
	}
}

// end judges a clean end of the body.
func (t *transfer) end() error {
	if t.offset < t.Size {
		return &readError{fmt.Errorf("the answer ended at byte %d of %d: %w", t.offset, t.Size, io.ErrUnexpectedEOF)}
	}
	return nil
}

// failed says why a read failed: our caller's context, the stall or the network.
// Once all bytes are there, it does not matter how the connection ended.
func (t *transfer) failed(ctx, connection context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case t.offset == t.Size:
		return nil
	case errors.Is(context.Cause(connection), ErrStalled):
		return &readError{fmt.Errorf("%w: no byte for %v", ErrStalled, t.Stall)}
	}
	return &readError{err}
}

// wait pauses before the next attempt; the first one follows at once, since a
// connection that broke in the middle says nothing about the server.
func (t *transfer) wait(ctx context.Context, failures int) error {
	if failures <= 1 {
		return ctx.Err()
	}
	pause := firstWait << (failures - 2)
	timer := time.NewTimer(pause/2 + rand.N(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watched lets the watch run while a read waits for bytes, and not while they
// are written.
type watched struct {
	body  io.Reader
	watch *time.Timer
	stall time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.watch.Reset(w.stall)
	defer w.watch.Stop()
	return w.body.Read(p)
}

// fill reads until p is full or the body ends. Only io.EOF itself is an end: a
// broken connection may have it wrapped in its error.
func (t *transfer) fill(body io.Reader, p []byte) (n int, ended bool, err error) {
	for n < len(p) {
		m, err := body.Read(p[n:])
		if n += m; m > 0 {
			t.report(n)
		}
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// skip drops n bytes that a server sent again though it was asked for a range.
func skip(body io.Reader, n int64) error {
	if n < 0 {
		return errors.New("the answer begins after the byte that was asked for")
	}
	_, err := io.CopyN(io.Discard, body, n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
