package scheme

import "strings"

// Parse parses the string form of a URI, see the package comment; the tag or
// digest must be there. The error is an *Error, as from FromURI.
func Parse(s string) (Reference, error) {
	scheme, rest, _ := cutScheme(s)
	if _, err := parseKind(scheme); err != nil {
		return Reference{}, err
	}
	// Nothing that is allowed has an '@', so wherever it is, it ends a userinfo:
	// a password may hold any of the other separators.
	if strings.Contains(rest, "@") {
		return Reference{}, userRefused()
	}
	u := URI{Scheme: scheme}
	rest, u.Fragment = cutOptional(rest, "#")
	rest, u.Query = cutOptional(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	u.Path = path
	var err error
	if u.Host, u.Port, err = splitAuthority(authority); err != nil {
		return Reference{}, err
	}
	return FromURI(u)
}

// cutScheme cuts s after its scheme; without one, scheme is empty and rest is s.
func cutScheme(s string) (scheme, rest string, found bool) {
	if scheme, rest, found = strings.Cut(s, ":"); found && strings.HasPrefix(rest, "//") {
		return scheme, rest[len("//"):], true
	}
	return "", s, false
}

// cutOptional cuts s at sep; after is nil where s has no sep.
func cutOptional(s, sep string) (before string, after *string) {
	before, tail, found := strings.Cut(s, sep)
	if !found {
		return s, nil
	}
	return before, &tail
}

// splitAuthority splits host[:port], where a host in brackets may hold colons.
func splitAuthority(authority string) (host *string, port *int32, err error) {
	sep := ":"
	if strings.HasPrefix(authority, "[") {
		sep = "]:"
	}
	name, text, found := strings.Cut(authority, sep)
	if !found {
		return &authority, nil, nil
	}
	name += strings.TrimSuffix(sep, ":")
	number, err := parsePort(text)
	return &name, &number, err
}
