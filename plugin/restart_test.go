package plugin

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// pid asks the plugin for its process ID.
func pid(t *testing.T, c *Client) int {
	t.Helper()
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.PID
}

// crash kills the process that serves c with a call in flight, and returns what
// that call got.
func crash(t *testing.T, c *Client) error {
	t.Helper()
	process, err := os.FindProcess(pid(t, c))
	if err != nil {
		t.Fatal(err)
	}
	r := fetchertest.New(t, fetchertest.Config{})
	d := r.PutBlob(name, make([]byte, 100))
	r.Inject(fetchertest.Fault{StallAt: 10, Notice: func(fetchertest.Request) { _ = process.Kill() }})
	_, err = c.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Blob, r, d), Directory: t.TempDir()})
	return err
}

func TestAfterACrashTheNextCallLaunchesAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := short(t)
	c := launch(t, Config{Path: built(t), Dir: dir})
	seen := map[int]bool{}
	for range 3 { // the third launch has to wait
		process := pid(t, c)
		if seen[process] {
			t.Fatalf("process %d serves again", process)
		}
		seen[process] = true
		if err := crash(t, c); !errors.Is(err, ErrPluginGone) || errors.Is(err, fetcher.ErrUnavailable) {
			t.Errorf("the call in flight got %v", err)
		}
	}
	r := fetchertest.New(t, fetchertest.Config{})
	blob := []byte("a blob")
	d := r.PutBlob(name, blob)
	target := t.TempDir()
	if _, err := c.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Blob, r, d), Directory: target}); err != nil {
		t.Fatal(err)
	}
	leaves(t, target, map[string]string{d: string(blob)})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCallsAfterACrashShareOneLaunch(t *testing.T) {
	t.Parallel()
	c := launch(t, Config{Path: built(t), Dir: scratch})
	if err := crash(t, c); !errors.Is(err, ErrPluginGone) {
		t.Fatal(err)
	}
	pids := make(chan int, 10)
	for range cap(pids) {
		go func() {
			info, err := c.Info(t.Context())
			if err != nil {
				t.Error(err)
			}
			pids <- info.PID
		}()
	}
	first := <-pids
	for range cap(pids) - 1 {
		if p := <-pids; p != first {
			t.Errorf("processes %d and %d", first, p)
		}
	}
}

func TestALaunchThatFailsIsTheErrorOfTheCallThatNeededIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "docker-fetcher")
	if err := os.Link(built(t), path); err != nil {
		t.Fatal(err)
	}
	c := launch(t, Config{Path: path, Dir: scratch})
	if err := crash(t, c); !errors.Is(err, ErrPluginGone) {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(t.Context()); !errors.Is(err, ErrPluginGone) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	pid(t, c) // it works again
}

func TestACallThatWaitsForALaunchObeysItsContext(t *testing.T) {
	t.Parallel()
	c := launch(t, Config{Path: built(t), Dir: scratch})
	if err := crash(t, c); !errors.Is(err, ErrPluginGone) {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.failures = 100 // ten seconds to wait
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		_, err := c.Info(ctx)
		waiting <- err
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Close ends the wait of all others.
	go func() {
		_, err := c.Info(t.Context())
		waiting <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; !errors.Is(err, ErrPluginGone) {
		t.Errorf("after Close: %v", err)
	}
}

func TestPausesBetweenLaunchesGrow(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	want := []time.Duration{0, 0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10000 * ms, 10000 * ms}
	var got []time.Duration
	for failures := range want {
		got = append(got, pause(failures))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p := pause(1 << 40); p != 10*time.Second {
		t.Errorf("after many: %v", p)
	}
}

func TestALongLifeForgetsEarlierFailures(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]int{time.Second: 8, longLife + time.Second: 0} {
		dead := overGRPC(t, engine(t)).child
		c := &Client{child: dead, failures: 7, born: time.Now().Add(-age)}
		c.mu.Lock()
		c.bury(dead)
		c.bury(dead) // known already
		c.mu.Unlock()
		if c.failures != want || c.child != nil {
			t.Errorf("after %v: %d failures", age, c.failures)
		}
		c.ending.Wait()
	}
}

func TestAnAttachmentThatDoesNotHoldIsRefused(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`nothing`: "want the line that 'docker-fetcher serve --debug' prints",
		`{}`:      "not this plugin's protocol",
		`{"Protocol":"grpc","ProtocolVersion":2,"Addr":{"Network":"unix","String":"/x"}}`:               "version 2",
		`{"Protocol":"grpc","ProtocolVersion":1,"Addr":{"Network":"tcp","String":"127.0.0.1:1"}}`:       `"tcp"`,
		`{"Protocol":"grpc","ProtocolVersion":1,"Pid":7,"Addr":{"Network":"unix","String":"/no/such"}}`: "process 7: nobody answers",
	} {
		c, err := Open(t.Context(), Config{Reattach: []byte(line)})
		if err == nil {
			_ = c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", line, err)
		}
	}
}

func TestACallOnAClosedConnectionFindsThePluginGone(t *testing.T) {
	t.Parallel()
	c := launch(t, Config{Path: built(t), Dir: scratch})
	child, err := c.running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = child.service.GetInfo(t.Context(), &pb.GetInfoRequest{})
	if err := c.failed(t.Context(), child, err); !errors.Is(err, ErrPluginGone) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// muteSocket makes the test binary a plugin that takes connections on that socket
// and never says a word.
const muteSocket = "MUTE_PLUGIN_SOCKET"

func mute(socket string) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(os.Stdout, "1|1|unix|"+socket+"|grpc|\n")
	conn, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(socket+".taken", nil, 0o600); err != nil {
		panic(err)
	}
	_, _ = io.Copy(io.Discard, conn)
	os.Exit(0)
}

func TestAnOpenOfAProcessThatNeverAnswersObeysItsContext(t *testing.T) {
	t.Parallel()
	dir := short(t)
	socket := filepath.Join(dir, "socket")
	opensInVain(t, Config{Path: os.Args[0], Env: []string{muteSocket + "=" + socket}, Dir: dir, DisableTLS: true}, socket+".taken")
}
