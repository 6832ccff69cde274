package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

var errNoObject = errors.New("it is not a JSON object")

// decode reads a JSON document that holds secrets. The errors of
// encoding/json quote what they meet, so they are told anew here: the place
// and the field's name, nothing else. A byte order mark is skipped.
func decode(data []byte, into any) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("it is empty")
	}
	if i := invalidUTF8(data); i >= 0 {
		return fmt.Errorf("it is not UTF-8 at %s", place(data, i))
	}
	err := json.Unmarshal(data, into)
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		switch at := max(int(syntax.Offset)-1, 0); {
		case strings.Contains(syntax.Error(), "max depth"):
			return fmt.Errorf("it nests too deep at %s", place(data, at))
		case strings.HasPrefix(syntax.Error(), "unexpected end"):
			return fmt.Errorf("it is not complete JSON: it ends at %s", place(data, len(data)))
		default:
			return fmt.Errorf("it is not valid JSON at %s", place(data, at))
		}
	}
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok || wrong.Field == "" {
		return errNoObject
	}
	return fmt.Errorf("%s has the wrong type", strings.ToLower(wrong.Field))
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// place names the byte at index i as an editor does.
func place(data []byte, i int) string {
	before := data[:i]
	line := bytes.Count(before, []byte("\n")) + 1
	column := i - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d", line, column)
}
