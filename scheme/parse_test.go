package scheme

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseReadsTheStringForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, uri string
		want      Reference
	}{
		{"an image by tag", "docker://ghcr.io/org/app?1.2", Reference{Kind: Image, Registry: "ghcr.io", Repository: "org/app", Tag: "1.2"}},
		{"a manifest by digest", "docker-manifest://ghcr.io/org/app?" + sha256Digest, Reference{Kind: Manifest, Registry: "ghcr.io", Repository: "org/app", Digest: sha256Digest}},
		{"a blob", "docker-blob://ghcr.io/org/app?" + sha512Digest, Reference{Kind: Blob, Registry: "ghcr.io", Repository: "org/app", Digest: sha512Digest}},
		{"a leading slash in the path", "docker://ghcr.io//org/app?1", Reference{Kind: Image, Registry: "ghcr.io", Repository: "org/app", Tag: "1"}},
		{"a port", "docker://registry:5000/app?1", Reference{Kind: Image, Registry: "registry", Port: 5000, Repository: "app", Tag: "1"}},
		{"http", "docker://registry/app?1#http", Reference{Kind: Image, Registry: "registry", RegistryScheme: "http", Repository: "app", Tag: "1"}},
		{"https and a port", "docker://registry:443/app?1#https", Reference{Kind: Image, Registry: "registry", Port: 443, RegistryScheme: "https", Repository: "app", Tag: "1"}},
		{"an IPv6 address", "docker://[2001:db8::1]/app?1", Reference{Kind: Image, Registry: "[2001:db8::1]", Repository: "app", Tag: "1"}},
		{"an IPv6 address and a port", "docker://[::1]:5000/app?1#http", Reference{Kind: Image, Registry: "[::1]", Port: 5000, RegistryScheme: "http", Repository: "app", Tag: "1"}},
		{"a name of Docker Hub", "docker://docker.io/alpine?3.20", Reference{Kind: Image, Registry: "docker.io", Repository: "library/alpine", Tag: "3.20"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(c.uri)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkAccepted(t, got)
			if familiar, err := ParseFamiliar(c.uri); err != nil || familiar != got {
				t.Errorf("ParseFamiliar: got %+v, %v, want the same", familiar, err)
			}
		})
	}
}

