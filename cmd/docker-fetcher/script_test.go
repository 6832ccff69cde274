package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// The one credential of the scripts. The password is a canary: exits looks for
// it in everything that a command writes.
const (
	username = "tenant"
	password = "canary-5ecret"
)

// TestScripts runs the command line as a person does. The scripts have, beside
// testscript's own commands:
//
//	registry [-auth basic|bearer] [-redirect]   start $REG, which holds app:1 and the index app:multi
//	manifest REPOSITORY TAG TYPE FILE           put FILE there as a manifest
//	fault [-on ENDPOINT] ...                    make it misbehave, as fetchertest.Fault does
//	requests N [ENDPOINT]                       it got so many requests since the last time
//	config FILE [PASSWORD]                      write a docker config for it
//	exits CODE PROGRAM ARGS...                  run a program that has to end so
//	holds DIR [NAME[=DIGEST]]...                DIR has these files, verified, and nothing else
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or each process of a race build takes a second to end
			e.Setenv("PASSWORD", password)
			e.Values[scriptKey{}] = &script{t: e.T().(testing.TB)}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"registry": command((*script).startRegistry),
			"manifest": command((*script).putManifest),
			"fault":    command((*script).inject),
			"requests": command((*script).checkRequests),
			"config":   command((*script).writeConfig),
			"exits":    command((*script).checkExit),
			"holds":    command((*script).checkDirectory),
		},
	})
}

type scriptKey struct{}

// script is what one script has.
type script struct {
	t        testing.TB
	registry *fetchertest.Registry
}

func command(run func(*script, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, negated bool, args []string) {
		if negated {
			ts.Fatalf("the command can't be negated")
		}
		run(ts.Value(scriptKey{}).(*script), ts, args)
	}
}

// parseFlags takes the flags from args and wants so many arguments after them.
func parseFlags(ts *testscript.TestScript, flags *flag.FlagSet, args []string, want int) []string {
	ts.Check(flags.Parse(args))
	if flags.NArg() != want {
		ts.Fatalf("got %d arguments, want %d", flags.NArg(), want)
	}
	return flags.Args()
}

func (s *script) startRegistry(ts *testscript.TestScript, args []string) {
	var config fetchertest.Config
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	flags.StringVar(&config.Auth.Scheme, "auth", "", "")
	flags.BoolVar(&config.Redirect, "redirect", false, "")
	parseFlags(ts, flags, args, 0)
	if config.Auth.Scheme != "" {
		config.Auth.Username, config.Auth.Password = username, password
	}
	s.registry = fetchertest.New(s.t, config)

	app := fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 40_000), fetchertest.RandomLayer(2, 70_000)}}
	image := s.registry.PutImage("app", "1", app)
	index := s.registry.PutIndex("app", "multi", true,
		fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: app},
		fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "arm64"}, Image: fetchertest.Image{Config: []byte("{}")}})
	for name, value := range map[string]string{
		"REG": s.registry.Host(), "CDN": s.registry.CDNHost(),
		"MANIFEST": image.ManifestDigest, "CONFIG": image.ConfigDigest,
		"LAYER1": image.LayerDigests[0], "LAYER2": image.LayerDigests[1],
		"INDEX": index.IndexDigest, "AMD64": index.Images[0].ManifestDigest,
		"ARM64": index.Images[1].ManifestDigest, "ARM64CONFIG": index.Images[1].ConfigDigest,
	} {
		ts.Setenv(name, value)
	}
}

func (s *script) putManifest(ts *testscript.TestScript, args []string) {
	args = parseFlags(ts, flag.NewFlagSet("manifest", flag.ContinueOnError), args, 4)
	s.registry.PutManifest(args[0], args[1], args[2], []byte(ts.ReadFile(args[3])))
}

