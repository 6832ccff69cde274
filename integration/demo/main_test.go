package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/integration/build"
	"github.com/docker-fetcher/docker-fetcher/integration/image"
)

// emptyAfter has temporary files go to a directory that must be empty in the end.
func emptyAfter(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

func TestDemoShowsTheProgramsOutputAndNoSecret(t *testing.T) {
	executable := filepath.Join(t.TempDir(), "docker-fetcher")
	if err := build.Fetcher(t.Context(), executable); err != nil {
		t.Fatal(err)
	}
	emptyAfter(t)
	var out bytes.Buffer
	if err := run(t.Context(), &out, executable); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for line := range strings.Lines(image.Output()) {
		if !strings.Contains(out.String(), "    "+line) {
			t.Errorf("the output lacks %q", line)
		}
	}
	for _, want := range []string{`"data": "[redacted]"`, " of 4 blobs\n", ", 4 of 4 blobs\n", "bearer  GET /v2/demo/hello/manifests/1.0\n", "  sha256:", "==> Done in ",
		"the registry was asked:\n    nothing\n", "arguments: --from the second task\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	for _, secret := range []string{"of-the-cluster", "of-the-image", "eyJhdXRocyI6"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the output shows the secret %s", secret)
		}
	}
}

func TestDemoCleansUpWhenItFails(t *testing.T) {
	emptyAfter(t)
	err := run(t.Context(), &bytes.Buffer{}, "/no/such/docker-fetcher")
	if err == nil || !strings.Contains(err.Error(), "/no/such/docker-fetcher") {
		t.Errorf("error %v, want one about the executable", err)
	}
}

func TestDemoCleansUpWhenItIsInterrupted(t *testing.T) {
	emptyAfter(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, &bytes.Buffer{}, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context canceled", err)
	}
}
