package main

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// maxBacklog is how many lines of log wait for a reader, and maxLine how many
// bytes of one are kept.
const (
	maxBacklog = 1000
	maxLine    = 32 << 10
)

// backlog is a writer that never waits for its reader: a host that does not read
// the plugin's stderr must not stop it. Lines that find no room are dropped and
// counted. Safe for concurrent use.
type backlog struct {
	lines   chan []byte
	dropped atomic.Int64
	quit    chan struct{}
	written chan struct{} // closed when all that came before quit is written
}

// newBacklog writes to w; each Write is a line.
func newBacklog(w io.Writer) *backlog {
	b := &backlog{lines: make(chan []byte, maxBacklog), quit: make(chan struct{}), written: make(chan struct{})}
	go b.run(w)
	return b
}

func (b *backlog) run(w io.Writer) {
	defer close(b.written)
	for {
		select {
		case line := <-b.lines:
			b.write(w, line)
			continue
		default:
		}
		select {
		case line := <-b.lines:
			b.write(w, line)
		case <-b.quit:
			return
		}
	}
}

func (b *backlog) write(w io.Writer, line []byte) {
	_, _ = w.Write(line)
	if n := b.dropped.Swap(0); n > 0 {
		_, _ = fmt.Fprintf(w, `{"@level":"warn","@message":"lines of log that nobody read in time were dropped","lines":%d}`+"\n", n)
	}
}

// Write implements io.Writer. It takes p, or drops it.
func (b *backlog) Write(p []byte) (int, error) {
	line := bytes.Clone(p)
	if len(line) > maxLine {
		line = append(line[:maxLine-1:maxLine-1], '\n')
	}
	select {
	case b.lines <- line:
	default:
		b.dropped.Add(1)
	}
	return len(p), nil
}

// end waits until all is written, at most for d.
func (b *backlog) end(d time.Duration) {
	close(b.quit)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-b.written:
	case <-timer.C:
	}
}
