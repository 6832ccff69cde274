//go:build unix

package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// glass is what a terminal shows, as far as this command's output needs one: it
// knows line feeds, carriage returns, cursor up, erase below and colours, and
// wraps what is too wide.
type glass struct {
	t      *testing.T
	width  int
	lines  [][]cell // all that was ever shown, none shorter than it is
	row    int
	column int
	colour string
}

type cell struct {
	r      rune
	colour string
}

var escape = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (g *glass) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		if m := escape.FindStringSubmatch(text); m != nil {
			g.control(m[1], m[2])
			text = text[len(m[0]):]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch r {
		case '\n':
			g.row, g.column = g.row+1, 0
		case '\r':
			g.column = 0
		case '\x1b':
			g.t.Errorf("an escape sequence that this terminal does not know: %q", text)
		default:
			g.put(r)
		}
	}
	return len(p), nil
}

func (g *glass) control(number, what string) {
	switch what {
	case "A":
		var n int
		_, _ = fmt.Sscan(number, &n)
		g.row = max(0, g.row-n)
	case "J":
		g.grow()
		g.lines = g.lines[:g.row+1]
		g.lines[g.row] = g.lines[g.row][:min(g.column, len(g.lines[g.row]))]
	case "m":
		g.colour = number
	default:
		g.t.Errorf("escape sequence %s%s", number, what)
	}
}

func (g *glass) grow() {
	for len(g.lines) <= g.row {
		g.lines = append(g.lines, nil)
	}
}

func (g *glass) put(r rune) {
	if g.column == g.width {
		g.row, g.column = g.row+1, 0
	}
	g.grow()
	for len(g.lines[g.row]) <= g.column {
		g.lines[g.row] = append(g.lines[g.row], cell{r: ' '})
	}
	g.lines[g.row][g.column] = cell{r, g.colour}
	g.column++
}

// narrow is what most terminals do with what they show when they become
// narrower: they wrap it. The cursor stays in its line, here the last.
func (g *glass) narrow(width int) {
	var lines [][]cell
	for _, line := range g.lines {
		for len(line) > width {
			lines = append(lines, line[:width])
			line = line[width:]
		}
		lines = append(lines, line)
	}
	g.row += len(lines) - len(g.lines)
	g.width, g.lines = width, lines
}

