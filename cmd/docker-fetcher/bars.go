package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// board is the picture of a fetch for a terminal. Events and times go in, rows
// come out; it knows no clock and no terminal.
type board struct {
	name    string // what is fetched
	began   time.Time
	started *fetcher.Started // nil: the manifest is not there yet
	files   []*fileRow       // in the order they appeared
	total   rate             // of what came over the network
	moved   int64            // bytes that did
	bytes   int64            // of the files, as far as they are there
	over    bool
}

// fileRow is one file on the board.
type fileRow struct {
	name    string
	digest  digest.Digest
	offset  int64
	size    int64 // -1: unknown
	attempt int
	rate    rate
	done    string // how it was had; "": it is on its way
	gone    bool   // it waits again, or its fetch failed
}

// newBoard is the board before the first event.
func newBoard(name string, now time.Time) *board {
	b := &board{name: name, began: now}
	b.total.add(now, 0)
	return b
}

// event takes an event that came at a time.
func (b *board) event(e fetcher.Event, now time.Time) {
	switch e := e.(type) {
	case fetcher.Started:
		b.started = &e
	case fetcher.Progress:
		b.progress(e, now)
	case fetcher.FileDone:
		b.finish(e.File, now)
	}
}

func (b *board) progress(p fetcher.Progress, now time.Time) {
	b.bytes = p.BytesDone
	for _, f := range b.files {
		f.gone = true
	}
	for _, a := range p.Active {
		f := b.file(a.Digest, short(a.Digest))
		b.moved += max(0, a.Offset-f.offset)
		f.offset, f.size, f.attempt, f.gone = a.Offset, a.Size, a.Attempt, false
		f.rate.add(now, f.offset)
	}
	b.total.add(now, b.moved)
}

// finish takes a file that is there. Two files may have one digest; a file that
// was on its way has the name of its digest.
func (b *board) finish(file fetcher.File, now time.Time) {
	name := short(file.Descriptor.Digest)
	if !strings.Contains(file.Path, name) {
		name = oneLine(file.Path)
	}
	f := b.file(file.Descriptor.Digest, name)
	size := max(0, file.Descriptor.Size)
	f.name = name
	switch {
	case file.Cached:
		f.done = "cached"
	case file.Reused:
		f.done = "was there"
	default:
		f.done = "done"
		b.moved += max(0, size-f.offset)
		b.total.add(now, b.moved)
	}
	b.bytes += max(0, size-f.offset)
	f.offset, f.size = size, size
}

// file returns the row of a file that is not done, and makes one where there is none.
func (b *board) file(d digest.Digest, name string) *fileRow {
	for _, f := range b.files {
		if f.digest == d && f.done == "" {
			return f
		}
	}
	f := &fileRow{name: name, digest: d, size: -1}
	b.files = append(b.files, f)
	return f
}

// end has the rows be those that stay on the screen.
func (b *board) end() { b.over = true }

// short is how a digest looks in a row, as docker shows it.
func short(d digest.Digest) string {
	_, encoded, _ := strings.Cut(string(d), ":")
	return fmt.Sprintf("%.12s", encoded)
}

// rows are what a terminal of that size shows: files on their way and, where
// there is room, those that are done; then the total. None is as wide as the
// terminal, so that no terminal wraps it.
func (b *board) rows(width, height int, now time.Time, paint palette) []string {
	if b.started == nil {
		if b.over {
			return nil
		}
		return []string{cut("asking for the manifest of "+oneLine(b.name), width-1)}
	}
	shown, hidden := b.shown(max(1, height-3))
	marks := 0
	for _, f := range shown {
		marks = max(marks, len(f.mark()))
	}
	c := fit(width-1, marks)
	var rows []string
	for _, f := range shown {
		rows = append(rows, c.file(f, paint))
	}
	return append(rows, c.total(b, paint), cut(b.summary(hidden, now), width-1))
}

