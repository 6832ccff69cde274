package scheme

import (
	_ "crypto/sha256" // for the digests of the reference package
	_ "crypto/sha512"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
)

// The names of ParseImageReference in the original's docker_spec_tests.cpp.
func TestParseFamiliarReadsTheNamesOfTheOriginalsTests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want Reference
	}{
		{"library/busybox", Reference{Registry: "docker.io", Repository: "library/busybox", Tag: "latest"}},
		{"busybox", Reference{Registry: "docker.io", Repository: "library/busybox", Tag: "latest"}},
		{"library/busybox:tag", Reference{Registry: "docker.io", Repository: "library/busybox", Tag: "tag"}},
		{"library/busybox@" + sha256Digest, Reference{Registry: "docker.io", Repository: "library/busybox", Digest: sha256Digest}},
		{"registry.io/library/busybox", Reference{Registry: "registry.io", Repository: "library/busybox", Tag: "latest"}},
		{"registry.io/library/busybox:tag", Reference{Registry: "registry.io", Repository: "library/busybox", Tag: "tag"}},
		{"registry.io:80/library/busybox:tag", Reference{Registry: "registry.io", Port: 80, Repository: "library/busybox", Tag: "tag"}},
		{"registry.io:80/library/busybox@" + sha256Digest, Reference{Registry: "registry.io", Port: 80, Repository: "library/busybox", Digest: sha256Digest}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.want.Kind = Image
			checkFamiliar(t, c.name, c.want)
		})
	}
}

func TestParseFamiliarReadsNamesAsDockerDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, familiar string
		want           Reference
	}{
		{"a tag", "alpine:3.20", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "3.20"}},
		{"a digest wins over a tag", "alpine:3.20@" + sha256Digest, Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Digest: sha256Digest}},
		{"sha512", "alpine@" + sha512Digest, Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Digest: sha512Digest}},
		{"a user of Docker Hub", "grafana/grafana", Reference{Kind: Image, Registry: "docker.io", Repository: "grafana/grafana", Tag: "latest"}},
		{"an old name of Docker Hub", "index.docker.io/alpine", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "latest"}},
		{"the host of Docker Hub", "registry-1.docker.io/alpine", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "latest"}},
		{"Docker Hub in upper case", "Docker.IO/alpine", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "latest"}},
		{"Docker Hub with its port", "docker.io:443/alpine", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "latest"}},
		{"Docker Hub with another port", "docker.io:80/alpine", Reference{Kind: Image, Registry: "docker.io", Port: 80, Repository: "alpine", Tag: "latest"}},
		{"a registry and a digest", "ghcr.io/o/r@" + sha256Digest, Reference{Kind: Image, Registry: "ghcr.io", Repository: "o/r", Digest: sha256Digest}},
		{"localhost", "localhost/app", Reference{Kind: Image, Registry: "localhost", Repository: "app", Tag: "latest"}},
		{"a bare name that looks like a host", "ghcr.io", Reference{Kind: Image, Registry: "docker.io", Repository: "library/ghcr.io", Tag: "latest"}},
		{"a bare name that looks like a host with a port", "localhost:5000", Reference{Kind: Image, Registry: "docker.io", Repository: "library/localhost", Tag: "5000"}},
		{"a name like the scheme", "docker:dind", Reference{Kind: Image, Registry: "docker.io", Repository: "library/docker", Tag: "dind"}},
		{"an IPv6 address", "[::1]:5000/app:1", Reference{Kind: Image, Registry: "[::1]", Port: 5000, Repository: "app", Tag: "1"}},
		{"a registry scheme", "localhost:5000/app:1#http", Reference{Kind: Image, Registry: "localhost", Port: 5000, RegistryScheme: "http", Repository: "app", Tag: "1"}},
		{"a registry scheme without tag", "localhost:5000/app#https", Reference{Kind: Image, Registry: "localhost", Port: 5000, RegistryScheme: "https", Repository: "app", Tag: "latest"}},
		{"a kind and a name of Docker Hub", "docker://alpine:3.20", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "3.20"}},
		{"a kind and a registry", "docker://ghcr.io/o/r:tag", Reference{Kind: Image, Registry: "ghcr.io", Repository: "o/r", Tag: "tag"}},
		{"a manifest with a registry scheme", "docker-manifest://localhost:5000/app:1#http", Reference{Kind: Manifest, Registry: "localhost", Port: 5000, RegistryScheme: "http", Repository: "app", Tag: "1"}},
		{"a blob", "docker-blob://ghcr.io/repo@" + sha256Digest, Reference{Kind: Blob, Registry: "ghcr.io", Repository: "repo", Digest: sha256Digest}},
		{"64 hex digits with a digest", sha256Digest[7:] + "@" + sha512Digest, Reference{Kind: Image, Registry: "docker.io", Repository: "library/" + sha256Digest[7:], Digest: sha512Digest}},
		{"a single label in upper case", "Registry/app", Reference{Kind: Image, Registry: "registry", Repository: "app", Tag: "latest"}},
		{"64 hex digits with a tag", sha256Digest[7:] + ":1", Reference{Kind: Image, Registry: "docker.io", Repository: "library/" + sha256Digest[7:], Tag: "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkFamiliar(t, c.familiar, c.want)
		})
	}
}

