//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// prompt is far above what it takes to end, and far below any timeout of the
// fetcher.
const prompt = 3 * time.Second

// process is the executable at work.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// newProcess returns the executable, not yet started, with an environment of
// nothing else. It is killed if it lives on for a minute.
func newProcess(t *testing.T, environment []string, arguments ...string) *process {
	t.Helper()
	path := executable(t) // which may have to be built
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &process{t: t, cmd: exec.CommandContext(ctx, path, arguments...)}
	p.cmd.Env = append([]string{"HOME=" + t.TempDir()}, environment...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

func (p *process) start() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// signal sends s and checks that the process ends promptly.
func (p *process) signal(s os.Signal) (code int) {
	p.t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	code = p.wait()
	if took := time.Since(begin); took > prompt {
		p.t.Errorf("it took %v to end", took)
	}
	return code
}

// wait returns the exit code, -1 for an end by a signal.
func (p *process) wait() int {
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// hosted is the environment of a plugin whose socket goes to dir.
func hosted(dir string) []string {
	return []string{
		plugin.Handshake.MagicCookieKey + "=" + plugin.Handshake.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + dir,
	}
}

// shortDir returns a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "df")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// handshake starts the process as a host without go-plugin would, and returns
// the line that it announces itself with. The host reads no further than that.
func (p *process) handshake() string {
	p.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	p.cmd.Stdout = w
	p.start()
	_ = w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		p.t.Fatalf("no handshake: %v, exit code %d: %s", err, p.wait(), &p.stderr)
	}
	return line
}

// names returns what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// stalled starts a registry whose large blobs stand still half way, and tells
// when the image's layer is asked for.
func stalled(t *testing.T) (r *fetchertest.Registry, image fetchertest.Pushed, struck <-chan struct{}) {
	t.Helper()
	r = fetchertest.New(t, fetchertest.Config{})
	image = r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 4<<20)}})
	notice := make(chan struct{}, 100)
	r.Inject(fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: fetchertest.Blob}, StallAt: 2 << 20,
		Notice: func(q fetchertest.Request) {
			if q.Identifier == image.LayerDigests[0] {
				notice <- struct{}{}
			}
		},
	})
	return r, image, notice
}

func TestASignalEndsAFetchAtOnceAndLeavesNothingPartial(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		for _, kind := range []string{"docker", "docker-blob"} {
			t.Run(signal.String()+" in "+kind, func(t *testing.T) {
				t.Parallel()
				r, image, struck := stalled(t)
				reference, complete := "1", []string{"manifest", image.ConfigDigest}
				if kind == "docker-blob" {
					reference, complete = image.LayerDigests[0], nil
				}
				dir := filepath.Join(t.TempDir(), "image")
				p := newProcess(t, nil, "fetch", kind+"://"+r.Host()+"/app?"+reference+"#http", dir)
				p.start()
				<-struck
				if code := p.signal(signal); code != 130 {
					t.Errorf("got exit code %d, want 130", code)
				}
				if p.stdout.Len() != 0 || p.stderr.String() != "error: interrupted\n" {
					t.Errorf("got %q and %q, want one line of error", &p.stdout, &p.stderr)
				}
				for _, name := range names(t, dir) {
					if !slices.Contains(complete, name) {
						t.Errorf("%s was left", name)
					}
				}
			})
		}
	}
}

func TestAClosedStdoutIsAnErrorAndNoSignal(t *testing.T) {
	t.Parallel()
	p := newProcess(t, nil, "version")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	p.cmd.Stdout = w
	p.start()
	_ = w.Close()
	if code, want := p.wait(), "error: write /dev/stdout: broken pipe\n"; code != 1 || p.stderr.String() != want {
		t.Errorf("got exit code %d and %q, want 1 and %q", code, &p.stderr, want)
	}
}

func TestThePluginAnnouncesItsSocketAndSIGTERMRemovesIt(t *testing.T) {
	t.Parallel()
	for name, arguments := range map[string][]string{
		"without a command": {"--log-level=trace"},
		"with serve":        {"serve", "--log-level=trace", "--docker_stall_timeout=1mins"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			p := newProcess(t, hosted(dir), arguments...)
			line := p.handshake()
			m := regexp.MustCompile(`^1\|1\|unix\|(` + regexp.QuoteMeta(dir) + `/plugin\d+)\|grpc\|\n$`).FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("got handshake %q", line)
			}
			info, err := os.Stat(m[1])
			if err != nil || info.Mode() != fs.ModeSocket|0o700 {
				t.Errorf("got %v, %v, want a socket for this user only", info, err)
			}
			if code := p.signal(syscall.SIGTERM); code != 0 {
				t.Errorf("got exit code %d, want 0: %s", code, &p.stderr)
			}
			if left := names(t, dir); len(left) != 0 {
				t.Errorf("%v was left", left)
			}
			for line := range strings.Lines(p.stderr.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("the log has a line that is not JSON: %q", line)
				}
			}
		})
	}
}

