package scheme

import "strings"

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

// parseName parses a name into the parts of a URI, as docker's reference
// package does, which the tests hold it to. The parts and their lengths are
// those of the package comment, where docker allows more:
//
//	name   = [ domain "/" ] repository [ ":" tag ] [ "@" digest ]
//	domain = host [ ":" port ]
//
// What stands before the first "/" is a domain where it can't begin a
// repository: where it has a ".", a ":" or an upper-case letter; and where it
// is localhost. All other names are of docker.io. 64 hex digits alone are no
// name but the id of an image. Query is nil without tag and digest.
func parseName(s string) (URI, error) {
	name, digest, err := cutDigest(s)
	if err != nil {
		return URI{}, err
	}
	if digest == nil && isHex(name, 64) {
		return URI{}, invalid(PartPath, "image name "+quote(name)+
			" is the id of an image, not a name such as alpine:3.20 or ghcr.io/org/app")
	}
	domain, rest := cutDomain(name)
	repository, tag := cutTag(rest)
	if err := checkRepository(repository); err != nil { // FromURI would drop a leading slash
		return URI{}, err
	}
	u := URI{Path: repository, Query: tag}
	if tag != nil {
		if err := checkTag(*tag); err != nil { // whether or not there is a digest
			return URI{}, err
		}
	}
	if digest != nil {
		u.Query = digest
	}
	u.Host, u.Port, err = splitAuthority(domain)
	return u, err
}

// cutDomain cuts a name after its domain, which is docker.io where it has none.
func cutDomain(name string) (domain, rest string) {
	domain, rest, found := strings.Cut(name, "/")
	if found && (domain == "localhost" || strings.ContainsAny(domain, ".:") || strings.ToLower(domain) != domain) {
		return domain, rest
	}
	return dockerHub, name
}

// cutTag cuts repository[:tag]; tag is nil where there is none. A ':' before
// the last '/' begins no tag.
func cutTag(s string) (repository string, tag *string) {
	last := strings.LastIndex(s, "/") + 1
	component, tag := cutOptional(s[last:], ":")
	return s[:last] + component, tag
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
