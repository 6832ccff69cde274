// Demo shows docker-fetcher at work, from a task's JSON to the output of the
// program in its image, without anything but Go: it starts a registry that asks
// for tokens, pushes an image, and then does what a container agent does with
// two tasks of that image. It ends by itself and leaves nothing behind.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/docker-fetcher/docker-fetcher/integration/agent"
	"github.com/docker-fetcher/docker-fetcher/integration/build"
	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

const (
	limit = 5 * time.Minute // ends a demonstration that hangs
	rate  = 1 << 20         // bytes a second: slow enough to see the progress
)

func main() {
	executable := flag.String("executable", "", "the docker-fetcher to use (default: build it)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := run(ctx, os.Stdout, *executable) //nolint:forbidigo // this program is no plugin
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo failed:", err) //nolint:forbidigo // this program is no plugin
		os.Exit(1)
	}
}

// demo is one run: where it writes and its temporary directory.
type demo struct {
	out io.Writer
	dir string
}

func run(ctx context.Context, out io.Writer, executable string) (err error) {
	begin := time.Now()
	dir, err := os.MkdirTemp("", "docker-fetcher-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := demo{out: out, dir: dir}

	if executable == "" {
		d.step("Building docker-fetcher (the first time takes a while)")
		executable = filepath.Join(dir, "docker-fetcher")
		if err := build.Fetcher(ctx, executable); err != nil {
			return err
		}
	}
	d.step("Building an image: a Go program, CA certificates and files for /etc, each a layer")
	made, err := makeImage(ctx)
	if err != nil {
		return err
	}
	server, err := d.publish(ctx, made)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := d.runTasks(ctx, executable, server); err != nil {
		return err
	}
	d.step("Done in %.1f s; everything is removed again", time.Since(begin).Seconds())
	return nil
}

// step announces what comes next.
func (d demo) step(format string, values ...any) {
	_, _ = fmt.Fprintf(d.out, "==> "+format+"\n", values...)
}

// show prints text indented.
func (d demo) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		_, _ = fmt.Fprint(d.out, "    "+line)
	}
}

// makeImage makes the image for this machine.
func makeImage(ctx context.Context) (v1.Image, error) {
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	program, err := image.Program(ctx, platform)
	if err != nil {
		return nil, err
	}
	return image.New(program, platform, image.Docker)
}

const repository = "demo/hello"

var (
	author = registry.User{Name: "author", Password: "of-the-image", Grants: registry.Grants{repository: {"pull", "push"}}}
	tenant = registry.User{Name: "tenant", Password: "of-the-cluster", Grants: registry.Grants{repository: {"pull"}}}
)

// publish starts a registry and pushes the image.
func (d demo) publish(ctx context.Context, made v1.Image) (*registry.Server, error) {
	server, err := registry.Start(registry.Config{Auth: registry.Token, Users: []registry.User{author, tenant}, Rate: rate})
	if err != nil {
		return nil, err
	}
	d.step("Starting a registry that asks for tokens at %s, slowed down to %s a second", server.Host, size(rate))
	reference := server.Host + "/" + repository + ":1.0"
	d.step("Pushing the image as %s", reference)
	if err := image.Push(ctx, reference, made, author.Name, author.Password); err != nil {
		return nil, errors.Join(fmt.Errorf("push %s: %w", reference, err), server.Close())
	}
	return server, nil
}

// taskInfo is a mesos.TaskInfo as a framework sends it: it runs the image's
// program, with arguments of its own if any are given.
func taskInfo(id, image, secret string, arguments ...string) string {
	quoted := ""
	if len(arguments) > 0 {
		quoted = `, "arguments": ["` + strings.Join(arguments, `", "`) + `"]`
	}
	return strings.NewReplacer("ID", id, "IMAGE", image, "SECRET", secret, "ARGUMENTS", quoted).Replace(`{
  "name": "hello",
  "task_id": {"value": "ID"},
  "agent_id": {"value": "demo"},
  "command": {"shell": falseARGUMENTS},
  "container": {
    "type": "MESOS",
    "mesos": {
      "image": {
        "type": "DOCKER",
        "docker": {
          "name": "IMAGE",
          "config": {"type": "VALUE", "value": {"data": "SECRET"}}
        }
      }
    }
  }
}
`)
}

