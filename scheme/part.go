package scheme

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// One function per part of a URI: each holds its part to the grammar in the
// package comment, and nothing else does.

const (
	hostMax = 253 // RFC 1035, section 2.3.4, without the final dot
	nameMax = 255 // registry, port and repository, as distribution-spec "Pulling manifests" advises
)

func parseKind(scheme string) (Kind, error) {
	kind := Kind(scheme)
	if kind.Valid() {
		return kind, nil
	}
	return "", &Error{Part: PartScheme, Missing: scheme == "", Text: "Docker fetcher plugin does not support '" +
		escape(scheme) + "' URI scheme; use docker, docker-manifest or docker-blob"}
}

func parseHost(host *string) (string, error) {
	if host == nil || *host == "" {
		return "", missing(PartHost, "Registry host (uri.host) is not specified; for Docker Hub it is docker.io")
	}
	h, bad := *host, "registry host (uri.host) "+quote(*host)
	switch {
	case strings.Contains(h, "@"):
		return "", userRefused()
	case strings.HasPrefix(h, "[") || strings.Count(h, ":") > 1:
		return parseIPv6(h)
	case strings.Contains(h, ":"):
		return "", invalid(PartHost, bad+" holds a port; put the port in uri.port")
	case strings.ContainsFunc(h, func(r rune) bool { return r > unicode.MaxASCII }):
		return "", invalid(PartHost, bad+" is not ASCII; write the name in its punycode form (xn--...)")
	case strings.HasSuffix(h, "."):
		return "", invalid(PartHost, bad+" ends with a dot; leave it out")
	case len(h) > hostMax || !isDNSName(h):
		return "", invalid(PartHost, bad+" is neither a DNS name (labels of letters, digits and inner hyphens, "+
			"at most 63 characters each and 253 in all) nor an IP address")
	case looksLikeIPv4(h) && !isIPv4(h):
		return "", invalid(PartHost, bad+" ends in a number but is no IPv4 address (four decimal numbers from 0 to 255)")
	}
	return strings.ToLower(h), nil
}

// parseIPv6 accepts an address with or without brackets and returns its
// canonical text (RFC 5952) in brackets.
func parseIPv6(host string) (string, error) {
	text := host
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			text = inner
		}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" {
		return "", invalid(PartHost, "registry host (uri.host) "+quote(host)+" is not an IPv6 address "+
			"such as [2001:db8::1], without zone and not IPv4-mapped; a port goes in uri.port")
	}
	return "[" + addr.String() + "]", nil
}

// looksLikeIPv4 is the "ends in a number" test of the WHATWG URL standard:
// some resolvers take such a host (0x7f.1, 127.1, 2130706433) for an address.
func looksLikeIPv4(host string) bool {
	return isNumber(host[strings.LastIndex(host, ".")+1:])
}

func isIPv4(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Is4()
}

// parsePort parses the port of an authority.
func parsePort(text string) (int32, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strings.HasPrefix(text, "0") {
		return 0, portRefused(text)
	}
	return int32(port), nil
}

func checkPort(port *int32) (int, error) {
	if port == nil {
		return 0, nil
	}
	if *port < 1 || *port > 65535 {
		return 0, portRefused(strconv.Itoa(int(*port)))
	}
	return int(*port), nil
}

func portRefused(port string) error {
	text := "registry port (uri.port) " + quote(port) + " is not a decimal number from 1 to 65535"
	if strings.Contains(port, ":") {
		text += "; an IPv6 address goes in brackets"
	}
	return invalid(PartPort, text)
}

func checkRepository(repository string) error {
	bad := "repository (uri.path) " + quote(repository)
	switch {
	case repository == "":
		return missing(PartPath, "repository (uri.path) is not specified; it is a path such as library/busybox")
	case len(repository) > nameMax:
		return invalid(PartPath, bad+" is longer than 255 characters")
	case isRepository(repository):
		return nil
	case strings.ContainsFunc(repository, unicode.IsUpper):
		return invalid(PartPath, bad+" has upper-case letters; repository names are lower case")
	}
	return invalid(PartPath, bad+" is not a repository name: lower-case letters and digits, "+
		"joined by '.', '_', '__' or '-', in components separated by one '/'")
}

// parseIdentifier tells a digest from a tag: no tag has a ':'.
func parseIdentifier(kind Kind, query *string) (string, digest.Digest, error) {
	if query == nil || *query == "" {
		return "", "", missing(PartQuery, "Image tag/digest (uri.query) is not specified; name a tag or a digest")
	}
	if kind == Blob || strings.Contains(*query, ":") {
		return "", digest.Digest(*query), checkDigest(*query)
	}
	return *query, "", checkTag(*query)
}

func checkTag(tag string) error {
	if isTag(tag) {
		return nil
	}
	return invalid(PartQuery, "image tag (uri.query) "+quote(tag)+" is not a tag: at most 128 letters, digits, "+
		"'_', '.' and '-', beginning with none of the last two")
}

// checkDigest is stricter than go-digest, which takes any algorithm that the
// program links: a digest becomes a file name and must be verifiable.
func checkDigest(text string) error {
	algorithm, hex, _ := strings.Cut(text, ":")
	if algorithm == "sha256" && isHex(hex, 64) || algorithm == "sha512" && isHex(hex, 128) {
		return nil
	}
	return invalid(PartDigest, "digest (uri.query) "+quote(text)+" is neither sha256: with 64 "+
		"nor sha512: with 128 lower-case hex digits")
}

func parseRegistryScheme(fragment *string) (string, error) {
	switch {
	case fragment == nil:
		return "", nil
	case *fragment == "http", *fragment == "https":
		return *fragment, nil
	case *fragment == "":
		return "", invalid(PartFragment, "registry scheme (uri.fragment) is empty; leave it out, or say http or https")
	}
	return "", invalid(PartFragment, "registry scheme (uri.fragment) "+quote(*fragment)+" is neither http nor https")
}
