package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mesos/mesos-go/api/v1/lib"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// Task is what to run: an image, the docker config to fetch it with, and what
// of it.
type Task struct {
	Name   Name
	Config fetcher.DockerConfig
	// Force has the registry asked even if the store has the image; the
	// original's Image.cached set to false.
	Force   bool
	Command Command
}

// Command is what a task says about the program to run: the part of a
// mesos.CommandInfo that is not about fetching or users. The zero value runs
// what the image's config says.
type Command struct {
	// Shell makes Value a script for the image's /bin/sh; the Arguments are ignored.
	Shell bool
	// Value is the program. Empty: the image's.
	Value string
	// Arguments are those of Value, its argument 0 first. Without a Value they
	// follow the image's program instead of its Cmd.
	Arguments []string
	// Env goes before the image's, each NAME=VALUE.
	Env []string
}

// ParseTask reads the JSON of a mesos.TaskInfo, or that of a
// mesos.ContainerInfo, which runs what the image says: the first has a
// container, the second a type. The container is one of type MESOS with a docker
// image. Its config, if any, must be a secret of type VALUE; an error never
// shows it.
func ParseTask(data []byte) (Task, error) {
	var fields struct{ Type, Container, Command, Executor json.RawMessage }
	if err := decode(data, &fields); err != nil {
		return Task{}, fmt.Errorf("invalid task: %w", err)
	}
	isTask := fields.Container != nil || fields.Command != nil || fields.Executor != nil
	switch {
	case isTask && fields.Type != nil:
		return Task{}, errors.New("invalid task: it has the fields of a TaskInfo and the type of a ContainerInfo")
	case isTask:
		return parseTaskInfo(data)
	case fields.Type != nil:
		return ParseContainerInfo(data)
	}
	return Task{}, errors.New("invalid task: it is neither a TaskInfo with a container nor a ContainerInfo with a type")
}

// ParseContainerInfo is ParseTask of a ContainerInfo only.
func ParseContainerInfo(data []byte) (Task, error) {
	var info mesos.ContainerInfo
	err := decode(data, &info)
	if err != nil {
		return Task{}, fmt.Errorf("invalid ContainerInfo: %w", err)
	}
	task, err := imageOf(&info)
	if err != nil {
		return Task{}, fmt.Errorf("invalid ContainerInfo: %w", err)
	}
	return task, nil
}

func parseTaskInfo(data []byte) (Task, error) {
	var info mesos.TaskInfo
	if err := decode(data, &info); err != nil {
		return Task{}, fmt.Errorf("invalid TaskInfo: %w", err)
	}
	switch {
	case info.Executor != nil:
		return Task{}, errors.New("invalid TaskInfo: it has an executor; only a task with a command can be run")
	case info.Container == nil:
		return Task{}, errors.New("invalid TaskInfo: it has no container, so no image")
	case info.Command == nil:
		return Task{}, errors.New(`invalid TaskInfo: it has no command; {"shell": false} runs what the image says`)
	}
	task, err := imageOf(info.Container)
	if err != nil {
		return Task{}, fmt.Errorf("invalid TaskInfo: container: %w", err)
	}
	task.Command, err = commandOf(info.Command)
	if err != nil {
		return Task{}, fmt.Errorf("invalid TaskInfo: command: %w", err)
	}
	return task, nil
}

// decode is json.Unmarshal for mesos-go's types, whose generated decoders may
// panic on input made for it and quote in an error what they stopped at, which
// can be the secret. The error says where, nothing more.
func decode(data []byte, into any) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("its JSON can't be decoded")
		}
	}()
	err = json.Unmarshal(data, into)
	var syntax *json.SyntaxError
	if err == nil || errors.As(err, &syntax) {
		return err
	}
	_, rest, found := strings.Cut(err.Error(), " offset=")
	if offset, _, _ := strings.Cut(rest, " "); found {
		return fmt.Errorf("its JSON has a value of the wrong type near byte %s", offset)
	}
	return errors.New("its JSON has a value of the wrong type")
}

// imageOf returns a task that runs the image of a container as the image says.
func imageOf(info *mesos.ContainerInfo) (Task, error) {
	if info.GetType() != mesos.ContainerInfo_MESOS {
		return Task{}, fmt.Errorf("type is %s, not MESOS", info.GetType())
	}
	image := info.GetMesos().GetImage()
	if image == nil || image.GetType() != mesos.Image_DOCKER || image.Docker == nil {
		return Task{}, errors.New("mesos.image is not a docker image")
	}
	name, err := ParseName(image.Docker.Name)
	if err != nil {
		return Task{}, err
	}
	config, err := resolveSecret(image.Docker.Config)
	if err != nil {
		return Task{}, fmt.Errorf("mesos.image.docker.config: %w", err)
	}
	return Task{Name: name, Config: fetcher.DockerConfig{JSON: config}, Force: !image.GetCached()}, nil
}

// resolveSecret is the original's default SecretResolver.
func resolveSecret(secret *mesos.Secret) ([]byte, error) {
	switch {
	case secret == nil:
		return nil, nil
	case secret.Reference != nil:
		return nil, errors.New("default secret resolver cannot resolve references")
	case secret.Value == nil:
		return nil, errors.New("secret has no value")
	}
	return secret.Value.Data, nil
}

func commandOf(info *mesos.CommandInfo) (Command, error) {
	switch {
	case info.GetShell() && info.Value == nil:
		return Command{}, errors.New("it is a shell command without a value")
	case !info.GetShell() && info.Value != nil && *info.Value == "":
		return Command{}, errors.New("its value, the program, is empty")
	}
	env, err := environmentOf(info.GetEnvironment().GetVariables())
	if err != nil {
		return Command{}, err
	}
	return Command{Shell: info.GetShell(), Value: info.GetValue(), Arguments: info.Arguments, Env: env}, nil
}

// environmentOf takes variables of type VALUE. A secret among them would be
// one more to guard, which an example leaves out.
func environmentOf(variables []mesos.Environment_Variable) ([]string, error) {
	var env []string
	for _, v := range variables {
		switch {
		case v.Name == "" || strings.ContainsAny(v.Name, "=\x00"):
			return nil, fmt.Errorf("environment: invalid name %q", v.Name)
		case v.Secret != nil || v.Value == nil:
			return nil, fmt.Errorf("environment: %s is not of type VALUE, which alone is supported", v.Name)
		}
		env = append(env, v.Name+"="+*v.Value)
	}
	return env, nil
}

// over returns the program to run in an image and its arguments, argument 0
// first, by the table of the original's docker/runtime isolator
// (docs/isolators/docker-runtime.md, "Determine the Launch Command").
func (c Command) over(image ocispec.ImageConfig) (program string, args []string, err error) {
	switch {
	case c.Shell:
		return "/bin/sh", []string{"sh", "-c", c.Value}, nil
	case c.Value != "" && len(c.Arguments) > 0:
		return c.Value, c.Arguments, nil
	case c.Value != "":
		return c.Value, []string{c.Value}, nil
	}
	first, rest := image.Entrypoint, image.Cmd
	if len(first) == 0 && len(rest) > 0 {
		first, rest = rest[:1], rest[1:]
	}
	if len(first) == 0 {
		return "", nil, errors.New("the image names no program to run")
	}
	if len(c.Arguments) > 0 {
		rest = c.Arguments
	}
	args = append(append(args, first...), rest...)
	return args[0], args, nil
}