// runTasks does what an agent does: launch the plugin once, and for each task
// have it fetch what is missing, unpack the image and run it.
func (d demo) runTasks(ctx context.Context, executable string, server *registry.Server) (err error) {
	d.step("Launching the plugin, with mutual TLS on its socket")
	client, err := plugin.Open(ctx, plugin.Config{Path: executable})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	about, err := client.Info(ctx)
	if err != nil {
		return err
	}
	d.show(fmt.Sprintf("version %s, process %d, serves the schemes %s", about.Version, about.PID, strings.Join(about.Schemes, ", ")))

	dir := filepath.Join(d.dir, "store")
	store, err := agent.OpenStore(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	a := agent.Agent{Fetcher: client, Store: store, Dir: d.dir, Observe: d.observer()}
	d.step("A task arrives: its TaskInfo names the image and has the docker config as a secret")
	if err := d.runTask(ctx, a, server, "first"); err != nil {
		return err
	}
	d.step("What the agent keeps for the next task, every file verified by the plugin")
	if err := d.list(filepath.Join(dir, "blobs")); err != nil {
		return err
	}
	d.step("A second task of the same image arrives, with arguments of its own")
	return d.runTask(ctx, a, server, "second", "--from", "the second task")
}

// runTask provisions a task, runs it and shows what the registry was asked for.
func (d demo) runTask(ctx context.Context, a agent.Agent, server *registry.Server, id string, arguments ...string) (err error) {
	name := server.Host + "/" + repository + ":1.0"
	d.show(taskInfo(id, name, "[redacted]", arguments...))
	secret := base64.StdEncoding.EncodeToString(tenant.DockerConfig(server.Host))
	task, err := agent.ParseTask([]byte(taskInfo(id, name, secret, arguments...)))
	if err != nil {
		return err
	}
	d.step("Provisioning the %s task", id)
	server.Forget()
	begin := time.Now()
	container, err := a.Provision(ctx, task)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, container.Destroy()) }()
	d.show(fmt.Sprintf("ready in %d ms; the registry was asked:", time.Since(begin).Milliseconds()))
	d.requests(server.Requests())
	return d.runProgram(ctx, container)
}

// observer returns what shows the progress of a pull. A transfer that has not
// moved since the last line gets no other.
func (d demo) observer() func(agent.Progress) {
	last := agent.Progress{BytesDone: -1}
	return func(p agent.Progress) {
		if p.BytesDone == last.BytesDone && p.BlobsDone == last.BlobsDone {
			return
		}
		last = p
		d.show(fmt.Sprintf("%s of %s, %d of %d blobs", size(p.BytesDone), size(p.Bytes), p.BlobsDone, p.Blobs))
	}
}

// requests shows what a registry was asked for.
func (d demo) requests(requests []registry.Request) {
	if len(requests) == 0 {
		d.show("nothing")
	}
	for _, r := range requests {
		credential := r.Scheme
		if credential == "" {
			credential = "none"
		}
		d.show(fmt.Sprintf("%-6s  %s %s", credential, r.Method, r.Path))
	}
}

// list shows the files below dir.
func (d demo) list(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		d.show(fmt.Sprintf("%9d  %s", info.Size(), entry.Name()))
		return nil
	})
}

// runProgram shows what the container's program prints.
func (d demo) runProgram(ctx context.Context, container agent.Container) error {
	command, err := container.Command(ctx)
	if err != nil {
		return err
	}
	d.step("Running the program: %s", strings.Join(command.Args, " "))
	output, err := command.CombinedOutput()
	d.show(string(output))
	if err != nil {
		return fmt.Errorf("run the program: %w", err)
	}
	return nil
}

// size is a number of bytes for people; negative means unknown.
func size(bytes int64) string {
	switch {
	case bytes < 0:
		return "an unknown size"
	case bytes < 1<<10:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}
