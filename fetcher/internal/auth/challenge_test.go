package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func bearer(params ...string) Challenge { return challenge("bearer", params...) }

func challenge(scheme string, params ...string) Challenge {
	c := Challenge{Scheme: scheme, Params: map[string]string{}}
	for pair := range slices.Chunk(params, 2) {
		c.Params[pair[0]] = pair[1]
	}
	return c
}

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	token68 := Challenge{Scheme: "negotiate", Params: map[string]string{}, Token68: "YII="}
	for name, test := range map[string]struct {
		lines []string
		want  []Challenge
	}{
		"reads the example of RFC 9110": {
			[]string{`Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple"`},
			[]Challenge{challenge("newauth", "realm", "apps", "type", "1", "title", `Login to "apps"`), challenge("basic", "realm", "simple")},
		},
		"reads several lines": {
			[]string{`Negotiate`, `Basic realm="x"`},
			[]Challenge{challenge("negotiate"), challenge("basic", "realm", "x")},
		},
		"folds the case of schemes and names, not of values": {
			[]string{`BEARER ReAlM="HTTPS://A.example"`}, []Challenge{bearer("realm", "HTTPS://A.example")},
		},
		"keeps commas inside quotes": {
			[]string{`Bearer realm="https://a.example/t?a=1,b=2",scope="repository:x/y:pull,push"`},
			[]Challenge{bearer("realm", "https://a.example/t?a=1,b=2", "scope", "repository:x/y:pull,push")},
		},
		"is not led by a challenge inside quotes": {
			[]string{`Basic realm="a, Bearer realm=\"https://evil.example\""`},
			[]Challenge{challenge("basic", "realm", `a, Bearer realm="https://evil.example"`)},
		},
		"accepts empty list elements":                  {[]string{`,Basic , , Bearer realm="r",,`}, []Challenge{challenge("basic"), bearer("realm", "r")}},
		"accepts white space around the equals sign":   {[]string{"Bearer realm \t= \"r\" , service\t=s"}, []Challenge{bearer("realm", "r", "service", "s")}},
		"accepts missing commas":                       {[]string{`Bearer realm="r" service="s"scope="x" Basic realm="b"`}, []Challenge{bearer("realm", "r", "service", "s", "scope", "x"), challenge("basic", "realm", "b")}},
		"accepts unquoted URLs":                        {[]string{`Bearer realm=https://a.example/t?x=y, service=s`}, []Challenge{bearer("realm", "https://a.example/t?x=y", "service", "s")}},
		"accepts an unquoted scope with two actions":   {[]string{`Bearer scope=repository:a:pull,push,realm=r`}, []Challenge{bearer("scope", "repository:a:pull,push", "realm", "r")}},
		"accepts single quotes":                        {[]string{`Bearer realm='a,b',service='s'`}, []Challenge{bearer("realm", "a,b", "service", "s")}},
		"keeps empty quoted values":                    {[]string{`Bearer realm="r",scope="",service="s"`}, []Challenge{bearer("realm", "r", "scope", "", "service", "s")}},
		"keeps the first of duplicates":                {[]string{`Bearer realm="a",REALM="b"`}, []Challenge{bearer("realm", "a")}},
		"reads a token68":                              {[]string{`Negotiate YII=, Bearer realm="r"`}, []Challenge{token68, bearer("realm", "r")}},
		"loses only the parameter without a value":     {[]string{`Bearer realm="r",service=`, `Bearer realm="r",service`}, []Challenge{bearer("realm", "r"), bearer("realm", "r")}},
		"takes a bare word after parameters as scheme": {[]string{`Bearer realm="r", Negotiate`}, []Challenge{bearer("realm", "r"), challenge("negotiate")}},
		"loses only the unterminated value":            {[]string{`Bearer realm="r",service="s`}, []Challenge{bearer("realm", "r")}},
		"loses only what broken quoting garbles": {
			[]string{`Bearer realm="r",scope="a:*,error="x"", Basic realm="b"`},
			[]Challenge{bearer("realm", "r", "scope", "a:*,error="), challenge("basic", "realm", "b")},
		},
		"does not take a semicolon for a comma": {[]string{`Bearer realm="r";service="s"`}, []Challenge{bearer("realm", "r")}},
		"drops parameters without a scheme":     {[]string{`realm="r", Basic realm="b"`}, []Challenge{challenge("basic", "realm", "b")}},
		"reads nothing from nothing":            {[]string{"", " ,, "}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, ParseChallenges(test.lines)); diff != "" {
				t.Errorf("ParseChallenges(%q) (-want +got):\n%s", test.lines, diff)
			}
		})
	}
}

func FuzzParseChallengesRendersToTheSameParse(f *testing.F) {
	f.Add(`Bearer realm="https://a.example/token",service="s",scope="repository:x/y:pull,push"`)
	f.Add(`Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple"`)
	f.Add(`Negotiate YII=, Bearer realm = 'x' service`)
	f.Add(`Bearer realm="r\`)
	f.Fuzz(func(t *testing.T, line string) {
		parsed := ParseChallenges([]string{line})
		lines := make([]string, len(parsed))
		for i, c := range parsed {
			lines[i] = c.String()
			if c.Scheme != strings.ToLower(c.Scheme) {
				t.Errorf("scheme %q is not in lower case", c.Scheme)
			}
		}
		if again := ParseChallenges(lines); !cmp.Equal(parsed, again) {
			t.Errorf("%q parsed as %v, but rendered and parsed again as %v", line, parsed, again)
		}
	})
}

// The time for a character must not grow with the length of the field.
func BenchmarkParseChallenges(b *testing.B) {
	for name, unit := range map[string]string{
		"parameters": `a="b\"c",d=e,`, "schemes": `Bearer realm="r",`, "commas missing": `a="b"c="d" `, "quotes": `'"`, "garbage": `x"y,=;`,
	} {
		for _, size := range []int{1 << 10, 64 << 10} {
			line := []string{strings.Repeat(unit, size/len(unit))}
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					ParseChallenges(line)
				}
			})
		}
	}
}
