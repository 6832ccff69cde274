package scheme

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// message is a URI that FromURI takes, for tests to spoil.
func message() URI {
	return URI{Scheme: "docker", Host: new("ghcr.io"), Path: "org/app", Query: new("1.2")}
}

func TestFromURIReadsEveryPartOfTheMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		uri  URI
		want Reference
	}{
		{
			"an image by tag",
			message(),
			Reference{Kind: Image, Registry: "ghcr.io", Repository: "org/app", Tag: "1.2"},
		},
		{
			"a manifest by digest over http on a port",
			URI{Scheme: "docker-manifest", Host: new("localhost"), Port: new(int32(5000)), Path: "app", Query: new(sha256Digest), Fragment: new("http")},
			Reference{Kind: Manifest, Registry: "localhost", Port: 5000, RegistryScheme: "http", Repository: "app", Digest: sha256Digest},
		},
		{
			"a blob with one leading slash in the path",
			URI{Scheme: "docker-blob", Host: new("localhost"), Path: "/app", Query: new(sha512Digest), Fragment: new("https")},
			Reference{Kind: Blob, Registry: "localhost", RegistryScheme: "https", Repository: "app", Digest: sha512Digest},
		},
		{
			"what the original's registry puller sends",
			URI{Scheme: "docker-manifest", Host: new("registry-1.docker.io"), Path: "library/busybox", Query: new("latest"), Fragment: new("https")},
			Reference{Kind: Manifest, Registry: "docker.io", RegistryScheme: "https", Repository: "library/busybox", Tag: "latest"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := FromURI(c.uri)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkAccepted(t, got)
		})
	}
}