func checkFamiliar(t *testing.T, familiar string, want Reference) {
	t.Helper()
	got, err := ParseFamiliar(familiar)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checkAccepted(t, got)
}

func TestParseFamiliarRefusesANameAndNamesThePart(t *testing.T) {
	t.Parallel()
	const (
		noQuery = "Image tag/digest (uri.query) is not specified"
		user    = "user and password (uri.user, uri.password, anything before an '@') are refused, as URIs end up in logs"
		noPort  = " is not a decimal number from 1 to 65535"
		noTag   = " is not a tag: at most 128 letters, digits, '_', '.' and '-', beginning with none of the last two"
		noName  = " is not a repository name: lower-case letters and digits, joined by '.', '_', '__' or '-', in components separated by one '/'"
		noHost  = " is neither a DNS name (labels of letters, digits and inner hyphens, at most 63 characters each and 253 in all) nor an IP address"
		noHash  = " is neither sha256: with 64 nor sha512: with 128 lower-case hex digits"
	)
	for _, c := range []struct {
		name, familiar string
		want           Error
	}{
		{"nothing", "", Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"a tag alone", ":1", Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"a digest alone", "@" + sha256Digest, Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"a kind alone", "docker://", Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"a host alone", "ghcr.io/", Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"an unknown scheme", "https://ghcr.io/o/r:1", Error{PartScheme, false, "Docker fetcher plugin does not support 'https' URI scheme"}},
		{"an unknown scheme before a query", "https://ghcr.io/o/r?1", Error{PartScheme, false, "Docker fetcher plugin does not support 'https' URI scheme"}},
		{"a kind and no reference", "docker://alpine", Error{PartQuery, true, noQuery}},
		{"a kind and no reference but a registry", "docker-manifest://localhost:5000/app#http", Error{PartQuery, true, noQuery}},
		{"a kind and an empty reference", "docker://ghcr.io/org/app?", Error{PartQuery, true, noQuery}},
		{"a query without a kind", "ghcr.io/org/app?1", Error{PartPath, false, `repository (uri.path) "org/app?1"` + noName}},
		{"a blob by tag", "docker-blob://ghcr.io/o/r:1", Error{PartDigest, false, `digest (uri.query) "1"` + noHash}},
		{"upper case", "Alpine", Error{PartPath, false, `repository (uri.path) "Alpine" has upper-case letters`}},
		{"upper case in a registry", "ghcr.io/Org/app:1", Error{PartPath, false, `repository (uri.path) "Org/app" has upper-case letters`}},
		{"upper case on localhost", "localhost/App", Error{PartPath, false, `repository (uri.path) "App" has upper-case letters`}},
		{"a leading slash", "/alpine", Error{PartPath, false, `repository (uri.path) "/alpine"` + noName}},
		{"a dot-dot segment", "ghcr.io/../app:1", Error{PartPath, false, `repository (uri.path) "../app"` + noName}},
		{"the id of an image", sha256Digest[7:], Error{PartPath, false, `image name "` + sha256Digest[7:] + `" is the id of an image, not a name such as alpine:3.20 or ghcr.io/org/app`}},
		{"a name that is too long with library/", strings.Repeat("a", 250), Error{PartPath, false, `registry and repository (uri.host, uri.path) "docker.io/library/` + strings.Repeat("a", 82) + `..." are longer than 255 characters together`}},
		{"an underscore in the host", "my_registry.io/app:1", Error{PartHost, false, `registry host (uri.host) "my_registry.io"` + noHost}},
		{"a host that is no IPv4 address", "127.1/app:1", Error{PartHost, false, `registry host (uri.host) "127.1" ends in a number but is no IPv4 address (four decimal numbers from 0 to 255)`}},
		{"no host before a port", ":5000/app:1", Error{PartHost, true, "Registry host (uri.host) is not specified"}},
		{"letters for a port", "localhost:x/app:1", Error{PartPort, false, `registry port (uri.port) "x"` + noPort}},
		{"a port above 65535", "localhost:65536/app:1", Error{PartPort, false, `registry port (uri.port) "65536"` + noPort}},
		{"a port with a leading zero", "localhost:080/app:1", Error{PartPort, false, `registry port (uri.port) "080"` + noPort}},
		{"a port after a component", "org:5000/team:80/app", Error{PartPath, false, `repository (uri.path) "team:80/app"` + noName}},
		{"an empty tag", "alpine:", Error{PartQuery, false, `image tag (uri.query) ""` + noTag}},
		{"two tags", "alpine:1:2", Error{PartQuery, false, `image tag (uri.query) "1:2"` + noTag}},
		{"a digest after a colon", "alpine:" + sha256Digest, Error{PartQuery, false, `image tag (uri.query) "` + sha256Digest + `"` + noTag}},
		{"a wrong tag before a digest", "alpine:-1@" + sha256Digest, Error{PartQuery, false, `image tag (uri.query) "-1"` + noTag}},
		{"an empty digest", "alpine@", Error{PartDigest, false, `digest (uri.query) ""` + noHash}},
		{"a tag after an '@'", "alpine@latest", Error{PartDigest, false, `digest (uri.query) "latest"` + noHash}},
		{"a digest that is too short", "alpine@sha256:0123", Error{PartDigest, false, `digest (uri.query) "sha256:0123"` + noHash}},
		{"a digest of another algorithm", "alpine@sha384:" + strings.Repeat("0", 96), Error{PartDigest, false, `digest (uri.query) "sha384:` + strings.Repeat("0", 93) + `..."` + noHash}},
		{"an empty fragment", "alpine#", Error{PartFragment, false, "registry scheme (uri.fragment) is empty"}},
		{"another fragment", "alpine#ftp", Error{PartFragment, false, `registry scheme (uri.fragment) "ftp" is neither http nor https`}},
		{"userinfo", "user:hunter2@ghcr.io/o/r:1", Error{PartUser, false, user}},
		{"userinfo after a kind", "docker://user:hunter2@ghcr.io/o/r:1", Error{PartUser, false, user}},
		{"userinfo and a digest", "docker://user:hunter2@ghcr.io/o/r@" + sha256Digest, Error{PartUser, false, user}},
		{"userinfo before a bare name and a digest", "user:hunter2@alpine@" + sha256Digest, Error{PartUser, false, user}},
		{"userinfo with a slash", "docker://user:hunter2/hunter2@ghcr.io/o/r:1", Error{PartUser, false, user}},
		{"userinfo with a number sign", "user:hunter2!#hunter2@ghcr.io/o/r:1", Error{PartFragment, false, `registry scheme (uri.fragment) "[hidden]" is neither http nor https`}},
		{"userinfo before a name without a slash", "user:hunter2@alpine:3.20", Error{PartDigest, false, `digest (uri.query) "alpine:3.20"` + noHash}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := ParseFamiliar(c.familiar)
			checkRefused(t, r, err, c.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q shows the secret", err)
			}
		})
	}
}

