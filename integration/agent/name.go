package agent

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// DefaultRegistry is asked for an image whose name has no registry; the
// default of the original's flag --docker_registry.
const DefaultRegistry = "https://registry-1.docker.io"

// Name is the name of an image, [REGISTRY[:PORT]/]REPOSITORY[:TAG|@DIGEST];
// parts that it lacks are empty.
type Name struct {
	Registry   string // HOST or HOST:PORT
	Repository string
	Tag        string
	Digest     string
}

// ParseName takes a name apart by the original's rules (parseImageReference in
// src/docker/spec.cpp): the first component is the registry if it has a dot or
// a colon or is localhost, and a colon before a slash belongs to a port.
func ParseName(s string) (Name, error) {
	var n Name
	rest, digest, found := strings.Cut(s, "@")
	if found && (digest == "" || strings.Contains(digest, "@")) {
		return Name{}, fmt.Errorf("invalid image name %q: what follows '@' is not one digest", s)
	}
	n.Digest = digest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		rest, n.Tag = rest[:i], rest[i+1:]
		if n.Tag == "" {
			return Name{}, fmt.Errorf("invalid image name %q: the tag is empty", s)
		}
	}
	n.Repository = rest
	first, path, found := strings.Cut(rest, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		n.Registry, n.Repository = first, path
	}
	if n.Repository == "" {
		return Name{}, fmt.Errorf("invalid image name %q: the repository is empty", s)
	}
	return n, nil
}

// Reference returns the image that n names; registry is the URL of the
// registry of a name without one. As in the original's puller, the digest goes
// before the tag, a name with neither means latest, and a single component on
// Docker Hub is below library/.
func (n Name) Reference(registry string) (scheme.Reference, error) {
	identifier := "latest"
	switch {
	case n.Digest != "":
		identifier = n.Digest
	case n.Tag != "":
		identifier = n.Tag
	}
	address, protocol := n.Registry, ""
	if address == "" {
		u, err := url.Parse(registry)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return scheme.Reference{}, fmt.Errorf("invalid default registry %q: it is not http://HOST or https://HOST", registry)
		}
		address, protocol = u.Host, u.Scheme
	}
	host, port, err := splitPort(address)
	if err != nil {
		return scheme.Reference{}, err
	}
	if protocol == "" {
		protocol = protocolOf(host, port)
	}
	return scheme.NewImage(n.Repository, identifier, host, protocol, port)
}

// splitPort splits HOST[:PORT]; port is 0 where there is none.
func splitPort(address string) (host string, port int, err error) {
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 || strings.HasSuffix(address, "]") { // an IPv6 address
		return address, 0, nil
	}
	port, err = strconv.Atoi(address[colon+1:])
	if err != nil || port <= 0 {
		return "", 0, fmt.Errorf("invalid registry %q: %q is not a port", address, address[colon+1:])
	}
	return address[:colon], port, nil
}

// protocolOf is the original's getRegistryScheme: the port decides, then
// loopback with a port is http, and all else https.
func protocolOf(host string, port int) string {
	switch {
	case port == 80:
		return "http"
	case port == 0, port == 443:
		return "https"
	case host == "localhost", host == "127.0.0.1":
		return "http"
	}
	return "https"
}
