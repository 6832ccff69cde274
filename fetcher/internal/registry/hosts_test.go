package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write puts files below a directory, by their paths, as if they were old.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for path, text := range files {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		age(t, path, time.Hour)
		age(t, filepath.Dir(path), time.Hour)
	}
}

func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// hostsDir makes a hosts directory of files.
func hostsDir(t testing.TB, files map[string]string) *HostsDir {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	d, err := OpenHostsDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func hostsOf(t testing.TB, d *HostsDir, registry, scheme string) Hosts {
	t.Helper()
	h, err := d.Of(registry, scheme)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// urls returns where hosts are, a mirror with its ?ns=.
func urls(h Hosts) []string {
	var list []string
	for _, host := range h.All {
		s := host.URL.String()
		if host.Mirror {
			s += "?ns"
		}
		list = append(list, s)
	}
	return list
}

func checkURLs(t testing.TB, h Hosts, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, urls(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// at is a URL as hosts have it.
func at(scheme, host, path string) *url.URL { return &url.URL{Scheme: scheme, Host: host, Path: path} }

// tlsSettings is what a test can compare of a tls.Config.
type tlsSettings struct {
	OwnRoots, SkipVerify bool
	Certificates         int
	MinVersion           uint16
}

var settingsOfTLS = cmp.Transformer("settings", func(c *tls.Config) *tlsSettings {
	if c == nil {
		return nil
	}
	return &tlsSettings{c.RootCAs != nil, c.InsecureSkipVerify, len(c.Certificates), c.MinVersion}
})

func TestAHostsFileSaysWhoIsAskedAndHow(t *testing.T) {
	t.Parallel()
	own := &Host{URL: at("https", "registry.test:5000", ""), Resolve: true, Pull: true}
	mirror := func(u *url.URL) *Host { return &Host{URL: u, Mirror: true, Resolve: true, Pull: true} }
	for _, c := range []struct {
		name, text string
		want       []*Host
	}{
		{"only a comment leaves the registry", "# nothing\n", []*Host{own}},
		{"an empty server is the registry's own", `server = ""`, []*Host{own}},
		{"mirrors come in the order of the file and the server last", `
			[host."https://c"]
			[host."https://a"]
			[host."https://b"]
			[host."https://c".header]
			x = "1"`,
			[]*Host{
				{URL: at("https", "c", ""), Mirror: true, Resolve: true, Pull: true, Header: http.Header{"X": {"1"}}},
				mirror(at("https", "a", "")), mirror(at("https", "b", "")), own,
			}},
		{"mirrors may be written as dotted keys and inline tables", `
			host."https://b".capabilities = ["pull"]
			host.a = { capabilities = ["resolve"] }`,
			[]*Host{
				{URL: at("https", "b", ""), Mirror: true, Pull: true},
				{URL: at("https", "a", ""), Mirror: true, Resolve: true}, own,
			}},
		{"mirrors may be in one inline table", `host = { "https://b" = {}, "https://a" = {} }`,
			[]*Host{mirror(at("https", "b", "")), mirror(at("https", "a", "")), own}},
		{"all keys of a table", `
			[host."https://mirror.test:8443/prefix"]
			capabilities = ["Pull", "resolve", "push"]
			skip_verify = true
			override_path = true
			dial_timeout = "200ms"
			[host."https://mirror.test:8443/prefix".header]
			x-one = "1"
			X-Two = ["2", "zwei"]
			x-none = []
			authorization = "Basic c2VjcmV0"
			[host."https://mirror.test:8443/prefix".docker-fetcher]
			wait = "15m"
			credentials = true
			private_redirects = true`,
			[]*Host{{
				URL: at("https", "mirror.test:8443", "/prefix"), Override: true, Mirror: true, Resolve: true, Pull: true,
				Header: http.Header{"X-One": {"1"}, "X-Two": {"2", "zwei"}, "Authorization": {"Basic c2VjcmV0"}},
				TLS:    &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, DialTimeout: 200 * time.Millisecond,
				Wait: 15 * time.Minute, Credentials: true, PrivateRedirects: true,
			}, own}},
		{"the root is the table of the server", `
			capabilities = ["pull"]
			skip_verify = true
			dial_timeout = "3s"
			[header]
			x = "1"
			[docker-fetcher]
			wait = "1m"
			[host."https://m"]`,
			[]*Host{mirror(at("https", "m", "")), {
				URL: at("https", "registry.test:5000", ""), Pull: true, Header: http.Header{"X": {"1"}},
				TLS:         &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
				DialTimeout: 3 * time.Second, Wait: time.Minute,
			}}},
		{"the registry's own URL has no path to override", "override_path = true", []*Host{own}},
		{"a server in place of the registry is a mirror", `server = "https://mirror.test/v2"`,
			[]*Host{mirror(at("https", "mirror.test", ""))}},
		{"a server of the same host by another scheme is the registry", `server = "http://registry.test:5000"`,
			[]*Host{{URL: at("http", "registry.test:5000", ""), Resolve: true, Pull: true}}},
		{"a server of the same host by another path is the registry", `
			server = "https://registry.test:5000/behind"`,
			[]*Host{{URL: at("https", "registry.test:5000", "/behind"), Resolve: true, Pull: true}}},
		{"another port is another server", `server = "https://registry.test"`,
			[]*Host{mirror(at("https", "registry.test", ""))}},
		{"a table for the registry itself is the registry, asked once", `
			[host."https://registry.test:5000"]
			skip_verify = true`,
			[]*Host{{
				URL: at("https", "registry.test:5000", ""), Resolve: true, Pull: true,
				TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
			}}},
		{"an empty list of capabilities closes a mirror", `
			[host."https://a"]
			capabilities = []
			[host."https://b"]`,
			[]*Host{mirror(at("https", "b", "")), own}},
		{"an empty list of capabilities at the root closes the registry", `
			capabilities = []
			[host."https://a"]`,
			[]*Host{mirror(at("https", "a", ""))}},
		{"who may only push is never asked", `capabilities = ["push"]`, []*Host{}},
		{"a closed table for the registry itself closes the registry", `
			[host."https://registry.test:5000"]
			capabilities = []`, []*Host{}},
		{"empty times and lists are the defaults", `
			ca = []
			client = []
			skip_verify = false
			dial_timeout = ""
			header = {}`, []*Host{own}},
		{"hosts of one name are told apart by scheme, port, path and what that means", `
			[host."https://m"]
			[host."http://m"]
			[host."https://m:444"]
			[host."https://m/a"]
			[host."https://m/b"]
			override_path = true`,
			[]*Host{
				mirror(at("https", "m", "")), mirror(at("http", "m", "")), mirror(at("https", "m:444", "")), mirror(at("https", "m", "/a")),
				{URL: at("https", "m", "/b"), Override: true, Mirror: true, Resolve: true, Pull: true}, own,
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, map[string]string{"registry.test_5000_/hosts.toml": c.text})
			got := hostsOf(t, d, "registry.test:5000", "")
			want := Hosts{All: c.want, File: filepath.Join(d.path, "registry.test_5000_", "hosts.toml")}
			if diff := cmp.Diff(want, got, settingsOfTLS); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAURLIsReadAsContainerdDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, url string
		override  bool
		want      string
	}{
		{"a host alone is https", "mirror", false, "https://mirror"},
		{"a host and a port are https", "mirror:5000", false, "https://mirror:5000"},
		{"so is loopback", "localhost:5000", false, "https://localhost:5000"},
		{"a host that begins as a scheme does", "httpd.test", false, "https://httpd.test"},
		{"http is said", "http://10.0.0.1:5000", false, "http://10.0.0.1:5000"},
		{"upper case", "HTTPS://Mirror.Test", false, "https://mirror.test"},
		{"a slash at the end", "https://mirror/", false, "https://mirror"},
		{"the API's path at the end", "https://mirror/v2/", false, "https://mirror"},
		{"a path before the API's", "https://mirror/a//b/../c/", false, "https://mirror/a/c"},
		{"a path behind the API's", "https://mirror/v2/proxy", false, "https://mirror/v2/proxy"},
		{"a path before the API's, which is said", "https://mirror/a/v2", false, "https://mirror/a"},
		{"a path in place of the API's", "https://mirror/v2/", true, "https://mirror/v2"},
		{"no path in place of the API's", "https://mirror/", true, "https://mirror"},
		{"an IPv6 address", "http://[2001:DB8::1]:5000", false, "http://[2001:db8::1]:5000"},
		{"an IPv6 address without scheme", "[::1]", false, "https://[::1]"},
		{"an xn-- form", "https://xn--bcher-kva.test", false, "https://xn--bcher-kva.test"},
		{"the name of a container", "http://my_mirror:80", false, "http://my_mirror:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u, wrong := hostURL(c.url, c.override)
			if wrong != "" {
				t.Fatal(wrong)
			}
			if u.String() != c.want {
				t.Errorf("%s, want %s", u, c.want)
			}
		})
	}
}

func TestADirectoryIsFoundByHostAndPort(t *testing.T) {
	t.Parallel()
	named := func(name string) map[string]string {
		return map[string]string{name + "/hosts.toml": fmt.Sprintf("[host.\"https://mirror/of/%s\"]", strings.NewReplacer("[", "", "]", "").Replace(name))}
	}
	for _, c := range []struct {
		name, registry string
		directories    []string
		want           []string
	}{
		{"the host", "registry.test", []string{"registry.test", "_default"}, []string{"https://mirror/of/registry.test?ns", "https://registry.test"}},
		{"host and port with underscores first", "r.test:5000", []string{"r.test_5000_", "r.test:5000", "r.test", "_default"},
			[]string{"https://mirror/of/r.test_5000_?ns", "https://r.test:5000"}},
		{"host and port with a colon", "r.test:5000", []string{"r.test:5000", "r.test", "_default"},
			[]string{"https://mirror/of/r.test:5000?ns", "https://r.test:5000"}},
		{"not the host without its port", "r.test:5000", []string{"r.test"}, nil},
		{"not the host with a port", "r.test", []string{"r.test_443_", "r.test:443"}, nil},
		{"any registry", "r.test:5000", []string{"_default", "other.test"}, []string{"https://mirror/of/_default?ns", "https://r.test:5000"}},
		{"Docker Hub by its name", "docker.io", []string{"docker.io", "registry-1.docker.io"},
			[]string{"https://mirror/of/docker.io?ns", "https://registry-1.docker.io"}},
		{"Docker Hub not by its server", "docker.io", []string{"registry-1.docker.io"}, nil},
		{"an IPv6 address", "[::1]", []string{"[::1]"}, []string{"https://mirror/of/::1?ns", "https://[::1]"}},
		{"an IPv6 address and a port", "[::1]:5000", []string{"[::1]_5000_"}, []string{"https://mirror/of/::1_5000_?ns", "https://[::1]:5000"}},
		{"none", "registry.test", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, nil)
			for _, name := range c.directories {
				write(t, d.path, named(name))
			}
			h := hostsOf(t, d, c.registry, "")
			if diff := cmp.Diff(c.want, urls(h)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (h.File == "") != (c.want == nil) {
				t.Errorf("the file is %q", h.File)
			}
		})
	}
}

func TestTheSchemeOfTheURICountsWhereNoServerIsNamed(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{
		"open.test/hosts.toml":  `[host."https://m"]`,
		"named.test/hosts.toml": `server = "https://named.test"`,
	})
	checkURLs(t, hostsOf(t, d, "open.test", "http"), "https://m?ns", "http://open.test")
	checkURLs(t, hostsOf(t, d, "open.test", "https"), "https://m?ns", "https://open.test")
	checkURLs(t, hostsOf(t, d, "named.test", "http"), "https://named.test")
}

func TestDockerHubIsServedByItsServerWhateverTheFileCallsIt(t *testing.T) {
	t.Parallel()
	const server = "https://registry-1.docker.io"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"by its server", `server = "https://registry-1.docker.io"`, []string{server}},
		{"by its name", `server = "https://docker.io"`, []string{server}},
		{"by its old name and port", `server = "https://index.docker.io/v2/"`, []string{server}},
		{"by its name, beside a table for its server", "server = \"https://docker.io\"\n[host.\"https://registry-1.docker.io\"]\ncapabilities = [\"pull\", \"resolve\"]", []string{server}},
		{"but a path of its name is there", `server = "https://docker.io/behind"`, []string{"https://docker.io/behind"}},
		{"behind a mirror", "server = \"https://docker.io\"\n[host.\"https://m\"]", []string{"https://m?ns", server}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, map[string]string{"docker.io/hosts.toml": c.text})
			checkURLs(t, hostsOf(t, d, "docker.io", ""), c.want...)
			checkURLs(t, hostsOf(t, d, "docker.io", "http"), c.want...)
		})
	}
	t.Run("in place of another registry it is a mirror", func(t *testing.T) {
		t.Parallel()
		d := hostsDir(t, map[string]string{"registry.test/hosts.toml": `server = "https://docker.io"`})
		checkURLs(t, hostsOf(t, d, "registry.test", ""), server+"?ns")
	})
}

