package credential

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The pairs of docker_spec_tests.cpp, ParseAuthUrl.
func TestParseKeyFindsTheHostAsTheOriginalDoes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, host string }{
		{"https://registry.example.com/v1/", "registry.example.com"},
		{"http://registry.example.com/v1/", "registry.example.com"},
		{"registry.example.com", "registry.example.com"},
		{"registry.example.com/v1/", "registry.example.com"},
		{"https://localhost:8000/v1/", "localhost:8000"},
		{"http://localhost:8000/v1/", "localhost:8000"},
		{"localhost:8000", "localhost:8000"},
		{"localhost:8000/v1/", "localhost:8000"},
		{"https://registry.com/v1/", "registry.com"},
		{"http://registry.com/v1/", "registry.com"},
		{"registry.com", "registry.com"},
		{"registry.com/v1/", "registry.com"},
	} {
		if at, problem := parseKey(tt.key); at != (location{host: tt.host}) || problem != "" {
			t.Errorf("%s: %v, %s", tt.key, at, problem)
		}
	}
}

// oneKey is a config with one healthy entry.
func oneKey(t *testing.T, key string) *Set {
	t.Helper()
	quoted, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, `{"auths":{`+string(quoted)+`:{"username":"u","password":"p"}}}`)
}

func TestLookupMatchesKeysByNormalisedHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, key, registry, repository string
		want                            bool
	}{
		{"the same text", "ghcr.io", "ghcr.io", "o/r", true},
		{"https before the key", "https://ghcr.io", "ghcr.io", "o/r", true},
		{"http before the key", "http://ghcr.io/", "ghcr.io", "o/r", true},
		{"the scheme in capitals", "HTTPS://ghcr.io", "ghcr.io", "o/r", true},
		{"capitals in the key", "GHCR.io", "ghcr.io", "o/r", true},
		{"capitals in the registry", "ghcr.io", "GHCR.IO", "o/r", true},
		{"port 443 in the key", "ghcr.io:443", "ghcr.io", "o/r", true},
		{"port 443 in the registry", "ghcr.io", "ghcr.io:443", "o/r", true},
		{"leading zeros in the port", "host:05000", "host:5000", "o/r", true},
		{"the root of API version 1", "https://ghcr.io/v1", "ghcr.io", "o/r", true},
		{"the root of API version 2", "https://ghcr.io/v2/", "ghcr.io", "o/r", true},
		{"an IPv6 address", "https://[::1]:5000/v2/", "[::1]:5000", "o/r", true},
		{"an IPv6 address in another spelling", "[0:0:0:0:0:0:0:1]:5000", "[::1]:5000", "o/r", true},
		{"an underscore, as docker compose names hosts", "my_registry:5000", "my_registry:5000", "o/r", true},
		{"another host", "ghcr.io", "quay.io", "o/r", false},
		{"another port", "host:5000", "host:5001", "o/r", false},
		{"no port", "host:5000", "host", "o/r", false},
		{"port 80 is not the default", "host:80", "host", "o/r", false},
		{"a suffix", "evil-ghcr.io", "ghcr.io", "o/r", false},
		{"a sub-domain", "ghcr.io", "pkg.ghcr.io", "o/r", false},
		{"a trailing dot", "ghcr.io.", "ghcr.io", "o/r", false},
		{"two schemes", "https://https://ghcr.io", "ghcr.io", "o/r", false},
		{"a letter that folds to ASCII", "g\u212A.io", "gk.io", "o/r", false},

		{"docker.io", "docker.io", "docker.io", "library/busybox", true},
		{"index.docker.io", "https://index.docker.io/v1/", "docker.io", "library/busybox", true},
		{"registry-1.docker.io", "registry-1.docker.io:443", "docker.io", "library/busybox", true},
		{"docker.io for one of its hosts", "docker.io", "registry-1.docker.io", "library/busybox", true},
		{"a host that begins with docker.io", "docker.io", "docker.io.evil.com", "o/r", false},
		{"a host that ends with docker.io", "docker.io", "mydocker.io", "o/r", false},
		{"another host of Docker", "docker.io", "hub.docker.io", "o/r", false},
		{"docker.io on another port", "docker.io:5000", "docker.io", "library/busybox", false},

		{"a namespace", "quay.io/ns", "quay.io", "ns/img", true},
		{"a namespace with a slash after it", "https://quay.io/ns/", "quay.io", "ns/img", true},
		{"a repository", "quay.io/ns/img", "quay.io", "ns/img", true},
		{"deep below a namespace", "quay.io/ns", "quay.io", "ns/a/b/c", true},
		{"a namespace of docker hub", "index.docker.io/library", "docker.io", "library/busybox", true},
		{"another namespace", "quay.io/ns", "quay.io", "other/img", false},
		{"a namespace that only begins alike", "quay.io/ns", "quay.io", "nsx/img", false},
		{"a repository that only begins alike", "quay.io/ns/img", "quay.io", "ns/img2", false},
		{"the namespace above", "quay.io/ns/img", "quay.io", "ns", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, ok, err := oneKey(t, tt.key).Lookup(tt.registry, tt.repository)
			if err != nil || ok != tt.want {
				t.Fatalf("ok %v, err %v", ok, err)
			}
			if want := (Match{Credential: Credential{Username: "u", Password: "p"}, Key: tt.key}); ok && m != want {
				t.Errorf("key %q", m.Key)
			}
		})
	}
}

