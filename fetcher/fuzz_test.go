package fetcher

import (
	"strings"
	"testing"
	"unicode"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
)

// Whatever a registry answers, the error is one line for a terminal and a log.
func FuzzAnErrorIsOneLineThatPaintsNothing(f *testing.F) {
	for _, body := range []string{
		`{"errors":[{"code":"DENIED","message":"\u001b]0;owned\u0007\nERROR forged line"}]}`, "plain\ttext \x9b2J", "\u202egnp.exe", "\xff\xfe", `{"message":"\u2028"}`, "\x7f", "\u0085",
	} {
		f.Add([]byte(body), 403)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		cause := &registry.Error{Reason: string(RegistryDenied), Method: "GET", URL: "https://r.example/v2/", Status: status, Message: auth.Message(body)}
		err := describe(cause, Resolve, nil)
		if at := strings.IndexFunc(err.Error(), paints); at >= 0 {
			t.Errorf("%q at %d of %q", err.Error()[at:], at, err.Error())
		}
		if again := printable(err.Error()); again != err.Error() {
			t.Errorf("escaped twice: %q", again)
		}
		if len(err.Error()) > 16*auth.MaxMessage {
			t.Errorf("%d bytes", len(err.Error()))
		}
	})
}

// paints is what moves a cursor, ends a line or turns text around.
func paints(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// A platform that was asked for is one with all that names it, or an error.
func FuzzAPlatformIsNormalisedOnce(f *testing.F) {
	f.Add("linux", "aarch64", "v8")
	f.Add("Linux", "x86_64", "")
	f.Add("", "arm", "7")
	f.Add("windows", "amd64", "\x00")
	f.Fuzz(func(t *testing.T, os, architecture, variant string) {
		p, err := platform(&Platform{OS: os, Architecture: architecture, Variant: variant}, nil)
		if err != nil {
			return
		}
		if again, err := platform(&p, nil); err != nil || again.OS != p.OS || again.Architecture != p.Architecture || again.Variant != p.Variant {
			t.Errorf("%+v, then %+v, %v", p, again, err)
		}
	})
}