func TestParseRefusesAStringAndNamesThePart(t *testing.T) {
	t.Parallel()
	const (
		noHost  = "Registry host (uri.host) is not specified"
		noQuery = "Image tag/digest (uri.query) is not specified"
		noPort  = " is not a decimal number from 1 to 65535"
		noTag   = " is not a tag: at most 128 letters, digits, '_', '.' and '-', beginning with none of the last two"
		noName  = " is not a repository name: lower-case letters and digits, joined by '.', '_', '__' or '-', in components separated by one '/'"
		noIPv6  = " is not an IPv6 address such as [2001:db8::1], without zone and not IPv4-mapped"
	)
	for _, c := range []struct {
		name, uri string
		want      Error
	}{
		{"nothing", "", Error{PartScheme, true, "Docker fetcher plugin does not support '' URI scheme"}},
		{"no scheme", "ghcr.io/org/app?1", Error{PartScheme, true, "Docker fetcher plugin does not support '' URI scheme"}},
		{"a scheme without slashes", "docker:ghcr.io/org/app?1", Error{PartScheme, true, "Docker fetcher plugin does not support '' URI scheme"}},
		{"an unknown scheme", "https://ghcr.io/org/app?1", Error{PartScheme, false, "Docker fetcher plugin does not support 'https' URI scheme"}},
		{"a scheme in upper case", "DOCKER://ghcr.io/org/app?1", Error{PartScheme, false, "Docker fetcher plugin does not support 'DOCKER' URI scheme"}},
		{"no host", "docker:///app?1", Error{PartHost, true, noHost}},
		{"a port without a host", "docker://:80/app?1", Error{PartHost, true, noHost}},
		{"no reference", "docker://ghcr.io/org/app", Error{PartQuery, true, noQuery}},
		{"an empty reference", "docker://ghcr.io/org/app?", Error{PartQuery, true, noQuery}},
		{"an empty reference before a fragment", "docker://ghcr.io/org/app?#http", Error{PartQuery, true, noQuery}},
		{"a reference in the fragment", "docker://ghcr.io/org/app#?1", Error{PartQuery, true, noQuery}},
		{"a familiar name", "docker://ghcr.io/org/app:1", Error{PartQuery, true, noQuery}},
		{"no path", "docker://ghcr.io?1", Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"a slash for a path", "docker://ghcr.io/?1", Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"three slashes", "docker://ghcr.io///app?1", Error{PartPath, false, `repository (uri.path) "/app"` + noName}},
		{"a dot-dot segment", "docker://ghcr.io/../app?1", Error{PartPath, false, `repository (uri.path) "../app"` + noName}},
		{"a tag in the path", "docker://ghcr.io/app:1?1", Error{PartPath, false, `repository (uri.path) "app:1"` + noName}},
		{"two references", "docker://ghcr.io/app?1?2", Error{PartQuery, false, `image tag (uri.query) "1?2"` + noTag}},
		{"an empty fragment", "docker://ghcr.io/app?1#", Error{PartFragment, false, "registry scheme (uri.fragment) is empty"}},
		{"two fragments", "docker://ghcr.io/app?1#http#http", Error{PartFragment, false, `registry scheme (uri.fragment) "http#http" is neither http nor https`}},
		{"an empty port", "docker://ghcr.io:/app?1", Error{PartPort, false, `registry port (uri.port) ""` + noPort}},
		{"port 0", "docker://ghcr.io:0/app?1", Error{PartPort, false, `registry port (uri.port) "0"` + noPort}},
		{"port 65536", "docker://ghcr.io:65536/app?1", Error{PartPort, false, `registry port (uri.port) "65536"` + noPort}},
		{"a port with a leading zero", "docker://ghcr.io:080/app?1", Error{PartPort, false, `registry port (uri.port) "080"` + noPort}},
		{"a port with a sign", "docker://ghcr.io:+80/app?1", Error{PartPort, false, `registry port (uri.port) "+80"` + noPort}},
		{"a port with an underscore", "docker://ghcr.io:8_0/app?1", Error{PartPort, false, `registry port (uri.port) "8_0"` + noPort}},
		{"a port in other digits", "docker://ghcr.io:\u0668\u0660/app?1", Error{PartPort, false, "registry port (uri.port) \"\u0668\u0660\"" + noPort}},
		{"an IPv6 address without brackets", "docker://::1/app?1", Error{PartPort, false, `registry port (uri.port) ":1"` + noPort}},
		{"an IPv6 address in open brackets", "docker://[::1/app?1", Error{PartHost, false, `registry host (uri.host) "[::1"` + noIPv6}},
		{"letters after the brackets", "docker://[::1]80/app?1", Error{PartHost, false, `registry host (uri.host) "[::1]80"` + noIPv6}},
		{"an empty port after brackets", "docker://[::1]:/app?1", Error{PartPort, false, `registry port (uri.port) ""` + noPort}},
		{"the original's string without a slash, where no tag follows", "docker-manifest://registry-1.docker.iobusybox?latest#https", Error{PartPath, true, "repository (uri.path) is not specified"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Parse(c.uri)
			checkRefused(t, r, err, c.want)
		})
	}
}