func TestTheDefaultIsForEachRegistryWithTheSameMirrors(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"_default/hosts.toml": "skip_verify = true\nsurprise = 1\n[host.\"https://mirror.test\"]\n"})
	one, other := hostsOf(t, d, "one.test", ""), hostsOf(t, d, "other.test:5000", "")
	checkURLs(t, one, "https://mirror.test?ns", "https://one.test")
	checkURLs(t, other, "https://mirror.test?ns", "https://other.test:5000")
	if one.All[0] != other.All[0] {
		t.Error("the mirror is another host for the other registry: it has connections of its own")
	}
	if len(one.Warnings) != 1 || other.Warnings != nil {
		t.Errorf("warnings %q and %q, want one, told once", one.Warnings, other.Warnings)
	}
	checkURLs(t, hostsOf(t, d, "mirror.test", ""), "https://mirror.test")
}

func TestADirectoryThatIsEmptySaysNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
	}{
		{"no file", nil},
		{"an empty hosts.toml", map[string]string{"hosts.toml": ""}},
		{"files of others", map[string]string{"README": "x", "ca.pem": "x", "old.crt.bak": "x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, map[string]string{"_default/hosts.toml": "capabilities = []"})
			if err := os.Mkdir(filepath.Join(d.path, "registry.test"), 0o777); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(d.path, "registry.test"), c.files)
			if diff := cmp.Diff(Hosts{}, hostsOf(t, d, "registry.test", "")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnknownKeysAreWarnedOfByLineAndOnceForEachChange(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": `surprise = 1
server = "http://r.test"
skip_verify = true

[host."https://m"]
capability = ["pull"]
[host."https://m".docker-fetcher]
wait = "1m"
"pass@word" = 1
[host."https://m".auth]
token = "x"
[hosts]
`})
	file := filepath.Join(d.path, "r.test", "hosts.toml")
	want := []string{
		file + `:1: key "surprise" is unknown, and ignored`,
		file + `:2: server "http://r.test" speaks plain http, for which ca, client and skip_verify mean nothing`,
		file + `:6: key "capability" is unknown, and ignored`,
		file + `:9: key "[hidden]" is unknown, and ignored`,
		file + `:10: key "auth" is unknown, and ignored`,
		file + `:12: key "hosts" is unknown, and ignored`,
	}
	if diff := cmp.Diff(want, hostsOf(t, d, "r.test", "").Warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := hostsOf(t, d, "r.test", "").Warnings; again != nil {
		t.Errorf("told again: %q", again)
	}
	write(t, d.path, map[string]string{"r.test/hosts.toml": "other = 1\n"})
	if diff := cmp.Diff([]string{file + `:1: key "other" is unknown, and ignored`}, hostsOf(t, d, "r.test", "").Warnings); diff != "" {
		t.Errorf("after a change (-want +got):\n%s", diff)
	}
}

func TestOfManyWarningsTheFirstAreTold(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "key%d = 1\n", i)
	}
	parsed, err := parseHosts("hosts.toml", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(parsed.warnings); n != maxHostsWarnings+1 {
		t.Errorf("%d warnings", n)
	}
	if last := parsed.warnings[maxHostsWarnings]; last != "hosts.toml: and 980 more such warnings" {
		t.Errorf("the last is %q", last)
	}
}

func TestAWrongHostsFileIsRefusedByLineAndNeverPassedOver(t *testing.T) {
	t.Parallel()
	const (
		https   = "; write it as https://host:port"
		ipv6    = https + ", an IPv6 address in brackets"
		textual = " must be a string or a list of strings"
		time    = ` is not a time above zero, such as "500ms", "30s" or "15m"`
		pairs   = `"client" must be a file, a list of files, or a list of pairs such as [["client.cert", "client.key"]]`
	)
	for _, c := range []struct {
		name, text string
		line       int
		want       string
	}{
		{"a broken line", "server = \"https://a\"\n[host\n", 2, `not TOML: "expected ']' to close table name"; correct the line`},
		{"a table that is given twice", "[host.\"https://m\"]\n[host.\"https://m\"]", 2, `not TOML: "table https://m already exists"; correct the line`},
		{"a password in a table that is given twice", "[host.\"https://u:hunter2@m\"]\n[host.\"https://u:hunter2@m\"]", 2, `not TOML: "[hidden]"; correct the line`},
		{"a server that is a number", "\nserver = 1", 2, `"server" is a number, but must be a string`},
		{"a host that is no table", "[host]\n\"https://m\" = true", 2, `"https://m" is a boolean, but must be a table`},
		{"hosts that are a list", "[[host]]\nurl = \"https://m\"", 1, `"host" is a list, but must be a table`},
		{"our table that is a date", "docker-fetcher = 2020-01-01", 1, `"docker-fetcher" is a date or time, but must be a table`},
		{"a flag that is a string", "[host.m]\nskip_verify = \"yes\"", 2, `"skip_verify" is a string, but must be true or false`},
		{"a path flag that is a table", "[host.m.override_path]", 1, `"override_path" is a table, but must be true or false`},
		{"credentials that are a string", "[host.m.docker-fetcher]\ncredentials = \"hunter2\"", 2, `"credentials" is a string, but must be true or false`},
		{"capabilities that are a string", "capabilities = \"pull\"", 1, `"capabilities" must be a list of strings such as ["pull", "resolve"]`},
		{"a capability that is a number", "capabilities = [\"pull\", 1]", 1, `"capabilities" must be a list of strings such as ["pull", "resolve"]`},
		{"a capability that is none", "[host.m]\n\ncapabilities = [\"pull\", \"delete\"]", 3, `"delete" is not a capability; there are pull, resolve and push`},
		{"a time that is a number", "dial_timeout = 30", 1, `"dial_timeout" is a number, but must be a string`},
		{"a time without a unit", "dial_timeout = \"30\"", 1, `"dial_timeout" "30"` + time},
		{"a negative time", "[host.m]\ndial_timeout = \"-1s\"", 2, `"dial_timeout" "-1s"` + time},
		{"no time at all", "[host.m.docker-fetcher]\nwait = \"0s\"", 2, `"wait" "0s"` + time},
		{"a CA that is a number", "ca = 1", 1, `"ca"` + textual},
		{"a CA in a list that is a number", "ca = [\"a\", 1]", 1, `"ca"` + textual},
		{"a CA that is empty", "ca = \"\"", 1, `"ca" has an empty string; write the path of a file, or leave it out`},
		{"a client that is a flag", "client = true", 1, pairs},
		{"a client of three files", "client = [[\"a\", \"b\", \"c\"]]", 1, pairs},
		{"a client that is a list of one", "client = [[\"a\"]]", 1, pairs},
		{"a client without a certificate", "client = [[\"\", \"key\"]]", 1, pairs},
		{"a header that is a number", "[header]\na = \"b\"\nx-secret = 1", 3, `header "x-secret"` + textual},
		{"headers that are a string", "header = \"a: b\"", 1, `"header" is a string, but must be a table`},
		{"a header with a space", "[header]\n\"x secret\" = \"hunter2\"", 2, `header "x secret" has a character that the name of an HTTP field can't have (RFC 9110 section 5.1)`},
		{"a header with a line break", "[header]\nx = \"hunter2\\r\\nHost: evil\"", 2, `header "x" has a control character in its value; remove it`},
		{"a header that is given twice", "[header]\nx-a = \"1\"\nX-A = \"2\"", 3, `header "X-A" is given twice; upper and lower case are the same`},
		{"an empty host", "[host.\"\"]", 1, `host "" has no host` + https},
		{"a URL without a host", "server = \"https:///v2\"", 1, `server "https:///v2" has no host` + https},
		{"a password", "[host.\"https://user:hunter2@m\"]", 1, `host "[hidden]" has a user or password; put the credential into the docker config`},
		{"a password in what is no URL", "[host.\"https://user:hunter2@m:port\"]", 1, `host "[hidden]" is not a URL` + ipv6},
		{"a query", "[host.\"https://m?token=hunter2\"]", 1, `host "https://m?..." has a query or fragment; leave that out`},
		{"an empty query", "[host.\"https://m?\"]", 1, `host "https://m?..." has a query or fragment; leave that out`},
		{"a fragment", "server = \"https://m#http\"", 1, `server "https://m#http" has a query or fragment; leave that out`},
		{"a unix socket", "[host.\"unix:/run/registry.sock\"]", 1, `host "unix:/run/registry.sock" is a unix socket; let the mirror listen on 127.0.0.1`},
		{"a unix socket as URL", "[host.\"unix:///run/registry.sock\"]", 1, `host "unix:///run/registry.sock" is neither http nor https` + https},
		{"another scheme", "[host.\"oci://m\"]", 1, `host "oci://m" is neither http nor https` + https},
		{"a name in its own script", "[host.\"https://b\u00fccher.test\"]", 1, "host \"https://b\u00fccher.test\" has a host with characters outside of ASCII; write it in its xn-- form"},
		{"a host with an escape", "[host.\"https://b%C3%BCcher.test\"]", 1, `host "https://b%C3%BCcher.test" has a host with characters outside of ASCII; write it in its xn-- form`},
		{"a host with a star", "[host.\"https://*.test\"]", 1, `host "https://*.test" has a character that the name of a host can't have`},
		{"a port that is too large", "[host.\"https://m:65536\"]", 1, `host "https://m:65536" has a port that is not a number from 1 to 65535`},
		{"a port that is empty", "[host.\"https://m:\"]", 1, `host "https://m:" has a port that is not a number from 1 to 65535`},
		{"an IPv6 address without brackets", "[host.\"https://2001:db8::1\"]", 1, `host "https://2001:db8::1" is not a URL` + ipv6},
		{"brackets around a name", "[host.\"https://[m]\"]", 1, `host "https://[m]" is not a URL` + ipv6},
		{"an escaped path", "[host.\"https://m/a%2Fb\"]", 1, `host "https://m/a%2Fb" has a percent-encoding in its path; leave that out`},
		{"a host twice", "[host.\"https://m\"]\n[host.m]", 2, `the same host as in line 1; put both tables into one`},
		{"a host twice by port and path", "[host.\"https://m\"]\n\n[host.\"https://M:443/v2/\"]", 3, `the same host as in line 1; put both tables into one`},
		{"a host twice by its path in place", "[host.\"https://m\"]\n[host.\"https://m/v2\"]\noverride_path = true", 2, `the same host as in line 1; put both tables into one`},
		{"a server that is among the mirrors", "\nserver = \"https://m\"\n[host.\"https://n\"]\n[host.\"https://m\"]", 2, `server is also the host of line 4, and a host is described once; leave out server, or the table`},
		{"the registry as server and among the mirrors", "server = \"https://r.test\"\n[host.\"r.test\"]", 1, `server is also the host of line 2, and a host is described once; leave out server, or the table`},
		{"the registry at the root and among the mirrors", "skip_verify = true\n[host.\"https://r.test\"]", 2, `the table is for the registry itself, which line 1 describes too; put all of it into one of them`},
		{"a closed registry that is among the mirrors", "capabilities = []\n[host.\"https://r.test\"]", 2, `the table is for the registry itself, which line 1 describes too; put all of it into one of them`},
		{"a line behind a string of many lines", "x = '''\n\n'''\nserver = 1", 4, `"server" is a number, but must be a string`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, map[string]string{"r.test/hosts.toml": c.text, "_default/hosts.toml": ""})
			want := HostsError{filepath.Join(d.path, "r.test", "hosts.toml"), c.line, c.want}
			for range 2 { // it stays wrong
				checkRefused(t, d, "r.test", want)
			}
		})
	}
}

