package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheNearestNameIsWhatWasMeant(t *testing.T) {
	t.Parallel()
	names := []string{"fetch", "resolve", "cache", "chunks-per-blob", "cache-dir", "platform", "progress", "output"}
	for name, want := range map[string]string{
		"fecth": "fetch", "fetc": "fetch", "fetsch": "fetch", "Fetch": "fetch", "cahce": "cache", "reslve": "resolve",
		"chunk-per-blob": "chunks-per-blob", "chunks": "chunks-per-blob", "platfom": "platform", "prog": "progress",
		"": "", "x": "", "pull": "", "registry.example.com/app:1": "", "ca": "", "outptu": "output",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func FuzzDistance(f *testing.F) {
	f.Add("fetch", "fecth")
	f.Add("", "a")
	f.Add("ab", "bca")
	f.Fuzz(func(t *testing.T, a, b string) {
		d := distance(a, b)
		if d != distance(b, a) || d > max(len(a), len(b)) || (d == 0) != (a == b) && len(a) <= 100 && len(b) <= 100 {
			t.Errorf("%q and %q: %d and %d", a, b, d, distance(b, a))
		}
	})
}

func TestVariablesThatAreNearlyFlagsAreWarnedOf(t *testing.T) {
	t.Parallel()
	got := misspelt(newCommand(false), []string{
		"DOCKER_FETCHER_STALL_TIMEOUT=1s", "DOCKER_FETCHER_PLUGIN=x", "DOCKER_FETCHER_CACHEDIR=secret", "DOCKER_FETCHER_ORPHANS=exit",
		"DOCKER_FETCHER_SERVICE_HOST=10.0.0.1", "DOCKER_FETCHER_PORT=tcp://10.0.0.1:80", "DOCKER_FETCHER_=", "DOCKER_FETCHER", "HOME=/",
	})
	want := []string{
		"nothing reads the environment variable DOCKER_FETCHER_CACHEDIR; did you mean DOCKER_FETCHER_CACHE_DIR?",
		"nothing reads the environment variable DOCKER_FETCHER_ORPHANS; did you mean DOCKER_FETCHER_ORPHAN?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
