package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// The tests of this file are not parallel: they are about the whole process.

func TestTheFirstCollectionIsPutOffAndLaterOnesAreNot(t *testing.T) {
	t.Setenv("GOGC", "")
	usual := collectionPercent()
	t.Cleanup(func() { debug.SetGCPercent(usual) })
	collected := putOffCollection()
	if got := collectionPercent(); got != 400 {
		t.Errorf("before the first collection the heap may grow by %d%%, want 400", got)
	}
	runtime.GC()
	select {
	case <-collected:
	case <-time.After(10 * time.Second):
		t.Fatal("a collection did not end it")
	}
	if got := collectionPercent(); got != usual {
		t.Errorf("after the first collection the heap may grow by %d%%, want %d", got, usual)
	}
}

func TestTheUsersGOGCStands(t *testing.T) {
	t.Setenv("GOGC", "50")
	usual := collectionPercent()
	if putOffCollection() != nil || collectionPercent() != usual {
		t.Errorf("the heap may grow by %d%%, want %d", collectionPercent(), usual)
	}
}

func collectionPercent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}
