package plugin

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

// scratch holds the built executable; TestMain removes it.
var scratch string

func TestMain(m *testing.M) {
	if socket := os.Getenv(muteSocket); socket != "" {
		mute(socket)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "plugin-test-"); err != nil {
		panic(err)
	}
	before := fetchertest.OpenFiles()
	code := m.Run()
	for _, check := range []func() error{func() error { return goleak.Find() }, suite.clean, func() error { return fetchertest.FilesLeft(before) }} {
		if err := check(); err != nil && code == 0 {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// short is a new directory whose path leaves room for a socket.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// executable builds docker-fetcher once.
var executable = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "docker-fetcher")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/docker-fetcher").CombinedOutput()
	if err != nil {
		_, _ = os.Stderr.Write(out)
	}
	return path, err
})

// suite is what all tests together let out: the logs at their finest, errors,
// results and events. In the end it is searched for the canary, which stands for
// the secret in every test that has one.
var suite trace

// heard notes what comes out of a Fetcher.
type heard struct{ Fetcher }

func (h heard) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	observe := r.Observe
	r.Observe = func(e fetcher.Event) {
		suite.note(e)
		if observe != nil {
			observe(e)
		}
	}
	result, err := h.Fetcher.Fetch(ctx, r)
	suite.note(r, result, err)
	return result, err
}

func (h heard) Resolve(ctx context.Context, r fetcher.ResolveRequest) (fetcher.Resolution, error) {
	resolution, err := h.Fetcher.Resolve(ctx, r)
	suite.note(r, resolution, err)
	return resolution, err
}

// subjects are all the ways to a Fetcher: each passes the same tests.
var subjects = configured(fetcher.Config{})

// configured are the subjects with a config of their own; env, if any, makes the
// executable do the same.
func configured(config fetcher.Config, env ...string) map[string]func(*testing.T) Fetcher {
	made := func(t *testing.T) *fetcher.Fetcher {
		t.Helper()
		f, err := fetcher.New(config)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	launched := func(t *testing.T) *Client {
		t.Helper()
		return launch(t, Config{Path: built(t), Dir: scratch, Env: env})
	}
	return map[string]func(*testing.T) Fetcher{
		"in process":           func(t *testing.T) Fetcher { return heard{made(t)} },
		"over gRPC":            func(t *testing.T) Fetcher { return heard{overGRPC(t, made(t))} },
		"over gRPC, synced":    func(t *testing.T) Fetcher { return heard{synced{overGRPC(t, made(t))}} },
		"in a process":         func(t *testing.T) Fetcher { return heard{launched(t)} },
		"in a process, synced": func(t *testing.T) Fetcher { return heard{synced{launched(t)}} },
	}
}

var linuxAMD64 = fetcher.Platform{OS: "linux", Architecture: "amd64"}

func engine(t *testing.T) *fetcher.Fetcher {
	t.Helper()
	f, err := fetcher.New(fetcher.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// overGRPC serves f, with the interceptors that Serve adds, over a connection
// within this process. go-plugin's own part is tested in a process.
func overGRPC(t *testing.T, f Fetcher) *Client {
	t.Helper()
	s := newServer(ServeConfig{Fetcher: f, Version: "1.2.3", Commit: "abc", Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &suite})})
	server := grpc.NewServer(append(s.options(nil), grpc.WaitForHandlers(true))...)
	pb.RegisterFetcherServiceServer(server, s)
	pipe := bufconn.Listen(64 << 10)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///fetcher", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c := &child{conn: conn, kill: func() {}}
	if err := c.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &Client{child: c}
}

// launch opens a plugin that is closed when the test ends.
func launch(t *testing.T, config Config) *Client {
	t.Helper()
	if config.Logger == nil {
		config.Args = []string{"serve", "--log-level", "trace"}
		config.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &suite})
	}
	c, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// synced fetches by FetchSync, as a host without streams does.
type synced struct{ *Client }

func (s synced) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	m, err := absolute(r)
	if err != nil {
		return fetcher.Result{}, err
	}
	response, err := s.child.service.FetchSync(ctx, &pb.FetchSyncRequest{Fetch: m})
	if err != nil {
		return fetcher.Result{}, fromStatus(err)
	}
	return fromResult(response.GetResult()), nil
}
