package scheme

import (
	"strings"

	"github.com/distribution/reference"
)

// ParseFamiliar parses what people type: everything that Parse takes, and
// familiar names, as docker reads them:
//
//	alpine                                    latest of docker.io/library/alpine
//	ghcr.io/org/app:1.2                       a tag
//	alpine:3.20@sha256:...                    the digest wins
//	docker-manifest://localhost:5000/app:1    with a kind
//	localhost:5000/app:1#http                 with a registry scheme
//
// Only a bare name without tag and digest means latest: with a kind it is an
// error, as a URI must bring its reference. The error is an *Error, as from
// FromURI.
func ParseFamiliar(s string) (Reference, error) {
	scheme, name, isURI := cutScheme(s)
	if isURI && strings.Contains(name, "?") {
		return Parse(s)
	}
	if !isURI {
		scheme = string(Image)
	}
	kind, err := parseKind(scheme)
	if err != nil {
		return Reference{}, err
	}
	name, fragment := cutOptional(name, "#")
	// Ahead of the name: an '@' in the fragment would make userinfo of the name.
	if _, err = parseRegistryScheme(fragment); err != nil {
		return Reference{}, err
	}
	u, err := parseName(name)
	if err != nil {
		return Reference{}, err
	}
	if u.Query == nil && !isURI {
		u.Query = new("latest")
	}
	u.Scheme, u.Fragment = string(kind), fragment
	return FromURI(u)
}

// parseName parses [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST] into the parts of
// a URI; Query is nil without tag and digest.
func parseName(s string) (URI, error) {
	name, digest, err := cutDigest(s)
	if err != nil {
		return URI{}, err
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil || reference.Domain(named) == "" { // no domain: it took a bad host for a part of the path
		return URI{}, nameRefused(name)
	}
	u := URI{Path: reference.Path(named), Query: digest}
	if tagged, ok := named.(reference.Tagged); ok && digest == nil {
		u.Query = new(tagged.Tag())
	}
	u.Host, u.Port, err = splitAuthority(reference.Domain(named))
	return u, err
}

// cutDigest cuts name@digest; digest is nil where there is none. What is no
// digest may be a host after a password, so nothing before the '@' is shown.
func cutDigest(s string) (name string, digest *string, err error) {
	at := strings.LastIndex(s, "@")
	if at < 0 {
		return s, nil, nil
	}
	name, text := s[:at], s[at+1:]
	if strings.Contains(name, "@") || strings.Contains(text, "/") {
		return "", nil, userRefused()
	}
	return name, &text, checkDigest(text)
}

// nameRefused finds the part that made the reference package refuse
// [HOST[:PORT]/]REPOSITORY[:TAG]; its own errors don't tell.
func nameRefused(name string) error {
	host, path, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(host, ".:") {
		path = name
	} else if err := hostRefused(host); err != nil {
		return err
	}
	tagAt := strings.LastIndex(path, "/") + 1
	last, tag := cutOptional(path[tagAt:], ":")
	if err := checkRepository(path[:tagAt] + last); err != nil {
		return err
	}
	if tag != nil {
		if err := checkTag(*tag); err != nil {
			return err
		}
	}
	return invalid(PartPath, "image name "+quote(name)+" is not a name of at most 255 characters such as "+
		"alpine:3.20 or ghcr.io/org/app; the id of an image is no name")
}

func hostRefused(authority string) error {
	host, _, err := splitAuthority(authority)
	if err == nil {
		_, err = parseHost(host)
	}
	return err
}
