//go:build unix

package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const prefix = "docker-credential-"

// behaviours are the helpers of the tests: this executable, under these names.
// Their key is the text to ask for or, where they call the test, its address.
var behaviours = map[string]func(key string) int{
	"found":   func(string) int { return answer("found", canary) },
	"store":   func(string) int { return answer("store", canary) },
	"token":   func(string) int { return answer("<token>", canary) },
	"vacant":  func(string) int { return answer("<token>", "") },
	"nothing": func(string) int { return say("{}", 0) },
	"none":    func(string) int { return say("credentials not found in native keychain\n", 1) },
	"crash":   func(string) int { return say(canary, 3) },
	"killed":  func(string) int { return die() },
	"silent":  func(string) int { return 0 },
	"garbage": func(string) int { return say(canary, 0) },
	"list":    func(string) int { return say(`["`+canary+`"]`, 0) },
	"latin":   func(string) int { return say(`{"Username":"u","Secret":"`+canary+"\xe4\"}", 0) },
	"broken":  func(string) int { return answer("u", canary+"\n") },
	"colon":   func(string) int { return answer("u:"+canary, canary) },
	"sized":   sized,
	"endless": func(string) int { return endless() },
	"stuck":   func(string) int { <-time.After(time.Minute); return 0 },
	"slow":    func(key string) int { wait(dial(key), 1); return answer("slow", canary) },
	"hang":    func(key string) int { wait(dial(key), 1); return 0 },
	"parent":  func(key string) int { c := dial(key); child(c, false); wait(c, 1); return 0 },
	"daemon":  func(key string) int { child(dial(key), false); return answer("daemon", canary) },
	"escapee": func(key string) int { child(dial(key), true); return answer("escapee", canary) },
}

// TestMain puts the helpers on PATH, and is one where it is called as one.
func TestMain(m *testing.M) {
	if name, is := strings.CutPrefix(filepath.Base(os.Args[0]), prefix); is {
		os.Exit(behave(name))
	}
	os.Exit(runWithHelpers(m))
}

func runWithHelpers(m *testing.M) int {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "helpers")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for name := range behaviours {
		if err := os.Symlink(self, filepath.Join(dir, prefix+name)); err != nil {
			panic(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, prefix+"unfit"), []byte("\x00"), 0o755); err != nil {
		panic(err)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // the helpers': a second each, else
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return m.Run()
}

// call is what a helper has been called with.
type call struct {
	Args, Env []string
	Stdin     string
}

func behave(name string) int {
	if name == "child" {
		wait(os.NewFile(3, "connection"), 1)
		return 0
	}
	key, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	line, err := json.Marshal(call{os.Args, os.Environ(), string(key)})
	if err != nil {
		panic(err)
	}
	f, err := os.OpenFile(records(name, string(key)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
	return behaviours[name](string(key))
}

// records is the file of the calls of a helper for a key.
func records(name, key string) string {
	return filepath.Join(filepath.SplitList(os.Getenv("PATH"))[0], name+" "+url.PathEscape(key))
}

// calls returns how a helper has been called for a key.
func calls(t *testing.T, name, key string) []call {
	t.Helper()
	data, err := os.ReadFile(records(name, key))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var all []call
	for line := range bytes.Lines(data) {
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

var keys atomic.Int64

// unused returns a key whose calls are counted by the test that asked for it alone.
func unused() string { return fmt.Sprintf("r%d.example.com", keys.Add(1)) }

func say(text string, code int) int {
	fmt.Print(text)
	fmt.Fprint(os.Stderr, canary)
	return code
}

func answer(username, secret string) int {
	data, err := json.Marshal(map[string]string{"ServerURL": "another.example.com", "Username": username, "Secret": secret})
	if err != nil {
		panic(err)
	}
	return say(string(data), 0)
}

// sized answers with as many bytes as its key begins with.
func sized(key string) int {
	digits, _, _ := strings.Cut(key, ".")
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(err)
	}
	const rest = `{"Username":"u","Secret":""}`
	return say(strings.Replace(rest, `""`, `"`+strings.Repeat("x", n-len(rest))+`"`, 1), 0)
}

// endless goes on even when nobody reads.
func endless() int {
	signal.Ignore(syscall.SIGPIPE)
	for {
		fmt.Print(canary)
	}
}

func die() int {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}

func dial(key string) *os.File {
	c, err := net.Dial("tcp", key)
	if err != nil {
		panic(err)
	}
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		panic(err)
	}
	c.Close()
	return f
}

// wait returns when the test has sent something, or has gone.
func wait(c *os.File, n int) { _, _ = c.Read(make([]byte, n)) }

// child starts a process that holds the connection and the pipe of the answer.
func child(c *os.File, ownSession bool) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{prefix + "child"}
	cmd.Stdout, cmd.ExtraFiles = os.Stdout, []*os.File{c}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: ownSession}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// peer is the test's end of the connection that helpers dial.
type peer struct {
	t        *testing.T
	listener *net.TCPListener
}

func listen(t *testing.T) peer {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return peer{t, l}
}

func (p peer) key() string { return p.listener.Addr().String() }

// accept returns the connection of a helper, which is up then.
func (p peer) accept() net.Conn {
	p.t.Helper()
	if err := p.listener.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	c, err := p.listener.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// gone fails unless all processes at the other end of c are dead soon.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil { // the promise is 100 ms; machines are busy
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the helper, or what it started, lives on: %v", err)
	}
}

func TestHelperGivesTheCredentialThatItHas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, helper string
		want         Credential
	}{
		{"a user and a password, of whatever server", "found", Credential{Username: "found", Password: canary}},
		{"an identity token", "token", Credential{IdentityToken: canary}},
		{"the message for no credential", "none", Credential{}},
		{"an object without a credential", "nothing", Credential{}},
		{"an identity token that is empty", "vacant", Credential{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, ok, err := Helper{tt.helper, "get.example.com"}.Get(t.Context())
			if err != nil || ok != (tt.want != Credential{}) {
				t.Fatalf("ok %v, err %v", ok, err)
			}
			want := Match{Credential: tt.want, Key: "get.example.com", Helper: prefix + tt.helper}
			if ok && m != want || !ok && m != (Match{}) {
				t.Errorf("key %q, helper %q, right credential: %v", m.Key, m.Helper, m.Credential == tt.want)
			}
		})
	}
}