// checkRefused holds Of to an error.
func checkRefused(t testing.TB, d *HostsDir, registry string, want HostsError) {
	t.Helper()
	h, err := d.Of(registry, "")
	var got *HostsError
	if !errors.As(err, &got) {
		t.Fatalf("%v, %v", urls(h), err)
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Hosts{}, h); diff != "" {
		t.Errorf("hosts beside an error:\n%s", diff)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%q shows the secret", err)
	}
}

func TestAServerForEveryRegistryTakesTheirPlace(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"_default/hosts.toml": "server = \"https://m\""})
	for _, registry := range []string{"r.test", "docker.io"} {
		h, err := d.Of(registry, "")
		if err != nil || len(h.All) != 1 || h.All[0].URL.String() != "https://m" || !h.All[0].Mirror {
			t.Errorf("%s: %+v, %v", registry, h, err)
		}
	}
}

func TestWhatAHostMayNotBeToldIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]HostsError{
		"[host.\"http://m\"]\ndocker-fetcher = {credentials = true}": {Line: 1,
			Text: "would get the registry's credential over plain http"},
		"[host.\"https://m\".header]\nrange = \"bytes=0-\"": {Line: 2, Text: "is the fetcher's own to set"},
		"[host.\"https://m\".header]\nHost = \"other\"":     {Line: 2, Text: "is the fetcher's own to set"},
	} {
		d := hostsDir(t, map[string]string{"r.test/hosts.toml": text})
		_, err := d.Of("r.test", "")
		var got *HostsError
		if !errors.As(err, &got) || got.Line != want.Line || !strings.Contains(got.Text, want.Text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestHeaderFieldsForEveryRegistryAreRefused(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"_default/hosts.toml": "[header]\nAuthorization = \"Basic x\"\n"})
	_, err := d.Of("evil.test", "")
	var got *HostsError
	if !errors.As(err, &got) || got.Line != 1 || !strings.Contains(got.Text, "would go to any registry") {
		t.Errorf("got %v", err)
	}
}

