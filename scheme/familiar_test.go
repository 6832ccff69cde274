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
		{"upper case on localhost", "localhost/App", Error{PartPath, false, `repository (uri.path) "localhost/App" has upper-case letters`}},
		{"a leading slash", "/alpine", Error{PartPath, false, `repository (uri.path) "/alpine"` + noName}},
		{"a dot-dot segment", "ghcr.io/../app:1", Error{PartPath, false, `repository (uri.path) "../app"` + noName}},
		{"the id of an image", sha256Digest[7:], Error{PartPath, false, `image name "` + sha256Digest[7:] + `" is not a name of at most 255 characters such as alpine:3.20 or ghcr.io/org/app`}},
		{"a name that is too long with library/", strings.Repeat("a", 250), Error{PartPath, false, `image name "` + strings.Repeat("a", 100) + `..." is not a name of at most 255 characters such as alpine:3.20 or ghcr.io/org/app`}},
		{"an underscore in the host", "my_registry.io/app:1", Error{PartHost, false, `registry host (uri.host) "my_registry.io"` + noHost}},
		{"a host that is no IPv4 address", "127.1/app:1", Error{PartHost, false, `registry host (uri.host) "127.1" ends in a number but is no IPv4 address (four decimal numbers from 0 to 255)`}},
		{"no host before a port", ":5000/app:1", Error{PartHost, true, "Registry host (uri.host) is not specified"}},
		{"letters for a port", "localhost:x/app:1", Error{PartPort, false, `registry port (uri.port) "x"` + noPort}},
		{"a port above 65535", "localhost:65536/app:1", Error{PartPort, false, `registry port (uri.port) "65536"` + noPort}},
		{"a port with a leading zero", "localhost:080/app:1", Error{PartPort, false, `registry port (uri.port) "080"` + noPort}},
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

func FuzzParseFamiliar(f *testing.F) {
	for _, seed := range []string{
		"alpine", "alpine:3.20", "ghcr.io/o/r@" + sha256Digest, "docker://ghcr.io/o/r:tag", "docker-manifest://localhost:5000/app:1#http",
		"docker-blob://[2001:DB8::1]/repo@" + sha512Digest, "index.docker.io:443/a:b@" + sha256Digest, "user:password@host/a:b",
		"docker://docker.io/alpine?3.20#https", "A.b:080/C:", sha256Digest[7:],
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseFamiliar(s)
		if err != nil {
			checkError(t, err)
			return
		}
		checkAccepted(t, r)
		if strings.ContainsAny(s, "#?") || strings.Contains(s, "://") {
			return
		}
		docker, err := reference.ParseDockerRef(s)
		if err != nil {
			t.Fatalf("docker refuses %q: %v", s, err)
		}
		if again, err := ParseFamiliar(docker.String()); err != nil || again != r {
			t.Errorf("%q is %s, but docker's %q is %s, %v", s, r, docker, again, err)
		}
	})
}
