//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// plainHost is a host that knows gRPC and the handshake, but not go-plugin: it
// never asks for what the plugin writes to the stdout and stderr that go-plugin
// gives it, and reads the log only when a test does.
type plainHost struct {
	*process
	dir     string   // of the socket
	socket  string   // its path
	out     *os.File // the plugin's stdout, whose end is that of the plugin
	log     *os.File
	lines   *bufio.Scanner // of the log
	conn    *grpc.ClientConn
	service pb.FetcherServiceClient
}

// through has a shell run the executable, as "$0" "$@" in the script.
func (p *process) through(script string) {
	p.cmd.Args = append([]string{"sh", "-c", script}, p.cmd.Args...)
	p.cmd.Path = "/bin/sh"
}

func ends(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// prepare returns a host that has not launched the plugin yet.
func prepare(t *testing.T, arguments ...string) *plainHost {
	t.Helper()
	dir := shortDir(t)
	return &plainHost{process: newProcess(t, hosted(dir), arguments...), dir: dir}
}

// launch starts the process and waits for nothing.
func (h *plainHost) launch() {
	h.t.Helper()
	var out, log *os.File
	h.out, out = ends(h.t)
	h.log, log = ends(h.t)
	h.lines = bufio.NewScanner(h.log)
	h.cmd.Stdout, h.cmd.Stderr = out, log
	h.start()
	_, _ = out.Close(), log.Close()
}

// connect launches the plugin and speaks to it.
func (h *plainHost) connect(options ...grpc.DialOption) *plainHost {
	h.t.Helper()
	h.launch()
	line, err := bufio.NewReader(h.out).ReadString('\n')
	fields := strings.Split(line, "|")
	if err != nil || len(fields) < 6 || fields[2] != "unix" || fields[4] != "grpc" {
		log, _ := io.ReadAll(h.log)
		h.t.Fatalf("got %q, %v for a handshake: %s", line, err, log)
	}
	h.socket = fields[3]
	h.conn, err = grpc.NewClient("unix:"+h.socket, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.conn.Close() })
	h.service = pb.NewFetcherServiceClient(h.conn)
	return h
}

// says reads the log until a line has the text.
func (h *plainHost) says(text string) {
	h.t.Helper()
	for h.lines.Scan() {
		if strings.Contains(h.lines.Text(), text) {
			return
		}
	}
	h.t.Fatalf("the log ended, %v, and no line had %q", h.lines.Err(), text)
}

// gone waits for the end of a plugin that is nobody's child any more: then
// nothing holds its stdout.
func (h *plainHost) gone() {
	h.t.Helper()
	if err := h.out.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		h.t.Fatal(err)
	}
	if more, err := io.ReadAll(h.out); err != nil || len(more) != 0 {
		h.t.Errorf("stdout: got %q, %v, want its end", more, err)
	}
}

// leavesNoSocket checks what is left once the plugin has ended.
func (h *plainHost) leavesNoSocket() {
	h.t.Helper()
	if left := names(h.t, h.dir); len(left) != 0 {
		h.t.Errorf("%v was left in the socket's directory", left)
	}
}

func (h *plainHost) pid() int {
	h.t.Helper()
	info, err := h.service.GetInfo(h.t.Context(), &pb.GetInfoRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	return int(info.GetPid())
}

// fetchOf is a request for something of the repository app.
func fetchOf(r *fetchertest.Registry, kind, identifier, dir string) *pb.FetchRequest {
	host, port, _ := net.SplitHostPort(r.Host())
	number, _ := strconv.ParseInt(port, 10, 32)
	return &pb.FetchRequest{
		Uri: &pb.Uri{
			Scheme: kind, Host: &host, Port: proto.Int32(int32(number)), Path: "app",
			Query: &identifier, Fragment: proto.String("http"),
		},
		Directory: dir,
	}
}

// ways are the two calls that fetch.
var ways = map[string]func(context.Context, *plainHost, *pb.FetchRequest) (*pb.FetchResult, error){
	"Fetch": func(ctx context.Context, h *plainHost, r *pb.FetchRequest) (*pb.FetchResult, error) {
		stream, err := h.service.Fetch(ctx, r)
		if err != nil {
			return nil, err
		}
		var result *pb.FetchResult
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return result, nil
			}
			if err != nil {
				return nil, err
			}
			result = m.GetResult()
		}
	},
	"FetchSync": func(ctx context.Context, h *plainHost, r *pb.FetchRequest) (*pb.FetchResult, error) {
		answer, err := h.service.FetchSync(ctx, &pb.FetchSyncRequest{Fetch: r})
		return answer.GetResult(), err
	},
}