func TestLookupPrefersTheMostSpecificKey(t *testing.T) {
	t.Parallel()
	const entry = `:{"username":"u","password":"p"}`
	for _, tt := range []struct {
		name, registry, repository string
		keys                       []string
		want                       string
	}{
		{"the longest path", "quay.io", "a/b/c", []string{"quay.io", "quay.io/a", "quay.io/a/b"}, "quay.io/a/b"},
		{"a path before the exact host", "quay.io", "a/b", []string{"quay.io", "https://quay.io/a"}, "https://quay.io/a"},
		{"the host where no path fits", "quay.io", "x/y", []string{"quay.io/a", "https://quay.io"}, "https://quay.io"},
		{"the exact spelling before the first in order", "quay.io", "a/b", []string{"http://quay.io", "QUAY.io", "quay.io"}, "quay.io"},
		{"the first in order without an exact spelling", "quay.io", "a/b", []string{"quay.io:443", "https://quay.io", "http://quay.io"}, "http://quay.io"},
		{"the exact spelling of a path", "quay.io", "a/b", []string{"https://quay.io/a", "quay.io/a", "QUAY.io/a"}, "quay.io/a"},
		{"docker.io asked for", "docker.io", "library/x", []string{"https://index.docker.io/v1/", "docker.io"}, "docker.io"},
		{"registry-1.docker.io asked for", "registry-1.docker.io", "library/x", []string{"docker.io", "registry-1.docker.io"}, "registry-1.docker.io"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, sep := range []string{entry + `,"`, entry + `,"`} { // twice: no order of a map shows
				m, ok, err := parse(t, `{"auths":{"`+strings.Join(tt.keys, `"`+sep)+`"`+entry+`}}`).Lookup(tt.registry, tt.repository)
				if err != nil || !ok || m.Key != tt.want {
					t.Errorf("key %q, ok %v, err %v", m.Key, ok, err)
				}
			}
		})
	}
}

// strangers are sources whose helpers are not run.
func strangers(sets ...*Set) []Source {
	var all []Source
	for _, s := range sets {
		all = append(all, Source{Set: s})
	}
	return all
}

// warnings are those of a lookup, nil where it fails.
func warnings(t *testing.T, registry, repository string, sets ...*Set) []string {
	t.Helper()
	_, texts, err := Lookup(t.Context(), registry, repository, strangers(sets...)...)
	if err != nil && texts != nil {
		t.Errorf("an error and warnings: %v, %q", err, texts)
	}
	return texts
}

func TestLookupAsksTheSetsInOrder(t *testing.T) {
	t.Parallel()
	secret := parse(t, `{"auths":{"docker.io":{"username":"secret","password":"p"},"broken.example.com":5}}`)
	def := parse(t, `{"auths":{"https://index.docker.io/v1/":{"username":"default","password":"p"},
		"quay.io":{"username":"default","password":"p"},"broken.example.com":{"username":"default","password":"p"}}}`)
	for _, tt := range []struct{ name, registry, username string }{
		{"the secret goes before the default, whatever the spelling", "docker.io", "secret"},
		{"the default serves what the secret has not", "quay.io", "default"},
		{"neither", "ghcr.io", ""},
	} {
		m, _, err := Lookup(t.Context(), tt.registry, "o/r", strangers(nil, secret, nil, def)...)
		if err != nil || (m == Match{}) != (tt.username == "") || m.Credential.Username != tt.username {
			t.Errorf("%s: key %q, err %v", tt.name, m.Key, err)
		}
	}
	m, _, err := Lookup(t.Context(), "broken.example.com", "o/r", strangers(secret, def)...)
	if _, is := errors.AsType[*EntryError](err); m != (Match{}) || !is {
		t.Errorf("a broken entry of the secret must not fall back to the default: key %q, err %v", m.Key, err)
	}
	want := []string{`docker config: entry "broken.example.com" ignored: it is not an object`}
	if diff := cmp.Diff(want, warnings(t, "docker.io", "o/r", secret, def)); diff != "" {
		t.Error(diff)
	}
}