// shown chooses at most n files: those on their way before those that are done,
// and of these the last; hidden counts those on their way that find no room.
func (b *board) shown(n int) (shown []*fileRow, hidden int) {
	var active, done []*fileRow
	for _, f := range b.files {
		switch {
		case f.done != "":
			done = append(done, f)
		case !f.gone && !b.over:
			active = append(active, f)
		}
	}
	if len(active) > n {
		return active[:n], len(active) - n
	}
	room := n - len(active)
	keep := append(done[max(0, len(done)-room):], active...)
	for _, f := range b.files {
		if slices.Contains(keep, f) {
			shown = append(shown, f)
		}
	}
	return shown, 0
}

// mark is what there is to say of a file beside its numbers.
func (f *fileRow) mark() string {
	switch {
	case f.done != "":
		return f.done
	case f.attempt > 1:
		return "again, " + ordinal(f.attempt) + " attempt"
	}
	return ""
}

// summary counts the files: those of which there are none are left out.
func (b *board) summary(hidden int, now time.Time) string {
	var active int
	done := map[string]int{}
	for _, f := range b.files {
		switch {
		case f.done != "":
			done[f.done]++
		case !f.gone:
			active++
		}
	}
	n := done["done"] + done["cached"] + done["was there"]
	text := fmt.Sprintf("%d of %s", n, files(b.started.TotalFiles))
	add := func(count int, what string) {
		if count > 0 {
			text += fmt.Sprintf(", %d %s", count, what)
		}
	}
	add(done["cached"], "cached")
	add(done["was there"], "there before")
	if b.over {
		return text + ", in " + clock(now.Sub(b.began))
	}
	add(hidden, "more on their way")
	add(b.started.TotalFiles-n-active, "waiting")
	return text
}

// columns is what of a row a terminal has room for.
type columns struct {
	width      int
	bar        int // cells between the brackets; 0: no bar
	speed, eta bool
}

const (
	nameWidth, amountWidth, speedWidth, etaWidth = 13, 17, 12, 8
	leastBar, mostBar                            = 6, 40
)

// fit leaves out what is needed least until there is room for a bar.
func fit(width, mark int) columns {
	c := columns{width: width, speed: true, eta: true}
	if mark > 0 {
		mark += len("  ")
	}
	for {
		rest := width - nameWidth - len("[] ") - amountWidth - mark
		if c.speed {
			rest -= speedWidth + 1
		}
		if c.eta {
			rest -= etaWidth
		}
		switch {
		case rest >= leastBar:
			c.bar = min(rest, mostBar)
			return c
		case c.speed:
			c.speed = false
		case c.eta:
			c.eta = false
		default:
			return c
		}
	}
}

func (c columns) file(f *fileRow, paint palette) string {
	if f.done != "" {
		row := fmt.Sprintf("%-*s", nameWidth, cut(f.name, nameWidth-1)) + c.blank() + fmt.Sprintf("%*s", amountWidth, size(f.size))
		return c.marked(row, c.rest(0, -1), f.done, paint.good)
	}
	row := fmt.Sprintf("%-*s", nameWidth, cut(f.name, nameWidth-1)) + c.gauge(f.offset, f.size, paint) + amount(f.offset, f.size)
	return c.marked(row, c.rest(f.rate.perSecond(), f.size-f.offset), f.mark(), paint.bad)
}

func (c columns) total(b *board, paint palette) string {
	whole := b.started.TotalBytes
	row := fmt.Sprintf("%-*s", nameWidth, "total") + c.gauge(b.bytes, whole, paint) + amount(b.bytes, whole)
	if b.over {
		return c.marked(row, "", "", nil)
	}
	left := int64(-1)
	if whole >= 0 {
		left = whole - b.bytes
	}
	return c.marked(row, c.rest(b.total.perSecond(), left), "", nil)
}

// rest is speed and time left, as far as there is room; none where nothing moves.
func (c columns) rest(perSecond float64, left int64) string {
	var text string
	if c.speed {
		speed := ""
		if perSecond > 0 {
			speed = size(int64(perSecond)) + "/s"
		}
		text = fmt.Sprintf(" %*s", speedWidth, speed)
	}
	if c.eta {
		eta := ""
		if perSecond > 0 && left >= 0 {
			eta = clock(time.Duration(float64(left) / perSecond * float64(time.Second)))
		}
		text += fmt.Sprintf("%*s", etaWidth, eta)
	}
	return text
}

