//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// registryWithLogin has the image app:1, for the user of the scripts.
func registryWithLogin(t *testing.T) (*fetchertest.Registry, fetchertest.Pushed) {
	t.Helper()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: "bearer", Username: username, Password: password}})
	return r, r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 40_000)}})
}

// dockerConfig is a config.json with the user's login.
func dockerConfig(r *fetchertest.Registry, password string) []byte {
	return fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, r.Host(), base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
}

// requestFor is the JSON of a request for app:REFERENCE; no config means none in it.
func requestFor(r *fetchertest.Registry, reference, dir string, config []byte) string {
	host, port, _ := strings.Cut(r.Host(), ":")
	text := fmt.Sprintf(`{"uri":{"scheme":"docker","host":%q,"port":%s,"path":"app","query":%q,"fragment":"http"},"directory":%q`, host, port, reference, dir)
	if config != nil {
		text += fmt.Sprintf(`,"config":{"json":%q}`, base64.StdEncoding.EncodeToString(config))
	}
	return text + "}\n"
}

// asked runs the executable with a request on stdin.
func asked(t *testing.T, request string, environment []string, arguments ...string) (lines []map[string]any, stderr string, code int) {
	t.Helper()
	p := newProcess(t, environment, append([]string{"fetch", "--request", "-"}, arguments...)...)
	p.cmd.Stdin = strings.NewReader(request)
	p.start()
	code = p.wait()
	for line := range strings.Lines(p.stdout.String()) {
		var value map[string]any
		if err := json.Unmarshal([]byte(line), &value); err != nil || len(value) != 1 {
			t.Fatalf("got the line %q, want an object of one field: %v", line, err)
		}
		lines = append(lines, value)
	}
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(username + ":" + password))} {
		if strings.Contains(p.stdout.String()+p.stderr.String(), secret) {
			t.Errorf("the password was shown: %s%s", &p.stdout, &p.stderr)
		}
	}
	return lines, p.stderr.String(), code
}