// byReference reads a name by docker's own package. What that takes and a URI
// can't say, such as port 0 or a digest of another algorithm, FromURI refuses.
func byReference(name string) (Reference, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return Reference{}, err
	}
	u := URI{Scheme: string(Image), Path: reference.Path(named)}
	switch named := named.(type) {
	case reference.Digested:
		u.Query = new(named.Digest().String())
	case reference.Tagged:
		u.Query = new(named.Tag())
	}
	if u.Host, u.Port, err = splitAuthority(reference.Domain(named)); err != nil {
		return Reference{}, err
	}
	return FromURI(u)
}

// checkAgainstReference holds ParseFamiliar to docker's package.
func checkAgainstReference(t *testing.T, name string) {
	t.Helper()
	domain, _, _ := strings.Cut(name, "/")
	if strings.Contains(name, "://") || strings.Contains(name, "#") || strings.HasPrefix(domain, "[") && strings.Contains(domain, ".") {
		return // of a URI alone: a kind, a registry scheme, an IPv6 address that ends as an IPv4 address
	}
	got, err := ParseFamiliar(name)
	want, wantErr := byReference(name)
	if got != want || (err == nil) != (wantErr == nil) {
		t.Errorf("%q is %v, %v, by docker's package %v, %v", name, got, err, want, wantErr)
	}
}

