// Demo shows docker-fetcher at work, from a task's JSON to the output of the
// program in its image, without anything but Go: it starts a registry that asks
// for tokens, pushes an image, and then does what a container agent does. It
// ends by itself and leaves nothing behind.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
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
	server, info, err := d.publish(ctx, made)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()

	if err := d.runTask(ctx, executable, info); err != nil {
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

// publish starts a registry, pushes the image and returns the file of the
// ContainerInfo of a task that runs it.
func (d demo) publish(ctx context.Context, made v1.Image) (server *registry.Server, info string, err error) {
	const repository = "demo/hello"
	author := registry.User{Name: "author", Password: "of-the-image", Grants: registry.Grants{repository: {"pull", "push"}}}
	tenant := registry.User{Name: "tenant", Password: "of-the-cluster", Grants: registry.Grants{repository: {"pull"}}}

	server, err = registry.Start(registry.Config{Auth: registry.Token, Users: []registry.User{author, tenant}, Rate: rate})
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Close())
		}
	}()
	d.step("Starting a registry that asks for tokens at %s, slowed down to %s a second", server.Host, size(rate))
	reference := server.Host + "/" + repository + ":1.0"
	d.step("Pushing the image as %s", reference)
	if err := image.Push(ctx, reference, made, author.Name, author.Password); err != nil {
		return nil, "", fmt.Errorf("push %s: %w", reference, err)
	}

	d.step("A task arrives: its ContainerInfo names the image and has the docker config as a secret")
	secret := base64.StdEncoding.EncodeToString(tenant.DockerConfig(server.Host))
	d.show(containerInfo(reference, "[redacted]"))
	info = filepath.Join(d.dir, "container-info.json")
	return server, info, os.WriteFile(info, []byte(containerInfo(reference, secret)), 0o600)
}

// containerInfo is a mesos.ContainerInfo as a framework sends it.
func containerInfo(image, secret string) string {
	return strings.NewReplacer("IMAGE", image, "SECRET", secret).Replace(`{
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
`)
}

// runTask does what an agent does with a task: launch the plugin, have it
// fetch the image, unpack the image and run it.
func (d demo) runTask(ctx context.Context, executable, info string) (err error) {
	data, err := os.ReadFile(info)
	if err != nil {
		return err
	}
	task, err := agent.ParseContainerInfo(data)
	if err != nil {
		return err
	}
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

	dir := filepath.Join(d.dir, "image")
	if err := d.fetch(ctx, client, task, dir); err != nil {
		return err
	}
	if err := d.list(dir); err != nil {
		return err
	}
	return d.runImage(ctx, dir)
}

// fetch fetches the task's image into dir by one call.
func (d demo) fetch(ctx context.Context, client *plugin.Client, task agent.Task, dir string) error {
	reference, err := agent.Agent{Fetcher: client}.Reference(task)
	if err != nil {
		return err
	}
	d.step("Fetching %s", reference)
	result, err := client.Fetch(ctx, fetcher.Request{
		URI: reference.URI(), Directory: dir, Config: task.Config,
		ProgressInterval: 250 * time.Millisecond, Observe: d.observer(),
	})
	if err != nil {
		return err
	}
	d.show(fmt.Sprintf("fetched %s in %d ms: %s", size(result.BytesTransferred), result.Elapsed.Milliseconds(), result.Manifest.Digest))
	return nil
}

// observer returns what shows the events of a fetch. A transfer that has not
// moved since the last line gets no other.
func (d demo) observer() func(fetcher.Event) {
	last := int64(-1)
	return func(event fetcher.Event) {
		switch e := event.(type) {
		case fetcher.Started:
			d.show(fmt.Sprintf("%d files, %s in all", e.TotalFiles, size(e.TotalBytes)))
		case fetcher.Progress:
			if e.BytesDone != last {
				last = e.BytesDone
				d.show(fmt.Sprintf("%s of %s, %d of %d files", size(e.BytesDone), size(e.TotalBytes), e.FilesDone, e.TotalFiles))
			}
		case fetcher.FileDone:
			d.show("verified " + e.File.Path)
		case fetcher.Warning:
			d.show("warning: " + e.Text)
		}
	}
}

func (d demo) list(dir string) error {
	d.step("What the plugin put into the directory, every file verified")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		d.show(fmt.Sprintf("%9d  %s", info.Size(), entry.Name()))
	}
	return nil
}

// runImage unpacks the image and shows what its program prints.
func (d demo) runImage(ctx context.Context, dir string) error {
	d.step("Unpacking the layers")
	container, err := agent.Unpack(dir, filepath.Join(d.dir, "rootfs"))
	if err != nil {
		return err
	}
	command, err := container.Command(ctx)
	if err != nil {
		return err
	}
	d.step("Running the image's program: %s", strings.Join(command.Args, " "))
	output, err := command.CombinedOutput()
	d.show(string(output))
	if err != nil {
		return fmt.Errorf("run the image's program: %w", err)
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