func TestARequestIsAnsweredByItsEventsAndThenTheResult(t *testing.T) {
	t.Parallel()
	r, image := registryWithLogin(t)
	dir := filepath.Join(t.TempDir(), "image")
	lines, stderr, code := asked(t, requestFor(r, "1", dir, dockerConfig(r, password)), nil)
	if code != 0 || stderr != "" {
		t.Fatalf("got exit code %d and %q, want 0 and nothing", code, stderr)
	}
	var events []string
	for _, line := range lines {
		for name := range line {
			if name != "progress" { // comes if it takes long
				events = append(events, name)
			}
		}
	}
	if diff := cmp.Diff([]string{"started", "fileDone", "fileDone", "fileDone", "result"}, events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	result := lines[len(lines)-1]["result"].(map[string]any)
	if got := result["manifest"].(map[string]any)["digest"]; got != image.ManifestDigest {
		t.Errorf("got the manifest %v, want %s", got, image.ManifestDigest)
	}
	want := []string{"manifest", image.ConfigDigest, image.LayerDigests[0]}
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARequestMayComeFromAFile(t *testing.T) {
	t.Parallel()
	r, image := registryWithLogin(t)
	dir := filepath.Join(t.TempDir(), "image")
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, []byte(requestFor(r, "1", dir, dockerConfig(r, password))), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, nil, "fetch", "--request", file)
	p.start()
	if code := p.wait(); code != 0 || !strings.Contains(p.stdout.String(), `{"result":{"manifest":{`) {
		t.Errorf("got exit code %d: %s%s", code, &p.stdout, &p.stderr)
	}
	if got := names(t, dir); !slices.Contains(got, image.LayerDigests[0]) {
		t.Errorf("got %v", got)
	}
}

func TestAProgramsRequestTakesCredentialsFromItselfAndTheDefaultConfigOnly(t *testing.T) {
	t.Parallel()
	r, _ := registryWithLogin(t)
	home := t.TempDir()
	config := filepath.Join(home, "config.json")
	for _, path := range []string{config, filepath.Join(home, ".docker", "config.json")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, dockerConfig(r, password), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	request := func() string { return requestFor(r, "1", filepath.Join(t.TempDir(), "image"), nil) }
	for _, variable := range []string{"HOME", "DOCKER_CONFIG"} {
		if _, stderr, code := asked(t, request(), []string{variable + "=" + home}); code != 4 {
			t.Errorf("the login in %s was taken: exit code %d: %s", variable, code, stderr)
		}
	}
	if _, stderr, code := asked(t, request(), nil, "--default-docker-config", config); code != 0 {
		t.Errorf("the default config was not taken: exit code %d: %s", code, stderr)
	}
	own := requestFor(r, "1", filepath.Join(t.TempDir(), "image"), dockerConfig(r, "wrong"))
	if _, stderr, code := asked(t, own, nil, "--default-docker-config", config); code != 4 {
		t.Errorf("the request's config did not go first: exit code %d: %s", code, stderr)
	}
}

func TestAFailureIsTheLastLineTheExitCodeAndALineForPeople(t *testing.T) {
	t.Parallel()
	r, _ := registryWithLogin(t)
	config := dockerConfig(r, password)
	r.Inject(fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: fetchertest.Manifest, Identifier: "busy"}, Status: 429,
		Header: map[string][]string{"Retry-After": {"86400"}},
	})
	for _, c := range []struct {
		name, request  string
		code           int
		status         float64 // of google.rpc.Code
		reason, detail string
	}{
		{"no such tag", requestFor(r, "none", t.TempDir(), config), 3, 5, "MANIFEST_NOT_FOUND", ""},
		{"no credential", requestFor(r, "1", t.TempDir(), nil), 4, 16, "AUTH_REQUIRED", ""},
		{"a rate limit", requestFor(r, "busy", t.TempDir(), config), 6, 8, "RATE_LIMITED", "86400s"},
		{"a config that is none", requestFor(r, "1", t.TempDir(), []byte(password)), 2, 3, "CONFIG_INVALID", ""},
		{"a relative directory", requestFor(r, "1", "image", config), 2, 3, "DIRECTORY_INVALID", ""},
		{"no request", "", 2, 3, "OPTION_INVALID", ""},
		{"a request without anything", "{}", 2, 3, "URI_INVALID", ""},
		{"a docker config in place of the request", string(config), 2, 3, "OPTION_INVALID", ""},
		{"a request of more than 4 MiB", strings.Repeat(" ", 4<<20) + "{}", 1, 8, "REQUEST_TOO_LARGE", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines, stderr, code := asked(t, c.request, nil)
			if code != c.code || len(lines) != 1 {
				t.Fatalf("got exit code %d and %v, want %d and one line: %s", code, lines, c.code, stderr)
			}
			status, _ := lines[0]["error"].(map[string]any)
			if stderr != "error: "+oneLine(fmt.Sprint(status["message"]))+"\n" || status["code"] != c.status {
				t.Errorf("got %v and %q", status, stderr)
			}
			details, _ := status["details"].([]any)
			if len(details) == 0 || details[0].(map[string]any)["reason"] != c.reason {
				t.Fatalf("got %v, want the reason %s", details, c.reason)
			}
			if c.detail != "" && (len(details) != 2 || details[1].(map[string]any)["retryDelay"] != c.detail) {
				t.Errorf("got %v, want to retry after %s", details, c.detail)
			}
		})
	}
}

func TestAMistakeInTheCommandLineOfARequestIsNoAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		name        string
		environment []string
		arguments   []string
		want        string
	}{
		{"a URI beside it", nil, []string{"--request", "-", "alpine", dir}, "error: the URI and the directory are in the --request; give no arguments beside it; see 'docker-fetcher fetch --help'\n"},
		{"a URI beside that of the environment", []string{"DOCKER_FETCHER_REQUEST=-"}, []string{"alpine", dir}, "error: the URI and the directory are in the --request; give no arguments beside it; see 'docker-fetcher fetch --help'\n"},
		{"a config beside it", nil, []string{"--request=-", "--docker-config", "/nowhere"}, "error: the docker config is in the --request; give no --docker-config or DOCKER_FETCHER_DOCKER_CONFIG beside it; see 'docker-fetcher fetch --help'\n"},
		{"a config in the environment", []string{"DOCKER_FETCHER_DOCKER_CONFIG=x"}, []string{"--request=-"}, "error: the docker config is in the --request; give no --docker-config or DOCKER_FETCHER_DOCKER_CONFIG beside it; see 'docker-fetcher fetch --help'\n"},
		{"a default config that is not there", nil, []string{"--request=-", "--default-docker-config=/nowhere"}, "error: --default-docker-config: open /nowhere: no such file or directory\n"},
		{"a file that is not there", nil, []string{"--request", "/nowhere"}, "error: --request: open /nowhere: no such file or directory\n"},
		{"a directory", nil, []string{"--request", dir}, "error: --request: read " + dir + ": is a directory\n"},
		{"no file", nil, []string{"--request", ""}, "error: --request: want a FILE or - for stdin\n"},
		{"no file, but a URI", nil, []string{"--request=", "alpine", dir}, "error: --request: want a FILE or - for stdin\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, c.environment, append([]string{"fetch"}, c.arguments...)...)
			p.start()
			if code := p.wait(); code != 2 || p.stdout.Len() != 0 || p.stderr.String() != c.want {
				t.Errorf("got exit code %d, %q and %q, want 2, nothing and %q", code, &p.stdout, &p.stderr, c.want)
			}
		})
	}
}