func TestFromURIRefusesAMessageAndNamesThePart(t *testing.T) {
	t.Parallel()
	const (
		noHost  = "Registry host (uri.host) is not specified"
		noQuery = "Image tag/digest (uri.query) is not specified"
		user    = "user and password (uri.user, uri.password, anything before an '@') are refused, as URIs end up in logs"
		noName  = " is not a repository name: lower-case letters and digits, joined by '.', '_', '__' or '-', in components separated by one '/'"
		noTag   = " is not a tag: at most 128 letters, digits, '_', '.' and '-', beginning with none of the last two"
		noHash  = " is neither sha256: with 64 nor sha512: with 128 lower-case hex digits"
		noPort  = " is not a decimal number from 1 to 65535"
	)
	for _, c := range []struct {
		name  string
		spoil func(*URI)
		want  Error
	}{
		{"an unknown scheme", func(u *URI) { u.Scheme = "http" }, Error{PartScheme, false, "Docker fetcher plugin does not support 'http' URI scheme"}},
		{"a scheme in upper case", func(u *URI) { u.Scheme = "Docker" }, Error{PartScheme, false, "Docker fetcher plugin does not support 'Docker' URI scheme"}},
		{"a scheme with control characters", func(u *URI) { u.Scheme = "a\n" }, Error{PartScheme, false, `Docker fetcher plugin does not support 'a\n' URI scheme`}},
		{"an empty scheme", func(u *URI) { u.Scheme = "" }, Error{PartScheme, true, "Docker fetcher plugin does not support '' URI scheme"}},
		{"the scheme before all else", func(u *URI) { *u = URI{Scheme: "hdfs"} }, Error{PartScheme, false, "Docker fetcher plugin does not support 'hdfs' URI scheme"}},
		{"a user", func(u *URI) { u.User = new("hunter2") }, Error{PartUser, false, user}},
		{"a password", func(u *URI) { u.Password = new("hunter2") }, Error{PartUser, false, user}},
		{"an empty user", func(u *URI) { u.User = new("") }, Error{PartUser, false, user}},
		{"an empty password", func(u *URI) { u.Password = new("") }, Error{PartUser, false, user}},
		{"no host", func(u *URI) { u.Host = nil }, Error{PartHost, true, noHost}},
		{"an empty host", func(u *URI) { u.Host = new("") }, Error{PartHost, true, noHost}},
		{"the host before the query", func(u *URI) { u.Host, u.Query = nil, nil }, Error{PartHost, true, noHost}},
		{"userinfo in the host", func(u *URI) { u.Host = new("user:hunter2@ghcr.io") }, Error{PartUser, false, user}},
		{"a port in the host", func(u *URI) { u.Host = new("localhost:5000") }, Error{PartHost, false, `registry host (uri.host) "localhost:5000" holds a port`}},
		{"no query", func(u *URI) { u.Query = nil }, Error{PartQuery, true, noQuery}},
		{"an empty query", func(u *URI) { u.Query = new("") }, Error{PartQuery, true, noQuery}},
		{"no query of a blob", func(u *URI) { u.Scheme, u.Query = "docker-blob", nil }, Error{PartQuery, true, noQuery}},
		{"the query before the path", func(u *URI) { u.Query, u.Path = nil, "" }, Error{PartQuery, true, noQuery}},
		{"port 0", func(u *URI) { u.Port = new(int32(0)) }, Error{PartPort, false, `registry port (uri.port) "0"` + noPort}},
		{"a negative port", func(u *URI) { u.Port = new(int32(-1)) }, Error{PartPort, false, `registry port (uri.port) "-1"` + noPort}},
		{"port 65536", func(u *URI) { u.Port = new(int32(65536)) }, Error{PartPort, false, `registry port (uri.port) "65536"` + noPort}},
		{"no path", func(u *URI) { u.Path = "" }, Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"a slash for a path", func(u *URI) { u.Path = "/" }, Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"two leading slashes", func(u *URI) { u.Path = "//app" }, Error{PartPath, false, `repository (uri.path) "/app"` + noName}},
		{"a trailing slash", func(u *URI) { u.Path = "app/" }, Error{PartPath, false, `repository (uri.path) "app/"` + noName}},
		{"an empty component", func(u *URI) { u.Path = "a//b" }, Error{PartPath, false, `repository (uri.path) "a//b"` + noName}},
		{"a dot segment", func(u *URI) { u.Path = "a/./b" }, Error{PartPath, false, `repository (uri.path) "a/./b"` + noName}},
		{"a dot-dot segment", func(u *URI) { u.Path = "a/../b" }, Error{PartPath, false, `repository (uri.path) "a/../b"` + noName}},
		{"two dots in a component", func(u *URI) { u.Path = "a..b" }, Error{PartPath, false, `repository (uri.path) "a..b"` + noName}},
		{"three underscores", func(u *URI) { u.Path = "a___b" }, Error{PartPath, false, `repository (uri.path) "a___b"` + noName}},
		{"percent-encoding", func(u *URI) { u.Path = "a%2f..%2fb" }, Error{PartPath, false, `repository (uri.path) "a%2f..%2fb"` + noName}},
		{"a backslash", func(u *URI) { u.Path = `a\b` }, Error{PartPath, false, `repository (uri.path) "a\\b"` + noName}},
		{"a line feed at the end", func(u *URI) { u.Path = "a\n" }, Error{PartPath, false, `repository (uri.path) "a\n"` + noName}},
		{"a space", func(u *URI) { u.Path = "a b" }, Error{PartPath, false, `repository (uri.path) "a b"` + noName}},
		{"a query in the path", func(u *URI) { u.Path = "a?b" }, Error{PartPath, false, `repository (uri.path) "a?b"` + noName}},
		{"an '@' in the path", func(u *URI) { u.Path = "hunter2@a" }, Error{PartPath, false, `repository (uri.path) "[hidden]"` + noName}},
		{"upper case in the path", func(u *URI) { u.Path = "Org/App" }, Error{PartPath, false, `repository (uri.path) "Org/App" has upper-case letters`}},
		{"a path of 256 characters", func(u *URI) { u.Path = strings.Repeat("a", 256) }, Error{PartPath, false, `repository (uri.path) "` + strings.Repeat("a", 100) + `..." is longer than 255 characters`}},
		{"registry and repository of 256 characters", func(u *URI) { u.Path = strings.Repeat("a", 248) }, Error{PartPath, false, `registry and repository (uri.host, uri.path) "ghcr.io/` + strings.Repeat("a", 92) + `..." are longer than 255 characters together`}},
		{"registry, port and repository of 256 characters", func(u *URI) { u.Port, u.Path = new(int32(443)), strings.Repeat("a", 244) }, Error{PartPath, false, `registry and repository (uri.host, uri.path) "ghcr.io:443/` + strings.Repeat("a", 88) + `..." are longer than 255 characters together`}},
		{"a tag that begins with a dot", func(u *URI) { u.Query = new(".a") }, Error{PartQuery, false, `image tag (uri.query) ".a"` + noTag}},
		{"a tag that begins with a hyphen", func(u *URI) { u.Query = new("-a") }, Error{PartQuery, false, `image tag (uri.query) "-a"` + noTag}},
		{"a tag of 129 characters", func(u *URI) { u.Query = new(strings.Repeat("a", 129)) }, Error{PartQuery, false, `image tag (uri.query) "` + strings.Repeat("a", 100) + `..."` + noTag}},
		{"a tag with a slash", func(u *URI) { u.Query = new("a/b") }, Error{PartQuery, false, `image tag (uri.query) "a/b"` + noTag}},
		{"a tag and more after '&'", func(u *URI) { u.Query = new("a&b") }, Error{PartQuery, false, `image tag (uri.query) "a&b"` + noTag}},
		{"a name and a value", func(u *URI) { u.Query = new("tag=a") }, Error{PartQuery, false, `image tag (uri.query) "tag=a"` + noTag}},
		{"a tag and more after '#'", func(u *URI) { u.Query = new("a#http") }, Error{PartQuery, false, `image tag (uri.query) "a#http"` + noTag}},
		{"a tag and more after '?'", func(u *URI) { u.Query = new("a?b") }, Error{PartQuery, false, `image tag (uri.query) "a?b"` + noTag}},
		{"a tag with a line feed at the end", func(u *URI) { u.Query = new("a\n") }, Error{PartQuery, false, `image tag (uri.query) "a\n"` + noTag}},
		{"a tag with a letter outside ASCII", func(u *URI) { u.Query = new("\u00e9") }, Error{PartQuery, false, "image tag (uri.query) \"\u00e9\"" + noTag}},
		{"a digest without hex", func(u *URI) { u.Query = new("sha256:") }, Error{PartDigest, false, `digest (uri.query) "sha256:"` + noHash}},
		{"a digest that is short by one", func(u *URI) { u.Query = new(sha256Digest[:70]) }, Error{PartDigest, false, `digest (uri.query) "` + sha256Digest[:70] + `"` + noHash}},
		{"a digest that is long by one", func(u *URI) { u.Query = new(sha256Digest + "0") }, Error{PartDigest, false, `digest (uri.query) "` + sha256Digest + `0"` + noHash}},
		{"a digest in upper case", func(u *URI) { u.Query = new("sha256:" + strings.Repeat("A", 64)) }, Error{PartDigest, false, `digest (uri.query) "sha256:` + strings.Repeat("A", 64) + `"` + noHash}},
		{"a digest with a letter that is no hex digit", func(u *URI) { u.Query = new("sha256:" + strings.Repeat("g", 64)) }, Error{PartDigest, false, `digest (uri.query) "sha256:` + strings.Repeat("g", 64) + `"` + noHash}},
		{"a digest with a slash", func(u *URI) { u.Query = new("sha256:" + strings.Repeat("../", 21) + "a") }, Error{PartDigest, false, `digest (uri.query) "sha256:` + strings.Repeat("../", 21) + `a"` + noHash}},
		{"sha512 with the length of sha256", func(u *URI) { u.Query = new("sha512:" + sha256Digest[7:]) }, Error{PartDigest, false, `digest (uri.query) "sha512:` + sha256Digest[7:] + `"` + noHash}},
		{"sha384", func(u *URI) { u.Query = new("sha384:" + strings.Repeat("0", 96)) }, Error{PartDigest, false, `digest (uri.query) "sha384:` + strings.Repeat("0", 93) + `..."` + noHash}},
		{"md5", func(u *URI) { u.Query = new("md5:" + strings.Repeat("0", 32)) }, Error{PartDigest, false, `digest (uri.query) "md5:` + strings.Repeat("0", 32) + `"` + noHash}},
		{"an algorithm in upper case", func(u *URI) { u.Query = new("SHA256:" + sha256Digest[7:]) }, Error{PartDigest, false, `digest (uri.query) "SHA256:` + sha256Digest[7:] + `"` + noHash}},
		{"no algorithm", func(u *URI) { u.Query = new(":") }, Error{PartDigest, false, `digest (uri.query) ":"` + noHash}},
		{"a digest and more", func(u *URI) { u.Query = new(sha256Digest + "&a=b") }, Error{PartDigest, false, `digest (uri.query) "` + sha256Digest + `&a=b"` + noHash}},
		{"a tag and a digest", func(u *URI) { u.Query = new("a@" + sha256Digest) }, Error{PartDigest, false, `digest (uri.query) "[hidden]"` + noHash}},
		{"a blob by tag", func(u *URI) { u.Scheme = "docker-blob" }, Error{PartDigest, false, `digest (uri.query) "1.2"` + noHash}},
		{"an empty fragment", func(u *URI) { u.Fragment = new("") }, Error{PartFragment, false, "registry scheme (uri.fragment) is empty"}},
		{"another fragment", func(u *URI) { u.Fragment = new("ftp") }, Error{PartFragment, false, `registry scheme (uri.fragment) "ftp" is neither http nor https`}},
		{"a fragment in upper case", func(u *URI) { u.Fragment = new("HTTP") }, Error{PartFragment, false, `registry scheme (uri.fragment) "HTTP" is neither http nor https`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := message()
			c.spoil(&u)
			r, err := FromURI(u)
			checkRefused(t, r, err, c.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q shows the secret", err)
			}
		})
	}
}