// reason returns what a host decides by.
func reason(err error) (codes.Code, string) {
	s := grpcstatus.Convert(err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return s.Code(), info.GetReason()
		}
	}
	return s.Code(), ""
}

func isShuttingDown(err error) bool {
	code, reason := reason(err)
	return code == codes.Unavailable && reason == "SHUTTING_DOWN"
}

// holds checks that a directory has these files and nothing else.
func holds(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for _, name := range names(t, dir) {
		want, ok := files[name]
		if got, err := os.ReadFile(filepath.Join(dir, name)); !ok || !bytes.Equal(got, want) {
			t.Errorf("%s is there, with %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
	if n := len(names(t, dir)); n != len(files) {
		t.Errorf("%d files are there, want %d", n, len(files))
	}
}

// eventually waits for what nothing tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * prompt)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to this: %s", what)
		}
		<-ticker.C
	}
}

// halfway puts a blob that stands still half way until release is closed, if
// that is not nil, and tells when it is asked for.
func halfway(r *fetchertest.Registry, seed uint64, release <-chan struct{}) (digest string, blob []byte, struck <-chan struct{}) {
	const size = 1 << 20
	blob = fetchertest.RandomLayer(seed, size)
	digest = r.PutBlob("app", blob)
	notice := make(chan struct{}, 1)
	r.Inject(fetchertest.Fault{
		Match: fetchertest.Match{Identifier: digest}, StallAt: size / 2, Hold: release,
		Notice: func(fetchertest.Request) {
			select {
			case notice <- struct{}{}:
			default:
			}
		},
	})
	return digest, blob, notice
}

func TestAHostThatDoesNotKnowGoPluginFetches(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	layer := fetchertest.RandomLayer(1, 100<<10)
	image := r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{layer}})
	h := prepare(t).connect()
	for name, fetch := range ways {
		dir := filepath.Join(t.TempDir(), "image")
		result, err := fetch(t.Context(), h, fetchOf(r, "docker", "1", dir))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := result.GetManifest().GetDigest(); got != image.ManifestDigest || len(result.GetFiles()) != 3 {
			t.Errorf("%s: got %v", name, result)
		}
		holds(t, dir, map[string][]byte{"manifest": image.Manifest, image.ConfigDigest: image.Config, image.LayerDigests[0]: layer})
	}
	if code := h.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	h.leavesNoSocket()
}

// unreadBytes is how much waits in a pipe (FIONREAD).
func unreadBytes(t *testing.T, f *os.File) (n int) {
	t.Helper()
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if failed := conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return n
}

func TestAHostThatNeverReadsTheLogIsServedAsEver(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"SIGTERM", "Shutdown"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			blob := fetchertest.RandomLayer(1, 1000)
			d := r.PutBlob("app", blob)
			h := prepare(t, "--log-level=trace").connect()
			// Each logs about a kilobyte, of which the pipe takes 64, and three lines,
			// of which the backlog takes a thousand.
			for range 1000 {
				_, err := h.service.FetchSync(t.Context(), &pb.FetchSyncRequest{Fetch: fetchOf(r, "ftp", d, "/nowhere")})
				if code, reason := reason(err); code != codes.InvalidArgument || reason != "URI_SCHEME_UNSUPPORTED" {
					t.Fatalf("got %v", err)
				}
			}
			if n := unreadBytes(t, h.log); n < 48<<10 {
				t.Fatalf("the host left only %d bytes unread", n)
			}
			dir := t.TempDir()
			if _, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", d, dir)); err != nil {
				t.Fatal(err)
			}
			holds(t, dir, map[string][]byte{d: blob})
			begin := time.Now()
			code := 0
			if end == "SIGTERM" {
				code = h.signal(syscall.SIGTERM)
			} else {
				h.shutdown()
				code = h.wait()
			}
			if took := time.Since(begin); code != 0 || took > prompt {
				t.Errorf("got exit code %d after %v", code, took)
			}
			h.leavesNoSocket()
		})
	}
}