// marked puts a row together, and cuts it where even that is too much.
func (c columns) marked(row, rest, mark string, paint func(string) string) string {
	if mark == "" {
		return c.cut(strings.TrimRight(row+rest, " "))
	}
	plain := row + rest + "  " + mark
	if visible(plain) > c.width {
		return c.cut(plain)
	}
	return row + rest + "  " + paint(mark)
}

func (c columns) cut(row string) string {
	if visible(row) <= c.width {
		return row
	}
	return strings.TrimRight(cut(bare(row), c.width), " ")
}

func (c columns) blank() string {
	if c.bar == 0 {
		return ""
	}
	return strings.Repeat(" ", c.bar+len("[] "))
}

// gauge is a bar.
func (c columns) gauge(have, size int64, paint palette) string {
	if c.bar == 0 {
		return ""
	}
	full := 0
	if size > 0 {
		full = int(float64(min(max(have, 0), size)) / float64(size) * float64(c.bar))
	}
	head := ""
	if full > 0 {
		head = strings.Repeat("=", full-1) + ">"
		if full == c.bar {
			head = strings.Repeat("=", full)
		}
		head = paint.in("36", head)
	}
	return "[" + head + strings.Repeat(" ", c.bar-full) + "] "
}

// amount is how much of a size is there, in the size's unit.
func amount(have, whole int64) string {
	text := size(max(have, 0))
	if whole >= 0 {
		of := size(whole)
		number, unit, _ := strings.Cut(of, " ")
		shown := fmt.Sprintf("%.1f", float64(have)/float64(unitOf(unit)))
		if unit == "B" {
			shown = fmt.Sprint(max(0, have))
		}
		text = shown + "/" + number + " " + unit
	}
	return fmt.Sprintf("%*s", amountWidth, text)
}

// unitOf is the number of bytes that a unit of size stands for.
func unitOf(unit string) int64 {
	if unit == "B" {
		return 1
	}
	return 1 << (10 * (1 + strings.Index("KMGTPE", unit[:1])))
}

// ordinal is 2nd, 3rd, 11th.
func ordinal(n int) string {
	suffix := "th"
	if n%100/10 != 1 && n%10 < 4 {
		suffix = [4]string{"th", "st", "nd", "rd"}[n%10]
	}
	return fmt.Sprint(n, suffix)
}

// clock is a time in minutes and seconds, or with hours.
func clock(d time.Duration) string {
	s := int64(max(0, d).Round(time.Second) / time.Second)
	switch {
	case s >= 100*3600:
		return "" // that is no estimate
	case s >= 3600:
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// rate is a speed over the last few seconds.
type rate struct {
	when  []time.Time
	bytes []int64
}

// window is the time that a speed is the mean of.
const window = 5 * time.Second

// add takes how many bytes there are at a time. Fewer than before begin it anew.
func (r *rate) add(now time.Time, bytes int64) {
	if n := len(r.bytes); n > 0 && bytes < r.bytes[n-1] {
		r.when, r.bytes = r.when[:0], r.bytes[:0]
	}
	r.when, r.bytes = append(r.when, now), append(r.bytes, bytes)
	for len(r.when) > 2 && now.Sub(r.when[1]) >= window {
		r.when, r.bytes = r.when[1:], r.bytes[1:]
	}
}

// perSecond is 0 before there is a second to judge by.
func (r *rate) perSecond() float64 {
	last := len(r.when) - 1
	if last < 1 {
		return 0
	}
	took := r.when[last].Sub(r.when[0]).Seconds()
	if took < 1 {
		return 0
	}
	return float64(r.bytes[last]-r.bytes[0]) / took
}

// cut leaves the first n characters.
func cut(text string, n int) string {
	runes := []rune(text)
	return string(runes[:max(0, min(n, len(runes)))])
}

// bare is text without its colours.
func bare(text string) string {
	for {
		before, after, found := strings.Cut(text, "\x1b[")
		if !found {
			return text
		}
		_, after, _ = strings.Cut(after, "m")
		text = before + after
	}
}

// visible is how many characters a terminal shows of text.
func visible(text string) int { return len([]rune(bare(text))) }