func TestFromURITakesEveryHostOfTheGrammar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, host, want string }{
		{"a DNS name", "registry.example.com", "registry.example.com"},
		{"a single label", "registry", "registry"},
		{"upper case", "Registry.EXAMPLE.com", "registry.example.com"},
		{"punycode", "xn--mnchen-3ya.de", "xn--mnchen-3ya.de"},
		{"inner hyphens", "a-b--c.example", "a-b--c.example"},
		{"labels that begin with digits", "123456789012.dkr.ecr.us-east-1.amazonaws.com", "123456789012.dkr.ecr.us-east-1.amazonaws.com"},
		{"a label of 63 characters", strings.Repeat("a", 63) + ".io", strings.Repeat("a", 63) + ".io"},
		{"253 characters", strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "a"},
		{"an IPv4 address", "192.168.0.1", "192.168.0.1"},
		{"an IPv6 address in brackets", "[2001:db8::1]", "[2001:db8::1]"},
		{"an IPv6 address without", "2001:db8::1", "[2001:db8::1]"},
		{"an IPv6 address in long form and upper case", "[2001:0DB8:0:0:0:0:0:1]", "[2001:db8::1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := message()
			u.Host, u.Path = &c.host, "a"
			got, err := FromURI(u)
			if err != nil {
				t.Fatal(err)
			}
			if got.Registry != c.want {
				t.Errorf("got registry %q, want %q", got.Registry, c.want)
			}
			checkAccepted(t, got)
		})
	}
}