func (s *script) inject(ts *testscript.TestScript, args []string) {
	var f fetchertest.Fault
	flags := flag.NewFlagSet("fault", flag.ContinueOnError)
	flags.StringVar((*string)(&f.Match.Endpoint), "on", "", "")
	flags.StringVar(&f.Match.Identifier, "of", "", "")
	flags.IntVar(&f.Times, "times", 0, "")
	flags.IntVar(&f.Status, "status", 0, "")
	flags.BoolVar(&f.Corrupt, "corrupt", false, "")
	flags.Int64Var(&f.Extra, "extra", 0, "")
	flags.Int64Var(&f.Truncate, "truncate", 0, "")
	flags.Int64Var(&f.StallAt, "stall-at", 0, "")
	flags.BoolVar(&f.Drop, "drop", false, "")
	flags.Func("body", "", func(text string) error { f.Body = []byte(text); return nil })
	flags.Func("header", "", func(line string) error {
		name, value, _ := strings.Cut(line, ": ")
		f.Header = http.Header{name: {value}}
		return nil
	})
	parseFlags(ts, flags, args, 0)
	s.registry.Inject(f)
}

func (s *script) checkRequests(ts *testscript.TestScript, args []string) {
	var endpoint fetchertest.Endpoint
	if len(args) == 2 {
		endpoint = fetchertest.Endpoint(args[1])
		args = args[:1]
	}
	args = parseFlags(ts, flag.NewFlagSet("requests", flag.ContinueOnError), args, 1)
	if got := s.registry.Count(endpoint); strconv.Itoa(got) != args[0] {
		for _, q := range s.registry.Requests() {
			ts.Logf("%s %s %d", q.Method, q.Path, q.Status)
		}
		ts.Fatalf("got %d requests, want %s", got, args[0])
	}
	for _, q := range s.registry.Requests() {
		if want := "docker-fetcher/" + version; q.UserAgent != want {
			ts.Fatalf("%s %s came from %q, want %q", q.Method, q.Path, q.UserAgent, want)
		}
	}
	s.registry.Reset()
}

func (s *script) writeConfig(ts *testscript.TestScript, args []string) {
	secret := password
	if len(args) == 2 {
		secret = args[1]
		args = args[:1]
	}
	args = parseFlags(ts, flag.NewFlagSet("config", flag.ContinueOnError), args, 1)
	config, err := json.Marshal(map[string]any{"auths": map[string]any{
		s.registry.Host(): map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(username + ":" + secret))},
	}})
	ts.Check(err)
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), config, 0o600))
}

// checkExit runs a program and holds it to what is true of every command: it
// ends within 30 s, shows no secret, and writes one line of error and nothing on
// stdout, or no error.
func (s *script) checkExit(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	begin, code := time.Now(), 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("got exit code %d, want %s", code, args[0])
	}
	if took := time.Since(begin); took > 30*time.Second {
		ts.Fatalf("it took %v", took)
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(username + ":" + password))} {
		if strings.Contains(stdout+stderr, secret) {
			ts.Fatalf("the password was shown")
		}
	}
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	last := len(lines) - 1
	for i, line := range lines {
		if strings.HasPrefix(line, "error: ") != (code != 0 && i == last) {
			ts.Fatalf("got exit code %d and error lines %q, want one at the end or none", code, lines)
		}
	}
	if code != 0 && stdout != "" {
		ts.Fatalf("got an error and a result")
	}
}

func (s *script) checkDirectory(ts *testscript.TestScript, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: holds DIR [NAME[=DIGEST]]...")
	}
	dir := ts.MkAbs(args[0])
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
	}
	if len(entries) != len(args)-1 {
		ts.Fatalf("got %v, want %q", entries, args[1:])
	}
	for _, arg := range args[1:] {
		name, want, found := strings.Cut(arg, "=")
		if !found {
			want = name
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		ts.Check(err)
		if got := digest.FromBytes(data).String(); got != want {
			ts.Fatalf("%s: got %s, want %s", name, got, want)
		}
	}
}
