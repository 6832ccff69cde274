package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is a writer's other end: it takes a line when the test asks for one,
// and what it took in all.
type reader struct {
	takes chan struct{}
	taken bytes.Buffer // read after the backlog's end
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.takes
	return r.taken.Write(p)
}

func TestABacklogWritesAllInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{takes: make(chan struct{})}
		close(r.takes)
		b := newBacklog(r)
		var want strings.Builder
		buffer := make([]byte, 0, 100) // a logger uses its own again
		for i := range 3 * maxBacklog {
			buffer = fmt.Appendf(buffer[:0], "line %d\n", i)
			want.Write(buffer)
			if n, err := b.Write(buffer); n != len(buffer) || err != nil {
				t.Fatal(n, err)
			}
			if i%maxBacklog == maxBacklog-1 {
				synctest.Wait() // the reader comes after
			}
		}
		begin := time.Now()
		b.end(time.Minute)
		if took := time.Since(begin); took != 0 {
			t.Errorf("the end took %v", took)
		}
		if r.taken.String() != want.String() {
			t.Errorf("got %d bytes, want %d", r.taken.Len(), want.Len())
		}
	})
}

func TestABacklogKeepsTheOldestLinesAndCountsThoseThatItDrops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{takes: make(chan struct{})}
		b := newBacklog(r)
		begin := time.Now()
		_, _ = b.Write([]byte("line 0\n"))
		synctest.Wait() // it waits for the reader
		for i := range maxBacklog + 5 {
			if n, err := b.Write(fmt.Appendf(nil, "line %d\n", i+1)); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the writer waited %v for the reader", took)
		}
		close(r.takes)
		b.end(time.Minute)
		lines := strings.SplitAfter(r.taken.String(), "\n")
		if len(lines) != maxBacklog+3 { // those kept, that at which it waited, the notice, and nothing after the last
			t.Fatalf("got %d lines", len(lines))
		}
		if want := `{"@level":"warn","@message":"lines of log that nobody read in time were dropped","lines":5}` + "\n"; lines[1] != want {
			t.Errorf("got %q, want %q", lines[1], want)
		}
		if want := fmt.Sprintf("line %d\n", maxBacklog); lines[len(lines)-2] != want {
			t.Errorf("the last one is %q, want %q", lines[len(lines)-2], want)
		}
	})
}

func TestTheEndOfABacklogDoesNotWaitForAReaderThatIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{takes: make(chan struct{})}
		b := newBacklog(r)
		for range 10 {
			_, _ = b.Write([]byte("line\n"))
		}
		begin := time.Now()
		b.end(lastLines)
		if took := time.Since(begin); took != lastLines {
			t.Errorf("it took %v, want %v", took, lastLines)
		}
		for range 2 * maxBacklog { // what is written after the end is lost, and holds nobody up
			_, _ = b.Write([]byte("line\n"))
		}
		close(r.takes)
	})
}

func TestABacklogGoesOnAfterAWriteThatFailed(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	b := newBacklog(w)
	_ = r.Close()
	for range 10 {
		if n, err := b.Write([]byte("line\n")); n != 5 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	b.end(time.Minute)
}

func TestManyWriteToABacklogAtOnce(t *testing.T) {
	t.Parallel()
	r := &reader{takes: make(chan struct{})}
	close(r.takes)
	b := newBacklog(r)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 1000 {
				_, _ = b.Write([]byte("line\n"))
			}
		})
	}
	writers.Wait()
	b.end(time.Minute)
	written, dropped := 0, 0
	for line := range strings.Lines(r.taken.String()) {
		n := 0
		if line == "line\n" {
			written++
		} else if _, err := fmt.Sscanf(line[strings.LastIndex(line, ":")+1:], "%d}", &n); err != nil {
			t.Fatalf("got %q", line)
		}
		dropped += n
	}
	dropped += int(b.dropped.Load()) // since the last line
	if written+dropped != 8000 {
		t.Errorf("%d lines were written and %d dropped, of 8000", written, dropped)
	}
}
