package scheme

import "testing"

func TestReferenceNamesItsParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, uri, host, identifier, inMessages, canonical string
	}{
		{
			"Docker Hub is served by registry-1.docker.io",
			"docker://index.docker.io:443/alpine?3.20", "registry-1.docker.io", "3.20", "docker.io/library/alpine",
			"docker://docker.io/library/alpine?3.20",
		},
		{
			"docker.io on another port is served by itself",
			"docker://docker.io:5000/alpine?3.20", "docker.io:5000", "3.20", "docker.io:5000/alpine",
			"docker://docker.io:5000/alpine?3.20",
		},
		{
			"no port is added",
			"docker-manifest://GHCR.io//org/app?" + sha256Digest + "#https", "ghcr.io", sha256Digest, "ghcr.io/org/app",
			"docker-manifest://ghcr.io/org/app?" + sha256Digest + "#https",
		},
		{
			"an IPv6 address keeps its brackets",
			"docker-blob://[0:0::1]:5000/app?" + sha512Digest + "#http", "[::1]:5000", sha512Digest, "[::1]:5000/app",
			"docker-blob://[::1]:5000/app?" + sha512Digest + "#http",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Parse(c.uri)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []struct{ what, got, want string }{
				{"Host", r.Host(), c.host},
				{"Identifier", r.Identifier(), c.identifier},
				{"Name", r.Name(), c.inMessages},
				{"String", r.String(), c.canonical},
			} {
				if p.got != p.want {
					t.Errorf("%s: got %q, want %q", p.what, p.got, p.want)
				}
			}
		})
	}
}

func TestLoopbackIsThisMachineByNameOrAddressAlone(t *testing.T) {
	t.Parallel()
	for registry, want := range map[string]bool{
		"localhost":             true,
		"LOCALHOST":             true,
		"registry.localhost":    true,
		"127.0.0.1":             true,
		"127.1.2.3":             true,
		"::1":                   true,
		"[0:0:0:0:0:0:0:1]":     true,
		"mylocalhost":           false,
		"localhost.example":     false,
		"127.0.0.1.nip.io":      false,
		"128.0.0.1":             false,
		"0.0.0.0":               false,
		"[::]":                  false,
		"[::2]":                 false,
		"[fe80::1]":             false,
		"docker.io":             false,
		"localhost.localdomain": false,
	} {
		r, err := NewImage("app", "1", registry, "", 5000)
		if err != nil {
			t.Errorf("%s: %v", registry, err)
		} else if r.Loopback() != want {
			t.Errorf("%s: got %t, want %t", registry, r.Loopback(), want)
		}
	}
}