func TestTooManyHostsAreRefused(t *testing.T) {
	t.Parallel()
	text := "\n"
	for i := range maxMirrors + 1 {
		text += fmt.Sprintf("[host.m%d]\n", i)
	}
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": text})
	checkRefused(t, d, "r.test", HostsError{filepath.Join(d.path, "r.test", "hosts.toml"), 2, "more than 100 hosts; remove those that are not needed"})
}

func TestTooManyKeysAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"keys":          strings.Repeat("x = 1\n", maxHostsKeys+1),
		"tables":        strings.Repeat("[x]\n", maxHostsKeys+1),
		"inline tables": "x = {" + strings.Repeat("x = 1, ", maxHostsKeys),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, map[string]string{"r.test/hosts.toml": text})
			checkRefused(t, d, "r.test", HostsError{File: filepath.Join(d.path, "r.test", "hosts.toml"),
				Text: "more than 10000 keys and tables; remove those that are not needed"})
		})
	}
}

func TestAnErrorIsFileLineAndText(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*HostsError{
		"/d/hosts.toml:3: wrong": {"/d/hosts.toml", 3, "wrong"},
		"/d: wrong":              {"/d", 0, "wrong"},
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e, want)
		}
	}
}

func TestWhatIsNoDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"file": "", "r.test/x": ""})
	_, err := OpenHostsDir(filepath.Join(d.path, "file"))
	if want := filepath.Join(d.path, "file") + ": not a directory; the hosts directory has a directory for each registry"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = OpenHostsDir(filepath.Join(d.path, "none"))
	if want := filepath.Join(d.path, "none") + ": no such file or directory; check the path of the hosts directory"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	checkRefused(t, d, "file", HostsError{File: filepath.Join(d.path, "file"),
		Text: "not a directory; put what it says into hosts.toml in a directory of this name"})
	for _, registry := range []string{"", ".", "..", "../r.test", "r.test/x", `..\r.test`} {
		checkRefused(t, d, registry, HostsError{File: d.path, Text: fmt.Sprintf("%q is not a registry", registry)})
	}
}

