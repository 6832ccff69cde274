package fetcher_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// six is where a server of IPv6 listens. A test is skipped where nothing can.
const six = "[::1]:0"

func TestARegistryAtAnIPv6AddressIsFetchedFrom(t *testing.T) {
	t.Parallel()
	f := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{listen: six})
	for title, name := range map[string]string{
		"by a URI":                        "docker://" + f.host() + "/team/app?latest#http",
		"by a familiar name":              f.host() + "/team/app",
		"by an address in another form":   strings.Replace(f.host(), "::1", "0:0:0:0:0:0:0:1", 1) + "/team/app:latest#http",
		"by a URI that leaves the scheme": "docker://" + f.host() + "/team/app?latest",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if err := take(t, newFetcher(t, fetcher.Config{}), name, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAHostsDirectoryMayBeNamedByAnIPv6Address(t *testing.T) {
	t.Parallel()
	for title, form := range map[string]string{"[::1]:PORT": "[::1]:%s", "HOST_PORT_": "[::1]_%s_"} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			trusted := newAuthority(t)
			config := &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}
			origin := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{listen: six, config: config})
			mirror := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{listen: six, config: config})
			_, port, err := net.SplitHostPort(origin.host())
			if err != nil {
				t.Fatal(err)
			}
			hosts := newHostsDir(t)
			dir := fmt.Sprintf(form, port)
			hosts.put(dir, "ca.pem", trusted.pem())
			hosts.put(dir, "hosts.toml", fmt.Appendf(nil, "ca = \"ca.pem\"\n[host.%q]\nca = \"ca.pem\"\ncapabilities = [\"pull\"]\n", mirror.URL))
			if err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), origin.host()+"/team/app", ""); err != nil {
				t.Fatal(err)
			}
			if tags, blobs := len(origin.sightings()), len(mirror.sightings()); tags != 1 || blobs != 2 {
				t.Errorf("the origin got %d requests, the mirror %d", tags, blobs)
			}
		})
	}
}

func TestARegistryMayLeadToAnIPv6Address(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("by TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			behind := served(t, fetchertest.Config{
				Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p"}, TLS: false,
			})
			realm, err := url.Parse(behind.TokenURL())
			if err != nil {
				t.Fatal(err)
			}
			trusted := newAuthority(t)
			s := frontSetting{listen: six}
			if secure {
				s.config = &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}
			}
			token := newFront(t, "http://"+realm.Host, s)
			cdn := newFront(t, "http://"+behind.CDNHost(), frontSetting{listen: six, config: s.config})
			s.change = []string{"http://" + realm.Host, token.URL, "http://" + behind.CDNHost(), cdn.URL}
			registry := newFront(t, behind.URL(), s)
			given := through(t, behind, nil)["our transport"]
			given.Proxy, given.TLSClientConfig.RootCAs = nil, trusted.pool()
			t.Cleanup(given.CloseIdleConnections)
			config := fmt.Sprintf(`{"auths":{%q:{"username":"u","password":"p"}}}`, registry.host())
			if err := take(t, newFetcher(t, fetcher.Config{Transport: given}), registry.host()+"/team/app", config); err != nil {
				t.Fatal(err)
			}
			if len(token.sightings()) == 0 || len(cdn.sightings()) != 2 {
				t.Errorf("token server %v, content host %v", token.sightings(), cdn.sightings())
			}
		})
	}
}

func TestACredentialIsForOnePortOfAnIPv6Address(t *testing.T) {
	t.Parallel()
	auth := fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p"}
	f := newFront(t, served(t, fetchertest.Config{Auth: auth}).URL(), frontSetting{listen: six})
	_, port, err := net.SplitHostPort(f.host())
	if err != nil {
		t.Fatal(err)
	}
	for key, serves := range map[string]bool{
		"[::1]:" + port:              true,
		"http://[::1]:" + port + "/": true,
		"[::1]:1":                    false,
		"::1":                        false,
	} {
		t.Run(strings.Replace(key, port, "PORT", 1), func(t *testing.T) {
			t.Parallel()
			err := take(t, newFetcher(t, fetcher.Config{}), f.host()+"/team/app#http", fmt.Sprintf(`{"auths":{%q:{"username":"u","password":"p"}}}`, key))
			if serves {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, fetcher.AuthRequired, `add a credential for "[::1]:`+port+`"`)
		})
	}
}

