package integration_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/docker-fetcher/docker-fetcher/integration/registry"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

// debianPython has the modules of Debian's packages; a python3 that comes
// earlier on PATH may not.
const debianPython = "/usr/bin/python3"

// pythonHost runs integration/python/host.py, whose sockets go to a directory
// of its own, and checks that it leaves nothing there.
func pythonHost(t *testing.T, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), debianPython, "-c", "import grpc").Run(); err != nil {
		t.Skip("no python3-grpcio: the test of a host in Python is skipped")
	}
	sockets, err := os.MkdirTemp("", "df") // a path short enough for a socket
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(sockets)) })
	var out, diagnostics bytes.Buffer
	c := exec.CommandContext(t.Context(), debianPython, append([]string{"-B", "python/host.py", executable}, arguments...)...)
	c.Env = []string{"PATH=/usr/bin:/bin", "XDG_RUNTIME_DIR=" + sockets}
	c.Stdout, c.Stderr = &out, &diagnostics
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	compare(t, sockets, tree{})
	return out.String(), diagnostics.String(), c.ProcessState.ExitCode()
}

func TestAHostInPythonProvisionsAnImage(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := start(t, config, "oci-index")
			files, manifest := served(t, s, "oci-index")
			dir := filepath.Join(t.TempDir(), "image")
			stdout, stderr, code := pythonHost(t, "docker://"+s.Host+"/"+repository+"?oci-index#http", dir, configFile(t, tenant, s))
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			compare(t, dir, files)
			runImage(t, dir)

			lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
			want := []string{"plugin docker protocol 1 docker docker-manifest docker-blob", "fetched index", "fetched manifest", "manifest " + manifest.String()}
			for name, data := range files {
				if strings.Contains(name, ":") {
					want = append(want, "fetched "+name+" "+strconv.Itoa(len(data))+" bytes")
				}
			}
			slices.Sort(lines) // the blobs come in any order
			slices.Sort(want)
			if diff := cmp.Diff(want, lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAHostInPythonLearnsTheReasonOfAFailure(t *testing.T) {
	t.Parallel()
	wrong := registry.User{Name: tenant.Name, Password: "guessed-by-somebody"}
	s := start(t, registry.Config{Auth: registry.Token}, "oci")
	for _, c := range []struct{ name, reference, config, want string }{
		{"no such tag", "none", configFile(t, tenant, s), `^FetchError: NOT_FOUND MANIFEST_NOT_FOUND: GET http://` + s.Host + `/v2/demo/hello/manifests/none: 404 `},
		{"a wrong password", "oci", configFile(t, wrong, s), `^FetchError: UNAUTHENTICATED AUTH_FAILED: GET http://` + s.Host + `/`},
		{"no tag", "", configFile(t, tenant, s), `^FetchError: INVALID_ARGUMENT URI_QUERY_MISSING: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "image")
			stdout, stderr, code := pythonHost(t, "docker://"+s.Host+"/"+repository+"?"+c.reference+"#http", dir, c.config)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			if last := lines[len(lines)-1]; code != 1 || !regexp.MustCompile(c.want).MatchString(last) {
				t.Errorf("exit code %d and %q, want 1 and %s", code, last, c.want)
			}
			if strings.Contains(stdout+stderr, wrong.Password) || strings.Contains(stdout+stderr, tenant.Password) {
				t.Error("it shows a password")
			}
			compare(t, dir, tree{})
		})
	}
}

// TestThePythonCodeIsThatOfTheProto needs neither Python nor its generator.
func TestThePythonCodeIsThatOfTheProto(t *testing.T) {
	t.Parallel()
	const stale = "; run 'make python' and commit what it made"
	text, err := os.ReadFile("python/dockerfetcher/v1/fetcher_pb2.py")
	check(t, err)
	literal := regexp.MustCompile(`AddSerializedFile\(b'(.*)'\)\n`).FindSubmatch(text)
	if literal == nil {
		t.Fatal("the generated code has no descriptor")
	}
	embedded := &descriptorpb.FileDescriptorProto{}
	check(t, proto.Unmarshal(pythonBytes(t, string(literal[1])), embedded))
	file, err := protodesc.NewFile(embedded, protoregistry.GlobalFiles)
	check(t, err)
	want, got := pb.File_dockerfetcher_v1_fetcher_proto, protodesc.ToFileDescriptorProto(file)
	if diff := cmp.Diff(described(t, protodesc.ToFileDescriptorProto(want)), described(t, got)); diff != "" {
		t.Errorf("fetcher_pb2.py is stale%s (-want +got):\n%s", stale, diff)
	}

	stubs, err := os.ReadFile("python/dockerfetcher/v1/fetcher_pb2_grpc.py")
	check(t, err)
	for methods, i := want.Services().Get(0).Methods(), 0; i < methods.Len(); i++ {
		if stub := pythonStub(methods.Get(i)); !bytes.Contains(stubs, []byte(stub)) {
			t.Errorf("fetcher_pb2_grpc.py lacks %q%s", stub, stale)
		}
	}
}

// described is a file descriptor as text, without the names in JSON, which
// Python's generator leaves out.
func described(t *testing.T, file *descriptorpb.FileDescriptorProto) string {
	t.Helper()
	text, err := prototext.MarshalOptions{Multiline: true}.Marshal(file)
	check(t, err)
	return regexp.MustCompile(`\s+(json_name:\s+".*"\s+)?`).ReplaceAllString(string(text), "\n") // prototext varies its white space
}

// pythonStub is how Python's generated code begins to define a method.
func pythonStub(m protoreflect.MethodDescriptor) string {
	kind := "unary_unary"
	if m.IsStreamingServer() {
		kind = "unary_stream"
	}
	return "self." + string(m.Name()) + " = channel." + kind + "(\n                '/" + string(m.Parent().FullName()) + "/" + string(m.Name()) + "',\n"
}

// pythonBytes decodes what stands between the quotes of a literal b'...'.
func pythonBytes(t *testing.T, literal string) []byte {
	t.Helper()
	var data []byte
	for literal = strings.ReplaceAll(literal, `\"`, `"`); literal != ""; {
		char, _, rest, err := strconv.UnquoteChar(literal, '\'')
		check(t, err)
		data = append(data, byte(char))
		literal = rest
	}
	return data
}
