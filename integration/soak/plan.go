package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// fault is what a door does to the connections through it, for a while.
type fault struct {
	Kind       string           // a toxic of toxiproxy, or down
	Stream     string           // of a toxic: upstream or downstream
	Toxicity   float32          // of a toxic: the share of connections that it meets
	Attributes map[string]int64 // of a toxic, in its own units
	Lasts      time.Duration
	Rest       time.Duration // how long the door is well afterwards
}

// down is the fault of a door that refuses connections.
const down = "down"

// faults are the kinds, each with what it draws.
var faults = []struct {
	kind string
	draw func(*rand.Rand) map[string]int64
}{
	{"latency", func(r *rand.Rand) map[string]int64 { // ms
		latency := spread(r, 5, 1500)
		return map[string]int64{"latency": latency, "jitter": latency / 2}
	}},
	{"bandwidth", func(r *rand.Rand) map[string]int64 { return map[string]int64{"rate": spread(r, 16, 8192)} }},          // kB/s
	{"slow_close", func(r *rand.Rand) map[string]int64 { return map[string]int64{"delay": spread(r, 50, 3000)} }},        // ms
	{"timeout", func(r *rand.Rand) map[string]int64 { return map[string]int64{"timeout": r.Int64N(2) * r.Int64N(3e3)} }}, // ms; 0: never
	{"reset_peer", func(r *rand.Rand) map[string]int64 { return map[string]int64{"timeout": r.Int64N(1000)} }},           // ms
	{"slicer", func(r *rand.Rand) map[string]int64 { // bytes, µs
		size := spread(r, 512, 16<<10)
		return map[string]int64{"average_size": size, "size_variation": size / 2, "delay": r.Int64N(200)}
	}},
	{"limit_data", func(r *rand.Rand) map[string]int64 { return map[string]int64{"bytes": spread(r, 1, 8<<20)} }},
	{down, func(*rand.Rand) map[string]int64 { return nil }},
}

// spread draws from least to most, each power as likely as the next.
func spread(r *rand.Rand, least, most float64) int64 {
	return int64(least * math.Exp(r.Float64()*math.Log(most/least)))
}

// pause draws a duration as spread does.
func pause(r *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(spread(r, float64(least), float64(most)))
}

// drawFault draws the next fault of a door. One in six lasts for up to longest:
// fetches that meet it fail. The others pass while a fetch goes on.
func drawFault(r *rand.Rand, longest time.Duration) fault {
	chosen := faults[r.IntN(len(faults))]
	f := fault{Kind: chosen.kind, Attributes: chosen.draw(r)}
	passing := min(3*time.Second, longest)
	f.Lasts = pause(r, passing/20, passing)
	if r.IntN(6) == 0 {
		f.Lasts = pause(r, passing, longest)
	}
	f.Rest = pause(r, passing/50, passing)
	if f.Kind != down {
		f.Stream = []string{"downstream", "downstream", "upstream"}[r.IntN(3)]
		f.Toxicity = []float32{1, 0.7, 0.3}[r.IntN(3)]
	}
	return f
}

// caller is who makes a fetch.
type caller string

const (
	command caller = "command" // docker-fetcher fetch URI DIR
	request caller = "request" // docker-fetcher fetch --request -
	hosted  caller = "plugin"  // a call of the long-lived plugin
	apart   caller = "apart"   // calls of it as a provisioner makes them: docker-manifest, then all docker-blob at once
)

// ending is what happens to a fetch in the middle.
type ending string

const (
	undisturbed ending = ""
	killed      ending = "killed"    // SIGKILL to the process
	cancelled   ending = "cancelled" // SIGTERM to the process, or the call is cancelled
)

// errand is one fetch of an image, and perhaps another into the same directory.
type errand struct {
	Image      int
	Door       int
	Redirected bool // from the repository whose blobs are elsewhere
	Caller     caller
	Cached     bool
	Ending     ending
	After      time.Duration // until the ending
	Again      bool          // once more, undisturbed
	Unhindered bool          // no fault is on
}

// drawErrand draws the next fetch. Of the images, the first are drawn most often.
func drawErrand(r *rand.Rand, images, doors int) errand {
	e := errand{
		Image:      min(r.IntN(images), r.IntN(images)),
		Door:       r.IntN(doors),
		Redirected: r.IntN(3) == 0,
		Caller:     []caller{command, request, hosted, hosted, apart}[r.IntN(5)],
		Cached:     r.IntN(2) == 0,
		Again:      r.IntN(3) == 0,
	}
	if r.IntN(4) == 0 {
		e.Ending, e.After = cancelled, pause(r, time.Millisecond, 2*time.Second)
		if e.process() && r.IntN(2) == 0 {
			e.Ending = killed
		}
	}
	return e
}

// process reports whether the fetch has a process of its own.
func (e errand) process() bool { return e.Caller == command || e.Caller == request }

// source returns the random numbers of one part of the soak.
func source(seed uint64, part string, number int) *rand.Rand {
	mixed := uint64(number)
	for _, b := range []byte(part) {
		mixed = mixed*1099511628211 ^ uint64(b)
	}
	return rand.New(rand.NewPCG(seed, mixed))
}