func TestAHostThatReadsTheLogLateLearnsThatLinesAreMissing(t *testing.T) {
	t.Parallel()
	h := prepare(t, "--log-level=trace").connect()
	for range 1000 {
		_, _ = h.service.FetchSync(t.Context(), &pb.FetchSyncRequest{})
	}
	for h.lines.Scan() {
		if !json.Valid(h.lines.Bytes()) {
			t.Fatalf("%q is not JSON", h.lines.Text())
		}
		var line struct {
			Message string `json:"@message"`
			Lines   int
		}
		if _ = json.Unmarshal(h.lines.Bytes(), &line); line.Lines > 0 {
			if want := "lines of log that nobody read in time were dropped"; line.Message != want {
				t.Errorf("got %q, want %q", line.Message, want)
			}
			return
		}
	}
	t.Error("no line of log says that others were dropped")
}

// stdio is go-plugin's stream of what was written to the stdout and stderr that
// it has put in place of the process' own.
func (h *plainHost) stdio() grpc.ClientStream {
	h.t.Helper()
	stream, err := h.conn.NewStream(h.t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/plugin.GRPCStdio/StreamStdio")
	if err == nil {
		err = errors.Join(stream.SendMsg(&emptypb.Empty{}), stream.CloseSend())
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return stream
}

// The host reads that stream only in the end, since go-plugin keeps what comes
// until then. A few bytes are a few less until all hangs.
func TestNothingIsWrittenToTheOutputsThatGoPluginPutInPlace(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 1<<20), fetchertest.RandomLayer(2, 1<<20)}})
	stalled, _, struck := halfway(r, 3, nil)
	h := prepare(t, "--log-level=trace").connect()
	for range 3 {
		for name, fetch := range ways {
			if _, err := fetch(t.Context(), h, fetchOf(r, "docker", "1", t.TempDir())); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, tag := range []string{"2", "", "sha256:1", "\x00"} {
				if _, err := fetch(t.Context(), h, fetchOf(r, "docker", tag, t.TempDir())); err == nil {
					t.Fatalf("%s of %q: no error", name, tag)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-struck
				cancel()
			}()
			if _, err := fetch(ctx, h, fetchOf(r, "docker-blob", stalled, t.TempDir())); grpcstatus.Code(err) != codes.Canceled {
				t.Fatalf("%s: %v", name, err)
			}
		}
		_ = h.conn.Invoke(t.Context(), "/no.such/Method", &emptypb.Empty{}, &emptypb.Empty{})
	}
	stream := h.stdio()
	h.pid()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	written := &emptypb.Empty{}
	if err := stream.RecvMsg(written); err == nil {
		t.Errorf("something was written: %q", written.ProtoReflect().GetUnknown())
	}
}

// shutdown says goodbye as go-plugin's hosts do.
func (h *plainHost) shutdown() {
	h.t.Helper()
	err := h.conn.Invoke(h.t.Context(), "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
	if code := grpcstatus.Code(err); code != codes.OK && code != codes.Unavailable {
		h.t.Errorf("Shutdown: %v", err)
	}
}

func TestSIGTERMLetsAFetchEndThatCanAndCancelsTheOthers(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	release := make(chan struct{})
	can, blob, canStruck := halfway(r, 1, release)
	never, _, neverStruck := halfway(r, 2, nil)
	h := prepare(t).connect()
	h.pid()
	canDir, neverDir := t.TempDir(), t.TempDir()
	ended, cancelled := make(chan error, 1), make(chan error, len(ways))
	go func() {
		_, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", can, canDir))
		ended <- err
	}()
	for _, fetch := range ways {
		go func() {
			_, err := fetch(t.Context(), h, fetchOf(r, "docker-blob", never, neverDir))
			cancelled <- err
		}()
	}
	<-canStruck
	<-neverStruck
	begin := time.Now()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.says("told to end")
	eventually(t, "new calls are refused", func() bool {
		_, err := h.service.FetchSync(t.Context(), &pb.FetchSyncRequest{})
		return isShuttingDown(err)
	})
	if _, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", can, canDir)); !isShuttingDown(err) {
		t.Errorf("a new Fetch got %v", err)
	}
	if _, err := h.service.Resolve(t.Context(), &pb.ResolveRequest{}); !isShuttingDown(err) {
		t.Errorf("a new Resolve got %v", err)
	}
	h.pid() // GetInfo never fails
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the fetch that could end got %v", err)
	}
	holds(t, canDir, map[string][]byte{can: blob})
	for range ways {
		if err := <-cancelled; !isShuttingDown(err) {
			t.Errorf("the fetch that could not end got %v", err)
		}
	}
	if code := h.wait(); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	if took := time.Since(begin); took > prompt {
		t.Errorf("it took %v", took)
	}
	holds(t, neverDir, map[string][]byte{})
	h.leavesNoSocket()
}