func TestLookupWarnsOfABrokenEntryThatAnEarlierSetStandsInFor(t *testing.T) {
	t.Parallel()
	def := parse(t, `{"auths":{"ghcr.io":5}}`)
	want := []string{`docker config: entry "ghcr.io" ignored: it is not an object`}
	if diff := cmp.Diff(want, warnings(t, "ghcr.io", "o/r", oneKey(t, "ghcr.io"), def)); diff != "" {
		t.Error(diff)
	}
}

func TestABrokenKeyServesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, shown, problem string }{
		{"", ``, "the key is not a registry's host"},
		{"/v1/", `/v1/`, "the key is not a registry's host"},
		{" ghcr.io", ` ghcr.io`, "the key is not a registry's host"},
		{"ftp://ghcr.io", `ftp://ghcr.io`, "the key is not a registry's host"},
		{"ghcr.io:0", `ghcr.io:0`, "the key is not a registry's host"},
		{"ghcr.io:65536", `ghcr.io:65536`, "the key is not a registry's host"},
		{"ghcr.io:", `ghcr.io:`, "the key is not a registry's host"},
		{"::1", `::1`, "the key is not a registry's host"},
		{"[::1", `[::1`, "the key is not a registry's host"},
		{"[fe80::1%eth0]:5000", `[fe80::1%eth0]:5000`, "the key is not a registry's host"},
		{"[127.0.0.1]", `[127.0.0.1]`, "the key is not a registry's host"},
		{"ghcr..io", `ghcr..io`, "the key is not a registry's host"},
		{"-ghcr.io", `-ghcr.io`, "the key is not a registry's host"},
		{"ghcr.io?x=y", `ghcr.io?x=y`, "the key is not a registry's host"},
		{"gh\ncr.io", "gh\\ncr.io", "the key is not a registry's host"},
		{"*.example.com", `*.example.com`, "the key is not a registry's host"},
		{"ghcr.io/NS", `ghcr.io/NS`, "the path of the key is not a repository"},
		{"ghcr.io//ns", `ghcr.io//ns`, "the path of the key is not a repository"},
		{"ghcr.io/../ns", `ghcr.io/../ns`, "the path of the key is not a repository"},
		{"ghcr.io/v1/?token=x", `ghcr.io/v1/?token=x`, "the path of the key is not a repository"},
		{"https://user:p/w@ghcr.io", `[redacted]@ghcr.io`, "the key is not a registry's host"},
		{strings.Repeat("a", 1000), strings.Repeat("a", 600) + "...", "the key is not a registry's host"},
	} {
		s := oneKey(t, tt.key)
		want := []string{`docker config: entry "` + tt.shown + `" ignored: ` + tt.problem}
		if diff := cmp.Diff(want, warnings(t, "ghcr.io", "ns/img", s)); diff != "" {
			t.Errorf("%q: %s", tt.key, diff)
		}
		for _, registry := range []string{"ghcr.io", tt.key} {
			if _, ok, err := s.Lookup(registry, "ns/img"); ok || err != nil {
				t.Errorf("%q: ok %v, err %v", tt.key, ok, err)
			}
		}
	}
}

func TestLookupFailsOnAKeyWithUserInformation(t *testing.T) {
	t.Parallel()
	_, ok, err := oneKey(t, "https://user:hunter2@ghcr.io/v1/").Lookup("ghcr.io", "o/r")
	want := EntryError{Key: "[redacted]@ghcr.io/v1/", Problem: "the key holds user information"}
	if broken, is := errors.AsType[*EntryError](err); ok || !is || *broken != want {
		t.Errorf("ok %v, err %v", ok, err)
	}
}

func TestANilSetIsEmpty(t *testing.T) {
	t.Parallel()
	var s *Set
	if _, ok, err := s.Lookup("ghcr.io", "o/r"); ok || err != nil {
		t.Errorf("ok %v, err %v", ok, err)
	}
	for _, sources := range [][]Source{nil, {{}}, {{Helpers: &Helpers{}}}} {
		if m, texts, err := Lookup(t.Context(), "ghcr.io", "o/r", sources...); m != (Match{}) || texts != nil || err != nil {
			t.Errorf("key %q, warnings %q, err %v", m.Key, texts, err)
		}
	}
}