func TestHelperThatFailsGivesOneClearErrorWithoutASecret(t *testing.T) {
	t.Parallel()
	const control = "gave a broken credential: the password holds a control character, such as the line break that echo adds without -n"
	for _, tt := range []struct{ name, helper, problem string }{
		{"not installed", "ecr-login", "is not on PATH"},
		{"no executable", "unfit", "could not be run: fork/exec DIR/docker-credential-unfit: exec format error"},
		{"exit status", "crash", `failed (exit status 3); to see why: echo "fails.example.com" | docker-credential-crash get`},
		{"signal", "killed", `failed (signal: killed); to see why: echo "fails.example.com" | docker-credential-killed get`},
		{"nothing printed", "silent", "answered with something else than the JSON of a credential"},
		{"garbage", "garbage", "answered with something else than the JSON of a credential"},
		{"JSON of another kind", "list", "answered with something else than the JSON of a credential"},
		{"a text that is not UTF-8", "latin", "answered with something else than the JSON of a credential"},
		{"a line break in the password", "broken", control},
		{"a colon in the user name", "colon", "gave a broken credential: the user name holds a colon"},
		{"output without end", "endless", "answered with more than 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := Helper{tt.helper, "fails.example.com"}
			m, ok, err := h.Get(t.Context())
			failed, is := errors.AsType[*HelperError](err)
			if m != (Match{}) || ok || !is || !errors.Is(err, ErrConfig) || failed.Helper != h {
				t.Fatalf("ok %v, err %v", ok, err)
			}
			noCanary(t, fmt.Sprintf("%v %+v %#v", err, err, err))
			dir := filepath.SplitList(os.Getenv("PATH"))[0]
			want := `docker config: the credential of "fails.example.com" is with docker-credential-` + tt.helper + ", which " + tt.problem
			if diff := cmp.Diff(want, strings.ReplaceAll(err.Error(), dir, "DIR")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHelperIsNeverAPath(t *testing.T) {
	t.Parallel()
	dir, key := filepath.SplitList(os.Getenv("PATH"))[0], unused()
	for _, name := range []string{
		"", ".", "..", "-found", "Found", "found ", " found", "found\n", "found\x00", "a b", "a/../found", "/found", "../" + prefix + "found",
		dir + "/" + prefix + "found", `a\found`, "c:found", "ｆound", "$(found)", "found;found",
	} {
		m, ok, err := Helper{name, key}.Get(t.Context())
		want := EntryError{Key: key, Problem: fmt.Sprintf(
			"%q is not the name of a credential helper: lower-case letters, digits, dots, dashes and underscores", name)}
		if broken, is := errors.AsType[*EntryError](err); ok || !is || *broken != want || m != (Match{}) {
			t.Errorf("%q: ok %v, err %v", name, ok, err)
		}
	}
	if n := len(calls(t, "found", key)); n != 0 {
		t.Errorf("it was run %d times", n)
	}
}

func TestHelperIsNotRunFromARelativeDirectory(t *testing.T) {
	dir := filepath.SplitList(os.Getenv("PATH"))[0]
	t.Chdir(dir)
	t.Setenv("PATH", ".")
	_, ok, err := Helper{"found", "dot.example.com"}.Get(t.Context())
	want := `docker config: the credential of "dot.example.com" is with docker-credential-found, which PATH finds by a relative path only, from which nothing is run`
	if ok || err == nil || err.Error() != want {
		t.Errorf("ok %v, err %v", ok, err)
	}
}

func TestHelperMayAnswerWith64KiBAndNoMore(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{"65536.example.com": true, "65537.example.com": false} {
		if m, ok, err := (Helper{"sized", key}).Get(t.Context()); ok != want || ok != (err == nil) {
			t.Errorf("%s: %d bytes of password, ok %v, err %v", key, len(m.Credential.Password), ok, err)
		}
	}
}

func TestHelperGetsTheKeyOnStdinAndOurEnvironmentAndNothingElse(t *testing.T) {
	t.Parallel()
	key := unused()
	config := `{"auths":{"ghcr.io":{"username":"u","password":"` + canary + `"},"` + key + `":{}},"credsStore":"found"}`
	m, _, err := Lookup(t.Context(), key, "o/r", operator(t, config))
	if err != nil || m.Credential.Username != "found" {
		t.Fatalf("key %q, err %v", m.Key, err)
	}
	got := calls(t, "found", key)
	if len(got) != 1 {
		t.Fatalf("%d calls", len(got))
	}
	env := os.Environ()
	slices.Sort(env)
	slices.Sort(got[0].Env)
	if diff := cmp.Diff(call{Args: []string{prefix + "found", "get"}, Env: env, Stdin: key}, got[0]); diff != "" {
		t.Error(diff)
	}
	noCanary(t, fmt.Sprint(got))
}

func TestHelperThatHangsIsEndedAfterItsTime(t *testing.T) {
	t.Parallel()
	_, ok, err := Helper{"stuck", "ghcr.io"}.get(t.Context(), 50*time.Millisecond)
	want := HelperError{Helper{"stuck", "ghcr.io"}, "gave no answer within 50ms"}
	if failed, is := errors.AsType[*HelperError](err); ok || !is || *failed != want {
		t.Errorf("ok %v, err %v", ok, err)
	}
}

func TestHelperThatHangsIsEndedWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, ok, err := Helper{"stuck", "ghcr.io"}.Get(ctx)
	if want := `docker-credential-stuck for "ghcr.io": context deadline exceeded`; ok || !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
		t.Errorf("ok %v, err %v", ok, err)
	}
	if errors.Is(err, ErrConfig) {
		t.Error("the config is blamed for the caller's deadline")
	}
}

func TestHelperEndsWithAllThatItStarted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hang", "parent"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := listen(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			go func() {
				_, _, err := Helper{name, p.key()}.Get(ctx)
				ended <- err
			}()
			c := p.accept()
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			gone(t, c)
		})
	}
}

func TestHelperThatAnswersIsNotHeldUpByWhatItLeavesBehind(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"daemon", "escapee"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := listen(t)
			m, ok, err := Helper{name, p.key()}.Get(t.Context())
			if want := (Credential{Username: name, Password: canary}); !ok || err != nil || m.Credential != want {
				t.Errorf("ok %v, err %v", ok, err)
			}
			if c := p.accept(); name == "daemon" { // an escapee ends when the connection does
				gone(t, c)
			}
		})
	}
}