func TestFromURIRefusesAHostOutsideTheGrammar(t *testing.T) {
	t.Parallel()
	const (
		noName = " is neither a DNS name (labels of letters, digits and inner hyphens, at most 63 characters each and 253 in all) nor an IP address"
		noIPv4 = " ends in a number but is no IPv4 address (four decimal numbers from 0 to 255)"
		noIPv6 = " is not an IPv6 address such as [2001:db8::1], without zone and not IPv4-mapped"
	)
	long := strings.Repeat("a.", 126) + "aa"
	for _, c := range []struct{ name, host, want string }{
		{"an underscore", "my_registry.io", `"my_registry.io"` + noName},
		{"an empty label", "a..io", `"a..io"` + noName},
		{"a leading dot", ".io", `".io"` + noName},
		{"a final dot", "ghcr.io.", `"ghcr.io." ends with a dot`},
		{"a hyphen at the start of a label", "-a.io", `"-a.io"` + noName},
		{"a hyphen at the end of a label", "a-.io", `"a-.io"` + noName},
		{"a label of 64 characters", strings.Repeat("a", 64), `"` + strings.Repeat("a", 64) + `"` + noName},
		{"254 characters", long, `"` + long[:100] + `..."` + noName},
		{"a space", "a b", `"a b"` + noName},
		{"a line feed", "ghcr.io\n", `"ghcr.io\n"` + noName},
		{"a header after a line feed", "ghcr.io\r\nX: y", `"ghcr.io\r\nX: y" holds a port`},
		{"a NUL", "ghcr.io\x00", `"ghcr.io\x00"` + noName},
		{"percent-encoding", "ghcr%2eio", `"ghcr%2eio"` + noName},
		{"a slash", "ghcr.io/v2", `"ghcr.io/v2"` + noName},
		{"a backslash", `ghcr.io\v2`, `"ghcr.io\\v2"` + noName},
		{"letters outside ASCII", "m\u00fcnchen.de", "\"m\u00fcnchen.de\" is not ASCII"},
		{"a fullwidth dot", "ghcr\uff0eio", "\"ghcr\uff0eio\" is not ASCII"},
		{"invalid UTF-8", "ghcr\xff.io", `"ghcr\xff.io" is not ASCII`},
		{"numbers above 255", "999.1.1.1", `"999.1.1.1"` + noIPv4},
		{"three numbers", "127.0.1", `"127.0.1"` + noIPv4},
		{"five numbers", "127.0.0.0.1", `"127.0.0.0.1"` + noIPv4},
		{"one number", "2130706433", `"2130706433"` + noIPv4},
		{"an octal number", "127.0.0.01", `"127.0.0.01"` + noIPv4},
		{"a hexadecimal number", "0x7F.0.0.0x1", `"0x7F.0.0.0x1"` + noIPv4},
		{"a name that ends in a number", "registry.1", `"registry.1"` + noIPv4},
		{"a zone", "[fe80::1%eth0]", `"[fe80::1%eth0]"` + noIPv6},
		{"an IPv4-mapped address", "[::ffff:127.0.0.1]", `"[::ffff:127.0.0.1]"` + noIPv6},
		{"an IPv4 address in brackets", "[127.0.0.1]", `"[127.0.0.1]"` + noIPv6},
		{"a name in brackets", "[ghcr.io]", `"[ghcr.io]"` + noIPv6},
		{"brackets left open", "[::1", `"[::1"` + noIPv6},
		{"brackets around brackets", "[[::1]]", `"[[::1]]"` + noIPv6},
		{"a bracket behind", "::1]", `"::1]"` + noIPv6},
		{"an IPv6 address with a port", "[::1]:5000", `"[::1]:5000"` + noIPv6},
		{"three colons", "a:b:c:d", `"a:b:c:d"` + noIPv6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := message()
			u.Host = &c.host
			r, err := FromURI(u)
			checkRefused(t, r, err, Error{Part: PartHost, Text: "registry host (uri.host) " + c.want})
		})
	}
}