func TestSIGTERMWhileThePluginStartsLeavesNoSocket(t *testing.T) {
	t.Parallel()
	for range 5 {
		h := prepare(t)
		h.launch()
		eventually(t, "a file is in the socket's directory", func() bool { return len(names(t, h.dir)) > 0 })
		if code := h.signal(syscall.SIGTERM); code != 0 {
			log, _ := io.ReadAll(h.log)
			t.Errorf("got exit code %d: %s", code, log)
		}
		h.leavesNoSocket()
	}
}

func TestTheGoodbyeOfAHostCancelsItsFetches(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	never, _, struck := halfway(r, 1, nil)
	h := prepare(t).connect()
	dir := t.TempDir()
	fetched := make(chan error, 1)
	go func() {
		_, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", never, dir))
		fetched <- err
	}()
	<-struck
	begin := time.Now()
	h.shutdown()
	if code := h.wait(); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v, and a host of go-plugin kills it after 2 s", took)
	}
	if err := <-fetched; grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("the fetch got %v", err)
	}
	holds(t, dir, map[string][]byte{})
	h.leavesNoSocket()
}

// The host is a shell, and this process calls its plugin: so nothing but the end
// of the shell can tell the plugin.
func TestThePluginIsGoneASecondAfterItsHostWasKilled(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"idle", "in the middle of a fetch"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			never, _, struck := halfway(r, 1, nil)
			h := prepare(t)
			h.through(`"$0" "$@" & wait`)
			h.connect()
			if pid := h.pid(); pid == h.cmd.Process.Pid {
				t.Fatal("the shell is not the plugin's host")
			}
			dir := filepath.Join(t.TempDir(), "image")
			fetched := make(chan error, 1)
			if name != "idle" {
				go func() {
					_, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", never, dir))
					fetched <- err
				}()
				<-struck
			}
			begin := time.Now()
			if err := h.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			h.gone()
			took := time.Since(begin)
			if took > prompt { // a second, on a busy machine
				t.Errorf("it took %v", took)
			}
			t.Logf("gone %v after its host", took)
			if name != "idle" {
				if err := <-fetched; grpcstatus.Code(err) != codes.Unavailable {
					t.Errorf("the fetch got %v", err)
				}
			}
			holds(t, dir, map[string][]byte{})
			h.leavesNoSocket()
		})
	}
}

func TestAPluginWhoseHostDiedBeforeItLookedIsGoneToo(t *testing.T) {
	t.Parallel()
	h := prepare(t)
	h.through(`{ read -r go <&3; exec "$0" "$@" 3<&-; } & kill -9 $$`)
	waits, goes := ends(t)
	h.cmd.ExtraFiles = []*os.File{waits}
	h.launch()
	_ = h.wait()
	_ = h.out.Close() // nobody reads what it says first
	if _, err := goes.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	h.says("the host is gone")
	for h.lines.Scan() { // to the end of the process
		t.Log(h.lines.Text())
	}
	h.leavesNoSocket()
}

func TestWithOrphanStayThePluginOutlivesItsHost(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	// A fetch that takes longer than a look at the parent's process ID.
	blob := fetchertest.RandomLayer(1, 64<<10)
	d := r.PutBlob("app", blob)
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Identifier: d}, Rate: 128 << 10})
	h := prepare(t, "--orphan=stay")
	h.through(`"$0" "$@" & wait`)
	h.connect()
	pid := h.pid()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.wait()
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	dir := t.TempDir()
	if _, err := ways["FetchSync"](t.Context(), h, fetchOf(r, "docker-blob", d, dir)); err != nil {
		t.Errorf("the fetch got %v", err)
	}
	holds(t, dir, map[string][]byte{d: blob})
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.gone()
	h.leavesNoSocket()
}

