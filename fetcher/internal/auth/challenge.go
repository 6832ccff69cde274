// Package auth answers a registry's challenges: it reads them, decides the
// next step of one request, exchanges credentials for tokens and keeps these.
//
// The decision is Next, a pure function from what happened so far. Everything
// with an effect is in Session.
package auth

import (
	"slices"
	"strings"
)

// Challenge is one challenge of a WWW-Authenticate field (RFC 9110 section 11.6.1).
type Challenge struct {
	Scheme  string            // lower case: "bearer", "basic"
	Params  map[string]string // names in lower case, values unescaped; of duplicates the first
	Token68 string            // where the scheme was followed by one instead of parameters
}

// String renders c so that ParseChallenges reads the same again.
func (c Challenge) String() string {
	var b strings.Builder
	b.WriteString(c.Scheme)
	if c.Token68 != "" {
		return b.String() + " " + c.Token68
	}
	names := make([]string, 0, len(c.Params))
	for name := range c.Params {
		names = append(names, name)
	}
	slices.Sort(names)
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(" " + name + `="` + escape.Replace(c.Params[name]) + `"`)
	}
	return b.String()
}

// ParseChallenges reads all lines of a WWW-Authenticate field:
//
//	WWW-Authenticate = #challenge
//	challenge  = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
//	auth-param = token BWS "=" BWS ( token / quoted-string )
//	token68    = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
//
// (RFC 9110 sections 11.2, 11.3 and 5.6.1.) Registries stray from it, so more
// is accepted: empty list elements, missing commas, unquoted values with any
// character but comma and space, single quotes. A defect costs one parameter
// or one challenge, never its neighbours. Time is linear in the input.
func ParseChallenges(lines []string) []Challenge {
	var p parser
	for _, line := range lines {
		p.line(line)
	}
	return p.out
}

// paramNames can't be schemes. They tell a parameter that lost its value
// ("Bearer realm=..., service") from a challenge without parameters
// ("Bearer realm=..., Negotiate").
var paramNames = map[string]bool{
	"realm": true, "service": true, "scope": true, "charset": true,
	"error": true, "error_description": true, "error_uri": true, "resource_metadata": true,
}

type parser struct {
	out  []Challenge
	rest string
	open bool // parameters belong to the last challenge of out
}

func (p *parser) line(s string) {
	p.rest, p.open = s, false
	for {
		p.rest = strings.TrimLeft(p.rest, " \t,")
		if p.rest == "" {
			return
		}
		name := p.token()
		switch {
		case name == "":
			p.skip()
		case p.equals():
			p.param(strings.ToLower(name))
		case paramNames[strings.ToLower(name)] && p.open:
			// A parameter without a value says nothing.
		default:
			p.scheme(strings.ToLower(name))
		}
	}
}

// scheme begins a challenge, and takes the token68 that may follow.
func (p *parser) scheme(name string) {
	p.out = append(p.out, Challenge{Scheme: name, Params: map[string]string{}})
	p.open = true
	if p.rest == "" || p.rest[0] != ' ' && p.rest[0] != '\t' {
		if p.rest != "" && p.rest[0] != ',' {
			p.skip()
		}
		return
	}
	after := strings.TrimLeft(p.rest, " \t")
	body := strings.TrimLeft(after, token68Chars)
	word := after[:len(after)-len(body)]
	end := strings.TrimLeft(body, "=")
	pad := body[:len(body)-len(end)]
	if word == "" || paramNames[strings.ToLower(word)] {
		return
	}
	if next := strings.TrimLeft(end, " \t"); next != "" && next[0] != ',' {
		return // a parameter, or a scheme after a missing comma
	}
	p.out[len(p.out)-1].Token68 = word + pad
	p.rest, p.open = end, false
}

const token68Chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"

// param reads a value and gives it to the open challenge.
func (p *parser) param(name string) {
	value, ok := p.value(name)
	if !ok || !p.open {
		return
	}
	params := p.out[len(p.out)-1].Params
	if _, duplicate := params[name]; !duplicate {
		params[name] = value
	}
}

// token takes the longest run of tchar (RFC 9110 section 5.6.2).
func (p *parser) token() string {
	n := 0
	for n < len(p.rest) && isTchar(p.rest[n]) {
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

func isTchar(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(c))
}

// equals takes BWS "=" BWS where it follows.
func (p *parser) equals() bool {
	after := strings.TrimLeft(p.rest, " \t")
	if after == "" || after[0] != '=' {
		return false
	}
	p.rest = strings.TrimLeft(after[1:], " \t")
	return true
}

// value takes a quoted-string, a single-quoted one, or all up to a comma or space.
func (p *parser) value(name string) (string, bool) {
	if p.rest == "" || p.rest[0] == ',' {
		return "", false
	}
	if p.rest[0] == '"' {
		value, ok := p.quoted()
		p.boundary()
		return value, ok
	}
	if p.rest[0] == '\'' {
		if end := strings.IndexByte(p.rest[1:], '\''); end >= 0 {
			value := p.rest[1 : 1+end]
			p.rest = p.rest[end+2:]
			p.boundary()
			return value, true
		}
	}
	n := strings.IndexAny(p.rest, ", \t")
	if n < 0 {
		n = len(p.rest)
	}
	if name == "scope" {
		n = actions(p.rest, n)
	}
	value := p.rest[:n]
	p.rest = p.rest[n:]
	return value, true
}

// actions extends an unquoted scope that ends at n over the comma between its
// actions: repository:a/b:pull,push.
func actions(s string, n int) int {
	for _, action := range []string{",pull", ",push", ",delete", ",*"} {
		after, ok := strings.CutPrefix(s[n:], action)
		if ok && (after == "" || strings.IndexByte(", \t", after[0]) >= 0) {
			return actions(s, n+len(action))
		}
	}
	return n
}

// quoted takes a quoted-string and resolves its quoted-pairs. An unterminated
// one takes the rest of the line and is no value.
func (p *parser) quoted() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case '\\':
			if i++; i < len(p.rest) {
				b.WriteByte(p.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	p.rest = ""
	return "", false
}

// boundary makes sure that what follows a quoted value is a separator, or a
// parameter after a missing comma; anything else is skipped.
func (p *parser) boundary() {
	if p.rest == "" || strings.IndexByte(", \t", p.rest[0]) >= 0 {
		return
	}
	ahead := parser{rest: p.rest}
	if ahead.token() == "" || !ahead.equals() {
		p.skip()
	}
}

// skip drops everything up to the next comma outside of quotes.
func (p *parser) skip() {
	for p.rest != "" && p.rest[0] != ',' {
		if p.rest[0] == '"' {
			p.quoted()
			continue
		}
		p.rest = p.rest[1:]
	}
}
