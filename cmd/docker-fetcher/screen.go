package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// frameEvery is the time from one picture to the next.
const frameEvery = 100 * time.Millisecond

// screen draws a board at the foot of a terminal, and lines above it. A goroutine
// draws, so that a terminal that takes nothing holds up no fetch.
type screen struct {
	w     *os.File
	paint palette

	mu    sync.Mutex
	board *board
	above bytes.Buffer  // lines that wait for the next picture
	quit  chan struct{} // nil: nobody draws, not yet or no more
	drawn chan struct{} // closed after the last picture
}

// newScreen returns the screen on the terminal w. Nothing is drawn before the
// first event.
func newScreen(w *os.File, name string) *screen {
	return &screen{w: w, paint: painted(w), board: newBoard(name, time.Now())}
}

// Write puts whole lines above the rows.
func (s *screen) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quit == nil {
		return s.w.Write(lines)
	}
	return s.above.Write(lines)
}

// event has the next picture show an event. A warning before the fetch begins
// none: the fetch may never begin.
func (s *screen) event(e fetcher.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.board.event(e, time.Now())
	if _, warns := e.(fetcher.Warning); s.quit == nil && !s.board.over && !warns {
		s.quit, s.drawn = make(chan struct{}), make(chan struct{})
		go s.run(s.quit, s.drawn)
	}
}

// run draws until it is told to quit, or the terminal is gone.
func (s *screen) run(quit, drawn chan struct{}) {
	defer close(drawn)
	ticker := time.NewTicker(frameEvery)
	defer ticker.Stop()
	var c console
	for last := false; !last; {
		select {
		case <-ticker.C:
		case <-quit:
			last = true
		}
		if _, err := s.w.WriteString(s.picture(&c)); err != nil {
			return
		}
	}
}

// picture is what the terminal is sent for the rows of now.
func (s *screen) picture(c *console) string {
	width, height, ok := terminalSize(s.w)
	if !ok || width <= 0 || height <= 0 {
		width, height = 80, 24 // a terminal that does not know
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	above := s.above.String()
	s.above.Reset()
	return c.over(above, s.board.rows(width, height, time.Now(), s.paint), width)
}

// end draws the last picture, which stays, and leaves the cursor below it.
func (s *screen) end() {
	s.mu.Lock()
	s.board.end()
	quit, drawn := s.quit, s.drawn
	s.mu.Unlock()
	if quit == nil {
		return
	}
	close(quit)
	select {
	case <-drawn:
	case <-time.After(letGo): // somebody stopped the terminal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quit = nil
}

// console knows what is on the terminal, to draw each picture over the one
// before, also where the terminal became narrower in between and wrapped that.
type console struct{ drawn []int } // how wide its rows are

// over returns what writes lines, and rows below them, over the rows that are there.
func (c *console) over(above string, rows []string, width int) string {
	back := 0
	for _, drawn := range c.drawn {
		back += max(1, (drawn+width-1)/width)
	}
	var b strings.Builder
	if back > 0 { // the terminal itself may have written ^C: so the return
		fmt.Fprintf(&b, "\r\x1b[%dA\x1b[J", back)
	}
	b.WriteString(above)
	c.drawn = c.drawn[:0]
	for _, row := range rows {
		c.drawn = append(c.drawn, visible(row))
		b.WriteString(row + "\n")
	}
	return b.String()
}