func TestAHostsDirectoryThatIsGoneOpensNoRegistry(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": "capabilities = []"})
	if all := hostsOf(t, d, "r.test", "").All; len(all) != 0 {
		t.Errorf("a closed registry has %v", all)
	}
	if err := os.RemoveAll(d.path); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, d, "r.test", HostsError{File: d.path, Text: "no such file or directory; check the path of the hosts directory"})
}

func TestALinkThatLeadsNowhereOpensNoRegistry(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"b.test/x": ""})
	for _, link := range []string{"a.test", "b.test/hosts.toml", "loop.test"} {
		to := "nowhere"
		if link == "loop.test" {
			to = link
		}
		if err := os.Symlink(to, filepath.Join(d.path, link)); err != nil {
			t.Skip(err)
		}
	}
	checkRefused(t, d, "a.test", HostsError{File: filepath.Join(d.path, "a.test"), Text: "no such file or directory; make the directory readable, or remove it"})
	checkRefused(t, d, "loop.test", HostsError{File: filepath.Join(d.path, "loop.test"), Text: "too many levels of symbolic links; make the directory readable, or remove it"})
	checkRefused(t, d, "b.test", HostsError{File: filepath.Join(d.path, "b.test", "hosts.toml"), Text: "no such file or directory; without the file nobody knows who may be asked"})
}

