package agent

import "testing"

// The twin of GetRegistrySpec in the original's docker_spec_tests.cpp:
// getRegistryHost, getRegistryPort and getRegistryScheme of each of its
// registries. TestParseName has that of ParseImageReference.
func TestTheRegistriesOfTheOriginalsTestsGiveItsHostPortAndScheme(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		registry string
		host     string
		port     int
		scheme   string
		err      string // the original refuses it too
	}{
		// The original's host is empty and its scheme https: its puller puts the
		// default registry in the place of an empty one before it asks. So does ours.
		{"", "docker.io", 0, "https", ""},
		{":", "", 0, "", `invalid registry ":": "" is not a port`},
		{"invalid_host:x80", "", 0, "", `invalid registry "invalid_host:x80": "x80" is not a port`},
		{"invalid_port:80:80", "", 0, "", `registry host (uri.host) "invalid_port:80" holds a port; put the port in uri.port`},
		// Docker Hub is docker.io here, whichever of its names it came by.
		{"index.docker.io", "docker.io", 0, "https", ""},
		{"localhost:80", "localhost", 80, "http", ""},
		// Port 443 of Docker Hub is its default and goes without saying.
		{"registry-1.docker.io:443", "docker.io", 0, "https", ""},
		{"127.0.0.1:443", "127.0.0.1", 443, "https", ""},
		{"127.0.0.1:1234", "127.0.0.1", 1234, "http", ""},
		{"localhost:1234", "localhost", 1234, "http", ""},
	} {
		t.Run(test.registry, func(t *testing.T) {
			t.Parallel()
			name := Name{Registry: test.registry, Repository: "library/busybox"}
			got, err := name.Reference(DefaultRegistry)
			if errorText(err) != test.err {
				t.Fatalf("error %q, want %q", errorText(err), test.err)
			}
			if got.Registry != test.host || got.Port != test.port || got.RegistryScheme != test.scheme {
				t.Errorf("got host %q, port %d, scheme %q", got.Registry, got.Port, got.RegistryScheme)
			}
		})
	}
}
