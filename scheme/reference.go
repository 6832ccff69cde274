package scheme

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Docker Hub is one registry with three names, and these exactly: a host that
// merely holds one of them (docker.io.example.com) is another registry.
const (
	dockerHub      = "docker.io"
	dockerHubIndex = "index.docker.io"
	dockerHubHost  = "registry-1.docker.io" // the one that serves
)

// Reference is one image, manifest or blob in one repository of one registry,
// normalised, so that == compares. Only what the URI leaves open stays open: a
// default port or scheme that it does not say differs from one that it says,
// save for port 443 of Docker Hub. The functions of this package return only
// References that the grammar allows; check one made by hand with
// FromURI(r.URI()).
type Reference struct {
	Kind Kind
	// Registry is the lower-case host of the registry, an IPv6 address in
	// brackets. Docker Hub is "docker.io" here, whichever name it came by.
	Registry string
	// Port is the registry's port; 0: the default of the registry scheme.
	Port int
	// RegistryScheme is "https", "http" or "", where the URI does not say:
	// https, though a loopback registry may answer plain http.
	RegistryScheme string
	// Repository is the path within the registry, "library/alpine"; single
	// names of Docker Hub have got their library/.
	Repository string
	// Exactly one of Tag and Digest is set; for a Blob it is Digest.
	Tag    string
	Digest digest.Digest
}

// atDockerHub gives a reference into Docker Hub its one form. Docker Hub
// serves https on port 443; the same host on another port is something else,
// such as a test double, and 443 is no default for http.
func (r Reference) atDockerHub() Reference {
	switch r.Registry {
	case dockerHub, dockerHubIndex, dockerHubHost:
	default:
		return r
	}
	if r.Port != 0 && (r.Port != 443 || r.RegistryScheme == "http") {
		return r
	}
	r.Registry, r.Port = dockerHub, 0
	if !strings.Contains(r.Repository, "/") {
		r.Repository = "library/" + r.Repository
	}
	return r
}

// String returns the canonical string form: Parse(r.String()) is r.
func (r Reference) String() string {
	s := string(r.Kind) + "://" + r.Name() + "?" + r.Identifier()
	if r.RegistryScheme != "" {
		s += "#" + r.RegistryScheme
	}
	return s
}

// Host returns host or host:port to connect to. For Docker Hub that is
// registry-1.docker.io.
func (r Reference) Host() string {
	if r.Registry == dockerHub && r.Port == 0 {
		return dockerHubHost
	}
	return r.Authority()
}

// Identifier returns the tag or the digest.
func (r Reference) Identifier() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Name returns registry[:port]/repository, for messages.
func (r Reference) Name() string { return r.Authority() + "/" + r.Repository }

// Authority returns registry[:port], as an operator's files name the registry;
// that of Docker Hub is docker.io.
func (r Reference) Authority() string {
	if r.Port == 0 {
		return r.Registry
	}
	return r.Registry + ":" + strconv.Itoa(r.Port)
}

// Loopback reports whether the registry is this machine by its name or
// address alone: localhost and names below it (RFC 6761, section 6.3),
// 127.0.0.0/8 and ::1. No name is resolved.
func (r Reference) Loopback() bool {
	if addr, err := netip.ParseAddr(strings.Trim(r.Registry, "[]")); err == nil {
		return addr.IsLoopback()
	}
	return r.Registry == "localhost" || strings.HasSuffix(r.Registry, ".localhost")
}
