package scheme

import (
	"regexp"
	"strings"
	"testing"
)

// The grammar as regular expressions, which grammar.go is held to.
const (
	label     = `[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?`
	component = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
)

var (
	dnsName        = regexp.MustCompile(`^` + label + `(?:\.` + label + `)*$`)
	number         = regexp.MustCompile(`^(?:[0-9]+|0[xX][0-9a-fA-F]*)$`)
	repositoryName = regexp.MustCompile(`^` + component + `(?:/` + component + `)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	hex64          = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func checkGrammar(t *testing.T, s string) {
	t.Helper()
	for _, rule := range []struct {
		name string
		got  bool
		want *regexp.Regexp
	}{
		{"isDNSName", isDNSName(s), dnsName},
		{"isNumber", isNumber(s), number},
		{"isRepository", isRepository(s), repositoryName},
		{"isTag", isTag(s), tagName},
		{"isHex", isHex(s, 64), hex64},
	} {
		if want := rule.want.MatchString(s); rule.got != want {
			t.Errorf("%s(%q) is %t, want %t", rule.name, s, rule.got, want)
		}
	}
}

func TestGrammarIsThatOfTheExpressionsForEveryShortString(t *testing.T) {
	t.Parallel()
	everyString("a0Z._-/", 5, func(s string) { checkGrammar(t, s) })
}

func TestGrammarIsThatOfTheExpressionsForEveryByteAndLength(t *testing.T) {
	t.Parallel()
	for b := range 256 {
		s := string([]byte{byte(b)})
		for _, s := range []string{s, "a" + s, "0" + s, "0x" + s, "0" + s + "1"} {
			checkGrammar(t, s)
		}
	}
	for _, n := range []int{61, 62, 63, 64, 65, 127, 128, 129} {
		for _, s := range []string{"a", "0", "_", "-", ".", "/", "a.", "a/"} {
			checkGrammar(t, strings.Repeat(s, n))
			checkGrammar(t, strings.Repeat(s, n)+"a")
			checkGrammar(t, "a"+strings.Repeat(s, n)+"a")
		}
	}
}

func FuzzGrammar(f *testing.F) {
	for _, seed := range []string{"ghcr.io", "0x7F", "a.b_c__d---e/f", "v1.2-rc_3", sha256Digest[7:], "a\n", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(checkGrammar)
}

// everyString calls do with each string of at most length of the characters.
func everyString(characters string, length int, do func(string)) {
	do("")
	for previous := []string{""}; length > 0; length-- {
		var next []string
		for _, s := range previous {
			for _, c := range characters {
				next = append(next, s+string(c))
				do(s + string(c))
			}
		}
		previous = next
	}
}