func TestAnIPv6RegistryThatIsDownIsNamedWithItsBrackets(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", six)
	if err != nil {
		t.Skipf("no server can listen on %s: %v", six, err)
	}
	at := listener.Addr().String()
	_ = listener.Close()
	err = take(t, newFetcher(t, fetcher.Config{}), at+"/team/app#http", "")
	refused(t, err, fetcher.RegistryUnreachable, "http://"+at+"/v2/team/app/")
}

func TestAHostThatNoRegistryCanHaveIsRefusedInClearWords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ want, hidden string }{
		"docker://bücher.example/app?1":       {"write the name in its punycode form (xn--...)", ""},
		"bücher.example/app:1":                {"write the name in its punycode form (xn--...)", ""},
		"docker://bücher.example:5000/app?1":  {"write the name in its punycode form (xn--...)", ""},
		"unix:///run/registry.sock/app?1":     {"does not support 'unix' URI scheme; use docker", ""},
		"unix:///run/registry.sock":           {"does not support 'unix' URI scheme; use docker", ""},
		"docker://unix:///run/registry?1":     {"port", ""},
		"docker:///run/registry.sock?1":       {"Registry host (uri.host) is not specified", ""},
		"docker://registry.example:0/app?1":   {"is not a decimal number from 1 to 65535", ""},
		"docker://registry.example:65536/a?1": {"is not a decimal number from 1 to 65535", ""},
		"docker://[::1]:65536/app?1":          {"is not a decimal number from 1 to 65535", ""},
		"[::1]:-1/app":                        {"is not a decimal number from 1 to 65535", ""},
		"docker://::1:5000/app?1":             {"an IPv6 address goes in brackets", ""},
		"docker://[fe80::1%25eth0]/app?1":     {"is not an IPv6 address such as [2001:db8::1], without zone", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := scheme.ParseFamiliar(name)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if _, err := scheme.ParseFamiliar("docker://xn--bcher-kva.example/app?1"); err != nil {
		t.Error(err)
	}
}

// A message may come in parts, which no parser has seen.
func TestAHostThatNoRegistryCanHaveIsRefusedInAMessageToo(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"bücher.example":          "write the name in its punycode form (xn--...)",
		"unix:///run/docker.sock": "uri.host",
		"/run/docker.sock":        "is neither a DNS name",
	} {
		_, err := newFetcher(t, fetcher.Config{}).Fetch(t.Context(), fetcher.Request{
			URI: scheme.URI{Scheme: "docker", Host: &host, Path: "app", Query: new("1")}, Directory: t.TempDir(),
		})
		refused(t, err, fetcher.URIInvalid, want)
	}
}

func TestAMirrorsHostIsHeldToTheSame(t *testing.T) {
	t.Parallel()
	origin := served(t, fetchertest.Config{})
	for mirror, want := range map[string]string{
		"https://bücher.example":     "write it in its xn-- form",
		"unix:///run/mirror.sock":    "",
		"https://[::1]:65536":        "has a port that is not a number from 1 to 65535",
		"https://registry.example:0": "has a port that is not a number from 1 to 65535",
		"https://::1:5000":           "",
	} {
		t.Run(mirror, func(t *testing.T) {
			hosts := newHostsDir(t)
			file := hosts.put(origin.Host(), "hosts.toml", fmt.Appendf(nil, "\n[host.%q]\n", mirror))
			err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), origin.Host()+"/team/app#http", "")
			refused(t, err, fetcher.HostsInvalid, file+":2: ", want)
		})
	}
}
