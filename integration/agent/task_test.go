package agent

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// canary is a secret that must not appear in an error.
const canary = "c2VjcmV0LWNhbmFyeQ=="

// hello is the docker image "a", and contained a container that runs it.
const (
	hello     = `"type":"DOCKER","docker":{"name":"a"}`
	contained = `"container":{"type":"MESOS","mesos":{"image":{` + hello + `}}}`
)

func TestParseTask(t *testing.T) {
	t.Parallel()
	a := Name{Repository: "a"}
	for _, test := range []struct {
		name, info string
		want       Task
		err        string
	}{
		{
			"a ContainerInfo of an image with a secret",
			`{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"localhost:5000/a:1","config":{"type":"VALUE","value":{"data":"` + canary + `"}}}}}}`,
			Task{Name: Name{"localhost:5000", "a", "1", ""}, Config: fetcher.DockerConfig{JSON: []byte("secret-canary")}}, "",
		},
		{"a ContainerInfo of an image without one", `{"type":"MESOS","mesos":{"image":{` + hello + `}}}`, Task{Name: a}, ""},
		{"an image to pull by force", `{"type":"MESOS","mesos":{"image":{` + hello + `,"cached":false}}}`, Task{Name: a, Force: true}, ""},
		{"an image that may be cached", `{"type":"MESOS","mesos":{"image":{` + hello + `,"cached":true}}}`, Task{Name: a}, ""},
		{
			"a TaskInfo as a framework sends it",
			`{"name":"t","task_id":{"value":"1"},"agent_id":{"value":"2"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}],` + contained +
				`,"command":{"shell":true,"value":"echo $A","environment":{"variables":[{"name":"A","value":"1"},{"name":"B","type":"VALUE","value":""}]},"user":"nobody"}}`,
			Task{Name: a, Command: Command{Shell: true, Value: "echo $A", Env: []string{"A=1", "B="}}}, "",
		},
		{"a command is a shell's unless it says otherwise", `{` + contained + `,"command":{"value":"ls"}}`, Task{Name: a, Command: Command{Shell: true, Value: "ls"}}, ""},
		{"a script may be empty", `{` + contained + `,"command":{"value":""}}`, Task{Name: a, Command: Command{Shell: true}}, ""},
		{"a program and its arguments", `{` + contained + `,"command":{"shell":false,"value":"ls","arguments":["ls","-l"]}}`, Task{Name: a, Command: Command{Value: "ls", Arguments: []string{"ls", "-l"}}}, ""},
		{"the image's own program", `{` + contained + `,"command":{"shell":false}}`, Task{Name: a}, ""},

		{"no JSON", `{`, Task{}, "invalid task: unexpected end of JSON input"},
		{"no object", `[]`, Task{}, "invalid task: its JSON has a value of the wrong type"},
		{"neither of the two", `{"name":"t"}`, Task{}, "invalid task: it is neither a TaskInfo with a container nor a ContainerInfo with a type"},
		{"both of the two", `{"type":"MESOS",` + contained + `}`, Task{}, "invalid task: it has the fields of a TaskInfo and the type of a ContainerInfo"},
		{"a field of the wrong type", `{"type":"MESOS","mesos":[]}`, Task{}, "invalid ContainerInfo: its JSON has a value of the wrong type near byte 26"},

		{"the docker containerizer", `{"type":"DOCKER","docker":{"image":"a"}}`, Task{}, "invalid ContainerInfo: type is DOCKER, not MESOS"},
		{"no image", `{"type":"MESOS","mesos":{}}`, Task{}, "invalid ContainerInfo: mesos.image is not a docker image"},
		{"nothing for mesos", `{"type":"MESOS"}`, Task{}, "invalid ContainerInfo: mesos.image is not a docker image"},
		{"an appc image", `{"type":"MESOS","mesos":{"image":{"type":"APPC","appc":{"name":"a"}}}}`, Task{}, "invalid ContainerInfo: mesos.image is not a docker image"},
		{"a docker image without one", `{"type":"MESOS","mesos":{"image":{"type":"DOCKER"}}}`, Task{}, "invalid ContainerInfo: mesos.image is not a docker image"},
		{"a bad name", `{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"a:"}}}}`, Task{}, `invalid ContainerInfo: invalid image name "a:": the tag is empty`},
		{
			"a reference to a secret",
			`{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"a","config":{"type":"REFERENCE","reference":{"name":"store"}}}}}}`,
			Task{}, "invalid ContainerInfo: mesos.image.docker.config: default secret resolver cannot resolve references",
		},
		{
			"a secret without a value",
			`{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"a","config":{"type":"VALUE"}}}}}`,
			Task{}, "invalid ContainerInfo: mesos.image.docker.config: secret has no value",
		},

		{"a task of an executor", `{` + contained + `,"executor":{"executor_id":{"value":"e"}}}`, Task{}, "invalid TaskInfo: it has an executor; only a task with a command can be run"},
		{"a task without a container", `{"command":{"value":"ls"}}`, Task{}, "invalid TaskInfo: it has no container, so no image"},
		{"a task without a command", `{` + contained + `}`, Task{}, `invalid TaskInfo: it has no command; {"shell": false} runs what the image says`},
		{"a task of the docker containerizer", `{"container":{"type":"DOCKER"},"command":{"value":"ls"}}`, Task{}, "invalid TaskInfo: container: type is DOCKER, not MESOS"},
		{"a script that is missing", `{` + contained + `,"command":{}}`, Task{}, "invalid TaskInfo: command: it is a shell command without a value"},
		{"a script that is missing though there are arguments", `{` + contained + `,"command":{"shell":true,"arguments":["a"]}}`, Task{}, "invalid TaskInfo: command: it is a shell command without a value"},
		{"a program without a name", `{` + contained + `,"command":{"shell":false,"value":""}}`, Task{}, "invalid TaskInfo: command: its value, the program, is empty"},
		{
			"a variable without a name", `{` + contained + `,"command":{"shell":false,"environment":{"variables":[{"value":"1"}]}}}`,
			Task{}, `invalid TaskInfo: command: environment: invalid name ""`,
		},
		{
			"a variable with two names", `{` + contained + `,"command":{"shell":false,"environment":{"variables":[{"name":"A=B","value":"1"}]}}}`,
			Task{}, `invalid TaskInfo: command: environment: invalid name "A=B"`,
		},
		{
			"a secret variable",
			`{` + contained + `,"command":{"shell":false,"environment":{"variables":[{"name":"A","type":"SECRET","secret":{"type":"VALUE","value":{"data":"` + canary + `"}}}]}}}`,
			Task{}, "invalid TaskInfo: command: environment: A is not of type VALUE, which alone is supported",
		},
		{
			"a variable without a value", `{` + contained + `,"command":{"shell":false,"environment":{"variables":[{"name":"A"}]}}}`,
			Task{}, "invalid TaskInfo: command: environment: A is not of type VALUE, which alone is supported",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseTask([]byte(test.info))
			if errorText(err) != test.err {
				t.Fatalf("error %q, want %q", errorText(err), test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseContainerInfoTakesNoTaskInfo(t *testing.T) {
	t.Parallel()
	_, err := ParseContainerInfo([]byte(`{` + contained + `,"command":{"shell":false}}`))
	if want := "invalid ContainerInfo: type is DOCKER, not MESOS"; errorText(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestParseTaskNeverShowsTheSecret(t *testing.T) {
	t.Parallel()
	for _, config := range []string{
		`{"type":"VALUE","value":{"data":"!` + canary + `"}}`, `{"type":"VALUE","value":{"data":` + canary + `}}`,
		`{"type":"VALUE","value":{"data":{"` + canary + `":1}}}`, `{"type":"VALUE","value":{"data":["` + canary + `"]}}`,
		`{"type":"` + canary + `"}`, `{"value":"` + canary + `"}`, `{"value":[["` + canary + `"]]}`, `"` + canary + `"`, `["` + canary + `"]`,
		`{"type":"VALUE","value":{"data":"` + canary + `"}},"name":1.5`, `{"reference":{"name":"` + canary + `"}}`,
	} {
		info := `{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"config":` + config + `,"name":"a"}}}}`
		for _, data := range []string{info, `{"command":{"shell":false},"container":` + info + `}`} {
			_, err := ParseTask([]byte(data))
			if err == nil {
				t.Errorf("%s: no error", config)
			}
			for _, secret := range []string{canary, "secret-canary"} {
				if strings.Contains(errorText(err), secret) {
					t.Errorf("%s: the error shows it: %v", config, err)
				}
			}
		}
	}
}

func TestDecodeSurvivesADecoderThatPanics(t *testing.T) {
	t.Parallel()
	if err := decode([]byte(`"`+canary+`"`), new(panicking)); errorText(err) != "its JSON can't be decoded" {
		t.Errorf("error %v", err)
	}
}

type panicking struct{}

func (*panicking) UnmarshalJSON(data []byte) error { panic(string(data)) }

func FuzzParseTask(f *testing.F) {
	f.Add([]byte(`{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"a","config":{"type":"VALUE","value":{"data":"YQ=="}}}}}}`))
	f.Add([]byte(`{` + contained + `,"command":{"shell":false,"value":"ls","arguments":["ls"],"environment":{"variables":[{"name":"A","value":"1"}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		task, err := ParseTask(data)
		if err == nil && task.Name.Repository == "" {
			t.Error("a task without an image")
		}
	})
}

// The table of the original's docs/isolators/docker-runtime.md, "Determine the
// Launch Command", cell by cell; a row is that of a command, with the four
// kinds of images in it.
func TestCommandGoesOverTheImagesAsTheOriginalsIsolatorHasIt(t *testing.T) {
	t.Parallel()
	images := []struct {
		name   string
		config ocispec.ImageConfig
	}{
		{"neither", ocispec.ImageConfig{}},
		{"Cmd", ocispec.ImageConfig{Cmd: []string{"/cmd", "c1"}}},
		{"Entrypoint", ocispec.ImageConfig{Entrypoint: []string{"/entry", "e1"}}},
		{"both", ocispec.ImageConfig{Entrypoint: []string{"/entry", "e1"}, Cmd: []string{"/cmd", "c1"}}},
	}
	const none = "the image names no program to run"
	for _, test := range []struct {
		name    string
		command Command
		want    [4]string
	}{
		{"sh=0 value=0 argv=0", Command{}, [4]string{none, "/cmd: /cmd c1", "/entry: /entry e1", "/entry: /entry e1 /cmd c1"}},
		{"sh=0 value=0 argv=1", Command{Arguments: []string{"a", "b"}}, [4]string{none, "/cmd: /cmd a b", "/entry: /entry e1 a b", "/entry: /entry e1 a b"}},
		{"sh=0 value=1 argv=0", Command{Value: "v"}, [4]string{"v: v", "v: v", "v: v", "v: v"}},
		{"sh=0 value=1 argv=1", Command{Value: "v", Arguments: []string{"a", "b"}}, [4]string{"v: a b", "v: a b", "v: a b", "v: a b"}},
		{"sh=1 value=1 argv=0", Command{Shell: true, Value: "v"}, [4]string{"/bin/sh: sh -c v", "/bin/sh: sh -c v", "/bin/sh: sh -c v", "/bin/sh: sh -c v"}},
		{"sh=1 value=1 argv=1", Command{Shell: true, Value: "v", Arguments: []string{"a"}}, [4]string{"/bin/sh: sh -c v", "/bin/sh: sh -c v", "/bin/sh: sh -c v", "/bin/sh: sh -c v"}},
		// sh=1 value=0 is an error of ParseTask.
	} {
		for i, image := range images {
			t.Run(test.name+" "+image.name, func(t *testing.T) {
				t.Parallel()
				program, args, err := test.command.over(image.config)
				got := errorText(err)
				if err == nil {
					got = program + ": " + strings.Join(args, " ")
				}
				if got != test.want[i] {
					t.Errorf("runs %q, want %q", got, test.want[i])
				}
			})
		}
	}
}