func TestSignalsThatAreForTheHostDoNothing(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	release := make(chan struct{})
	d, blob, struck := halfway(r, 1, release)
	h := prepare(t).connect()
	dir := t.TempDir()
	fetched := make(chan error, 1)
	go func() {
		_, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", d, dir))
		fetched <- err
	}()
	<-struck
	for range 3 {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
			if err := h.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			h.pid()
		}
	}
	close(release)
	if err := <-fetched; err != nil {
		t.Errorf("the fetch got %v", err)
	}
	holds(t, dir, map[string][]byte{d: blob})
}

func TestAHostMayCloseItsEndOfThePipes(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	blob := fetchertest.RandomLayer(1, 100<<10)
	d := r.PutBlob("app", blob)
	h := prepare(t, "--log-level=trace").connect()
	_, _ = h.out.Close(), h.log.Close()
	for range 20 {
		dir := t.TempDir()
		if _, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker-blob", d, dir)); err != nil {
			t.Fatal(err)
		}
		holds(t, dir, map[string][]byte{d: blob})
	}
	if code := h.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	h.leavesNoSocket()
}

func TestNobodyElseReadsAnythingEvenWithoutAUmask(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 1000)}})
	h := prepare(t)
	h.through(`umask 000; exec "$0" "$@"`)
	h.connect()
	info, err := os.Stat(h.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o700 {
		t.Errorf("the socket is %v", info.Mode())
	}
	top := t.TempDir()
	if _, err := ways["FetchSync"](t.Context(), h, fetchOf(r, "docker", "1", filepath.Join(top, "a", "b"))); err != nil {
		t.Fatal(err)
	}
	modes := map[fs.FileMode]int{}
	if err := filepath.WalkDir(filepath.Join(top, "a"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		modes[info.Mode()]++
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[fs.FileMode]int{fs.ModeDir | 0o700: 2, 0o600: 3}, modes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// go-plugin forgets the process' own stdout, and the collector closes what is
// forgotten. To a host, its end is the plugin's.
func TestStdoutStaysOpenAsLongAsThePluginLives(t *testing.T) {
	t.Parallel()
	h := prepare(t)
	h.cmd.Env = append(h.cmd.Env, "GOGC=1")
	h.connect()
	for range 300 { // each makes garbage
		h.pid()
	}
	fds := []unix.PollFd{{Fd: int32(h.out.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
		t.Errorf("stdout has events %x, %v", fds[0].Revents, err)
	}
}

func TestAPluginThatCannotBeginSaysSoByItsExitCode(t *testing.T) {
	t.Parallel()
	h := prepare(t)
	h.cmd.Env = append(h.cmd.Env, "PLUGIN_UNIX_SOCKET_GROUP=no such group")
	h.launch()
	if code := h.wait(); code != 2 {
		t.Errorf("got exit code %d, want 2", code)
	}
	h.says(`failed to find gid from \"no such group\"`)
	h.says("go-plugin did not begin to serve; its own line of log says why")
}

// dispensed is the half of a go-plugin that a host brings.
type dispensed struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (dispensed) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error { return nil }

func (dispensed) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pb.NewFetcherServiceClient(conn), nil
}

// attached calls a plugin by go-plugin's own reattach config.
func attached(t *testing.T, line []byte) (pid int) {
	t.Helper()
	var how struct {
		Protocol        goplugin.Protocol
		ProtocolVersion int
		Pid             int
		Test            bool
		Addr            struct{ Network, String string }
	}
	if err := json.Unmarshal(line, &how); err != nil {
		t.Fatal(err)
	}
	c := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: plugin.Handshake, AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Plugins: goplugin.PluginSet{plugin.Name: dispensed{}}, Logger: hclog.NewNullLogger(),
		Reattach: &goplugin.ReattachConfig{
			Protocol: how.Protocol, ProtocolVersion: how.ProtocolVersion, Pid: how.Pid, Test: how.Test,
			Addr: &net.UnixAddr{Net: how.Addr.Network, Name: how.Addr.String},
		},
	})
	defer c.Kill()
	protocol, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protocol.Dispense(plugin.Name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := raw.(pb.FetcherServiceClient).GetInfo(t.Context(), &pb.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return int(info.GetPid())
}

func TestHostsAttachToADebuggedPluginAndLeaveIt(t *testing.T) {
	t.Parallel()
	h := prepare(t, "serve", "--debug")
	h.cmd.Env = []string{"PLUGIN_UNIX_SOCKET_DIR=" + h.dir} // and no cookie
	h.launch()
	lines := bufio.NewReader(h.out)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if pid := attached(t, line); pid != h.cmd.Process.Pid {
			t.Errorf("process %d was attached to, want %d", pid, h.cmd.Process.Pid)
		}
	}
	r := fetchertest.New(t, fetchertest.Config{})
	blob := fetchertest.RandomLayer(1, 1000)
	d := r.PutBlob("app", blob)
	ref, err := scheme.Parse("docker-blob://" + r.Host() + "/app?" + d + "#http")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := plugin.Open(t.Context(), plugin.Config{Reattach: line})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := c.Fetch(t.Context(), fetcher.Request{URI: ref.URI(), Directory: dir}); err != nil {
			t.Error(err)
		}
		holds(t, dir, map[string][]byte{d: blob})
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if code := h.signal(syscall.SIGINT); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	if more, err := io.ReadAll(lines); err != nil || len(more) != 0 {
		t.Errorf("after the line came %q, %v", more, err)
	}
	h.leavesNoSocket()
}

// The events of this image are more than the windows of the stream hold, and its
// last layer waits until the host has read what it left.
func TestAHostThatDoesNotReadItsEventsSlowsNothing(t *testing.T) {
	t.Parallel()
	const small = 1000
	r := fetchertest.New(t, fetchertest.Config{})
	var layers [][]byte
	for i := range small {
		layers = append(layers, []byte("layer "+strconv.Itoa(i)))
	}
	release := make(chan struct{})
	large := fetchertest.RandomLayer(1, 1<<20)
	r.Inject(fetchertest.Fault{
		Match:   fetchertest.Match{Identifier: digest.FromBytes(large).String()},
		StallAt: 1 << 19, Hold: release,
	})
	image := r.PutImage("app", "1", fetchertest.Image{Layers: append(layers, large)})
	h := prepare(t).connect(grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	dir := t.TempDir()
	request := fetchOf(r, "docker", "1", dir)
	request.Options = &pb.FetchOptions{ProgressInterval: durationpb.New(time.Millisecond)}
	stream, err := h.service.Fetch(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	const complete = small + 2 // the manifest and the config
	eventually(t, "all files but one are there", func() bool { return len(names(t, dir)) == complete })

	done, size, seen := 0, 0, &pb.Progress{}
	for seen.GetFilesDone() < complete || done < complete {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		size += proto.Size(m)
		if m.GetFileDone() != nil {
			done++
		}
		if p := m.GetProgress(); p != nil {
			if p.GetFilesDone() < seen.GetFilesDone() || int(p.GetFilesDone()) < done {
				t.Errorf("a picture of %d files came after one of %d and the end of %d", p.GetFilesDone(), seen.GetFilesDone(), done)
			}
			seen = p
		}
	}
	if size < 160<<10 {
		t.Fatalf("the events have %d bytes, which may have waited on the way", size)
	}
	close(release)
	var result *pb.FetchResult
	for m, err := stream.Recv(); !errors.Is(err, io.EOF); m, err = stream.Recv() {
		if err != nil {
			t.Fatal(err)
		}
		if m.GetFileDone() != nil {
			done++
		}
		result = m.GetResult() // the last event
	}
	if done != complete+1 || result.GetManifest().GetDigest() != image.ManifestDigest {
		t.Errorf("got %d files and %v", done, result.GetManifest())
	}
}

func TestACallEndsAtItsDeadlineInThePluginToo(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	never, _, _ := halfway(r, 1, nil)
	h := prepare(t, "--log-level=trace").connect()
	for name, fetch := range ways {
		dir := filepath.Join(t.TempDir(), "image")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := fetch(ctx, h, fetchOf(r, "docker-blob", never, dir))
		cancel()
		if code := grpcstatus.Code(err); code != codes.DeadlineExceeded {
			t.Errorf("%s: got %v", name, err)
		}
		h.says(`"@message":"answered"`)
		// The host's clock may be the first, and cancel.
		if line := h.lines.Text(); !regexp.MustCompile(`"code":"(DeadlineExceeded|Canceled)".*/` + name + `"`).MatchString(line) {
			t.Errorf("%s: the plugin logs %s", name, line)
		}
		holds(t, dir, map[string][]byte{})
	}
}

// notedRegistry serves the beginning of one blob, and tells when it was asked for
// it and when the connection has ended.
func notedRegistry(t *testing.T) (host string, asked <-chan struct{}, left <-chan time.Time) {
	t.Helper()
	begun, ended := make(chan struct{}, 1), make(chan time.Time, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !strings.Contains(q.URL.Path, "/blobs/") {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 1000))
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-q.Context().Done()
		ended <- time.Now()
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), begun, ended
}

func TestTheCancelOfACallStopsItsTransferAtOnce(t *testing.T) {
	t.Parallel()
	host, asked, left := notedRegistry(t)
	name, port, _ := net.SplitHostPort(host)
	number, _ := strconv.Atoi(port)
	h := prepare(t).connect()
	for way, fetch := range ways {
		ctx, cancel := context.WithCancel(t.Context())
		dir := filepath.Join(t.TempDir(), "image")
		fetched := make(chan error, 1)
		go func() {
			_, err := fetch(ctx, h, &pb.FetchRequest{
				Uri: &pb.Uri{
					Scheme: "docker-blob", Host: &name, Port: proto.Int32(int32(number)), Path: "app",
					Query: proto.String("sha256:" + strings.Repeat("0", 64)), Fragment: proto.String("http"),
				},
				Directory: dir,
			})
			fetched <- err
		}()
		<-asked
		begin := time.Now()
		cancel()
		took := (<-left).Sub(begin)
		if took > 300*time.Millisecond { // 100, on a busy machine
			t.Errorf("%s: it took %v", way, took)
		}
		t.Logf("%s: stopped after %v", way, took)
		if err := <-fetched; grpcstatus.Code(err) != codes.Canceled {
			t.Errorf("%s: got %v", way, err)
		}
		eventually(t, "the directory is empty", func() bool { return len(names(t, dir)) == 0 })
	}
}

// openFiles counts the open files of a process.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	return len(names(t, fmt.Sprintf("/proc/%d/fd", pid)))
}

// figure reads a number from the status of a process.
func figure(t *testing.T, pid int, name string) (n int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), name+":")
	if _, err := fmt.Sscan(line, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAfterManyCallsThePluginHoldsNoMoreFilesThanBefore(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 10<<10), fetchertest.RandomLayer(2, 10<<10)}})
	never, _, _ := halfway(r, 3, nil)
	h := prepare(t).connect()
	go func() { _, _ = io.Copy(io.Discard, h.log) }()
	pid := h.pid()
	before := openFiles(t, pid)

	var calls sync.WaitGroup
	for caller := range 8 {
		calls.Go(func() {
			for range 25 {
				if _, err := ways["Fetch"](t.Context(), h, fetchOf(r, "docker", "1", t.TempDir())); err != nil {
					t.Errorf("caller %d: %v", caller, err)
				}
			}
			for range 6 {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				if _, err := ways["FetchSync"](ctx, h, fetchOf(r, "docker-blob", never, t.TempDir())); grpcstatus.Code(err) != codes.DeadlineExceeded {
					t.Errorf("caller %d: %v", caller, err)
				}
				cancel()
			}
		})
	}
	calls.Wait()
	r.Shut(t, r.Host()) // and with it the connections that wait for the next request
	eventually(t, fmt.Sprintf("%d open files, as before", before), func() bool { return openFiles(t, pid) <= before })
	threads, resident := figure(t, pid, "Threads"), figure(t, pid, "VmRSS")
	if threads > 50 || resident > 64<<10 {
		t.Errorf("it has %d threads and %d KiB", threads, resident)
	}
	t.Logf("%d open files, %d threads, %d KiB resident", before, threads, resident)
}
