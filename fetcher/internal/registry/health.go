package registry

import (
	"sync"
	"time"
)

// health remembers which mirrors did not answer, so that one that is down costs
// its dial timeout once and not for each request. The zero value is ready.
type health struct {
	mu sync.Mutex
	of map[string]condition
}

// condition is that of a mirror that did not answer.
type condition struct {
	failures int       // in a row
	until    time.Time // when it may be tried again
	probing  bool      // somebody does
}

const (
	// firstRest is how long a mirror is left alone after its first failure; it
	// doubles with each, up to longestRest.
	firstRest, longestRest = 5 * time.Second, 2 * time.Minute
	// probeTime is how long a probe may take before another one is let through:
	// who probed may have been cancelled.
	probeTime = 30 * time.Second
)

// admits reports whether a host may be asked. Of one that was down, one request
// finds out whether it still is; the others go to the next host meanwhile.
func (h *health) admits(host string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, down := h.of[host]
	if !down {
		return true
	}
	if now.Before(c.until) {
		return false
	}
	c.until, c.probing = now.Add(probeTime), true
	h.of[host] = c
	return true
}

// answered forgets that a host was down.
func (h *health) answered(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, host)
}

// silent notes that a host did not answer. Requests that were under way when it
// went down count as one failure. first: it did when it was asked before.
func (h *health) silent(host string, now time.Time) (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.of[host]
	if now.Before(c.until) && !c.probing {
		return false
	}
	rest := min(firstRest<<min(c.failures, 10), longestRest)
	if h.of == nil {
		h.of = map[string]condition{}
	}
	note(h.of, host, condition{failures: c.failures + 1, until: now.Add(rest)})
	return c.failures == 0
}
