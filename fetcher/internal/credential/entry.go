package credential

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// entry is one registry, or part of one, in a config. Either the credential
// or the problem is set.
type entry struct {
	key string // as it may be shown
	location
	credential Credential
	problem    string
}

// identityTokenUser is what docker-credential-helpers put for the user name
// of a pair whose secret is an identity token.
const identityTokenUser = "<token>"

// entryFields are the fields that make an object an entry.
var entryFields = []string{"auth", "email", "identitytoken", "password", "registrytoken", "username"}

// looksLikeEntry reports whether a top-level value is an entry of a .dockercfg.
func looksLikeEntry(value json.RawMessage) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil || fields == nil {
		return false
	}
	for name := range fields {
		if slices.ContainsFunc(entryFields, func(f string) bool { return strings.EqualFold(f, name) }) {
			return true
		}
	}
	return len(fields) == 0
}

// parseEntry reads one entry as docker/cli does: auth wins over username and
// password, unknown fields are ignored. The problem tells nothing of a value.
func parseEntry(value json.RawMessage) (c Credential, problem string) {
	var fields struct{ Auth, Username, Password, IdentityToken, RegistryToken string }
	if err := json.Unmarshal(value, &fields); err != nil {
		return Credential{}, describe(err)
	}
	c = Credential{fields.Username, fields.Password, fields.IdentityToken, fields.RegistryToken}
	if fields.Auth != "" {
		c.Username, c.Password, problem = parseAuth(fields.Auth, c.IdentityToken != "")
		if problem != "" {
			return Credential{}, problem
		}
	}
	// docker pads the password with NUL bytes, at times.
	c.Password = strings.TrimRight(c.Password, "\x00")
	if c.Username == identityTokenUser && (c.Password != "" || c.IdentityToken != "") {
		c = Credential{IdentityToken: cmp.Or(c.IdentityToken, c.Password), RegistryToken: c.RegistryToken}
	}
	return c, check(c)
}

// parseAuth splits the decoded text at the first colon: RFC 7617 allows none
// in the user name and any number in the password.
func parseAuth(auth string, haveToken bool) (username, password, problem string) {
	if hasControl(auth) {
		return "", "", "auth holds a control character, such as a line break"
	}
	text, err := decodeBase64(auth)
	if err != nil {
		return "", "", "auth is not base64"
	}
	username, password, found := strings.Cut(string(text), ":")
	switch {
	case found:
		return username, password, ""
	case haveToken: // which alone counts then
		return "", "", ""
	}
	return "", "", "auth is not the base64 of user:password, it decodes to a text without a colon"
}

// check refuses what can't be sent: control characters would end a header
// line early, and a colon in the user name would move into the password.
func check(c Credential) (problem string) {
	for _, field := range []struct{ name, value string }{
		{"the user name", c.Username},
		{"the password", c.Password},
		{"identitytoken", c.IdentityToken},
		{"registrytoken", c.RegistryToken},
	} {
		if hasControl(field.value) {
			return field.name + " holds a control character, such as the line break that echo adds without -n"
		}
	}
	if strings.Contains(c.Username, ":") {
		return "the user name holds a colon"
	}
	return ""
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// decodeBase64 takes both alphabets of RFC 4648, padded or not. A text is
// valid in more than one only where it means the same.
func decodeBase64(s string) (data []byte, err error) {
	for _, encoding := range []*base64.Encoding{
		base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
	} {
		if data, err = encoding.DecodeString(s); err == nil {
			return data, nil
		}
	}
	return nil, errors.New("not base64")
}

// describe says which field has the wrong type. The text of the error itself
// quotes numbers.
func describe(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok || wrong.Field == "" {
		return "it is not an object"
	}
	return fmt.Sprintf("%s is not a string", strings.ToLower(wrong.Field))
}