func TestAFileThatIsTooLargeOrNoFileIsRefused(t *testing.T) {
	t.Parallel()
	const unknown = "; without the file nobody knows who may be asked"
	d := hostsDir(t, map[string]string{
		"large.test/hosts.toml": strings.Repeat("#", maxHostsFile+1),
		"dir.test/hosts.toml/x": "",
		"ca.test/hosts.toml":    "\nca = \"large.pem\"",
		"ca.test/large.pem":     strings.Repeat("#", maxCertFile+1),
		"crt.test/ca.crt/x":     "",
	})
	for registry, want := range map[string]HostsError{
		"large.test": {"hosts.toml", 0, "larger than 1048576 bytes" + unknown},
		"dir.test":   {"hosts.toml", 0, "not a plain file" + unknown},
		"ca.test":    {"hosts.toml", 2, fmt.Sprintf("ca %q: larger than 4194304 bytes; check the path", filepath.Join(d.path, "ca.test", "large.pem"))},
		"crt.test":   {"ca.crt", 0, "not a plain file; check the path"},
	} {
		want.File = filepath.Join(d.path, registry, want.File)
		checkRefused(t, d, registry, want)
	}
}

func TestAllFilesOfARegistryAreBoundedTogether(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t).cert + strings.Repeat("\n", maxCertFile/2)
	const files = 2 * maxHostsBytes / maxCertFile
	d := hostsDir(t, map[string]string{"r.test/ca.pem": ca, "r.test/hosts.toml": "ca = [" + strings.Repeat(`"ca.pem",`, files) + "]"})
	checkRefused(t, d, "r.test", HostsError{filepath.Join(d.path, "r.test", "hosts.toml"), 1,
		fmt.Sprintf("ca %q: with this the registry's files are larger than 67108864 bytes; check the path", filepath.Join(d.path, "r.test", "ca.pem"))})
}

// pair is a certificate and its key in PEM.
type pair struct{ cert, key string }

// authorityPair can sign others.
type authorityPair struct {
	pair
	parsed  *x509.Certificate
	private *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authorityPair {
	t.Helper()
	a := authorityPair{parsed: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}}
	a.private = newKey(t)
	a.pair = a.sign(t, a.parsed, a.private)
	return a
}

// leaf is a certificate of the authority for a server at 127.0.0.1, or a client.
func (a authorityPair) leaf(t testing.TB) pair {
	t.Helper()
	return a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test leaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, newKey(t))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authorityPair) sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) pair {
	t.Helper()
	cert, err := x509.CreateCertificate(rand.Reader, template, a.parsed, key.Public(), a.private)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

// serve is a server with a certificate of the authority that wants one of a client.
func (a authorityPair) serve(t *testing.T) *httptest.Server {
	t.Helper()
	leaf := a.leaf(t)
	own, err := tls.X509KeyPair([]byte(leaf.cert), []byte(leaf.key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.cert))
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestCertificatesOpenTheServerThatWantsThem(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	client, other := ca.leaf(t), newAuthority(t)
	server := ca.serve(t)
	registry := strings.TrimPrefix(server.URL, "https://")
	files := map[string]string{
		"ca.pem": ca.cert, "other.pem": other.cert, "both.pem": client.cert + client.key,
		"client.cert": client.cert, "client.key": client.key, "sub/client.key": client.key,
	}
	elsewhere := t.TempDir()
	write(t, elsewhere, files)
	for _, c := range []struct {
		name  string
		files map[string]string
	}{
		{"a CA and a file with both", map[string]string{"hosts.toml": "ca = \"ca.pem\"\nclient = \"both.pem\""}},
		{"lists of such files", map[string]string{"hosts.toml": "ca = [\"other.pem\", \"ca.pem\"]\nclient = [\"both.pem\"]"}},
		{"a pair", map[string]string{"hosts.toml": "ca = \"ca.pem\"\nclient = [[\"client.cert\", \"sub/client.key\"]]"}},
		{"a pair whose key is with the certificate", map[string]string{"hosts.toml": "ca = \"ca.pem\"\nclient = [[\"both.pem\", \"\"]]"}},
		{"absolute paths", map[string]string{"hosts.toml": fmt.Sprintf("ca = %q\nclient = %q", filepath.Join(elsewhere, "ca.pem"), filepath.Join(elsewhere, "both.pem"))}},
		{"no verification", map[string]string{"hosts.toml": "skip_verify = true\nclient = \"both.pem\""}},
		{"docker's form", map[string]string{"ca.crt": ca.cert}},
		{"docker's form with an empty hosts.toml", map[string]string{"ca.crt": ca.cert, "hosts.toml": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := strings.Replace(registry, ":", "_", 1) + "_"
			d := hostsDir(t, nil)
			write(t, filepath.Join(d.path, dir), files)
			write(t, filepath.Join(d.path, dir), c.files)
			h := hostsOf(t, d, registry, "")
			checkURLs(t, h, server.URL)
			transport := NewTransport(h.All[0].TLS)
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			discard(resp)
		})
	}
}

func TestDockersFormIsTheRegistryWithItsCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	client := ca.leaf(t)
	d := hostsDir(t, map[string]string{
		"r.test/ca.crt": ca.cert, "r.test/a.cert": client.cert, "r.test/a.key": client.key, "r.test/b.cert": client.cert, "r.test/b.key": client.key,
		"clientless.test/ca.crt": ca.cert,
	})
	want := &Host{URL: at("http", "r.test", ""), Resolve: true, Pull: true, TLS: &tls.Config{
		RootCAs: x509.NewCertPool(), Certificates: make([]tls.Certificate, 2), MinVersion: tls.VersionTLS12,
	}}
	if diff := cmp.Diff(Hosts{All: []*Host{want}, File: filepath.Join(d.path, "r.test")}, hostsOf(t, d, "r.test", "http"), settingsOfTLS); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c := hostsOf(t, d, "clientless.test", "").All[0].TLS; c.Certificates != nil || c.RootCAs == nil {
		t.Errorf("a CA alone: %d certificates", len(c.Certificates))
	}
}

func TestTheSystemsRootsAreTrustedBesideThoseOfAFile(t *testing.T) {
	t.Parallel()
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Skip(err)
	}
	ca := newAuthority(t)
	d := hostsDir(t, map[string]string{"r.test/ca.crt": ca.cert})
	system.AppendCertsFromPEM([]byte(ca.cert))
	if !hostsOf(t, d, "r.test", "").All[0].TLS.RootCAs.Equal(system) {
		t.Error("the roots are not those of the system and the file")
	}
}

