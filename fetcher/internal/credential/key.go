package credential

import (
	"net/netip"
	"strconv"
	"strings"
)

// location is what a config's key stands for: the repositories at or below
// path (all, if empty) of the registry host. An empty host is no registry.
type location struct{ host, path string }

// serves reports whether the credential at l is for a repository of host.
func (l location) serves(host, repository string) bool {
	if l.host == "" || l.host != host {
		return false
	}
	rest, below := strings.CutPrefix(repository, l.path)
	return l.path == "" || below && (rest == "" || rest[0] == '/')
}

// parseKey reads a key: HOST[:PORT][/PATH], with http:// or https:// before
// it where an old docker wrote it. A problem without a host is a key that
// can't be matched to any registry.
func parseKey(key string) (at location, problem string) {
	authority, path, _ := strings.Cut(trimScheme(key), "/")
	authority, hasUser := trimUser(authority)
	host, ok := normalize(authority)
	if !ok {
		return location{}, "the key is not a registry's host"
	}
	switch path = strings.TrimRight(path, "/"); {
	case path == "v1" || path == "v2": // API roots, such as https://index.docker.io/v1/
		path = ""
	case path != "" && !isRepository(path):
		return location{}, "the path of the key is not a repository"
	}
	if hasUser {
		return location{host, path}, "the key holds user information"
	}
	return location{host, path}, ""
}

func trimScheme(key string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if len(key) >= len(scheme) && strings.EqualFold(key[:len(scheme)], scheme) {
			return key[len(scheme):]
		}
	}
	return key
}

func trimUser(authority string) (host string, found bool) {
	i := strings.LastIndexByte(authority, '@')
	return authority[i+1:], i >= 0
}

// shown is a key as errors may quote it: short, and without what stands
// before an @, which may be a password.
func shown(key string) string {
	const most = 600 // a scheme, a host, a port and a path of full length fit
	if i := strings.LastIndexByte(key, '@'); i >= 0 {
		key = redacted + key[i:]
	}
	if len(key) > most {
		key = key[:most] + "..."
	}
	return key
}

// normalize brings HOST[:PORT] into the one form in which hosts are compared:
// lower case, no default port, Docker Hub under its one name.
func normalize(authority string) (host string, ok bool) {
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		number, err := strconv.ParseUint(authority[i+1:], 10, 16)
		if err != nil || number == 0 {
			return "", false
		}
		host, port = authority[:i], strconv.FormatUint(number, 10)
	}
	if host, ok = normalizeName(host); !ok {
		return "", false
	}
	switch {
	case port != "" && port != "443":
		return host + ":" + port, true
	case host == "index.docker.io" || host == "registry-1.docker.io":
		return "docker.io", true
	}
	return host, true
}

// normalizeName takes what RFC 3986 calls a host, as far as registries have
// such: a DNS name, an IPv4 address, an IPv6 address in brackets.
func normalizeName(host string) (string, bool) {
	if inner, v6 := strings.CutPrefix(host, "["); v6 {
		address, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !address.Is6() || address.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return "", false
		}
		return "[" + address.String() + "]", true
	}
	if len(host) > 253 || !isName(host) || strings.Contains(host, "..") {
		return "", false
	}
	return strings.ToLower(host), true // ASCII only, here
}

// isRepository reports whether path is a repository name or the beginning of
// one (distribution-spec, "Pulling manifests"), not minding which separators
// may follow each other.
func isRepository(path string) bool {
	for component := range strings.SplitSeq(path, "/") {
		if !isName(component) || component != strings.ToLower(component) {
			return false
		}
	}
	return len(path) <= 255
}

// isName reports whether s has only ASCII letters and digits and, between
// them, dots, dashes and underscores.
func isName(s string) bool {
	for i := range len(s) {
		inside := i > 0 && i < len(s)-1
		if !isAlnum(s[i]) && (!inside || strings.IndexByte("-._", s[i]) < 0) {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