func (g *glass) String() string {
	var b strings.Builder
	for _, line := range g.lines {
		row := ""
		for _, c := range line {
			row += string(c.r)
		}
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// picture shows rows over those before.
func (g *glass) picture(c *console, above string, rows []string) {
	_, _ = io.WriteString(g, c.over(above, rows, g.width))
}

func TestEachPictureIsDrawnOverTheOneBefore(t *testing.T) {
	t.Parallel()
	g, c := &glass{t: t, width: 20}, &console{}
	_, _ = io.WriteString(g, "$ command\n")
	g.picture(c, "", []string{"one", "two", "three"})
	g.picture(c, "warning: a\n", []string{"four"})
	g.picture(c, "", []string{"five", "\x1b[32msix\x1b[0m"})
	if diff := cmp.Diff("$ command\nwarning: a\nfive\nsix\n", g.String()); diff != "" {
		t.Error(diff)
	}
	_, _ = io.WriteString(g, "^C") // which the terminal itself writes
	g.picture(c, "", []string{"seven"})
	_, _ = io.WriteString(g, "error: interrupted\n")
	if diff := cmp.Diff("$ command\nwarning: a\nseven\nerror: interrupted\n", g.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAPictureThatANarrowerTerminalWrappedIsRemovedWhole(t *testing.T) {
	t.Parallel()
	g, c := &glass{t: t, width: 20}, &console{}
	_, _ = io.WriteString(g, "$ command\n")
	wide, narrow := strings.Repeat("x", 19), strings.Repeat("y", 7)
	g.picture(c, "", []string{wide, "short", wide})
	g.narrow(8)
	g.picture(c, "", []string{narrow, narrow})
	g.width = 30
	g.picture(c, "", []string{wide})
	if diff := cmp.Diff("$ comman\nd\n"+wide+"\n", g.String()); diff != "" {
		t.Error(diff)
	}
}

// session is the command on a terminal of its own.
type session struct {
	*process
	pty  *os.File
	more chan string // what it writes, until its end
	seen string
}

func newSession(t *testing.T, rows, columns uint16, environment []string, arguments ...string) *session {
	t.Helper()
	s := &session{process: newProcess(t, append([]string{"TERM=xterm"}, environment...), arguments...), more: make(chan string, 1000)}
	s.cmd.Stderr = nil
	terminal, err := pty.StartWithSize(s.cmd, &pty.Winsize{Rows: rows, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	s.pty = terminal
	t.Cleanup(func() { _ = terminal.Close() })
	go func() {
		defer close(s.more)
		buffer := make([]byte, 64<<10)
		for {
			n, err := terminal.Read(buffer)
			s.more <- string(buffer[:n])
			if err != nil { // EIO, when the last process has let go of it
				return
			}
		}
	}()
	return s
}

// until reads on until that is so of all that was written.
func (s *session) until(what string, is func(written string) bool) {
	s.t.Helper()
	for timeout := time.After(20 * time.Second); !is(s.seen); {
		select {
		case more, open := <-s.more:
			s.seen += more
			if !open && !is(s.seen) {
				s.t.Fatalf("it ended without %s: %q", what, s.seen)
			}
		case <-timeout:
			s.t.Fatalf("no %s: %q", what, s.seen)
		}
	}
}

// ends reads all and returns the exit code.
func (s *session) ends() int {
	s.t.Helper()
	for more := range s.more {
		s.seen += more
	}
	return s.wait()
}

// pictures are what was drawn, one over the other.
func pictures(written string) []string { return strings.Split(written, "\x1b[J") }

func TestOnATerminalABarForEachBlobMovesUntilCtrlC(t *testing.T) {
	t.Parallel()
	r, image, struck := stalled(t)
	dir := filepath.Join(t.TempDir(), "image")
	s := newSession(t, 24, 100, nil, "fetch", "docker://"+r.Host()+"/app?1#http", dir)
	<-struck
	bar := regexp.MustCompile(regexp.QuoteMeta(strings.TrimPrefix(image.LayerDigests[0], "sha256:")[:12]) + ` \x1b?.*\[.*=+>.*2\.0/4\.0 MiB`)
	s.until("bar of the layer that stands at its half", bar.MatchString)
	if !strings.Contains(s.seen, "\x1b[36m=") {
		t.Errorf("the bar has no colour: %q", s.seen)
	}

	if err := pty.Setsize(s.pty, &pty.Winsize{Rows: 8, Cols: 40}); err != nil {
		t.Fatal(err)
	}
	s.until("narrow picture", func(written string) bool {
		all := pictures(written)
		last := all[max(0, len(all)-2)] // which is whole
		for row := range strings.SplitSeq(last, "\r\n") {
			if visible(row) >= 40 {
				return false
			}
		}
		return strings.Contains(last, "total")
	})

	if _, err := s.pty.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if code := s.ends(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	g := &glass{t: t, width: 100}
	_, _ = io.WriteString(g, s.seen)
	if strings.Contains(g.String(), "^C") || !regexp.MustCompile(`(?m)^total .*2\.0/4\.0 MiB$\n^\d of 3 files, in 0:\d\d$\n^error: interrupted$\n\z`).MatchString(g.String()) {
		t.Errorf("at the end the terminal shows:\n%s", g)
	}
	if s.stdout.Len() != 0 {
		t.Errorf("stdout has %q", &s.stdout)
	}
	for _, name := range names(t, dir) {
		if !slices.Contains([]string{"manifest", image.ConfigDigest}, name) {
			t.Errorf("%s was left", name)
		}
	}
}

// small starts a registry with a small image.
func small(t *testing.T) (uri string, image fetchertest.Pushed) {
	t.Helper()
	r := fetchertest.New(t, fetchertest.Config{})
	image = r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 40_000), fetchertest.RandomLayer(2, 70_000)}})
	return "docker://" + r.Host() + "/app?1#http", image
}

func TestTheLastPictureStaysAndStdoutHasTheDigestAlone(t *testing.T) {
	t.Parallel()
	uri, image := small(t)
	dir := t.TempDir()
	for _, c := range []struct{ mark, summary string }{
		{"done", `4 of 4 files, in 0:00`},
		{"was there", `4 of 4 files, 3 there before, in 0:00`},
	} {
		s := newSession(t, 24, 100, []string{"NO_COLOR=1"}, "fetch", uri, dir)
		if code := s.ends(); code != 0 || s.stdout.String() != image.ManifestDigest+"\n" {
			t.Errorf("exit code %d and %q", code, &s.stdout)
		}
		if regexp.MustCompile(`\x1b\[\d*m`).MatchString(s.seen) {
			t.Errorf("NO_COLOR, and there is colour: %q", s.seen)
		}
		g := &glass{t: t, width: 100}
		_, _ = io.WriteString(g, s.seen)
		rows := strings.Split(strings.TrimSuffix(g.String(), "\n"), "\n")
		if len(rows) != 6 || !strings.HasPrefix(rows[0], "manifest ") || !strings.HasSuffix(rows[1], "  "+c.mark) || rows[5] != c.summary {
			t.Errorf("the terminal shows\n%s", g)
		}
	}
}

func TestATerminalThatCantMoveItsCursorGetsPlainLines(t *testing.T) {
	t.Parallel()
	uri, _ := small(t)
	s := newSession(t, 24, 100, []string{"TERM=dumb"}, "fetch", uri, t.TempDir())
	if code := s.ends(); code != 0 || strings.Contains(s.seen, "\x1b") || !strings.HasPrefix(s.seen, "fetching 4 files, 108.2 KiB\r\nmanifest done, ") {
		t.Errorf("exit code %d, it shows %q", code, s.seen)
	}
}

func TestAWarningStandsAboveTheBarsAndAnErrorBelow(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: "basic", Username: "tenant", Password: password}})
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(`{"auths":{"ghcr.io":{"auth":"!"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSession(t, 24, 300, nil, "fetch", "--docker-config", config, "docker://"+r.Host()+"/app?1#http", t.TempDir())
	code := s.ends()
	g := &glass{t: t, width: 300}
	_, _ = io.WriteString(g, s.seen)
	if code != exitUnauthorized || !regexp.MustCompile(`(?m)\Awarning: .*$\n^error: .*401.*$\n\z`).MatchString(g.String()) {
		t.Errorf("exit code %d, the terminal shows\n%s", code, g)
	}
}

// TestTheRenderedPictureOfTheDocsIsWhatATerminalShows holds docs/progress.svg to
// what the drama of bars_test.go looks like. -update writes it anew.
func TestTheRenderedPictureOfTheDocsIsWhatATerminalShows(t *testing.T) {
	t.Parallel()
	g, c := &glass{t: t, width: 100}, &console{}
	_, _ = io.WriteString(g, "$ docker-fetcher fetch --cache-dir /var/cache/docker-fetcher app:1 ./app\n")
	for n := range len(drama()) - 3 {
		b, now := played(drama()[:n+1])
		g.picture(c, "", b.rows(g.width, 24, now, true))
	}
	golden(t, filepath.Join("..", "..", "docs", "progress.svg"), g.svg())
}

// svg draws the terminal.
func (g *glass) svg() string {
	const line, margin = 20, 16
	fills := map[string]string{"": "#d8dee9", "0": "#d8dee9", "31": "#e06c75", "32": "#98c379", "36": "#56b6c2"}
	var b bytes.Buffer
	height := len(g.lines)*line + 2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 %d" role="img" aria-label="docker-fetcher fetch on a terminal: a bar for each blob, the total, and what is cached, was there, is asked for again or waits">`+"\n", height)
	fmt.Fprintf(&b, `<rect width="900" height="%d" rx="8" fill="#1e222a"/>`+"\n", height)
	fmt.Fprintf(&b, `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" xml:space="preserve" style="white-space: pre">`+"\n")
	for n, cells := range g.lines {
		if len(cells) == 0 {
			continue
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d">`, margin, margin+n*line+14)
		for len(cells) > 0 {
			end := slices.IndexFunc(cells, func(c cell) bool { return fills[c.colour] != fills[cells[0].colour] })
			if end < 0 {
				end = len(cells)
			}
			text := ""
			for _, c := range cells[:end] {
				text += string(c.r)
			}
			fmt.Fprintf(&b, `<tspan fill="%s">%s</tspan>`, fills[cells[0].colour], html.EscapeString(text))
			cells = cells[end:]
		}
		b.WriteString("</text>\n")
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

func TestAScreenThatCantBeDrawnOnIsLeftAlone(t *testing.T) {
	t.Parallel()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	s := newScreen(tty, "app:1")
	_ = master.Close() // from now on each write is an error
	for _, e := range drama() {
		s.event(e)
	}
	s.end()
	s.event(fetcher.FileDone{}) // one that comes late
}
