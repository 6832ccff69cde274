//go:build unix

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

const mib = 1 << 20

// layer is the digest of a layer that is only spoken of.
func layer(n int) digest.Digest { return digest.FromString(fmt.Sprint("layer ", n)) }

// drama is a fetch of six files, one event after the other, half a second
// apart: one file is cached, one was there, one has to be asked for again, one waits.
func drama() []fetcher.Event {
	active := func(offsets ...int64) (all []fetcher.BlobProgress) {
		for n, offset := range offsets {
			all = append(all, fetcher.BlobProgress{Digest: layer(n), Offset: offset * mib, Size: int64(40+10*n) * mib, Attempt: 1 + n})
		}
		return all
	}
	file := func(path string, d digest.Digest, size int64) fetcher.File {
		return fetcher.File{Path: path, Descriptor: fetcher.Descriptor{Digest: d, Size: size}}
	}
	was, cached := file(layer(8).String(), layer(8), 3*mib), file(layer(9).String(), layer(9), 1500)
	was.Reused = true
	cached.Reused, cached.Cached = true, true
	events := []fetcher.Event{
		fetcher.Entered{Phase: fetcher.Resolve},
		fetcher.Started{TotalBytes: 153*mib + 2000, TotalFiles: 6},
		fetcher.FileDone{File: file("manifest", layer(7), 500)},
		fetcher.FileDone{File: cached},
		fetcher.FileDone{File: was},
	}
	for i := range int64(4) {
		events = append(events, fetcher.Progress{
			BytesDone: 3*mib + 2000 + (12*i+4*i)*mib, TotalBytes: 153*mib + 2000, FilesDone: 3, TotalFiles: 6, Active: active(12*i, 4*i),
		})
	}
	for n := range 3 {
		events = append(events, fetcher.FileDone{File: file(layer(n).String(), layer(n), int64(40+10*n)*mib)})
	}
	return events
}

// played is the board after some events.
func played(events []fetcher.Event) (*board, time.Time) {
	now := time.Unix(1e9, 0)
	b := newBoard("docker.io/library/app:1", now)
	for _, e := range events {
		now = now.Add(time.Second / 2)
		b.event(e, now)
	}
	return b, now
}

func show(rows []string) string { return strings.Join(rows, "\n") + "\n" }

// TestBoardShowsAFetchAtItsStages is held to testdata/bars.txt.
func TestBoardShowsAFetchAtItsStages(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, c := range []struct {
		name          string
		events        int
		width, height int
		over          bool
	}{
		{"before the manifest", 1, 80, 24, false},
		{"when it ends before the manifest", 1, 80, 24, true},
		{"when the manifest is known", 3, 80, 24, false},
		{"in the middle", 9, 100, 24, false},
		{"on a narrower terminal, without the speed", 9, 80, 24, false},
		{"on one that is narrower yet", 9, 60, 24, false},
		{"on one that is very narrow", 9, 40, 24, false},
		{"on one that has no room for anything", 9, 12, 24, false},
		{"on one with few rows, without those that are done", 9, 100, 6, false},
		{"on one with fewer rows than blobs on their way", 9, 100, 4, false},
		{"on one with a single row", 9, 100, 1, false},
		{"when it was interrupted", 9, 100, 24, true},
		{"when it is done", 12, 100, 24, true},
	} {
		b, now := played(drama()[:c.events])
		if c.over {
			b.end()
		}
		rows := b.rows(c.width, c.height, now, false)
		fmt.Fprintf(&all, "-- %s (%d x %d) --\n%s", c.name, c.width, c.height, show(rows))
		for _, row := range rows {
			if visible(row) >= c.width {
				t.Errorf("%s: %q is as wide as the terminal", c.name, row)
			}
		}
		if len(rows) > max(3, c.height) {
			t.Errorf("%s: %d rows", c.name, len(rows))
		}
	}
	golden(t, "testdata/bars.txt", all.String())
}

func TestARetryThatBeginsAnewTakesNothingFromTheTotalSpeed(t *testing.T) {
	t.Parallel()
	b, now := played(drama()[:2])
	for _, offset := range []int64{10, 0, 4} {
		now = now.Add(time.Second)
		b.event(fetcher.Progress{Active: []fetcher.BlobProgress{{Digest: layer(1), Offset: offset, Size: 20, Attempt: 1}}}, now)
	}
	if b.moved != 14 || b.files[0].rate.perSecond() != 4 {
		t.Errorf("%d bytes moved, at %v a second; want 14 and 4", b.moved, b.files[0].rate.perSecond())
	}
}

func TestABlobThatWaitsAgainLeavesTheScreen(t *testing.T) {
	t.Parallel()
	b, now := played(drama()[:9])
	b.event(fetcher.Progress{TotalBytes: 1, TotalFiles: 6}, now)
	if text := show(b.rows(100, 24, now, false)); strings.Contains(text, short(layer(0))) || !strings.Contains(text, "3 waiting") {
		t.Errorf("got %s", text)
	}
}

func TestColoursAreWhatThePaletteHas(t *testing.T) {
	t.Parallel()
	b, now := played(drama()[:9])
	plain, painted := b.rows(100, 24, now, false), b.rows(100, 24, now, true)
	if !strings.Contains(show(painted), "\x1b[32mcached\x1b[0m") || strings.Contains(show(plain), "\x1b") {
		t.Errorf("got %q", painted)
	}
	for i := range painted {
		if diff := cmp.Diff(plain[i], bare(painted[i])); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNumbersAreForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 112: "112th", 122: "122nd"} {
		if got := ordinal(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "0:00", time.Second: "0:01", 61 * time.Second: "1:01", time.Hour: "1:00:00", 99 * time.Hour: "99:00:00", 100 * time.Hour: "",
	} {
		if got := clock(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
	for _, c := range []struct {
		have, whole int64
		want        string
	}{{5, 10, "5/10 B"}, {512, 1024, "0.5/1.0 KiB"}, {mib, 3 * mib / 2, "1.0/1.5 MiB"}, {1536, -1, "1.5 KiB"}, {-1, 1, "0/1 B"}} {
		if got := strings.TrimSpace(amount(c.have, c.whole)); got != c.want {
			t.Errorf("%d of %d: got %s, want %s", c.have, c.whole, got, c.want)
		}
	}
}
