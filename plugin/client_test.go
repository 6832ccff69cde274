package plugin

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func built(t *testing.T) string {
	t.Helper()
	path, err := executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPluginSaysWhatItIs(t *testing.T) {
	t.Parallel()
	for title, disable := range map[string]bool{"with mutual TLS": false, "without TLS": true} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			info, err := launch(t, Config{Path: built(t), Dir: scratch, DisableTLS: disable}).Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.PID == 0 || info.PID == os.Getpid() || info.Version == "" {
				t.Errorf("got %+v", info)
			}
			info.PID, info.Version, info.Commit = 0, "", ""
			want := Info{Name: "docker", Schemes: []string{"docker", "docker-manifest", "docker-blob"}, ProtocolVersion: 1}
			if diff := cmp.Diff(want, info); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The host's half must hold the plugin to the certificate of its handshake,
// and the plugin the host to the one of its environment.
func TestTLSIsMutual(t *testing.T) {
	t.Parallel()
	environment, config, err := mutualTLS()
	if err != nil {
		t.Fatal(err)
	}
	if config.InsecureSkipVerify || len(config.Certificates) != 1 || config.MinVersion < tls.VersionTLS12 {
		t.Errorf("config is %+v", config)
	}
	if !strings.HasPrefix(environment, "PLUGIN_CLIENT_CERT=-----BEGIN CERTIFICATE-----\n") || strings.Contains(environment, "PRIVATE") {
		t.Errorf("environment is %s", environment)
	}
	c := launch(t, Config{Path: built(t), Dir: scratch})
	sockets, err := filepath.Glob(filepath.Join(c.child.dir, "plugin*"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets: %v, %v", sockets, err)
	}
	stranger, err := tls.Dial("unix", sockets[0], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err == nil { // TLS 1.3 tells a client of its refusal with the first read
		_, err = stranger.Read(make([]byte, 1))
		_ = stranger.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a stranger without a certificate got %v", err)
	}
}

// Other hosts use go-plugin's own half, whose key is on P-521.
func TestAHostWithGoPluginsOwnAutoMTLSIsServed(t *testing.T) {
	t.Parallel()
	for _, multiplex := range []bool{false, true} { // which adds a field to the handshake
		cmd := exec.CommandContext(t.Context(), built(t))
		cmd.Env = []string{"PLUGIN_UNIX_SOCKET_DIR=" + short(t)}
		host := goplugin.NewClient(&goplugin.ClientConfig{
			HandshakeConfig: Handshake, VersionedPlugins: set(nil), Cmd: cmd, SkipHostEnv: true, AutoMTLS: true,
			AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, GRPCBrokerMultiplex: multiplex,
			Logger: hclog.NewNullLogger(),
		})
		t.Cleanup(host.Kill)
		protocol, err := host.Client()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := protocol.Dispense(Name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := pb.NewFetcherServiceClient(raw.(*grpc.ClientConn)).GetInfo(t.Context(), &pb.GetInfoRequest{})
		if err != nil || info.GetName() != "docker" {
			t.Errorf("multiplex %v: %v, %v", multiplex, info, err)
		}
	}
}

func TestTheCertificateIsTheSixthFieldOfTheHandshake(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"1|1|unix|/run/x/plugin1|grpc|\n":      "1|1|unix|/run/x/plugin1|grpc|AQI\n",
		"1|1|unix|/run/x/plugin1|grpc||true\n": "1|1|unix|/run/x/plugin1|grpc|AQI|true\n",
		"something else\n":                     "something else\n",
	} {
		if got := withCertificate(line, []byte{1, 2}); got != want {
			t.Errorf("%q: got %q", line, got)
		}
	}
}

func TestAHostsCertificateThatIsNoneEndsTheLaunch(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), built(t), "--log-level", "error")
	cmd.Env = []string{Handshake.MagicCookieKey + "=" + Handshake.MagicCookieValue, "PLUGIN_UNIX_SOCKET_DIR=" + short(t), hostCertificate + "=none"}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 2 || stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 ||
		!strings.Contains(stderr.String(), "mutual TLS: PLUGIN_CLIENT_CERT holds no certificate in PEM") {
		t.Errorf("exit %d, stdout %q, stderr %q", cmd.ProcessState.ExitCode(), &stdout, &stderr)
	}
}

func TestAnExecutableWithAnotherChecksumIsNotLaunched(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(built(t))
	if err != nil {
		t.Fatal(err)
	}
	right := sha256.Sum256(data)
	launch(t, Config{Path: built(t), Dir: scratch, Checksum: right[:]})
	wrong := sha256.Sum256(right[:])
	if c, err := Open(t.Context(), Config{Path: built(t), Dir: scratch, Checksum: wrong[:]}); err == nil {
		_ = c.Close()
		t.Error("it was launched")
	}
}

func TestOpenSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for title, test := range map[string]struct {
		ctx    context.Context
		config Config
		text   string
	}{
		"no such executable":          {t.Context(), Config{Path: "/no/such/docker-fetcher"}, "/no/such/docker-fetcher"},
		"an executable of other kind": {t.Context(), Config{Path: "/bin/true"}, "plugin /bin/true: Unrecognized remote plugin message; it is no docker-fetcher"},
		"a plugin that says why":      {t.Context(), Config{Path: built(t), Args: []string{"serve", "--stall-timeout", "never"}}, `"never"`},
		"a directory that is missing": {t.Context(), Config{Path: built(t), Dir: "/no/such/dir"}, "plugin socket"},
		"a directory too deep": {t.Context(), Config{Path: built(t), Dir: func() string {
			dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		}()}, "too long for a unix socket"},
		"a caller that gave up": {cancelled, Config{Path: built(t)}, "context canceled"},
	} {
		t.Run(title, func(t *testing.T) {
			if test.config.Dir == "" {
				test.config.Dir = short(t)
			}
			c, err := Open(test.ctx, test.config)
			if err == nil {
				_ = c.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if left, _ := os.ReadDir(test.config.Dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// opensInVain opens a plugin that is never ready, and cancels once the file sign
// is there.
func opensInVain(t *testing.T, config Config, sign string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	go func() {
		_, err := Open(ctx, config)
		returned <- err
	}()
	for {
		if _, err := os.Stat(sign); err == nil {
			break
		}
		runtime.Gosched()
	}
	cancel()
	select {
	case err := <-returned:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(startTimeout / 2):
		t.Error("it waits for a time of go-plugin's to run out")
		<-returned
	}
}

func TestAnOpenThatIsCancelledReturnsAtOnce(t *testing.T) {
	t.Parallel()
	dir := short(t)
	started, script := filepath.Join(dir, "started"), filepath.Join(dir, "silent")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntouch "+started+"\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	opensInVain(t, Config{Path: script, Dir: scratch}, started)
}

func TestCloseEndsTheProcessAndRemovesTheSocket(t *testing.T) {
	t.Parallel()
	dir := short(t)
	c, err := Open(t.Context(), Config{Path: built(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.child.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory is %v, %v", info.Mode(), err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	_, err = c.Fetch(t.Context(), fetcher.Request{Directory: t.TempDir()})
	if !errors.Is(err, ErrPluginGone) && !errors.Is(err, context.Canceled) {
		t.Errorf("a call after Close got %v", err)
	}
}

func TestACallInFlightLearnsThatThePluginDied(t *testing.T) {
	t.Parallel()
	c := launch(t, Config{Path: built(t), Dir: scratch})
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := fetchertest.New(t, fetchertest.Config{})
	d := r.PutBlob(name, make([]byte, 100))
	r.Inject(fetchertest.Fault{StallAt: 10, Notice: func(fetchertest.Request) {
		if process, err := os.FindProcess(info.PID); err == nil {
			_ = process.Kill()
		}
	}})
	dir := t.TempDir()
	_, err = c.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Blob, r, d), Directory: dir})
	if !errors.Is(err, ErrPluginGone) {
		t.Errorf("got %v", err)
	}
	leaves(t, dir, map[string]string{})
}

func TestThePluginsEnvironmentIsWhatItNeedsAndNoMore(t *testing.T) {
	t.Parallel()
	got := safeEnvironment([]string{
		"PATH=/bin", "HOME=/home/u", "AWS_SECRET_ACCESS_KEY=x", "https_proxy=p", "HTTPS_PROXY=p", "NO_PROXY=n", "TMPDIR=/t",
		"SSL_CERT_FILE=f", "DOCKER_CONFIG=/home/u/.docker", "DOCKER_FETCHER_STALL_TIMEOUT=2m", "DOCKER_FETCHER_PLUGIN=cookie",
	})
	want := []string{"PATH=/bin", "https_proxy=p", "HTTPS_PROXY=p", "NO_PROXY=n", "TMPDIR=/t", "SSL_CERT_FILE=f", "DOCKER_FETCHER_STALL_TIMEOUT=2m"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
