package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A document is found valid once, by encoding/json. Then it is walked in
// place: what is cut off it are slices of the body, nothing is copied but the
// strings that are kept, and what follows the first error is never looked at.
// So a document costs a few times its size, whatever it is made of. Not by the
// tokens of json.Decoder: each key would be a string of its own, of which 4 MiB
// of short escaped ones make many times their size, in 487 ms and not in 107.

// deciding are the top-level fields that say what a document is.
var deciding = []string{"schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "signatures"}

// fields are members of a JSON object, by name.
type fields map[string]json.RawMessage

// has reports whether there is a value: Go programs write null for an empty list.
func (f fields) has(name string) bool {
	return f[name] != nil && string(f[name]) != "null"
}

// scan reads the deciding fields of a document.
func scan(body []byte) (fields, error) {
	if len(body) > MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", ErrInvalid, len(body), MaxSize)
	}
	if !utf8.Valid(body) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrInvalid) // RFC 8259 section 8.1
	}
	begin := bytes.TrimLeft(body, blanks)
	if len(begin) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	if begin[0] != '{' {
		return nil, fmt.Errorf("%w: it is not a JSON object: it begins with %q", ErrInvalid, cut(string(begin[:min(len(begin), 2*most)])))
	}
	if !json.Valid(body) { // which bounds the nesting to 10,000 levels; nothing here recurses with it
		return nil, syntax(body)
	}
	top := fields{}
	err := members(whole, begin, deciding, func(name string, value json.RawMessage) error {
		top[name] = value
		return nil
	})
	return top, err
}

// syntax says what is wrong with a body that is not valid JSON.
func syntax(body []byte) error {
	err := json.Unmarshal(body, &struct{}{})
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%w: it is not valid JSON: %w (byte %d)", ErrInvalid, wrong, wrong.Offset)
	}
	return fmt.Errorf("%w: it is not valid JSON: %w", ErrInvalid, err)
}

const (
	blanks = " \t\r\n"
	// between is what may stand between two values of valid JSON.
	between = blanks + ",:"
)

// next cuts the next value off the inside of a valid array or object; it is
// empty at the end.
func next(inside []byte) (value, rest []byte) {
	inside = bytes.TrimLeft(inside, between)
	n, depth := 0, 0
	for n < len(inside) {
		switch c := inside[n]; {
		case c == '"':
			n += quoted(inside[n:])
		case c == '[', c == '{':
			depth++
			n++
		case c == ']', c == '}':
			if depth == 0 {
				return inside[:n], inside[n:]
			}
			depth--
			n++
		case depth == 0 && strings.IndexByte(between, c) >= 0:
			return inside[:n], inside[n:]
		default: // of a number, a literal, or between values further in
			n++
			continue
		}
		if depth == 0 {
			break
		}
	}
	return inside[:n], inside[n:]
}

// quoted is the length of the string that s begins with, quotes included.
func quoted(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// elements are those of a valid array.
func elements(array json.RawMessage) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for value, rest := next(array[1:]); len(value) > 0 && yield(value); value, rest = next(rest) {
		}
	}
}

// pairs are the members of a valid object: a name, as it is written, and its value.
func pairs(object json.RawMessage) iter.Seq2[json.RawMessage, json.RawMessage] {
	return func(yield func(_, _ json.RawMessage) bool) {
		for name, rest := next(object[1:]); len(name) > 0; name, rest = next(rest) {
			var value []byte
			if value, rest = next(rest); !yield(name, value) {
				return
			}
		}
	}
}

// place is where a value stands, for messages: a field of the document, an
// element of one, or a member of that.
type place struct {
	field  string
	index  int    // -1: none
	member string // "": none
}

// whole is the place of what is at the top.
var whole = place{"it", -1, ""}

func (p place) String() string {
	s := p.field
	if p.index >= 0 {
		s += "[" + strconv.Itoa(p.index) + "]"
	}
	if p.member != "" {
		s += "." + p.member
	}
	return s
}

