//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// launched is a plugin as a host in Go launches it.
func launched(t *testing.T, w io.Writer, environment []string, arguments ...string) *plugin.Client {
	t.Helper()
	c, err := plugin.Open(t.Context(), plugin.Config{
		Path: executable(t), Args: arguments, Env: append([]string{"HOME=" + t.TempDir()}, environment...),
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: w}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, network, address string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://plugin/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != textFormat {
		t.Errorf("got %s, %q, %v", resp.Status, resp.Header.Get("Content-Type"), err)
	}
	return string(text)
}

// counts are the lines of our own metrics that do not tell a time.
func counts(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "docker_fetcher_") && !regexp.MustCompile(`_seconds_(bucket|sum)|build_info`).MatchString(line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func uri(t *testing.T, r *fetchertest.Registry, kind scheme.Kind, identifier string) scheme.URI {
	t.Helper()
	ref, err := scheme.Parse(string(kind) + "://" + r.Host() + "/app?" + identifier + "#http")
	if err != nil {
		t.Fatal(err)
	}
	return ref.URI()
}

func TestTheMetricsCountWhatThePluginDid(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{
		Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: username, Password: password}, Redirect: true,
	})
	layers := [][]byte{fetchertest.RandomLayer(1, 40_000), fetchertest.RandomLayer(2, 70_000)}
	image := r.PutImage("app", "1", fetchertest.Image{Layers: layers})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest, Identifier: "1"}, Status: 503, After: 1, Times: 1})
	socket := filepath.Join(shortDir(t), "metrics.sock")
	c := launched(t, io.Discard, nil, "serve", "--metrics", "unix:"+socket, "--cache-dir", t.TempDir())
	config := fetcher.DockerConfig{JSON: fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, r.Host(), username, password)}
	received := int64(0)
	for _, call := range []struct {
		kind       scheme.Kind
		identifier string
		want       fetcher.Reason // "": none
	}{
		{scheme.Image, "1", ""},
		{scheme.Image, "1", ""}, // from the cache
		{scheme.Manifest, "1", ""},
		{scheme.Blob, image.LayerDigests[0], ""}, // from the cache
		{scheme.Image, "missing", fetcher.ManifestNotFound},
	} {
		result, err := c.Fetch(t.Context(), fetcher.Request{URI: uri(t, r, call.kind, call.identifier), Directory: t.TempDir(), Config: config})
		var e *fetcher.Error
		if errors.As(err, &e); err != nil && e.Reason != call.want || err == nil && call.want != "" {
			t.Fatalf("got %v, want %q", err, call.want)
		}
		received += result.BytesTransferred
	}
	if _, err := c.Resolve(t.Context(), fetcher.ResolveRequest{URI: uri(t, r, scheme.Image, "1"), Config: config}); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("REG", r.Host(), "RECEIVED", fmt.Sprint(received)).Replace(`docker_fetcher_fetches_total{registry="REG",kind="docker-blob",outcome="OK"} 1
docker_fetcher_fetches_total{registry="REG",kind="docker-manifest",outcome="OK"} 1
docker_fetcher_fetches_total{registry="REG",kind="docker",outcome="MANIFEST_NOT_FOUND"} 1
docker_fetcher_fetches_total{registry="REG",kind="docker",outcome="OK"} 2
docker_fetcher_fetch_duration_seconds_count{kind="docker-blob",class="ok"} 1
docker_fetcher_fetch_duration_seconds_count{kind="docker-manifest",class="ok"} 1
docker_fetcher_fetch_duration_seconds_count{kind="docker",class="not_found"} 1
docker_fetcher_fetch_duration_seconds_count{kind="docker",class="ok"} 2
docker_fetcher_in_flight 0
docker_fetcher_resolves_total{registry="REG",outcome="OK"} 1
docker_fetcher_received_bytes_total RECEIVED
docker_fetcher_blobs_total{from="cache"} 4
docker_fetcher_blobs_total{from="directory"} 0
docker_fetcher_blobs_total{from="registry"} 3
docker_fetcher_requests_total{registry="REG",to="redirect",code="200"} 3
docker_fetcher_requests_total{registry="REG",to="registry",code="200"} 4
docker_fetcher_requests_total{registry="REG",to="registry",code="307"} 3
docker_fetcher_requests_total{registry="REG",to="registry",code="401"} 1
docker_fetcher_requests_total{registry="REG",to="registry",code="404"} 1
docker_fetcher_requests_total{registry="REG",to="registry",code="503"} 1
docker_fetcher_requests_total{registry="REG",to="token",code="200"} 1
docker_fetcher_request_duration_seconds_count{registry="REG",to="redirect"} 3
docker_fetcher_request_duration_seconds_count{registry="REG",to="registry"} 10
docker_fetcher_request_duration_seconds_count{registry="REG",to="token"} 1
docker_fetcher_retries_total{registry="REG"} 1
docker_fetcher_authentications_total{registry="REG",step="anonymous",outcome="refused"} 1
docker_fetcher_authentications_total{registry="REG",step="bearer",outcome="accepted"} 8
docker_fetcher_authentications_total{registry="REG",step="bearer",outcome="unavailable"} 1
docker_fetcher_authentications_total{registry="REG",step="token",outcome="accepted"} 1`)
	if diff := cmp.Diff(strings.Split(want, "\n"), counts(scrape(t, "unix", socket))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWithoutTheFlagThereAreNoMetrics(t *testing.T) {
	t.Parallel()
	f := &fetcher.Fetcher{}
	watched, end := new(options).watched(t.Context(), f, hclog.NewNullLogger())
	if watched != plugin.Fetcher(f) {
		t.Errorf("got %T, want the fetcher itself", watched)
	}
	end()
}

func TestTheSocketOfTheMetricsIsTheUsersAndGoesWithThePlugin(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	socket := filepath.Join(dir, "metrics.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as if its plugin had been killed
	_ = left.Close()
	p := newProcess(t, hosted(dir), "--metrics=unix:"+socket)
	p.handshake()
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o700 {
		t.Errorf("got %v, %v, want a socket for this user only", info, err)
	}
	scrape(t, "unix", socket)
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d: %s", code, &p.stderr)
	}
	if diff := cmp.Diff([]string{"metrics.sock.lock"}, names(t, dir)); diff != "" {
		t.Errorf("what was left: (-want +got):\n%s", diff)
	}
}

func TestAnAddressThatOthersReachIsAnErrorOfUse(t *testing.T) {
	t.Parallel()
	p := newProcess(t, hosted(shortDir(t)), "--metrics=0.0.0.0:9464")
	p.start()
	if code := p.wait(); code != 2 {
		t.Errorf("got exit code %d, want 2", code)
	}
	want := `^invalid argument "0\.0\.0\.0:9464" for "--metrics" flag: metrics tell who fetches what, .* want a loopback address such as 127\.0\.0\.1:9464, or unix:/path/to\.sock; see`
	if message := lastMessage(t, p.stderr.Bytes()); !regexp.MustCompile(want).MatchString(message) {
		t.Errorf("got %q, want a match of %s", message, want)
	}
}

func TestThePluginStartsWithoutMetricsWhereItCanHaveNone(t *testing.T) {
	t.Parallel()
	dir, open := shortDir(t), shortDir(t)
	if err := os.Chmod(open, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link.sock")
	for _, err := range []error{
		os.WriteFile(file, []byte("kept"), 0o600), os.Symlink(file, link), os.Symlink(file, filepath.Join(dir, "m.sock.lock")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	foreign, err := net.Listen("unix", filepath.Join(dir, "foreign.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = foreign.Close() })
	for _, c := range []struct{ name, address, want string }{
		{"a port that is in use", taken.Addr().String(), `--metrics 127\.0\.0\.1:\d+: it is in use; give each plugin an address of its own`},
		{"a socket of another program", "unix:" + dir + "/foreign.sock", `--metrics unix:.*: it is in use; give each plugin an address of its own`},
		{"a file", "unix:" + file, `--metrics unix:.*/file: there is a file that is no socket; name another path`},
		{"a link", "unix:" + link, `--metrics unix:.*/link\.sock: there is a file that is no socket; name another path`},
		{"a lock that is a link", "unix:" + dir + "/m.sock", `--metrics unix:.*/m\.sock: open .*/m\.sock\.lock: too many levels of symbolic links`},
		{"a directory that is not there", "unix:/nowhere/m.sock", `--metrics unix:/nowhere/m\.sock: .*no such file or directory`},
		{"a directory that others write to", "unix:" + open + "/m.sock", `--metrics unix:.*: others may write to the directory .* \(mode 0777\); name a path in a directory that only the user of the plugin writes to`},
		{"a path that is too long", "unix:" + dir + "/" + strings.Repeat("a", 120), `--metrics unix:.*: the path is too long for a unix socket; name a shorter one`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, hosted(shortDir(t)), "--metrics="+c.address)
			p.handshake()
			if code := p.signal(syscall.SIGTERM); code != 0 {
				t.Errorf("got exit code %d, want 0", code)
			}
			want := `"@level":"error","@message":"there are no metrics until the next launch".*"error":"` + c.want + `"`
			if text := strings.ReplaceAll(p.stderr.String(), `\"`, ""); !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("got %q, want a match of %s", text, want)
			}
		})
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(file); string(text) != "kept" {
			t.Errorf("the file was changed: %q, %v", text, err)
		}
		if left := names(t, open); len(left) != 0 {
			t.Errorf("%v was made where others write", left)
		}
	})
}

// Not in parallel: a child that another test starts has the socket that was
// left open until its exec, and answers.
func TestOneOfManyTakesASocketThatWasLeft(t *testing.T) {
	address := metricsAddress{"unix", filepath.Join(shortDir(t), "m.sock")}
	for range 100 {
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: address.address, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		_ = left.Close()
		begin, got := make(chan struct{}), make(chan net.Listener, 4)
		for range cap(got) {
			go func() {
				<-begin
				l, err := address.open(context.Background())
				if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
				}
				got <- l
			}()
		}
		close(begin)
		var open []net.Listener
		for range cap(got) {
			if l := <-got; l != nil {
				open = append(open, l)
			}
		}
		if len(open) != 1 {
			t.Fatalf("%d listen at one path", len(open))
		}
		if err := open[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAListenerWaitsForThePluginBeforeIt(t *testing.T) {
	t.Parallel()
	for _, address := range []metricsAddress{{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(shortDir(t), "m.sock")}} {
		before, err := address.listen(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if address.network == "tcp" {
			address.address = before.Addr().String()
		}
		if _, err := address.listen(t.Context(), 0); err == nil {
			t.Errorf("%s: two have it", &address)
		}
		time.AfterFunc(50*time.Millisecond, func() { _ = before.Close() })
		after, err := address.listen(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		_ = after.Close()
	}
}

// The commands of docs/observability.md, with a directory of this test's and a
// port that is free.
func TestTheCommandsForMetricsInTheDocumentationWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	place := strings.NewReplacer("/run/agent", dir, "127.0.0.1:9464", "127.0.0.1:0")
	served, asked := 0, 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		command := strings.Fields(place.Replace(block[1]))
		switch {
		case command[0] == "docker-fetcher":
			p := newProcess(t, hosted(dir), command[1:]...)
			p.handshake()
			t.Cleanup(func() { p.signal(syscall.SIGTERM) })
			served++
		case command[0] == "curl":
			out, err := exec.CommandContext(t.Context(), "curl", command[1:]...).Output()
			if errors.Is(err, exec.ErrNotFound) {
				t.Skip("there is no curl")
			}
			if err != nil || !strings.Contains(string(out), "\ndocker_fetcher_in_flight 0\n") {
				t.Errorf("got %s, %v", out, err)
			}
			asked++
		case strings.HasPrefix(command[0], "OTEL_"): // the tests of traces set them
		default:
			t.Errorf("nothing runs %q", command)
		}
	}
	if served != 2 || asked != 1 {
		t.Errorf("%d commands served and %d asked", served, asked)
	}
}
