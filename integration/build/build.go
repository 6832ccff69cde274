// Package build compiles the programs that the tests and the demonstration
// run: the executable of the project itself and the one inside the image.
package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const module = "github.com/docker-fetcher/docker-fetcher"

// Fetcher compiles cmd/docker-fetcher into the file at path, or links the
// executable there that $FETCHER names: one that was installed.
func Fetcher(ctx context.Context, path string) error {
	if installed := os.Getenv("FETCHER"); installed != "" {
		return os.Symlink(installed, path)
	}
	return static(ctx, path, module, "./cmd/docker-fetcher")
}

// Hello compiles the program of the image for a platform into the file at path.
func Hello(ctx context.Context, path, goos, goarch string) error {
	return static(ctx, path, module+"/integration", "./image/hello", "GOOS="+goos, "GOARCH="+goarch)
}

// static compiles a main package of a module without cgo. It needs the go
// command, and the working directory to be in the module of this package.
func static(ctx context.Context, path, module, pkg string, environment ...string) error {
	find := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	dir, err := find.Output()
	if err != nil {
		return fmt.Errorf("find the module %s: %w", module, err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-C", strings.TrimSpace(string(dir)), "-buildvcs=false", "-ldflags=-s -w", "-o", path, pkg)
	build.Env = append(append(os.Environ(), "CGO_ENABLED=0"), environment...)
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(append(environment, pkg), " "), err, output)
	}
	return nil
}
