package scheme

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

const (
	sha256Digest = "sha256:bc8813ea7b3603864987522f02a76101c17ad122e1c46d790efc0fca78ca7bfb"
	sha512Digest = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestKindsAreTheThreeSchemesOfTheOriginal(t *testing.T) {
	t.Parallel()
	for _, k := range []Kind{"docker", "docker-manifest", "docker-blob"} {
		if !k.Valid() {
			t.Errorf("%q is not valid", k)
		}
	}
	for _, k := range []Kind{"", "Docker", "docker-image", "http"} {
		if k.Valid() {
			t.Errorf("%q is valid", k)
		}
	}
}

func TestErrorQuotesAreEscapedAndBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, want string }{
		{"control characters are escaped", "a\r\n\x1b[31m", `"a\r\n\x1b[31m"`},
		{"a quotation mark is escaped", `a"`, `"a\""`},
		{"invalid UTF-8 is escaped", "\xff", `"\xff"`},
		{"a hundred bytes are shown", strings.Repeat("a", 100), `"` + strings.Repeat("a", 100) + `"`},
		{"no more than that", strings.Repeat("a", 101), `"` + strings.Repeat("a", 100) + `..."`},
		{"what may hold a password is not shown", "user:password@host", `"[hidden]"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := quote(c.value); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// checkRefused checks the part that err blames and, where it is not empty, how its text begins.
func checkRefused(t *testing.T, r Reference, err error, want Error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %+v and error %v, want an *Error about %s", r, err, want.Part)
	}
	if r != (Reference{}) {
		t.Errorf("got %+v beside the error", r)
	}
	if e.Part != want.Part || e.Missing != want.Missing {
		t.Errorf("got part %s, missing %t, want %s, %t: %s", e.Part, e.Missing, want.Part, want.Missing, e.Text)
	}
	if e.Text != want.Text && !strings.HasPrefix(e.Text, want.Text+"; ") {
		t.Errorf("got text %q, want %q, perhaps with an advice after it", e.Text, want.Text)
	}
}

// checkAccepted checks what holds for every Reference of this package.
func checkAccepted(t *testing.T, r Reference) {
	t.Helper()
	for name, again := range map[string]func() (Reference, error){
		"Parse":         func() (Reference, error) { return Parse(r.String()) },
		"ParseFamiliar": func() (Reference, error) { return ParseFamiliar(r.String()) },
		"FromURI":       func() (Reference, error) { return FromURI(r.URI()) },
	} {
		got, err := again()
		if err != nil {
			t.Errorf("%s refuses %s: %v", name, r, err)
		} else if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", name, r, diff)
		}
	}
	for _, s := range []string{r.Registry, r.Repository, r.Host(), r.Name()} {
		if strings.Contains(s, "..") || strings.ContainsAny(s, "%@?#\\ ") || strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("%q of %+v holds what it must not", s, r)
		}
	}
	if !repositoryName.MatchString(r.Repository) || len(r.Name()) > 255 {
		t.Errorf("%q is no repository", r.Repository)
	}
	if r.Registry != strings.ToLower(r.Registry) || strings.HasPrefix(r.Repository, "/") {
		t.Errorf("%+v is not normalised", r)
	}
	if (r.Tag == "") == (r.Digest == "") || r.Kind == Blob && r.Digest == "" {
		t.Errorf("%+v has not one of tag and digest", r)
	}
	if !r.Kind.Valid() || r.Port < 0 || r.Port > 65535 {
		t.Errorf("%+v is no reference", r)
	}
}

// checkError checks what holds for every error of this package.
func checkError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
	if e.Part == "" || len(e.Text) > 800 || strings.ContainsFunc(e.Text, unicode.IsControl) {
		t.Errorf("%+v is not fit to be shown", e)
	}
}
