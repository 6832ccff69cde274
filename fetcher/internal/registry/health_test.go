package registry

import (
	"testing"
	"time"
)

func TestAMirrorThatIsDownIsLeftAloneLongerEachTimeAndOneFindsOut(t *testing.T) {
	t.Parallel()
	var h health
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	host := &Host{}
	is := func(want standing, when string) {
		t.Helper()
		if got, _ := h.standing(host, now); got != want {
			t.Fatalf("%s: %v, want %v", when, got, want)
		}
	}
	is(fine, "a host that nobody knows")
	if !h.silent(host, "dial", now, false, false) || h.silent(host, "another that was under way", now, false, false) {
		t.Error("the news is told not just once")
	}
	if said, down := h.down(host); !down || said != "dial" {
		t.Errorf("it is down: %v, since %q", down, said)
	}
	for _, rest := range []time.Duration{5, 10, 20, 40, 80, 120, 120} {
		rest *= time.Second
		now = now.Add(rest - 1)
		is(resting, "shortly before "+rest.String())
		now = now.Add(1)
		is(unknown, "after "+rest.String())
		is(resting, "while somebody finds out")
		if h.silent(host, "still", now, false, true) {
			t.Error("that it is still down is no news")
		}
	}
	now = now.Add(longestRest)
	is(unknown, "in the end")
	now = now.Add(2 * probeTime)
	is(unknown, "when who was to find out did not come back")
	h.try(host, now.Add(time.Minute))
	if _, down := h.down(host); down {
		t.Error("who tries it takes it for down")
	}
	is(resting, "for others, while one tries it")
	if h.silent(host, "hangs", now, true, false) {
		t.Error("that it still hangs is no news")
	}
	now = now.Add(longestRest - 1)
	is(resting, "a host that is alive and hangs is forgotten too soon")
	now = now.Add(1)
	is(unknown, "after that")
	h.try(host, now.Add(time.Minute))
	h.answered(host, false, now)
	is(unknown, "one that failed at a blob and has served a manifest")
	h.answered(host, true, now)
	is(fine, "a host that answered")
	is(fine, "for all")
}