func TestAWrongCertificateIsRefusedByItsName(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	client, other := ca.leaf(t), ca.leaf(t)
	const (
		unfit = "both must be PEM, and made for each other"
		none  = "no certificate is in it; it must be PEM, beginning with -----BEGIN CERTIFICATE-----"
		lost  = "no such file or directory; check the path"
	)
	for _, c := range []struct {
		name  string
		files map[string]string
		file  string
		line  int
		want  string // DIR/ is the directory
	}{
		{"a CA that is missing", map[string]string{"hosts.toml": "\n[host.m]\nca = \"none.pem\""}, "hosts.toml", 3, `ca "DIR/none.pem": ` + lost},
		{"a CA that is none", map[string]string{"hosts.toml": "ca = [\n\"ca.pem\"]", "ca.pem": "x"}, "hosts.toml", 1, `ca "DIR/ca.pem": ` + none},
		{"a CA that is a key", map[string]string{"hosts.toml": "ca = \"ca.pem\"", "ca.pem": ca.key}, "hosts.toml", 1, `ca "DIR/ca.pem": ` + none},
		{"a client that is missing", map[string]string{"hosts.toml": "ca = \"ca.pem\"\nclient = \"none.pem\"", "ca.pem": ca.cert}, "hosts.toml", 2, `client "DIR/none.pem": ` + lost},
		{"a client's key that is missing", map[string]string{"hosts.toml": "client = [[\"a.pem\", \"none.pem\"]]", "a.pem": client.cert}, "hosts.toml", 1, `client "DIR/none.pem": ` + lost},
		{"a client without a key", map[string]string{"hosts.toml": "client = \"a.pem\"", "a.pem": client.cert}, "hosts.toml", 1,
			`client "DIR/a.pem": with the key of "DIR/a.pem": tls: found a certificate rather than a key in the PEM for the private key; ` + unfit},
		{"a key of another", map[string]string{"hosts.toml": "client = [[\"a.pem\", \"b.pem\"]]", "a.pem": client.cert, "b.pem": other.key}, "hosts.toml", 1,
			`client "DIR/a.pem": with the key of "DIR/b.pem": tls: private key does not match public key; ` + unfit},
		{"docker's CA that is none", map[string]string{"ca.crt": "x"}, "ca.crt", 0, none},
		{"docker's certificate without a key", map[string]string{"ca.crt": ca.cert, "a.cert": client.cert}, "a.cert", 0,
			"a client certificate without its key; put a.key beside it, or name a CA's certificate .crt"},
		{"docker's key without a certificate", map[string]string{"a.key": client.key}, "a.key", 0, "a key without its client certificate; put a.cert beside it"},
		{"docker's key of another", map[string]string{"a.cert": client.cert, "a.key": other.key}, "a.cert", 0,
			`with the key of "DIR/a.key": tls: private key does not match public key; ` + unfit},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := hostsDir(t, nil)
			dir := filepath.Join(d.path, "r.test")
			write(t, dir, c.files)
			checkRefused(t, d, "r.test", HostsError{filepath.Join(dir, c.file), c.line, strings.ReplaceAll(c.want, "DIR", dir)})
		})
	}
}

// same reports whether hosts are the same pointers.
func same(a, b Hosts) bool { return len(a.All) > 0 && slices.Equal(a.All, b.All) }

func TestHostsStayTheSameWhileTheirFilesDo(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	d := hostsDir(t, map[string]string{
		"r.test/hosts.toml": "ca = \"sub/ca.pem\"\n[host.\"https://m\"]\n", "r.test/sub/ca.pem": ca.cert,
		"docker.test/ca.crt": ca.cert,
	})
	for _, registry := range []string{"r.test", "docker.test"} {
		first := hostsOf(t, d, registry, "")
		read := d.read[filepath.Join(d.path, registry)].at
		if again := hostsOf(t, d, registry, "https"); !same(first, again) {
			t.Errorf("%s: other hosts though nothing changed", registry)
		}
		if !d.read[filepath.Join(d.path, registry)].at.Equal(read) {
			t.Errorf("%s: read again though nothing changed", registry)
		}
		for _, file := range []string{"r.test/hosts.toml", "r.test/sub/ca.pem", "docker.test/ca.crt", "docker.test"} {
			age(t, filepath.Join(d.path, file), 2*time.Hour)
		}
		if again := hostsOf(t, d, registry, ""); !same(first, again) {
			t.Errorf("%s: other hosts after a touch", registry)
		}
	}
}

func TestAChangeIsSeenByTheNextCaller(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	client := ca.leaf(t)
	start := map[string]string{
		"r.test/hosts.toml": "ca = \"sub/ca.pem\"\nclient = [[\"c.pem\", \"k.pem\"]]\n[host.\"https://m\"]\n", "r.test/sub/ca.pem": ca.cert,
		"r.test/c.pem": client.cert, "r.test/k.pem": client.key,
	}
	for _, c := range []struct {
		name   string
		change map[string]string
		remove string
	}{
		{"hosts.toml", map[string]string{"r.test/hosts.toml": "[host.\"https://n\"]\n"}, ""},
		{"a CA", map[string]string{"r.test/sub/ca.pem": other.cert}, ""},
		{"a client certificate", map[string]string{"r.test/c.pem": client.cert + ca.cert}, ""},
		{"a key", map[string]string{"r.test/k.pem": "# key\n" + client.key}, ""},
		{"a directory that comes first", map[string]string{"r.test_5000_/hosts.toml": ""}, ""},
		{"hosts.toml that is gone", nil, "r.test/hosts.toml"},
		{"the directory that is gone", nil, "r.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{}
			for path, text := range start {
				files[strings.Replace(path, "r.test", "r.test:5000", 1)] = text
			}
			d := hostsDir(t, files)
			before := hostsOf(t, d, "r.test:5000", "")
			for path, text := range c.change {
				if !strings.HasPrefix(path, "r.test_") {
					path = strings.Replace(path, "r.test", "r.test:5000", 1)
				}
				write(t, d.path, map[string]string{path: text})
			}
			if c.remove != "" {
				if err := os.RemoveAll(filepath.Join(d.path, strings.Replace(c.remove, "r.test", "r.test:5000", 1))); err != nil {
					t.Fatal(err)
				}
			}
			if same(before, hostsOf(t, d, "r.test:5000", "")) {
				t.Error("the hosts are still those of before")
			}
		})
	}
}