func TestParseFamiliarAgreesWithDockerOnEveryShortName(t *testing.T) {
	t.Parallel()
	everyString("aA1.:/_-@[", 4, func(name string) { checkAgainstReference(t, name) })
}

func TestParseFamiliarAgreesWithDockerOnNamesOfEveryShape(t *testing.T) {
	t.Parallel()
	domains := []string{
		"", "/", "a/", "A/", "localhost/", "Localhost/", "localhost:5000/", "docker.io/", "index.docker.io/", "registry-1.docker.io/",
		"Docker.io/", "index.docker.io:443/", "docker.io:80/", "a.b/", "a_b.c/", "a__b/", "-a.b/", "a:/", ":1/", "a:01/", "a:65536/",
		"127.0.0.1/", "127.1/", "[::1]/", "[::1]:5000/", "[::1/", "::1/", "[1/", "\u00c9/", strings.Repeat("a", 64) + ".b/",
	}
	repositories := []string{
		"", "a", "a/b", "library/a", "a//b", "a/", "/a", "A", "a/B", "a..b", "a__b", "a___b", "a--b", "a.", "-a", "a b", "a?b", "\u00e9",
		sha256Digest[7:], strings.ToUpper(sha256Digest[7:]), strings.Repeat("a", 235), strings.Repeat("a", 237), strings.Repeat("a", 248), strings.Repeat("a", 256),
	}
	tags := []string{"", ":", ":1", ":_", ":-", ":a:b", ":a/b", ":" + strings.Repeat("a", 128), ":" + strings.Repeat("a", 129)}
	digests := []string{
		"", "@", "@" + sha256Digest, "@" + sha512Digest, "@" + sha256Digest[:70], "@" + sha256Digest + "0", "@" + strings.ToUpper(sha256Digest),
		"@" + sha256Digest + "@" + sha256Digest, "@sha384:" + strings.Repeat("0", 96), "@md5:" + strings.Repeat("0", 32),
	}
	for _, domain := range domains {
		for _, repository := range repositories {
			for _, rest := range []string{"", ":1", "@" + sha256Digest} {
				checkAgainstReference(t, domain+repository+rest)
			}
		}
	}
	for _, name := range []string{"a", "a.b/c", sha256Digest[7:]} {
		for _, tag := range tags {
			for _, digest := range digests {
				checkAgainstReference(t, name+tag+digest)
			}
		}
	}
}

func FuzzParseFamiliar(f *testing.F) {
	for _, seed := range []string{
		"alpine", "alpine:3.20", "ghcr.io/o/r@" + sha256Digest, "docker://ghcr.io/o/r:tag", "docker-manifest://localhost:5000/app:1#http",
		"docker-blob://[2001:DB8::1]/repo@" + sha512Digest, "index.docker.io:443/a:b@" + sha256Digest, "user:password@host/a:b",
		"docker://docker.io/alpine?3.20#https", "A.b:080/C:", sha256Digest[7:],
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkAgainstReference(t, s)
		r, err := ParseFamiliar(s)
		if err != nil {
			checkError(t, err)
			return
		}
		checkAccepted(t, r)
	})
}
