package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Container is an unpacked image.
type Container struct {
	Rootfs string              // the directory it is in
	Config ocispec.ImageConfig // what the image says about running it
	Task   Command             // what the task says about it, which goes first

	dir string // what Destroy removes
}

// Destroy removes the container's directory. Its program must have ended.
func (c Container) Destroy() error { return os.RemoveAll(c.dir) }

// Command returns the command that the task or else the image's config names,
// with its arguments, environment and working directory and nothing of this
// process's. As root the program is run in the tree by chroot; otherwise it is
// run directly, so only one that takes its files from where it is will do. The
// user that the config names is not switched to.
//
// This is an example and no isolation: a chroot does not hold a program that is
// root, and such a program has the host's devices, processes and network. Run
// nothing with it that you would not run on the host.
func (c Container) Command(ctx context.Context) (*exec.Cmd, error) {
	return c.command(ctx, os.Geteuid() == 0)
}

func (c Container) command(ctx context.Context, confined bool) (*exec.Cmd, error) {
	wanted, args, err := c.Task.over(c.Config)
	if err != nil {
		return nil, err
	}
	config := c.Config
	config.Env = append(append([]string{}, c.Config.Env...), c.Task.Env...) // never nil: that would be this process's
	root, err := os.OpenRoot(c.Rootfs)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	t := tree{root}
	program, name, err := t.lookup(ctx, wanted, config)
	if err != nil {
		return nil, err
	}
	dir, err := t.resolve(ctx, config.WorkingDir)
	if err != nil {
		return nil, err
	}

	command := exec.CommandContext(ctx, "/"+program)
	command.Dir = path.Join("/", dir)
	if confined {
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Rootfs}
	} else {
		command.Path = filepath.Join(c.Rootfs, program)
		command.Dir = filepath.Join(c.Rootfs, dir)
		name = filepath.Join(c.Rootfs, name)
	}
	command.Args = append([]string{}, args...)
	if args[0] == wanted { // the task has no other name for it
		command.Args[0] = name
	}
	command.Env = config.Env
	return command, nil
}

// lookup finds a program in the tree: by the PATH of config if its name has no
// slash. It returns where the file is, relative to the root, and its absolute
// name, which the program gets as its argument 0.
func (t tree) lookup(ctx context.Context, program string, config ocispec.ImageConfig) (file, name string, err error) {
	candidates := []string{program}
	switch {
	case !strings.Contains(program, "/"):
		candidates = nil
		for _, dir := range strings.Split(searchPath(config.Env), ":") {
			candidates = append(candidates, path.Join("/", dir, program))
		}
	case !path.IsAbs(program):
		candidates[0] = path.Join("/", config.WorkingDir, program)
	}
	for _, name := range candidates {
		file, err := t.resolve(ctx, name)
		if err != nil {
			return "", "", err
		}
		if info, err := t.root.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, name, nil
		}
	}
	return "", "", fmt.Errorf("the image has no program %s", strings.Join(candidates, " or "))
}

// searchPath returns the PATH of an environment, or Docker's default.
func searchPath(environment []string) string {
	found := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, variable := range environment {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			found = value
		}
	}
	return found
}