func TestAChangeThatShowsInNoTimeIsSeen(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, nil)
	file := filepath.Join(d.path, "r.test", "hosts.toml")
	write(t, d.path, map[string]string{"r.test/hosts.toml": `[host."https://a"]`})
	now := time.Now()
	for _, mirror := range []string{"a", "b", "c"} {
		if err := os.WriteFile(file, []byte(`[host."https://`+mirror+`"]`), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, now, now); err != nil {
			t.Fatal(err)
		}
		checkURLs(t, hostsOf(t, d, "r.test", ""), "https://"+mirror+"?ns", "https://r.test")
	}
}

func TestAFileThatIsReplacedIsSeenThoughItsTimeIsTheSame(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": `[host."https://a"]`, "r.test/new": `[host."https://b"]`})
	file, other := filepath.Join(d.path, "r.test", "hosts.toml"), filepath.Join(d.path, "r.test", "new")
	then := time.Now().Add(-time.Hour)
	for _, path := range []string{file, other} {
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	checkURLs(t, hostsOf(t, d, "r.test", ""), "https://a?ns", "https://r.test")
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	checkURLs(t, hostsOf(t, d, "r.test", ""), "https://b?ns", "https://r.test")
	if err := os.WriteFile(file, []byte(`[host."https://longer"]`), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
	checkURLs(t, hostsOf(t, d, "r.test", ""), "https://longer?ns", "https://r.test")
}

func TestDockersFormChangesWithItsDirectory(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	d := hostsDir(t, map[string]string{"r.test/ca.crt": ca.cert})
	before := hostsOf(t, d, "r.test", "")
	if err := os.WriteFile(filepath.Join(d.path, "r.test", "second.crt"), []byte(newAuthority(t).cert), 0o666); err != nil {
		t.Fatal(err)
	}
	after := hostsOf(t, d, "r.test", "")
	if same(before, after) || before.All[0].TLS.RootCAs.Equal(after.All[0].TLS.RootCAs) {
		t.Error("a second CA is not seen")
	}
	if err := os.WriteFile(filepath.Join(d.path, "r.test", "hosts.toml"), []byte("capabilities = []"), 0o666); err != nil {
		t.Fatal(err)
	}
	if h := hostsOf(t, d, "r.test", ""); len(h.All) != 0 || filepath.Base(h.File) != "hosts.toml" {
		t.Errorf("a hosts.toml is not seen: %v of %s", urls(h), h.File)
	}
}

func TestAWrongFileThatIsCorrectedHoldsAgain(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": "server = \"https://m\""})
	hostsOf(t, d, "r.test", "")
	write(t, d.path, map[string]string{"r.test/hosts.toml": "server ="})
	if h, err := d.Of("r.test", ""); err == nil {
		t.Errorf("a wrong file gives %v, as before", urls(h))
	}
	write(t, d.path, map[string]string{"r.test/hosts.toml": "server = \"https://m\""})
	checkURLs(t, hostsOf(t, d, "r.test", ""), "https://m?ns")
}

func TestWhatACallerDoesToItsListIsItsOwn(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": `[host."https://m"]`})
	hostsOf(t, d, "r.test", "").All[0] = nil
	checkURLs(t, hostsOf(t, d, "r.test", ""), "https://m?ns", "https://r.test")
}

func TestTheRegistriesThatAreRememberedAreBounded(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"_default/hosts.toml": `[host."https://m"]`})
	for i := range 2*maxRegistries + 1 {
		hostsOf(t, d, fmt.Sprintf("r%d.test", i), "")
	}
	if n := len(d.read[filepath.Join(d.path, "_default")].of); n > maxRegistries {
		t.Errorf("%d registries are remembered", n)
	}
	for i := range maxRegistries {
		d.read[fmt.Sprint(i)] = &hostsRead{}
	}
	write(t, d.path, map[string]string{"one.test/hosts.toml": "#"})
	hostsOf(t, d, "one.test", "")
	if n := len(d.read); n > maxRegistries {
		t.Errorf("%d directories are remembered", n)
	}
}

func TestManyCallersGetTheSameHosts(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": "surprise = 1\n[host.\"https://m\"]"})
	got := make([]Hosts, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], _ = d.Of("r.test", "") })
	}
	wg.Wait()
	warnings := 0
	for _, h := range got {
		if !same(got[0], h) {
			t.Error("callers have different hosts")
		}
		warnings += len(h.Warnings)
	}
	if warnings != 1 {
		t.Errorf("%d callers were warned", warnings)
	}
}

func BenchmarkHosts(b *testing.B) {
	ca := newAuthority(b)
	d := hostsDir(b, map[string]string{
		"r.test_5000_/hosts.toml": "server = \"https://r.test:5000\"\n[host.\"https://m\"]\nca = \"ca.pem\"\n[host.\"http://127.0.0.1:5000\"]\n", "r.test_5000_/ca.pem": ca.cert,
		"_default/hosts.toml": `[host."https://m"]`,
	})
	for _, c := range []struct{ name, registry string }{{"unchanged", "r.test:5000"}, {"default", "other.test:5000"}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			hostsOf(b, d, c.registry, "")
			for b.Loop() {
				if _, err := d.Of(c.registry, ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("read anew", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			clear(d.read)
			if _, err := d.Of("r.test:5000", ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