func TestFromURITakesEveryRepositoryOfTheGrammar(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"a", "0", "library/busybox", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c/d/e", "a.b_c__d-e/f0", strings.Repeat("a", 247),
	} {
		u := message()
		u.Path = path
		got, err := FromURI(u)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got.Repository != path {
			t.Errorf("got repository %q, want %q", got.Repository, path)
		}
		checkAccepted(t, got)
	}
}

func TestFromURITakesEveryTagAndPortOfTheGrammar(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{"a", "_", "0", "A.b-C_9", "v1..2", strings.Repeat("a", 128)} {
		for _, port := range []int32{1, 80, 443, 65535} {
			u := message()
			u.Query, u.Port = &tag, &port
			got, err := FromURI(u)
			want := Reference{Kind: Image, Registry: "ghcr.io", Port: int(port), Repository: "org/app", Tag: tag}
			if err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		}
	}
}

func TestDockerHubIsOneRegistryWithThreeNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, host     string
		port           int32
		registryScheme string
		want           Reference
	}{
		{"docker.io", "docker.io", 0, "", Reference{Registry: "docker.io", Repository: "library/busybox"}},
		{"index.docker.io", "index.docker.io", 0, "", Reference{Registry: "docker.io", Repository: "library/busybox"}},
		{"registry-1.docker.io", "registry-1.docker.io", 0, "", Reference{Registry: "docker.io", Repository: "library/busybox"}},
		{"upper case", "Registry-1.Docker.IO", 0, "", Reference{Registry: "docker.io", Repository: "library/busybox"}},
		{"port 443", "registry-1.docker.io", 443, "https", Reference{Registry: "docker.io", RegistryScheme: "https", Repository: "library/busybox"}},
		{"http is no other registry", "docker.io", 0, "http", Reference{Registry: "docker.io", RegistryScheme: "http", Repository: "library/busybox"}},
		{"but http on port 443 is", "docker.io", 443, "http", Reference{Registry: "docker.io", Port: 443, RegistryScheme: "http", Repository: "busybox"}},
		{"another port is another registry", "docker.io", 5000, "", Reference{Registry: "docker.io", Port: 5000, Repository: "busybox"}},
		{"a name that ends with one of the three", "mydocker.io", 0, "", Reference{Registry: "mydocker.io", Repository: "busybox"}},
		{"a name that begins with one", "docker.io.example.com", 0, "", Reference{Registry: "docker.io.example.com", Repository: "busybox"}},
		{"another name below docker.io", "auth.docker.io", 0, "", Reference{Registry: "auth.docker.io", Repository: "busybox"}},
		{"another name of Docker", "registry.hub.docker.com", 0, "", Reference{Registry: "registry.hub.docker.com", Repository: "busybox"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := NewImage("busybox", "latest", c.host, c.registryScheme, int(c.port))
			if err != nil {
				t.Fatal(err)
			}
			c.want.Kind, c.want.Tag = Image, "latest"
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkAccepted(t, got)
		})
	}
}

