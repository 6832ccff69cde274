//go:build linux

package plugin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

// roleVariable makes this test binary another process of a test.
const roleVariable = "PLUGIN_TEST_ROLE"

// roles are what the binary can be.
var roles = map[string]func(){
	"hostGone":      func() { watchHost(hostGone()) },
	"parentChanges": func() { watchHost(parentChanges(os.Getppid())) },
	"stubborn": func() {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		_ = Serve(ctx, ServeConfig{Fetcher: stubborn{}, Logger: hclog.New(&hclog.LoggerOptions{Output: os.Stderr})})
	},
}

func init() {
	if play := roles[os.Getenv(roleVariable)]; play != nil {
		play()
		os.Exit(0)
	}
}

// watchHost says when it begins to watch, and when the host is gone.
func watchHost(gone <-chan struct{}, stop func()) {
	defer stop()
	fmt.Println("watching")
	select {
	case <-gone:
		fmt.Println("gone")
	case <-time.After(time.Minute):
	}
}

// stubborn is a Fetcher that never comes back.
type stubborn struct{}

func (stubborn) Fetch(_ context.Context, r fetcher.Request) (fetcher.Result, error) {
	r.Observe(fetcher.Started{TotalFiles: 1})
	select {}
}

func (stubborn) Resolve(context.Context, fetcher.ResolveRequest) (fetcher.Resolution, error) {
	select {}
}

// underShell plays a role in a process whose host is a shell, which the test may
// kill. Its stdout ends when both have ended.
func underShell(t *testing.T, role string, environment ...string) (shell *exec.Cmd, stdout *os.File) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stdout, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdout.Close() })
	shell = exec.CommandContext(t.Context(), "/bin/sh", "-c", `"$0" & wait`, self)
	// The race detector would keep the process for a second.
	shell.Env, shell.Stdout = append(environment, roleVariable+"="+role, "GORACE=atexit_sleep_ms=0"), w
	err = shell.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shell.Wait() })
	if err := stdout.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return shell, stdout
}

func TestTheEndOfTheHostIsNoticed(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"hostGone", "parentChanges"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			shell, stdout := underShell(t, role)
			lines := bufio.NewReader(stdout)
			if line, err := lines.ReadString('\n'); line != "watching\n" {
				t.Fatalf("got %q, %v", line, err)
			}
			begin := time.Now()
			if err := shell.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(lines)
			if string(rest) != "gone\n" || err != nil {
				t.Errorf("got %q, %v", rest, err)
			}
			t.Logf("it took %v", time.Since(begin))
		})
	}
}

func TestAHostThatIsThereIsNotGone(t *testing.T) {
	t.Parallel()
	for name, watch := range map[string]func() (<-chan struct{}, func()){
		"pidfd":             hostGone,
		"parent process ID": func() (<-chan struct{}, func()) { return parentChanges(os.Getppid()) },
	} {
		gone, stop := watch()
		select {
		case <-gone:
			t.Errorf("%s: it is gone", name)
		default:
		}
		stop()
		stop() // again
		select {
		case <-gone:
			t.Errorf("%s: it is gone when nobody watches any more", name)
		default:
		}
	}
}

func TestAnotherParentThanTheHostMeansThatTheHostIsGone(t *testing.T) {
	t.Parallel()
	gone, stop := parentChanges(-1)
	defer stop()
	<-gone
}

// pidfds counts this process' pidfds of a process.
func pidfds(t *testing.T, pid int) (n int) {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range infos {
		info, _ := os.ReadFile(path) // which may have been closed
		if strings.Contains(string(info), fmt.Sprintf("\nPid:\t%d\n", pid)) {
			n++
		}
	}
	return n
}

// Not parallel, as other tests watch as well.
func TestTheHostIsWatchedByAPidfdThatStopCloses(t *testing.T) {
	before := pidfds(t, os.Getppid())
	_, stop := hostGone()
	if n := pidfds(t, os.Getppid()); n != before+1 {
		t.Errorf("%d pidfds, want one more than %d", n, before)
	}
	stop()
	for deadline := time.Now().Add(endTimeout); pidfds(t, os.Getppid()) != before; {
		if time.Now().After(deadline) {
			t.Fatal("it stays open")
		}
	}
}

func TestOnlyAPipeThatNobodyReadsIsUnread(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if unread(int(w.Fd())) || unread(int(null.Fd())) || unread(-1) {
		t.Error("a pipe with a reader, the null device or no file at all is unread")
	}
	_ = r.Close()
	if !unread(int(w.Fd())) {
		t.Error("a pipe without a reader is not unread")
	}
}

// A defect in a fetch must not keep the process, whoever ends it.
func TestAFetchThatNeverEndsDoesNotKeepThePlugin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end   func(host, plugin int) error
		limit time.Duration
	}{
		"when the host is killed": {func(host, _ int) error { return syscall.Kill(host, syscall.SIGKILL) }, 3 * time.Second / 2}, // 0.6 on an idle machine
		"when it is terminated":   {func(_, plugin int) error { return syscall.Kill(plugin, syscall.SIGTERM) }, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := short(t)
			shell, stdout := underShell(t, "stubborn", Handshake.MagicCookieKey+"="+Handshake.MagicCookieValue,
				"PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR="+dir)
			line, err := bufio.NewReader(stdout).ReadString('\n')
			fields := strings.Split(line, "|")
			if err != nil || len(fields) < 6 {
				t.Fatalf("got %q, %v", line, err)
			}
			conn, err := grpc.NewClient("unix:"+fields[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			service := pb.NewFetcherServiceClient(conn)
			info, err := service.GetInfo(t.Context(), &pb.GetInfoRequest{})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := service.Fetch(t.Context(), &pb.FetchRequest{Uri: &pb.Uri{}, Directory: "/nowhere"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil { // now it is in Fetch
				t.Fatal(err)
			}
			begin := time.Now()
			if err := test.end(shell.Process.Pid, int(info.GetPid())); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(stdout); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > test.limit {
				t.Errorf("it took %v", took)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
