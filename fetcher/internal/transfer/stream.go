package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// stream fetches a part over one connection.
func (t *transfer) stream(ctx context.Context, p *part, helper bool) error {
	connection, give := context.WithCancelCause(ctx)
	defer give(nil)
	request, asked := t.request(p)
	opened, err := t.source.Open(connection, request)
	if err != nil {
		return err
	}
	defer opened.Close()
	if err := t.agree(opened, p, asked, helper); err != nil {
		return err
	}
	t.host.answered(opened)

	m := newMeter(connection, give, t.Stall, t.resumable())
	t.host.watch(m)
	defer t.host.unwatch(m)
	defer m.end()
	body := &metered{body: opened, meter: m, host: t.host}
	open := request.Length == 0 || !opened.Ranged // the answer goes on behind the part
	err = skip(body, p.written-opened.Offset)
	if err == nil {
		err = t.move(p, body, open)
	}
	if err != nil {
		return t.failed(ctx, connection, err)
	}
	return ctx.Err()
}

// resumable reports whether to give up a connection costs nothing.
func (t *transfer) resumable() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ranges && !t.alone && t.slow < maxSlow
}

// move reads the part and writes it.
func (t *transfer) move(p *part, body io.Reader, open bool) error {
	if err := t.read(p, body, open); err != nil {
		return err
	}
	return t.end(p, body, open)
}

// read fills block after block until the part is complete or the answer ends.
// What it read is written when it returns, whatever happened.
func (t *transfer) read(p *part, body io.Reader, open bool) (err error) {
	blocks := t.blocks(p)
	defer func() {
		if failed := blocks.close(); failed != nil {
			err = failed
		}
	}()
	for {
		block := blocks.next()
		n := t.claim(p, int64(len(block)), open)
		if n == 0 {
			return nil
		}
		m, err := t.fill(body, block[:n])
		if m > 0 {
			if failed := blocks.put(m); failed != nil {
				return failed
			}
		}
		if err != nil || int64(m) < n {
			return err
		}
	}
}

// claim takes the next bytes of the part, and of what follows it while the
// answer goes on and nobody else has that.
func (t *transfer) claim(p *part, most int64, open bool) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := p.claim(most)
	if n == 0 && open && t.plan.extend(p) {
		n = p.claim(most)
	}
	return n
}

// fill reads until p is full or the body ends, which is no error. Only io.EOF
// itself is an end: a broken connection may have it wrapped in its error.
func (t *transfer) fill(body io.Reader, p []byte) (n int, err error) {
	for n < len(p) {
		m, err := body.Read(p[n:])
		if n += m; m > 0 {
			t.report(int64(m))
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t *transfer) report(n int64) {
	if t.Progress != nil {
		t.reported.Add(n)
		t.Progress(n, t.attempt())
	}
}

// end judges a clean end.
func (t *transfer) end(p *part, body io.Reader, open bool) error {
	t.mu.Lock()
	if t.Size < 0 { // it ends where the server ends it
		t.Size, p.end = p.written, p.written
	}
	size, written, end := t.Size, p.written, p.end
	t.mu.Unlock()
	switch {
	case written < end:
		return fmt.Errorf("the answer ended at byte %d of %d: %w", written, size, io.ErrUnexpectedEOF)
	case open && end == size:
		return over(body, size)
	}
	return nil
}

// over makes sure that nothing follows the last byte, and lets the connection
// see its end, so that it serves again.
func over(body io.Reader, size int64) error {
	var one [1]byte
	for range 100 {
		n, err := body.Read(one[:])
		if n > 0 {
			return &sinkError{fmt.Errorf("%w: more than the %d bytes that the descriptor says", content.ErrSize, size)}
		}
		if err != nil {
			return nil // all bytes are there: how the connection ended does not matter
		}
	}
	return nil
}

// failed says why a connection failed: our caller's context, the sink, the stall
// or the network.
func (t *transfer) failed(ctx, connection context.Context, err error) error {
	var sink *sinkError
	cause := context.Cause(connection)
	switch {
	case errors.As(err, &sink):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(cause, errSlow):
		t.mu.Lock()
		t.slow++
		t.mu.Unlock()
		return &readError{cause}
	case errors.Is(cause, ErrStalled):
		return &readError{cause}
	}
	return &readError{err}
}

// metered counts what a body gives.
type metered struct {
	body  io.Reader
	meter *meter
	host  *Host
}

func (m *metered) Read(p []byte) (int, error) {
	m.meter.reading.Store(true)
	n, err := m.body.Read(p)
	m.meter.reading.Store(false)
	m.meter.received.Add(int64(n))
	m.host.received.Add(int64(n))
	return n, err
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
