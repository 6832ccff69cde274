package registry

import (
	"testing"
	"time"
)

func TestAMirrorThatIsDownIsLeftAloneLongerEachTimeAndProbedByOne(t *testing.T) {
	t.Parallel()
	var h health
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	const host = "https://mirror.example"
	if !h.admits(host, now) {
		t.Fatal("a host that nobody knows is not asked")
	}
	h.silent(host, now)
	h.silent(host, now) // was under way
	for _, rest := range []time.Duration{5, 10, 20, 40, 80, 120, 120} {
		rest *= time.Second
		if h.admits(host, now.Add(rest-1)) {
			t.Fatalf("asked again before %v", rest)
		}
		now = now.Add(rest)
		if !h.admits(host, now) || h.admits(host, now) {
			t.Fatalf("after %v not just one is let through", rest)
		}
		h.silent(host, now)
	}
	now = now.Add(longestRest)
	if !h.admits(host, now) {
		t.Fatal("no probe")
	}
	if now = now.Add(probeTime); !h.admits(host, now) {
		t.Error("a probe that was cancelled keeps the host down for ever")
	}
	h.answered(host)
	for range 2 {
		if !h.admits(host, now) {
			t.Error("a host that answered is not asked by all")
		}
	}
}
