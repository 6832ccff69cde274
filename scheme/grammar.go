package scheme

import "strings"

// The rules of the grammar in the package comment, one function for each.
// They are written by hand: to compile regular expressions for them took a
// fifth of the time in which the program starts.

const (
	digits     = "0123456789"
	lower      = "abcdefghijklmnopqrstuvwxyz"
	upper      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	hexDigits  = digits + "abcdef"
	lowerAlnum = digits + lower
	alnum      = lowerAlnum + upper
)

// allOf reports whether s has no character outside an ASCII set.
func allOf(s, set string) bool { return strings.Trim(s, set) == "" }

// isDNSName: label *( "." label ).
func isDNSName(s string) bool { return each(s, ".", isLabel) }

// isLabel is a host name's label (RFC 1123, section 2.1): letters, digits and
// inner hyphens, at most 63 (RFC 1035, section 2.3.4).
func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && allOf(s, alnum+"-")
}

// isNumber is a number as the WHATWG URL standard has it, decimal or, after
// 0x, hexadecimal; "0x" is one too.
func isNumber(s string) bool {
	if len(s) >= 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		return allOf(s[2:], hexDigits+"ABCDEF")
	}
	return s != "" && allOf(s, digits)
}

// isRepository: component *( "/" component ).
func isRepository(s string) bool { return each(s, "/", isComponent) }

// isComponent: [a-z0-9]+ *( ( "." / "_" / "__" / "-"+ ) [a-z0-9]+ ).
func isComponent(s string) bool {
	for {
		tail := strings.TrimLeft(s, lowerAlnum)
		if len(tail) == len(s) {
			return false
		}
		if tail == "" {
			return true
		}
		s = strings.TrimLeft(tail, "._-")
		if !isSeparator(tail[:len(tail)-len(s)]) {
			return false
		}
	}
}

func isSeparator(s string) bool {
	switch s {
	case ".", "_", "__":
		return true
	}
	return allOf(s, "-")
}

// isTag: [a-zA-Z0-9_] [a-zA-Z0-9._-]{0,127}.
func isTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' && allOf(s, alnum+"._-")
}

// isHex reports whether s is n lower-case hex digits.
func isHex(s string, n int) bool { return len(s) == n && allOf(s, hexDigits) }

// each reports whether all parts of s hold that sep separates.
func each(s, sep string, holds func(string) bool) bool {
	for part := range strings.SplitSeq(s, sep) {
		if !holds(part) {
			return false
		}
	}
	return true
}
