package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// deciding are the top-level fields that say what a document is.
var deciding = []string{"schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "signatures"}

// fields are members of a JSON object, by name.
type fields map[string]json.RawMessage

// has reports whether there is a value: Go programs write null for an empty list.
func (f fields) has(name string) bool {
	return f[name] != nil && string(f[name]) != "null"
}

// scan reads the deciding fields of a document. encoding/json bounds the
// nesting to 10,000 levels, and nothing here recurses with it.
func scan(body []byte) (fields, error) {
	if len(body) > MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", ErrInvalid, len(body), MaxSize)
	}
	begin := bytes.TrimLeft(body, " \t\r\n")
	if len(begin) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	if begin[0] != '{' {
		return nil, fmt.Errorf("%w: it is not a JSON object: it begins with %q", ErrInvalid, cut(string(begin)))
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(body, &struct{}{})); ok {
		return nil, fmt.Errorf("%w: it is not valid JSON: %w (byte %d)", ErrInvalid, syntax, syntax.Offset)
	}
	return members("it", body, deciding...)
}

// members reads the named members of a valid JSON object. Twice the same
// name, or a name in another case, is refused: readers differ in which one
// they take, encoding/json among them.
func members(where string, object json.RawMessage, names ...string) (fields, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, fmt.Errorf("%w: %s is not an object", ErrInvalid, where)
	}
	found := fields{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, where, err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, where, err)
		}
		key, _ := token.(string)
		i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, key) })
		switch {
		case i < 0:
			continue
		case names[i] != key:
			return nil, fmt.Errorf("%w: %s has the field %q, which is %q in another case", ErrInvalid, where, key, names[i])
		case found[key] != nil:
			return nil, fmt.Errorf("%w: %s has the field %q twice", ErrInvalid, where, key)
		}
		found[key] = value
	}
	return found, nil
}

// each calls visit for the elements of a valid JSON array, or of null; where
// names the element. It decodes one at a time, so that the first bad one ends
// the work.
func each(where string, array json.RawMessage, visit func(where string, raw json.RawMessage) error) error {
	if string(array) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(array))
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return fmt.Errorf("%w: %s is not an array", ErrInvalid, where)
	}
	for i := 0; d.More(); i++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrInvalid, where, err)
		}
		if err := visit(where+"["+strconv.Itoa(i)+"]", raw); err != nil {
			return err
		}
	}
	return nil
}

// unmarshal decodes a valid JSON value; where names it in the error.
func unmarshal(where string, raw json.RawMessage, into any) error {
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%w: %s: %s has the wrong type or is out of range", ErrInvalid, where, escape(wrong.Field))
	}
	return fmt.Errorf("%w: %s: %w", ErrInvalid, where, err)
}

// require checks the schemaVersion and that the named fields are there, if
// with null only.
func (f fields) require(version int, names ...string) error {
	for _, name := range append([]string{"schemaVersion"}, names...) {
		if f[name] == nil {
			return fmt.Errorf("%w: it has no %s", ErrInvalid, name)
		}
	}
	var got int
	if err := json.Unmarshal(f["schemaVersion"], &got); err != nil || got != version {
		return fmt.Errorf("%w: its schemaVersion is %q, not %d", ErrInvalid, cut(string(f["schemaVersion"])), version)
	}
	return nil
}

// cut bounds what a message quotes of a document.
func cut(s string) string {
	const most = 60
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
