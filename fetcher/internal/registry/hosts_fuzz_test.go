package registry

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzAHostsFileIsReadTheSameTwiceOrRefusedByLine(f *testing.F) {
	for _, seed := range []string{
		"", "# nothing\n", "server = \"https://docker.io\"\n[host.\"https://registry-1.docker.io\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
		"server = \"http://registry.test:5000\"\ncapabilities = []\n[host.\"http://127.0.0.1:15010\"]\ndial_timeout = \"1s\"\n[host.m]\nskip_verify = true\n",
		"ca = [\"a\", \"b\"]\nclient = [[\"a\", \"b\"], [\"c\", \"\"]]\n[header]\nx = \"1\"\ny = [\"2\"]\nY = 3\n", "client = [\"a\", [\"b\", \"c\"], 1]",
		"[host.\"https://m/v2\".docker-fetcher]\nwait = \"15m\"\ncredentials = true\nprivate_redirects = true\n",
		"host = { \"https://b\" = {}, a = { header = { x = '''\n''' } } }", "[[host]]\n\"https://m\" = {}\n[[host]]\n", "a.b.c.d.e.f = 1\n[a.b.c.d.g]\n",
		"[host.\"https://user:password@m\"]", "[host.\"unix:/run/x\"]", "server = \"https://[::1]:5000/a/../v2?x#y\"", "\"\\u0000\" = 1979-05-27T07:32:00Z",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const file = "/certs.d/r.test/hosts.toml"
		one, err := parseHosts(file, text)
		two, again := parseHosts(file, text)
		var wrong *HostsError
		switch {
		case err == nil:
			checkParsed(t, one)
		case !errors.As(err, &wrong) || wrong.File != file || wrong.Text == "" || strings.ContainsAny(wrong.Text, "\n\x00"):
			t.Errorf("%v", err)
		case wrong.Line < 0 || wrong.Line > bytes.Count(text, []byte("\n"))+1:
			t.Errorf("line %d is not in the file", wrong.Line)
		}
		all := cmp.AllowUnexported(hostsText{}, hostEntry{}, tlsFiles{}, clientFiles{})
		if diff := cmp.Diff(one, two, all) + cmp.Diff(err, again); diff != "" {
			t.Errorf("another result the second time:\n%s", diff)
		}
	})
}

// checkParsed holds hosts to what the engine relies on.
func checkParsed(t *testing.T, text hostsText) {
	t.Helper()
	r := &hostsRead{file: "/certs.d/r.test/hosts.toml", mirrors: text.mirrors, server: text.server, of: map[ownServer][]*Host{}}
	all, err := r.hosts(ownServer{"r.test", "https"})
	var wrong *HostsError
	if err != nil && !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	places := map[string]bool{}
	for _, h := range all {
		u := h.URL
		if place := (hostEntry{Host: h}).place(); places[place] {
			t.Errorf("%s is asked twice", place)
		} else {
			places[place] = true
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Path, "/") {
			t.Errorf("%q is not a host's URL", u)
		}
		if h.DialTimeout < 0 || h.Wait < 0 || !h.Resolve && !h.Pull {
			t.Errorf("a host that can't be asked: %+v", h)
		}
		req := &http.Request{Method: http.MethodGet, URL: u, Header: h.Header}
		if err := req.Write(new(bytes.Buffer)); err != nil {
			t.Errorf("a request that can't be written: %v", err)
		}
	}
	if len(text.warnings) > maxHostsWarnings+1 || strings.ContainsAny(strings.Join(text.warnings, ""), "\n\x00") {
		t.Errorf("warnings %q", text.warnings)
	}
}
