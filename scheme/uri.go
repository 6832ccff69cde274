package scheme

import (
	"strconv"
	"strings"
)

// URI mirrors mesos.URI (Apache Mesos, include/mesos/uri/uri.proto) field for
// field. As there, unset (nil) differs from empty.
type URI struct {
	Scheme   string  // docker | docker-manifest | docker-blob
	User     *string // must be unset: credentials go in the docker config
	Password *string // must be unset
	Host     *string // registry host, required
	Port     *int32
	Path     string  // repository, such as library/busybox; one leading slash is accepted
	Query    *string // tag or digest, required
	Fragment *string // registry scheme: https (default) or http
}

// NewImage returns the Reference of a whole image. The arguments are those of
// uri::docker::image in the original: reference is a tag or a digest, registry
// a host, registryScheme "" where unset and port 0 where unset. The error is
// an *Error, as from FromURI.
func NewImage(repository, reference, registry, registryScheme string, port int) (Reference, error) {
	return newReference(Image, repository, reference, registry, registryScheme, port)
}

// NewManifest is NewImage for the manifest alone.
func NewManifest(repository, reference, registry, registryScheme string, port int) (Reference, error) {
	return newReference(Manifest, repository, reference, registry, registryScheme, port)
}

// NewBlob is NewImage for one blob, which only a digest can name.
func NewBlob(repository, digest, registry, registryScheme string, port int) (Reference, error) {
	return newReference(Blob, repository, digest, registry, registryScheme, port)
}

func newReference(kind Kind, repository, identifier, registry, registryScheme string, port int) (Reference, error) {
	u := URI{Scheme: string(kind), Host: &registry, Path: repository, Query: &identifier}
	if registryScheme != "" {
		u.Fragment = &registryScheme
	}
	if port != 0 {
		p, err := parsePort(strconv.Itoa(port))
		if err != nil {
			return Reference{}, err
		}
		u.Port = &p
	}
	return FromURI(u)
}

// FromURI returns the Reference that a message means. The error is an *Error
// about the first part that is wrong; where the Mesos original refuses the
// same message, it begins with the original's words.
func FromURI(u URI) (Reference, error) {
	var r Reference
	var err error
	if r.Kind, err = parseKind(u.Scheme); err != nil {
		return Reference{}, err
	}
	if u.User != nil || u.Password != nil {
		return Reference{}, userRefused()
	}
	if r.Registry, err = parseHost(u.Host); err != nil {
		return Reference{}, err
	}
	if r.Tag, r.Digest, err = parseIdentifier(r.Kind, u.Query); err != nil {
		return Reference{}, err
	}
	if r.Port, err = checkPort(u.Port); err != nil {
		return Reference{}, err
	}
	if r.RegistryScheme, err = parseRegistryScheme(u.Fragment); err != nil {
		return Reference{}, err
	}
	r.Repository = strings.TrimPrefix(u.Path, "/")
	if err = checkRepository(r.Repository); err != nil {
		return Reference{}, err
	}
	r = r.atDockerHub()
	if len(r.Name()) > nameMax {
		return Reference{}, invalid(PartPath, "registry and repository (uri.host, uri.path) "+quote(r.Name())+
			" are longer than 255 characters together")
	}
	return r, nil
}

// URI returns the message that means r: FromURI(r.URI()) is r. An IPv6
// address has its brackets there, and the path no leading slash.
func (r Reference) URI() URI {
	u := URI{Scheme: string(r.Kind), Host: new(r.Registry), Path: r.Repository, Query: new(r.Identifier())}
	if r.Port != 0 {
		u.Port = new(int32(r.Port))
	}
	if r.RegistryScheme != "" {
		u.Fragment = new(r.RegistryScheme)
	}
	return u
}
