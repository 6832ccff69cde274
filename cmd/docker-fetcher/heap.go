package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// putOffCollection lets the heap grow to 16 MiB before it is collected for the
// first time, instead of 4; from then on it is collected as ever, so that it
// stays within twice what is in use. Most one-shot commands end before that:
// one collection takes 1.5 of the 30 ms that an image of 120 small layers does.
// The channel is closed when that first time has come. Who sets GOGC has
// decided already; then nothing is done and the channel is nil.
func putOffCollection() (collected <-chan struct{}) {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	done := make(chan struct{})
	usual := debug.SetGCPercent(400) // of the 4 MiB that the runtime begins with
	runtime.AddCleanup(new([64]byte), func(usual int) {
		debug.SetGCPercent(usual)
		close(done)
	}, usual)
	return done
}
