package registry

import (
	"sync"
	"time"
)

// health remembers which mirrors did not answer, so that one that is down costs
// its timeout once and not for each request. The zero value is ready.
type health struct {
	mu sync.Mutex
	of map[*Host]condition
}

// condition is that of a mirror that did not answer.
type condition struct {
	failures int       // in a row
	until    time.Time // when somebody may find out whether it answers again
	said     string    // its last failure
	blob     bool      // it failed at a blob: that it serves anything else tells little
	trial    bool      // it is alive, and somebody asks it for what it failed at
}

const (
	// firstRest is how long a mirror is left alone after its first failure; it
	// doubles with each, up to longestRest.
	firstRest, longestRest = 5 * time.Second, 2 * time.Minute
	// probeTime is how long finding out may take.
	probeTime = 5 * time.Second
)

// standing is what health has to say of a mirror.
type standing int

const (
	fine    standing = iota
	resting          // leave it alone
	unknown          // it was down: the caller, and nobody else, has to find out
)

func (h *health) standing(host *Host, now time.Time) (standing, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, down := h.of[host]
	switch {
	case !down:
		return fine, ""
	case now.Before(c.until):
		return resting, c.said
	}
	c.until = now.Add(2 * probeTime)
	h.of[host] = c
	return unknown, c.said
}

// down reports whether a mirror is known to be down.
func (h *health) down(host *Host) (said string, down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, down := h.of[host]
	return c.said, down && !c.trial
}

// try has the caller, and nobody else until then, ask a mirror that is alive: one
// that answers to GET /v2/ may hang with blobs as before.
func (h *health) try(host *Host, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, down := h.of[host]; down {
		c.trial, c.until = true, until
		h.of[host] = c
	}
}

// answered forgets that a mirror was down. One that failed at a blob has to serve
// a blob for that; the next caller may find out at once.
func (h *health) answered(host *Host, blob bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, down := h.of[host]
	if !down || blob || !c.blob {
		delete(h.of, host)
		return
	}
	if c.trial {
		c.trial, c.until = false, now
		h.of[host] = c
	}
}

// silent notes that a mirror did not answer, and reports whether it did before.
// Requests that were under way when it went down change nothing, unless one was
// to find out.
func (h *health) silent(host *Host, said string, now time.Time, blob, found bool) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, down := h.of[host]
	if down && !found && !c.trial {
		return false
	}
	rest := min(firstRest<<min(c.failures, 10), longestRest)
	if h.of == nil {
		h.of = map[*Host]condition{}
	}
	if len(h.of) >= maxHosts {
		clear(h.of)
	}
	h.of[host] = condition{failures: c.failures + 1, until: now.Add(rest), said: said, blob: blob || c.blob}
	return !down
}
