package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

const digestA = "sha256:bc8813ea7b3603864987522f02a76101c17ad122e1c46d790efc0fca78ca7bfb"

func TestParseName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want Name
		err  string
	}{
		// ParseImageReference of the original's docker_spec_tests.cpp.
		{"library/busybox", Name{Repository: "library/busybox"}, ""},
		{"busybox", Name{Repository: "busybox"}, ""},
		{"library/busybox:tag", Name{Repository: "library/busybox", Tag: "tag"}, ""},
		{"library/busybox@" + digestA, Name{Repository: "library/busybox", Digest: digestA}, ""},
		{"registry.io/library/busybox", Name{Registry: "registry.io", Repository: "library/busybox"}, ""},
		{"registry.io/library/busybox:tag", Name{Registry: "registry.io", Repository: "library/busybox", Tag: "tag"}, ""},
		{"registry.io:80/library/busybox:tag", Name{Registry: "registry.io:80", Repository: "library/busybox", Tag: "tag"}, ""},
		{"registry.io:80/library/busybox@" + digestA, Name{Registry: "registry.io:80", Repository: "library/busybox", Digest: digestA}, ""},

		{"localhost/a", Name{Registry: "localhost", Repository: "a"}, ""},
		{"localhosts/a", Name{Repository: "localhosts/a"}, ""},
		{"[::1]:5000/a", Name{Registry: "[::1]:5000", Repository: "a"}, ""},
		{"a:1@" + digestA, Name{Repository: "a", Tag: "1", Digest: digestA}, ""},
		{"", Name{}, `invalid image name "": the repository is empty`},
		{"registry.io/", Name{}, `invalid image name "registry.io/": the repository is empty`},
		{":1", Name{}, `invalid image name ":1": the repository is empty`},
		{"a:", Name{}, `invalid image name "a:": the tag is empty`},
		{"a@", Name{}, `invalid image name "a@": what follows '@' is not one digest`},
		{"a@b@c", Name{}, `invalid image name "a@b@c": what follows '@' is not one digest`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseName(test.name)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if errorText(err) != test.err {
				t.Errorf("error %q, want %q", errorText(err), test.err)
			}
		})
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, registry string
		want           string
		err            string
	}{
		{"alpine", DefaultRegistry, "docker://docker.io/library/alpine?latest#https", ""},
		{"alpine:3", DefaultRegistry, "docker://docker.io/library/alpine?3#https", ""},
		{"alpine:3@" + digestA, DefaultRegistry, "docker://docker.io/library/alpine?" + digestA + "#https", ""},
		{"org/app", DefaultRegistry, "docker://docker.io/org/app?latest#https", ""},
		{"docker.io/alpine", "http://mirror:8080", "docker://docker.io/library/alpine?latest#https", ""},
		{"docker.io.evil.com/alpine", DefaultRegistry, "docker://docker.io.evil.com/alpine?latest#https", ""},
		{"alpine", "http://mirror:8080", "docker://mirror:8080/alpine?latest#http", ""},
		{"alpine", "https://mirror.example", "docker://mirror.example/alpine?latest#https", ""},
		{"quay.io/org/app:1", DefaultRegistry, "docker://quay.io/org/app?1#https", ""},

		// GetRegistrySpec of the original's docker_spec_tests.cpp.
		{"registry.io:443/a", DefaultRegistry, "docker://registry.io:443/a?latest#https", ""},
		{"registry.io:80/a", DefaultRegistry, "docker://registry.io:80/a?latest#http", ""},
		{"registry.io:5000/a", DefaultRegistry, "docker://registry.io:5000/a?latest#https", ""},
		{"localhost:80/a", DefaultRegistry, "docker://localhost:80/a?latest#http", ""},
		{"localhost:5000/a", DefaultRegistry, "docker://localhost:5000/a?latest#http", ""},
		{"localhost:443/a", DefaultRegistry, "docker://localhost:443/a?latest#https", ""},
		{"localhost/a", DefaultRegistry, "docker://localhost/a?latest#https", ""},
		{"127.0.0.1:1234/a", DefaultRegistry, "docker://127.0.0.1:1234/a?latest#http", ""},
		{"127.0.0.1/a", DefaultRegistry, "docker://127.0.0.1/a?latest#https", ""},
		{"127.0.0.2:1234/a", DefaultRegistry, "docker://127.0.0.2:1234/a?latest#https", ""},
		{"[::1]:1234/a", DefaultRegistry, "docker://[::1]:1234/a?latest#https", ""},
		{"registry.io:x80/a", DefaultRegistry, "", `invalid registry "registry.io:x80": "x80" is not a port`},
		{"registry.io:/a", DefaultRegistry, "", `invalid registry "registry.io:": "" is not a port`},
		{"registry.io:0/a", DefaultRegistry, "", `invalid registry "registry.io:0": "0" is not a port`},

		{"a", "registry.io", "", `invalid default registry "registry.io": it is not http://HOST or https://HOST`},
		{"a", "hdfs://registry.io", "", `invalid default registry "hdfs://registry.io": it is not http://HOST or https://HOST`},
	} {
		t.Run(test.name+" at "+test.registry, func(t *testing.T) {
			t.Parallel()
			name, err := ParseName(test.name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := name.Reference(test.registry)
			if errorText(err) != test.err {
				t.Fatalf("error %q, want %q", errorText(err), test.err)
			}
			if err == nil && got.String() != test.want {
				t.Errorf("reference %s, want %s", got, test.want)
			}
		})
	}
}

func TestReferenceRefusesWhatIsNoImage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"registry.io:80:80/a", ":443/a", "registry.io/../a", "registry.io/A", "a:b c", "a@sha256:abc", "user@registry.io/a"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parsed, err := ParseName(name)
			if err == nil {
				_, err = parsed.Reference(DefaultRegistry)
			}
			if err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzName(f *testing.F) {
	for _, seed := range []string{"alpine", "registry.io:80/library/busybox:tag", "a@" + digestA, "[::1]:5000/a", "a:1@sha256:x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ParseName(s)
		if err != nil {
			return
		}
		reference, err := name.Reference(DefaultRegistry)
		if err == nil && reference.Host() == "" {
			t.Errorf("%q has no host", s)
		}
	})
}