// members visits the named members of a valid JSON object, in its order. Twice
// the same name, or a name in another case, is refused: readers differ in
// which one they take, encoding/json among them. There are at most 64 names.
func members(where place, object json.RawMessage, names []string, visit func(name string, value json.RawMessage) error) error {
	if object[0] != '{' {
		return fmt.Errorf("%w: %s is not an object", ErrInvalid, where)
	}
	var seen uint64
	for written, value := range pairs(object) {
		key := unescape(written)
		i := slices.IndexFunc(names, func(name string) bool { return bytes.EqualFold([]byte(name), key) })
		switch {
		case i < 0:
			continue
		case names[i] != string(key):
			return fmt.Errorf("%w: %s has the field %q, which is %q in another case", ErrInvalid, where, key, names[i])
		case seen&(1<<i) != 0:
			return fmt.Errorf("%w: %s has the field %q twice", ErrInvalid, where, key)
		}
		seen |= 1 << i
		if err := visit(names[i], value); err != nil {
			return err
		}
	}
	return nil
}

// each visits the elements of a valid JSON array, or of null, one at a time:
// the first bad one ends the work.
func each(field string, array json.RawMessage, visit func(where place, value json.RawMessage) error) error {
	if string(array) == "null" {
		return nil
	}
	if array[0] != '[' {
		return fmt.Errorf("%w: %s is not an array", ErrInvalid, field)
	}
	at := place{field, 0, ""}
	for value := range elements(array) {
		if err := visit(at, value); err != nil {
			return err
		}
		at.index++
	}
	return nil
}

// wrong is the error of a value that is not of the type that its name asks for.
func wrong(where place, name string) error {
	return fmt.Errorf("%w: %s: %s has the wrong type or is out of range", ErrInvalid, where, name)
}

// text reads a string, or null, which is an empty one.
func text(where place, name string, value json.RawMessage) (string, error) {
	switch {
	case value[0] == '"':
		return string(unescape(value)), nil
	case string(value) == "null":
		return "", nil
	}
	return "", wrong(where, name)
}

// unescape returns what a valid string of JSON says, as encoding/json does:
// half of a surrogate pair is a replacement character. Without a backslash it
// is a slice of the string.
func unescape(quoted json.RawMessage) []byte {
	s := quoted[1 : len(quoted)-1]
	plain := bytes.IndexByte(s, '\\')
	if plain < 0 {
		return s
	}
	said := append(make([]byte, 0, len(s)), s[:plain]...)
	for s = s[plain:]; len(s) > 0; {
		switch {
		case s[0] != '\\':
			said, s = append(said, s[0]), s[1:]
		case s[1] != 'u':
			said, s = append(said, controls[s[1]]), s[2:]
		default:
			r := codeUnit(s)
			if s = s[6:]; utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if len(s) > 0 && s[0] == '\\' && s[1] == 'u' {
					pair = utf16.DecodeRune(r, codeUnit(s))
				}
				if r = pair; pair != utf8.RuneError {
					s = s[6:]
				}
			}
			said = utf8.AppendRune(said, r)
		}
	}
	return said
}

// controls are what a letter after a backslash stands for.
var controls = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// codeUnit reads \uXXXX.
func codeUnit(s []byte) rune {
	n, _ := strconv.ParseUint(string(s[2:6]), 16, 16) // it is valid
	return rune(n)
}

// integer reads a number without fraction or exponent that fits into an
// int64, or null, which is 0.
func integer(where place, name string, value json.RawMessage) (int64, error) {
	const longest = len("-9223372036854775808") // no number of JSON begins with zeros
	if string(value) == "null" {
		return 0, nil
	}
	if len(value) > longest {
		return 0, wrong(where, name)
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, wrong(where, name)
	}
	return n, nil
}

// require checks the schemaVersion and that the named fields are there, if
// with null only.
func (f fields) require(version int64, names ...string) error {
	for _, name := range append([]string{"schemaVersion"}, names...) {
		if f[name] == nil {
			return fmt.Errorf("%w: it has no %s", ErrInvalid, name)
		}
	}
	given := f["schemaVersion"]
	if got, err := integer(whole, "schemaVersion", given); err != nil || got != version {
		return fmt.Errorf("%w: its schemaVersion is %q, not %d", ErrInvalid, cut(string(given[:min(len(given), 2*most)])), version)
	}
	return nil
}

// most bounds what a message quotes of a document, in bytes.
const most = 60

func cut(s string) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// escape is cut for text that stands without quotes in a message.
func escape(s string) string {
	quoted := strconv.Quote(cut(s))
	return quoted[1 : len(quoted)-1]
}