// The registries of GetRegistrySpec in the original's docker_spec_tests.cpp.
// An explicit port says nothing about the registry scheme here: the fragment does.
func TestParseReadsTheRegistriesOfTheOriginalsTests(t *testing.T) {
	t.Parallel()
	noPort := func(port, advice string) error {
		return invalid(PartPort, `registry port (uri.port) "`+port+`" is not a decimal number from 1 to 65535`+advice)
	}
	for _, c := range []struct {
		name, registry, host string
		port                 int
		loopback             bool
		err                  error
	}{
		{"nothing", "", "", 0, false, missing(PartHost, "Registry host (uri.host) is not specified; for Docker Hub it is docker.io")},
		{"a colon", ":", "", 0, false, noPort("", "")},
		{"letters for a port", "invalid_port:x80", "", 0, false, noPort("x80", "")},
		{"two ports", "invalid_port:80:80", "", 0, false, noPort("80:80", "; an IPv6 address goes in brackets")},
		{"Docker Hub", "index.docker.io", "registry-1.docker.io", 0, false, nil},
		{"localhost with a port", "localhost:80", "localhost:80", 80, true, nil},
		{"Docker Hub with its port", "registry-1.docker.io:443", "registry-1.docker.io", 0, false, nil},
		{"a loopback address with a port", "127.0.0.1:1234", "127.0.0.1:1234", 1234, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Parse("docker://" + c.registry + "/library/busybox?latest")
			if diff := cmp.Diff(c.err, err); diff != "" {
				t.Fatalf("error (-want +got):\n%s", diff)
			}
			if err == nil && (r.Host() != c.host || r.Port != c.port || r.Loopback() != c.loopback || r.RegistryScheme != "") {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestParseRefusesUserinfoAndNeverShowsIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, rest string }{
		{"user and password", "user:hunter2@ghcr.io/org/app?1"},
		{"a user", "hunter2@ghcr.io/org/app?1"},
		{"an empty user", "@ghcr.io/org/app?1"},
		{"a password with a slash", "user:hunter2/hunter2@ghcr.io/org/app?1"},
		{"a password with a question mark", "user:hunter2?hunter2@ghcr.io/org/app?1"},
		{"a password with a number sign", "user:hunter2#hunter2@ghcr.io/org/app?1"},
		{"a password with an '@'", "user:hunter2@hunter2@ghcr.io/org/app?1"},
		{"an '@' in the path", "ghcr.io/hunter2@app?1"},
		{"an '@' in the query", "ghcr.io/app?hunter2@" + sha256Digest},
		{"an '@' in the fragment", "ghcr.io/app?1#hunter2@"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Parse("docker://" + c.rest)
			checkRefused(t, r, err, Error{Part: PartUser, Text: "user and password (uri.user, uri.password, anything before an '@') are refused, as URIs end up in logs"})
			_, err = ParseFamiliar("docker://" + c.rest)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("ParseFamiliar: got error %v", err)
			}
			_, err = Parse("https://" + c.rest)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("with an unknown scheme: got error %v", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"docker://ghcr.io/org/app?1.2",
		"docker-manifest://index.docker.io:443//alpine?" + sha256Digest + "#https",
		"docker-blob://[2001:DB8::1]:5000/a/b.c?" + sha512Digest + "#http",
		"docker://user:password@ghcr.io/a/../b?a&b#",
		"docker://999.1.1.1:0x1/A%2f?:",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			checkError(t, err)
			return
		}
		checkAccepted(t, r)
		if familiar, err := ParseFamiliar(s); err != nil || familiar != r {
			t.Errorf("ParseFamiliar: got %+v, %v, want %+v", familiar, err, r)
		}
	})
}

// FuzzUserinfoIsNeverShown puts a secret before an '@' that no digest follows.
func FuzzUserinfoIsNeverShown(f *testing.F) {
	f.Add("user:", "", "ghcr.io/org/app?1")
	f.Add("user:a/", "/b", "ghcr.io:5000/org/app:1")
	f.Add("user:a?b#", "#?:@", "ghcr.io")
	f.Add("[", "]:1", sha256Digest+"/")
	f.Fuzz(func(t *testing.T, before, between, after string) {
		const secret = "dckr_pat_hunter2"
		digest, _ := cutOptional(after, "#")
		if strings.Contains(after, secret) || checkDigest(digest[strings.LastIndex(digest, "@")+1:]) == nil {
			t.Skip("what precedes a digest is a name")
		}
		for _, scheme := range []string{"docker://", "docker-blob://", "https://", ""} {
			s := scheme + before + secret + between + "@" + after
			if scheme == "" && strings.Contains(s, "://") {
				continue // the secret may be the scheme
			}
			for name, parse := range map[string]func(string) (Reference, error){"Parse": Parse, "ParseFamiliar": ParseFamiliar} {
				if r, err := parse(s); err == nil {
					t.Errorf("%s accepts %q: %s", name, s, r)
				} else if strings.Contains(err.Error(), secret) {
					t.Errorf("%s of %q shows the secret: %v", name, s, err)
				}
			}
		}
	})
}
