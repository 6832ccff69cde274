package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// patient is the time between two lines of progress where nobody looks on.
const patient = 10 * time.Second

// display shows a fetch to whom stderr belongs.
type display struct {
	observe  func(fetcher.Event)
	interval time.Duration // for Request.ProgressInterval
	end      func()        // after the fetch, before anything else is written
}

// newDisplay returns the display of a fetch on w: progress in the given mode, and
// what the log level lets through. auto is bars on a terminal that can show them;
// elsewhere a line each ten seconds, so that what is done before that is silent.
func newDisplay(mode, level, name string, w io.Writer) display {
	bars := mode == "auto" && terminal(w) && os.Getenv("TERM") != "dumb"
	if !bars {
		d := display{observe: newObserver(mode, level, w), end: func() {}}
		if mode == "auto" && !terminal(w) {
			d.interval = patient
		}
		return d
	}
	s := newScreen(w.(*os.File), name)
	log := logLines(hclog.LevelFromString(level), s)
	return display{interval: frameEvery, end: s.end, observe: func(e fetcher.Event) {
		log(e)
		s.event(e)
	}}
}

// newObserver returns what shows the events of a fetch on w as lines: progress in
// the given mode (auto, plain, json or none), and what the log level lets through.
func newObserver(mode, level string, w io.Writer) func(fetcher.Event) {
	log := logLines(hclog.LevelFromString(level), w)
	switch {
	case mode == "json":
		return jsonLines(hclog.LevelFromString(level), w)
	case mode == "plain", mode == "auto" && terminal(w):
		return func(e fetcher.Event) {
			log(e)
			plain(e, w)
		}
	case mode == "auto":
		return func(e fetcher.Event) {
			log(e)
			if p, ok := e.(fetcher.Progress); ok {
				plain(p, w)
			}
		}
	}
	return log
}

// terminal reports whether w is a terminal.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, _, ok = terminalSize(f)
	return ok
}

// logLines shows the events that are no progress.
func logLines(level hclog.Level, w io.Writer) func(fetcher.Event) {
	return func(e fetcher.Event) {
		switch e := e.(type) {
		case fetcher.Warning:
			if level <= hclog.Warn {
				fmt.Fprintln(w, "warning: "+oneLine(e.Text))
			}
		case fetcher.Entered:
			if level <= hclog.Debug {
				fmt.Fprintln(w, "debug: "+string(e.Phase))
			}
		}
	}
}

func plain(e fetcher.Event, w io.Writer) {
	switch e := e.(type) {
	case fetcher.Started:
		fmt.Fprintf(w, "fetching %s, %s\n", files(e.TotalFiles), size(e.TotalBytes))
	case fetcher.Progress:
		fmt.Fprintf(w, "%s of %s, %d of %s\n", size(e.BytesDone), size(e.TotalBytes), e.FilesDone, files(e.TotalFiles))
	case fetcher.FileDone:
		how := "done"
		switch {
		case e.File.Cached:
			how = "cached"
		case e.File.Reused:
			how = "was there"
		}
		fmt.Fprintf(w, "%s %s, %s\n", e.File.Path, how, size(e.File.Descriptor.Size))
	}
}

// jsonLines shows an event as the JSON form of dockerfetcher.v1.FetchResponse;
// a warning, which is not on the wire, as {"warning":"..."}.
func jsonLines(level hclog.Level, w io.Writer) func(fetcher.Event) {
	return func(e fetcher.Event) {
		line, err := plugin.EventJSON(e)
		if warning, ok := e.(fetcher.Warning); ok && level <= hclog.Warn {
			line, err = json.Marshal(map[string]string{"warning": warning.Text})
		}
		if err != nil || line == nil {
			return
		}
		_, _ = w.Write(append(line, '\n'))
	}
}

// files is a number of files for people.
func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// size is a number of bytes for people; negative means unknown.
func size(n int64) string {
	const unit = 1024
	switch {
	case n < 0:
		return "unknown size"
	case n < unit:
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < len("KMGTPE")-1 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
}