func TestAPluginWhoseHostNoLongerReadsStillCleansUp(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	p := newProcess(t, hosted(dir), "--log-level=trace")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.start()
	_ = w.Close()
	lines := bufio.NewScanner(r)
	for announced := false; !announced && lines.Scan(); {
		announced = strings.HasPrefix(lines.Text(), "1|")
	}
	_ = r.Close()
	if code := p.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("%v was left", left)
	}
}

func TestCtrlCIsForTheHostToAnswer(t *testing.T) {
	t.Parallel()
	ignored := make(logWatch, 10)
	c, pid := open(t, ignored)
	for range 5 {
		if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		<-ignored
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// logWatch tells of each line of log about an interrupt.
type logWatch chan struct{}

func (w logWatch) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("received interrupt signal, ignoring")) {
		w <- struct{}{}
	}
	return len(p), nil
}

func TestSIGTERMInTheMiddleOfAFetchEndsThePluginAndLeavesNothingPartial(t *testing.T) {
	t.Parallel()
	r, image, struck := stalled(t)
	c, pid := open(t, io.Discard)
	ref, err := scheme.Parse("docker-blob://" + r.Host() + "/app?" + image.LayerDigests[0] + "#http")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	go func() {
		<-struck
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}()
	_, err = c.Fetch(t.Context(), fetcher.Request{URI: ref.URI(), Directory: dir})
	var e *fetcher.Error
	if !errors.As(err, &e) || e.Reason != fetcher.ShuttingDown {
		t.Errorf("got %v, want %v", err, fetcher.ShuttingDown)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("%v was left", left)
	}
}

// open launches the plugin with AutoMTLS, as a host in Go does, and sends its log to w.
func open(t *testing.T, w io.Writer) (c *plugin.Client, pid int) {
	t.Helper()
	c, err := plugin.Open(t.Context(), plugin.Config{
		Path: executable(t), Args: []string{"--log-level=trace"}, Env: []string{"HOME=" + t.TempDir()},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: w}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plugin.Info{
		Name: "docker", Version: version, Schemes: []string{"docker", "docker-manifest", "docker-blob"}, ProtocolVersion: 1, PID: info.PID,
	}, info); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	return c, info.PID
}

func TestThePluginRefusesToStartWithAReason(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"auths": canary-5ecret}`), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, strings.Repeat("a", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir string
		arguments []string
		want      string
	}{
		{"a socket directory that is not there", "/nowhere", nil, `^socket directory: open /nowhere/plugin\d+: no such file or directory; the host has to name another one in PLUGIN_UNIX_SOCKET_DIR$`},
		{"a socket directory that is a file", file, nil, `: not a directory; the host has to`},
		{"a socket directory where nobody may write", "/proc", nil, `^socket directory: open /proc/plugin\d+: .*; the host has to`},
		{"a socket directory with a long path", long, nil, `^socket directory ".*": the path is longer than \d+ bytes, too long for a unix socket; the host has to`},
		{"a broken default config", dir, []string{"--default-docker-config", file}, `^default docker config: Failed to parse docker config: it is not valid JSON at line 1, column 11 \(in .*/config\.json\)$`},
		{"a default config that is not there", dir, []string{"serve", "--docker_config=/nowhere"}, `^--default-docker-config: open /nowhere: no such file or directory$`},
		{"a wrong flag", dir, []string{"--log-level=loud"}, `^invalid argument "loud" for "--log-level" flag: want trace, debug, info, warn or error; see 'docker-fetcher --help'$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, hosted(c.dir), c.arguments...)
			p.start()
			if code := p.wait(); code != 2 || p.stdout.Len() != 0 {
				t.Errorf("got exit code %d and %q, want 2 and no handshake", code, &p.stdout)
			}
			var line struct {
				Level   string `json:"@level"`
				Message string `json:"@message"`
			}
			if err := json.Unmarshal(p.stderr.Bytes(), &line); err != nil || line.Level != "error" {
				t.Fatalf("got %q, want one line of log at level error", &p.stderr)
			}
			if !regexp.MustCompile(c.want).MatchString(line.Message) || strings.Contains(line.Message, "canary-5ecret") {
				t.Errorf("got %q, want a match of %s", line.Message, c.want)
			}
		})
	}
}

func TestThePluginReadsNoHomeDirectory(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, dir := range []string{home, filepath.Join(home, ".docker")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, variable := range []string{"HOME", "DOCKER_CONFIG"} {
		hand := newProcess(t, []string{variable + "=" + home}, "resolve", "127.0.0.1:1/app:1")
		hand.start()
		if code := hand.wait(); code != 2 {
			t.Errorf("by hand, %s is not read: exit code %d: %s", variable, code, &hand.stderr)
		}
		p := newProcess(t, append(hosted(shortDir(t)), variable+"="+home))
		p.handshake()
		if code := p.signal(syscall.SIGTERM); code != 0 {
			t.Errorf("with a broken config in %s: got exit code %d: %s", variable, code, &p.stderr)
		}
	}
}

func TestTheExecutableIsUnder30MB(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(executable(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 30_000_000 {
		t.Errorf("it has %d bytes", info.Size())
	}
}