func TestDockerHubKeepsARepositoryOfSeveralComponents(t *testing.T) {
	t.Parallel()
	for _, repository := range []string{"library/busybox", "grafana/grafana", "a/b/c"} {
		got, err := NewImage(repository, "latest", "docker.io", "", 0)
		if err != nil || got.Repository != repository {
			t.Errorf("got %q, %v, want %q", got.Repository, err, repository)
		}
	}
}

func TestDockerHubCountsLibraryInTheLengthOfAName(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 255-len("docker.io/library/"))
	got, err := NewImage(longest, "latest", "registry-1.docker.io", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	checkAccepted(t, got)
	r, err := NewImage(longest+"a", "latest", "docker.io", "", 0)
	checkRefused(t, r, err, Error{Part: PartPath, Text: `registry and repository (uri.host, uri.path) "docker.io/library/` +
		strings.Repeat("a", 82) + `..." are longer than 255 characters together`})
}

func TestConstructorsMakeWhatTheOriginalsMake(t *testing.T) {
	t.Parallel()
	image, err := NewImage("library/busybox", "latest", "registry-1.docker.io", "", 0)
	if want := (Reference{Kind: Image, Registry: "docker.io", Repository: "library/busybox", Tag: "latest"}); err != nil || image != want {
		t.Errorf("got %+v, %v, want %+v", image, err, want)
	}
	manifest, err := NewManifest("nvidia/k8s/cuda-sample", sha256Digest, "nvcr.io", "https", 443)
	if want := (Reference{Kind: Manifest, Registry: "nvcr.io", Port: 443, RegistryScheme: "https", Repository: "nvidia/k8s/cuda-sample", Digest: sha256Digest}); err != nil || manifest != want {
		t.Errorf("got %+v, %v, want %+v", manifest, err, want)
	}
	blob, err := NewBlob("app", sha512Digest, "::1", "http", 5000)
	if want := (Reference{Kind: Blob, Registry: "[::1]", Port: 5000, RegistryScheme: "http", Repository: "app", Digest: sha512Digest}); err != nil || blob != want {
		t.Errorf("got %+v, %v, want %+v", blob, err, want)
	}
}

func TestConstructorsCheckAsFromURIDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                                             string
		repository, identifier, registry, registryScheme string
		port                                             int
		want                                             Error
	}{
		{"no registry", "app", "1", "", "", 0, Error{PartHost, true, "Registry host (uri.host) is not specified"}},
		{"no reference", "app", "", "ghcr.io", "", 0, Error{PartQuery, true, "Image tag/digest (uri.query) is not specified"}},
		{"no repository", "", "1", "ghcr.io", "", 0, Error{PartPath, true, "repository (uri.path) is not specified"}},
		{"another scheme", "app", "1", "ghcr.io", "ftp", 0, Error{PartFragment, false, `registry scheme (uri.fragment) "ftp" is neither http nor https`}},
		{"a port in the registry", "app", "1", "ghcr.io:1", "", 0, Error{PartHost, false, `registry host (uri.host) "ghcr.io:1" holds a port`}},
		{"a negative port", "app", "1", "ghcr.io", "", -1, Error{PartPort, false, `registry port (uri.port) "-1" is not a decimal number from 1 to 65535`}},
		{"a port above 65535", "app", "1", "ghcr.io", "", 65536, Error{PartPort, false, `registry port (uri.port) "65536" is not a decimal number from 1 to 65535`}},
		{"a port that would wrap around to 80", "app", "1", "ghcr.io", "", 1<<32 + 80, Error{PartPort, false, `registry port (uri.port) "4294967376" is not a decimal number from 1 to 65535`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := NewImage(c.repository, c.identifier, c.registry, c.registryScheme, c.port)
			checkRefused(t, r, err, c.want)
			r, err = NewManifest(c.repository, c.identifier, c.registry, c.registryScheme, c.port)
			checkRefused(t, r, err, c.want)
		})
	}
	r, err := NewBlob("app", "latest", "ghcr.io", "", 0)
	checkRefused(t, r, err, Error{PartDigest, false, `digest (uri.query) "latest" is neither sha256: with 64 nor sha512: with 128 lower-case hex digits`})
}

func TestURIHoldsOnlyThePartsThatAreSet(t *testing.T) {
	t.Parallel()
	r := Reference{Kind: Blob, Registry: "[::1]", Repository: "app", Digest: sha256Digest}
	want := URI{Scheme: "docker-blob", Host: new("[::1]"), Path: "app", Query: new(sha256Digest)}
	if diff := cmp.Diff(want, r.URI()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Port, r.RegistryScheme = 5000, "http"
	want.Port, want.Fragment = new(int32(5000)), new("http")
	if diff := cmp.Diff(want, r.URI()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzFromURI unsets the optional parts that have a bit in unset.
func FuzzFromURI(f *testing.F) {
	f.Add("docker", "", "", "registry-1.docker.io", int32(443), "/busybox", "latest", "https", uint8(0b000110))
	f.Add("docker-blob", "", "", "[2001:DB8::1]", int32(0), "a/b", sha256Digest, "http", uint8(0b010110))
	f.Add("docker-manifest", "user", "password", "127.0.0.1:80", int32(-1), "a/../b", "a@b", "", uint8(0))
	f.Fuzz(func(t *testing.T, scheme, user, password, host string, port int32, path, query, fragment string, unset uint8) {
		u := URI{Scheme: scheme, Host: &host, User: &user, Password: &password, Port: &port, Path: path, Query: &query, Fragment: &fragment}
		for i, part := range []**string{&u.Host, &u.User, &u.Password, &u.Query, &u.Fragment} {
			if unset&(1<<i) != 0 {
				*part = nil
			}
		}
		if unset&(1<<5) != 0 {
			u.Port = nil
		}
		r, err := FromURI(u)
		if err != nil {
			checkError(t, err)
			return
		}
		if u.User != nil || u.Password != nil || string(r.Kind) != scheme || r.Identifier() != query {
			t.Errorf("%+v became %+v", u, r)
		}
		checkAccepted(t, r)
	})
}
