package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"docker-fetcher": main})
}

// tests are all tests, with a directory for the executable around them.
type tests struct{ *testing.M }

func (t tests) Run() int {
	dir, err := os.MkdirTemp("", "docker-fetcher")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build = sync.OnceValues(func() (string, error) {
		path := filepath.Join(dir, "docker-fetcher")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, output)
		}
		return path, nil
	})
	before := fetchertest.OpenFiles()
	code := t.M.Run()
	if err := fetchertest.FilesLeft(before); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var build func() (string, error)

// executable returns the path of what is shipped, which the first test that
// needs it builds.
func executable(tb testing.TB) string {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestExitCodeFollowsTheKindOfFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"success", nil, 0},
		{"something else", errors.New("disk on fire"), 1},
		{"a disk that is full", &fetcher.Error{Reason: fetcher.DiskFull}, 1},
		{"a directory that this user may not write", &fetcher.Error{Reason: fetcher.LocalPermission}, 1},
		{"a manifest of another type", &fetcher.Error{Reason: fetcher.MediaTypeUnsupported}, 1},
		{"a defect", &fetcher.Error{Reason: fetcher.Bug}, 1},
		{"a wrong command line", usageError{errors.New("unknown flag")}, 2},
		{"a wrong command line, even if it names a file that is not there", usageError{os.ErrNotExist}, 2},
		{"a wrong URI", &fetcher.Error{Reason: fetcher.URIInvalid}, 2},
		{"a wrong config", fmt.Errorf("file: %w", &fetcher.Error{Reason: fetcher.ConfigInvalid}), 2},
		{"a path that is no directory", &fetcher.Error{Reason: fetcher.DirectoryInvalid}, 2},
		{"no such manifest", &fetcher.Error{Reason: fetcher.ManifestNotFound}, 3},
		{"no such platform", &fetcher.Error{Reason: fetcher.PlatformNotFound}, 3},
		{"no credential", &fetcher.Error{Reason: fetcher.AuthRequired}, 4},
		{"a refusal of the token server", &fetcher.Error{Reason: fetcher.TokenServerRefused}, 4},
		{"a refusal of the registry", &fetcher.Error{Reason: fetcher.RegistryDenied}, 4},
		{"a wrong digest", &fetcher.Error{Reason: fetcher.DigestMismatch}, 5},
		{"a wrong size", &fetcher.Error{Reason: fetcher.SizeMismatch}, 5},
		{"nobody there", &fetcher.Error{Reason: fetcher.RegistryUnreachable}, 6},
		{"a stall", &fetcher.Error{Reason: fetcher.Stalled}, 6},
		{"a certificate of a stranger", &fetcher.Error{Reason: fetcher.TLSFailed}, 6},
		{"too many requests", &fetcher.Error{Reason: fetcher.RateLimited}, 6},
		{"a deadline", fmt.Errorf("transfer: %w", context.DeadlineExceeded), 6},
		{"an interrupt", fmt.Errorf("transfer: %w", context.Canceled), 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestReportWritesOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"an error", errors.New("out of order"), "error: out of order\n"},
		{"a line break and an escape sequence", errors.New("open a\nerror: b\x1b[31m\u009b"), `error: open a\nerror: b\x1b[31m\u009b` + "\n"},
		{"an interrupt", fmt.Errorf("transfer: %w", context.Canceled), "error: interrupted\n"},
	} {
		var b bytes.Buffer
		report(&b, false, c.err)
		if b.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.name, b.String(), c.want)
		}
	}
}

func TestEveryCommandShowsAnExample(t *testing.T) {
	t.Parallel()
	for _, hosted := range []bool{false, true} {
		root := newCommand(hosted)
		for _, cmd := range append(root.Commands(), root) {
			if cmd.Example == "" || cmd.Short == "" {
				t.Errorf("%s: the help lacks an example or a summary", cmd.CommandPath())
			}
		}
	}
}
