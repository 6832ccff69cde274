//go:build linux

package content

import (
	"os"
	"strconv"
	"testing"
)

// inMemory is a directory on a tmpfs, where there is one, so that a benchmark
// measures us and not a disk, and a test that makes many files is fast.
func inMemory(b testing.TB) string {
	b.Helper()
	path, err := os.MkdirTemp("/dev/shm", "docker-fetcher-bench-")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(path) })
	return path
}

// BenchmarkObtainHit hands out a stored blob: to a name that is free, and to one
// that has it already.
func BenchmarkObtainHit(b *testing.B) {
	path := inMemory(b)
	c, err := OpenCache(path + "/cache")
	if err != nil {
		b.Fatal(err)
	}
	d := open(b, path+"/dir")
	data := make([]byte, 16<<20)
	desc := of(data)
	if w, _, err := c.Obtain(b.Context(), d, name, desc, nil); err != nil || fill(w, data) != nil {
		b.Fatal(err)
	}
	hit := func(b *testing.B, name string) {
		if w, _, err := c.Obtain(b.Context(), d, name, desc, nil); w != nil || err != nil {
			b.Fatal(w, err)
		}
	}
	b.Run("to a free name", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			hit(b, strconv.Itoa(i))
		}
	})
	b.Run("to a free name after a link was removed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hit(b, name)
			if err := os.Remove(path + "/dir/" + name); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("to a name that has it", func(b *testing.B) {
		b.ReportAllocs()
		hit(b, name)
		for b.Loop() {
			hit(b, name)
		}
	})
}

// BenchmarkOpenCache opens a cache that is there: each one-shot command does.
func BenchmarkOpenCache(b *testing.B) {
	path := inMemory(b)
	b.ReportAllocs()
	for b.Loop() {
		c, err := OpenCache(path + "/cache")
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

// BenchmarkObtainMiss stores a blob of 64 KiB, with and without a cache: what it
// adds to a file's cost.
func BenchmarkObtainMiss(b *testing.B) {
	b.Run("with a cache", benchmarkObtainMiss)
	b.Run("without", func(b *testing.B) {
		d := open(b, inMemory(b)+"/dir")
		data := make([]byte, 64<<10)
		desc := of(data)
		b.ReportAllocs()
		for b.Loop() {
			w, err := d.Create(name, desc)
			if err != nil {
				b.Fatal(err)
			}
			if err := fill(w, data); err != nil {
				b.Fatal(err)
			}
			free(b, d)
		}
	})
}

func benchmarkObtainMiss(b *testing.B) {
	path := inMemory(b)
	c, err := OpenCache(path + "/cache")
	if err != nil {
		b.Fatal(err)
	}
	d := open(b, path+"/dir")
	data := make([]byte, 64<<10)
	desc := of(data)
	b.ReportAllocs()
	for b.Loop() {
		w, _, err := c.Obtain(b.Context(), d, name, desc, nil)
		if err != nil || w == nil {
			b.Fatal(w, err)
		}
		if err := fill(w, data); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := c.Prune(b.Context(), Limits{MaxSize: 1}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		free(b, d)
	}
}