func TestASignalEndsARequestWithAnAnswer(t *testing.T) {
	t.Parallel()
	r, image, struck := stalled(t)
	dir := filepath.Join(t.TempDir(), "image")
	p := newProcess(t, nil, "fetch", "--request", "-")
	p.cmd.Stdin = strings.NewReader(requestFor(r, "1", dir, nil))
	p.start()
	<-struck
	if code := p.signal(os.Interrupt); code != 130 || p.stderr.String() != "error: interrupted\n" {
		t.Errorf("got exit code %d and %q, want 130 and one line of error", code, &p.stderr)
	}
	if want := `{"error":{"code":1,"message":"transfer: context canceled"}}` + "\n"; !strings.HasSuffix(p.stdout.String(), "\n"+want) {
		t.Errorf("got %q, want %q at the end", &p.stdout, want)
	}
	for _, name := range names(t, dir) {
		if name == image.LayerDigests[0] {
			t.Errorf("%s was left", name)
		}
	}
}

func TestASignalEndsTheWaitForARequest(t *testing.T) {
	t.Parallel()
	p := newProcess(t, nil, "fetch", "--request", "-")
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	p.start()
	// More than a pipe holds: when it is written, the process reads.
	if _, err := stdin.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if code := p.signal(os.Interrupt); code != 130 || p.stderr.String() != "error: interrupted\n" {
		t.Errorf("got exit code %d and %q, want 130 and one line of error", code, &p.stderr)
	}
}

func TestARequestWithoutAnEndIsGivenUpAfterTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stdin, host := io.Pipe()
		defer host.Close()
		begin := time.Now()
		_, err := readRequest(t.Context(), "-", stdin)
		const want = "--request: no end of it within 10s; write one request and close the pipe"
		if !errors.As(err, new(usageError)) || err.Error() != want || time.Since(begin) != 10*time.Second {
			t.Errorf("got %v after %v, want %q after 10s", err, time.Since(begin), want)
		}
	})
}

// pipe is one that nobody reads, until its reader is gone.
type pipe struct{ gone chan struct{} }

func (p pipe) Write([]byte) (int, error) {
	<-p.gone
	return 0, io.ErrClosedPipe
}

// steady fetches until it is cancelled; it has one event to tell.
type steady struct{}

func (steady) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	r.Observe(fetcher.Started{TotalFiles: 1})
	<-ctx.Done()
	return fetcher.Result{}, ctx.Err()
}

func (steady) Resolve(context.Context, fetcher.ResolveRequest) (fetcher.Resolution, error) {
	panic("not asked for")
}

func TestAFetchEndsWhenNobodyTakesItsEvents(t *testing.T) {
	t.Parallel()
	broken := pipe{make(chan struct{})}
	close(broken.gone)
	_, err := converse(t.Context(), steady{}, fetcher.Request{}, func(fetcher.Event) {}, broken)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestAnInterruptedRequestDoesNotWaitForAPipeThatNobodyReads(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	full := pipe{make(chan struct{})}
	defer close(full.gone)
	writing := make(chan struct{})
	go func() {
		<-writing
		interrupt()
	}()
	err := interruptible(ctx, func() error {
		_, err := converse(ctx, steady{}, fetcher.Request{}, func(fetcher.Event) { close(writing) }, full)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
