package main

import (
	"bytes"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

func TestSizeIsForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		-1: "unknown size", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB",
		1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", 1 << 62: "4.0 EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestObserverShowsEachEventInItsMode(t *testing.T) {
	t.Parallel()
	progress := fetcher.Progress{BytesDone: 1024, TotalBytes: -1, FilesDone: 0, TotalFiles: 1}
	warning := fetcher.Warning{Text: "an entry is\nbroken"}
	entered := fetcher.Entered{Phase: fetcher.Store}
	for _, c := range []struct {
		name, mode, level string
		event             fetcher.Event
		want              string
	}{
		{"plain progress", "plain", "info", progress, "1.0 KiB of unknown size, 0 of 1 file\n"},
		{"JSON progress", "json", "info", progress, `{"progress":{"bytesDone":"1024","totalBytes":"-1","totalFiles":1}}` + "\n"},
		{"no progress", "none", "trace", progress, ""},
		{"progress off a terminal", "auto", "info", progress, "1.0 KiB of unknown size, 0 of 1 file\n"},
		{"but no line for each file", "auto", "trace", fetcher.FileDone{File: fetcher.File{Path: "manifest"}}, ""},
		{"a file", "plain", "info", fetcher.FileDone{File: fetcher.File{Path: "manifest"}}, "manifest done, 0 B\n"},
		{"a file that was there", "plain", "info", fetcher.FileDone{File: fetcher.File{Path: "manifest", Reused: true}}, "manifest was there, 0 B\n"},
		{"a file of the cache", "plain", "info", fetcher.FileDone{File: fetcher.File{Path: "manifest", Reused: true, Cached: true}}, "manifest cached, 0 B\n"},
		{"a warning", "auto", "warn", warning, "warning: an entry is\\nbroken\n"},
		{"a warning beside progress", "plain", "info", warning, "warning: an entry is\\nbroken\n"},
		{"a warning without progress", "none", "info", warning, "warning: an entry is\\nbroken\n"},
		{"a warning as JSON", "json", "info", warning, `{"warning":"an entry is\nbroken"}` + "\n"},
		{"only errors", "plain", "error", warning, ""},
		{"only errors as JSON", "json", "error", warning, ""},
		{"a phase", "none", "debug", entered, "debug: store\n"},
		{"no phase", "plain", "info", entered, ""},
		{"no phase as JSON: it is not on the wire", "json", "trace", entered, ""},
	} {
		var b bytes.Buffer
		newObserver(c.mode, c.level, &b)(c.event)
		if b.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.name, b.String(), c.want)
		}
	}
}
