package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// palette paints words for a terminal; false leaves them as they are.
type palette bool

// painted reports whether w is a terminal that wants colour: https://no-color.org,
// and TERM=dumb.
func painted(w io.Writer) palette {
	return palette(terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (p palette) in(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p palette) strong(text string) string { return p.in("1", text) }
func (p palette) faint(text string) string  { return p.in("2", text) }
func (p palette) good(text string) string   { return p.in("32", text) }
func (p palette) bad(text string) string    { return p.in("31", text) }
func (p palette) arrow() string             { return p.in("36", "→") }

// status is that of an HTTP answer.
func (p palette) status(code int) string {
	text := strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
	switch {
	case code < 300:
		return p.good(text)
	case code < 400 || code == http.StatusUnauthorized:
		return p.in("33", text)
	}
	return p.bad(text)
}
