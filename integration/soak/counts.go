package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// counts are what came of a soak so far. Safe for concurrent use.
type counts struct {
	mu         sync.Mutex
	fetches    int
	well       int
	bytes      int64          // of files that were there after a fetch, and right
	failed     map[string]int // by reason; killed and cancelled among them
	calls      map[caller]int
	attempts   int // to get a blob, beyond the first
	requests   int
	ranges     int // requests for less than a whole blob
	expiries   int // of tokens and links
	faults     map[string]int
	swept      int              // files taken from the cache
	peak       map[string]int64 // resident bytes, by who had them
	longest    time.Duration
	violations []string
	tooMany    chan struct{} // closed when there are so many violations that it's enough
}

// maxViolations is how many a soak bears before it ends.
const maxViolations = 10

func newCounts() *counts {
	return &counts{
		failed: map[string]int{}, calls: map[caller]int{}, faults: map[string]int{}, peak: map[string]int64{},
		tooMany: make(chan struct{}),
	}
}

// begin forgets the numbers of what came before, but no violation and no peak.
func (c *counts) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := newCounts()
	c.fetches, c.well, c.bytes, c.attempts, c.requests, c.ranges, c.expiries, c.swept, c.longest = 0, 0, 0, 0, 0, 0, 0, 0, 0
	c.failed, c.calls, c.faults = fresh.failed, fresh.calls, fresh.faults
}

func (c *counts) fetched(e errand, o outcome, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetches++
	c.calls[e.Caller]++
	c.bytes += bytes
	c.attempts += o.attempts
	c.longest = max(c.longest, o.took)
	if o.reason == "" {
		c.well++
	} else {
		c.failed[o.reason]++
	}
}

func (c *counts) violation(format string, values ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.violations = append(c.violations, fmt.Sprintf(format, values...))
	if len(c.violations) == maxViolations {
		close(c.tooMany)
	}
}

func (c *counts) fault(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[kind]++
}

func (c *counts) sweep(files int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swept += files
}

func (c *counts) request(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	if r.Header.Get("Range") != "" {
		c.ranges++
	}
}

func (c *counts) expired() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expiries++
}

// leak notes a credential that went to where it does not belong.
func (c *counts) leak(r *http.Request) {
	c.violation("%s %s on %s carries a credential of the registry", r.Method, r.URL.Path, r.Host)
}

func (c *counts) resident(who string, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peak[who] = max(c.peak[who], bytes)
}

// mostResident is what a plugin or process may ever have in memory, in bytes. It
// is measured as the process's own: VmHWM begins anew with the exec.
const mostResident = 64 << 20

// prove wants a fetch that succeeded: a soak without any shows nothing.
func (c *counts) prove() {
	c.mu.Lock()
	well := c.well
	c.mu.Unlock()
	if well == 0 {
		c.violation("no fetch succeeded while there were faults")
	}
}

// weigh holds what processes had in memory to what was promised.
func (c *counts) weigh() {
	c.mu.Lock()
	peak := maps.Clone(c.peak)
	c.mu.Unlock()
	for who, bytes := range peak {
		if bytes > mostResident {
			c.violation("peak RSS of a %s: %d KiB, more than %d", who, bytes>>10, mostResident>>10)
		}
	}
}

// failures returns the violations, as one text; empty where there are none.
func (c *counts) failures() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.violations, "\n")
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf(`%d fetches (%s), %.1f MiB verified: %d succeeded, %d did not (%s), longest %.1f s
    %d requests, %d of a range, %d further attempts seen, %d tokens and links expired in use
    %d faults (%s), %d files taken from the cache; peak RSS in MiB: %s; %d violations`,
		c.fetches, list(c.calls), float64(c.bytes)/(1<<20), c.well, c.fetches-c.well, list(c.failed), c.longest.Seconds(),
		c.requests, c.ranges, c.attempts, c.expiries,
		sum(c.faults), list(c.faults), c.swept, mebibytes(c.peak), len(c.violations))
}

// list returns the numbers with their names, in the order of the names.
func list[K ~string](numbers map[K]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, numbers[name]))
	}
	return strings.Join(parts, ", ")
}

func mebibytes(bytes map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(bytes)) {
		parts = append(parts, fmt.Sprintf("%s %.1f", name, float64(bytes[name])/(1<<20)))
	}
	return strings.Join(parts, ", ")
}

func sum(numbers map[string]int) int {
	total := 0
	for n := range maps.Values(numbers) {
		total += n
	}
	return total
}
