// Package integration_test launches the built executable as a host does and
// has it fetch real images from the CNCF distribution registry.
package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/hashicorp/go-hclog"
	"github.com/mesos/mesos-go/api/v1/lib"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/integration/agent"
	"github.com/docker-fetcher/docker-fetcher/integration/build"
	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// executable is the path of the built docker-fetcher.
var executable string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "integration-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		executable = filepath.Join(dir, "docker-fetcher")
		err = build.Fetcher(context.Background(), executable)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const repository = "demo/hello"

var (
	tenant = registry.User{Name: "tenant", Password: "kept-by-the-tenant", Grants: registry.Grants{repository: {"pull"}}}
	author = registry.User{Name: "author", Password: "kept-by-the-author", Grants: registry.Grants{"*": {"pull", "push"}}}
)

// host is the platform that this machine, and so the plugin, chooses.
var host = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}

// artifacts are what is pushed, by tag; each is made once.
var artifacts = map[string]func() (remote.Taggable, error){
	"docker":      sync.OnceValues(func() (remote.Taggable, error) { return image.New(program(host), host, image.Docker) }),
	"docker-list": sync.OnceValues(func() (remote.Taggable, error) { return index(image.Docker) }),
	"oci":         sync.OnceValues(func() (remote.Taggable, error) { return image.New(program(host), host, image.OCI) }),
	"oci-index":   sync.OnceValues(func() (remote.Taggable, error) { return index(image.OCI) }),
}

var programs sync.Map // by platform, functions that compile once

// program compiles the image's program; the tests can't go on without it.
func program(platform v1.Platform) []byte {
	compile, _ := programs.LoadOrStore(platform.String(), sync.OnceValue(func() []byte {
		data, err := image.Program(context.Background(), platform)
		if err != nil {
			panic(err)
		}
		return data
	}))
	return compile.(func() []byte)()
}

func index(format image.Format) (v1.ImageIndex, error) {
	var images []v1.Image
	for _, architecture := range []string{"amd64", "arm64"} {
		platform := v1.Platform{OS: "linux", Architecture: architecture}
		made, err := image.New(program(platform), platform, format)
		if err != nil {
			return nil, err
		}
		images = append(images, made)
	}
	return image.Index(format, images...)
}

// start starts a registry that has the artifacts of these tags.
func start(t *testing.T, config registry.Config, tags ...string) *registry.Server {
	t.Helper()
	config.Users = []registry.User{tenant, author}
	s, err := registry.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, s.Close()) })
	for _, tag := range tags {
		artifact, err := artifacts[tag]()
		check(t, err)
		check(t, image.Push(t.Context(), s.Host+"/"+repository+":"+tag, artifact, author.Name, author.Password))
	}
	s.Forget()
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open launches the executable, with its log going to the test's.
func open(t *testing.T) *plugin.Client {
	t.Helper()
	return openLogged(t, t.Output())
}

func openLogged(t *testing.T, log io.Writer) *plugin.Client {
	t.Helper()
	client, err := plugin.Open(t.Context(), plugin.Config{
		Path:   executable,
		Args:   []string{"--log-level=trace"},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: log}),
	})
	check(t, err)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

// request asks for something in the repository at address; identifier is a tag
// or digest.
func request(t *testing.T, kind scheme.Kind, address, identifier string, config fetcher.DockerConfig) fetcher.Request {
	t.Helper()
	reference, err := scheme.Parse(string(kind) + "://" + address + "/" + repository + "?" + identifier + "#http")
	check(t, err)
	return fetcher.Request{URI: reference.URI(), Directory: filepath.Join(t.TempDir(), "image"), Config: config}
}

// tree is the content of a directory by file name.
type tree map[string][]byte

func readTree(t *testing.T, dir string) tree {
	t.Helper()
	files := tree{}
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		check(t, err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		check(t, err)
		files[entry.Name()] = data
	}
	return files
}

// compare fails the test unless dir holds these files and nothing else.
func compare(t *testing.T, dir string, want tree) {
	t.Helper()
	got := readTree(t, dir)
	for name, data := range want {
		if served, found := got[name]; !found {
			t.Errorf("%s is missing", name)
		} else if !bytes.Equal(data, served) {
			t.Errorf("%s differs from what the registry serves", name)
		}
	}
	for name := range got {
		if _, wanted := want[name]; !wanted {
			t.Errorf("%s should not be there", name)
		}
	}
}

// served returns the files of a fetched image, as another client gets them
// from the registry, and the digest of its manifest.
func served(t *testing.T, s *registry.Server, tag string) (files tree, manifest v1.Hash) {
	t.Helper()
	reference, err := name.NewTag(s.Host + "/" + repository + ":" + tag)
	check(t, err)
	descriptor, err := remote.Get(reference, remote.WithContext(t.Context()), remote.WithPlatform(host),
		remote.WithAuth(&authn.Basic{Username: author.Name, Password: author.Password}))
	check(t, err)
	chosen, err := descriptor.Image()
	check(t, err)

	files = tree{}
	if descriptor.MediaType.IsIndex() {
		files["index"] = descriptor.Manifest
	}
	files["manifest"], err = chosen.RawManifest()
	check(t, err)
	config, err := chosen.ConfigName()
	check(t, err)
	files[config.String()], err = chosen.RawConfigFile()
	check(t, err)
	layers, err := chosen.Layers()
	check(t, err)
	for _, layer := range layers {
		digest, err := layer.Digest()
		check(t, err)
		body, err := layer.Compressed()
		check(t, err)
		files[digest.String()], err = io.ReadAll(body)
		check(t, errors.Join(err, body.Close()))
	}
	manifest, err = chosen.Digest()
	check(t, err)
	return files, manifest
}

// documents returns the files of a docker-manifest fetch.
func (files tree) documents() tree {
	some := tree{}
	for _, name := range []string{"manifest", "index"} {
		if data, found := files[name]; found {
			some[name] = data
		}
	}
	return some
}

// configs returns a docker config in each form that the secret data may have.
func configs(t *testing.T, json []byte) map[string]fetcher.DockerConfig {
	t.Helper()
	secret := mesos.Secret{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: json}}
	binary, err := secret.Marshal()
	check(t, err)
	text, err := secret.MarshalJSON()
	check(t, err)
	return map[string]fetcher.DockerConfig{
		"json": {JSON: json}, "mesos_secret": {MesosSecret: binary}, "mesos_secret_json": {MesosSecretJSON: text},
	}
}

// modes are the registries of each kind of authentication.
var modes = map[string]registry.Config{
	"anonymous": {Auth: registry.Anonymous},
	"htpasswd":  {Auth: registry.Basic},
	"token":     {Auth: registry.Token},
}

func TestFetchGivesWhatTheRegistryServes(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s, client := start(t, config, "docker", "oci-index"), open(t)
			for _, tag := range []string{"docker", "oci-index"} {
				files, manifest := served(t, s, tag)
				for form, config := range configs(t, tenant.DockerConfig(s.Host)) {
					t.Run(tag+" with the config as "+form, func(t *testing.T) {
						t.Parallel()
						fetchEachKind(t, client, s.Host, tag, config, files, manifest)
					})
				}
			}
		})
	}
}

func TestFetchReadsEveryImageFormat(t *testing.T) {
	t.Parallel()
	tags := []string{"docker", "docker-list", "oci", "oci-index"}
	s, client := start(t, registry.Config{}, tags...), open(t)
	for _, tag := range tags {
		t.Run(tag, func(t *testing.T) {
			t.Parallel()
			files, manifest := served(t, s, tag)
			fetchEachKind(t, client, s.Host, tag, fetcher.DockerConfig{}, files, manifest)
		})
	}
}

// fetchEachKind fetches an image with each kind of URI and compares what comes.
func fetchEachKind(t *testing.T, client *plugin.Client, address, tag string, config fetcher.DockerConfig, want tree, manifest v1.Hash) {
	t.Helper()
	whole := request(t, scheme.Image, address, tag, config)
	result, err := client.Fetch(t.Context(), whole)
	check(t, err)
	compare(t, whole.Directory, want)
	if got := result.Manifest.Digest.String(); got != manifest.String() || len(result.Files) != len(want) {
		t.Errorf("manifest %s and %d files, want %s and %d", got, len(result.Files), manifest, len(want))
	}

	document := request(t, scheme.Manifest, address, tag, config)
	result, err = client.Fetch(t.Context(), document)
	check(t, err)
	compare(t, document.Directory, want.documents())
	if got := result.Manifest.Digest.String(); got != manifest.String() {
		t.Errorf("manifest %s, want %s", got, manifest)
	}

	for file, data := range want {
		if !strings.Contains(file, ":") {
			continue
		}
		blob := request(t, scheme.Blob, address, file, config)
		_, err := client.Fetch(t.Context(), blob)
		check(t, err)
		compare(t, blob.Directory, tree{file: data})
	}
}

func TestFetchedProgramRuns(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s, client := start(t, config, "docker", "oci-index"), open(t)
			for _, tag := range []string{"docker", "oci-index"} {
				t.Run(tag+" by one docker call", func(t *testing.T) {
					t.Parallel()
					whole := request(t, scheme.Image, s.Host, tag, fetcher.DockerConfig{JSON: tenant.DockerConfig(s.Host)})
					_, err := client.Fetch(t.Context(), whole)
					check(t, err)
					runImage(t, whole.Directory)
				})
				t.Run(tag+" as an agent provisions it", func(t *testing.T) {
					t.Parallel()
					files, _ := served(t, s, tag)
					task, err := agent.ParseContainerInfo(containerInfo(t, s.Host+"/"+repository+":"+tag, tenant.DockerConfig(s.Host)))
					check(t, err)
					dir := filepath.Join(t.TempDir(), "image")
					check(t, agent.Agent{Fetcher: client}.Pull(t.Context(), task, dir))
					compare(t, dir, files)
					runImage(t, dir)
				})
			}
		})
	}
}

// containerInfo returns the JSON of what a framework sends for an image.
func containerInfo(t *testing.T, image string, config []byte) []byte {
	t.Helper()
	data, err := json.Marshal(&mesos.ContainerInfo{
		Type: mesos.ContainerInfo_MESOS.Enum(),
		Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{
			Type: mesos.Image_DOCKER.Enum(),
			Docker: &mesos.Image_Docker{
				Name:   image,
				Config: &mesos.Secret{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: config}},
			},
		}},
	})
	check(t, err)
	return data
}

// runImage unpacks a fetched image and checks what its program prints.
func runImage(t *testing.T, dir string) {
	t.Helper()
	container, err := agent.Unpack(dir, filepath.Join(t.TempDir(), "rootfs"))
	check(t, err)
	command, err := container.Command(t.Context())
	check(t, err)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("the program: %v", err)
	}
	if diff := cmp.Diff(image.Output(), string(output)); diff != "" {
		t.Error(diff)
	}
}

func TestFetchWithoutTheRightCredentialIsUnauthorized(t *testing.T) {
	t.Parallel()
	wrong := registry.User{Name: tenant.Name, Password: "guessed-by-somebody"}
	for mode, config := range modes {
		if config.Auth == registry.Anonymous {
			continue
		}
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s, client := start(t, config, "oci-index"), open(t)
			files, _ := served(t, s, "oci-index")
			for _, credential := range []struct {
				name   string
				config []byte
				want   fetcher.Reason
			}{
				{"wrong password", wrong.DockerConfig(s.Host), fetcher.AuthFailed},
				{"no config", nil, fetcher.AuthRequired},
				{"a config for another registry", tenant.DockerConfig("registry.example"), fetcher.AuthRequired},
			} {
				for kind, identifier := range identifiers(files, "oci-index") {
					t.Run(credential.name+" "+string(kind), func(t *testing.T) {
						t.Parallel()
						r := request(t, kind, s.Host, identifier, fetcher.DockerConfig{JSON: credential.config})
						_, err := client.Fetch(t.Context(), r)
						var e *fetcher.Error
						if !errors.Is(err, fetcher.ErrUnauthorized) || !errors.As(err, &e) || e.Reason != credential.want {
							t.Errorf("error %#v, want unauthorized for the reason %s", err, credential.want)
						}
						if err != nil && strings.Contains(err.Error(), wrong.Password) {
							t.Errorf("the error shows the password: %v", err)
						}
						compare(t, r.Directory, tree{})
					})
				}
			}
		})
	}
}

// identifiers returns what to ask for with each kind of URI.
func identifiers(files tree, tag string) map[scheme.Kind]string {
	asked := map[scheme.Kind]string{scheme.Image: tag, scheme.Manifest: tag}
	for file := range files {
		if strings.Contains(file, ":") {
			asked[scheme.Blob] = file
		}
	}
	return asked
}

func TestUserMayNotFetchAnothersRepository(t *testing.T) {
	t.Parallel()
	s, client := start(t, registry.Config{Auth: registry.Token}), open(t)
	artifact, err := artifacts["oci"]()
	check(t, err)
	check(t, image.Push(t.Context(), s.Host+"/private/other:1", artifact, author.Name, author.Password))
	r := request(t, scheme.Image, s.Host, "1", fetcher.DockerConfig{JSON: tenant.DockerConfig(s.Host)})
	r.URI.Path = "private/other"
	_, err = client.Fetch(t.Context(), r)
	if !errors.Is(err, fetcher.ErrUnauthorized) && !errors.Is(err, fetcher.ErrDenied) {
		t.Errorf("error %v, want unauthorized or denied", err)
	}
	compare(t, r.Directory, tree{})
}

func TestRepositoryMayAskThoughTheBaseIsOpen(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			origin, client := start(t, config, "oci-index"), open(t)
			front, err := origin.Front()
			check(t, err)
			t.Cleanup(func() { check(t, front.Close()) })
			files, manifest := served(t, origin, "oci-index")
			fetchEachKind(t, client, front.Host, "oci-index", fetcher.DockerConfig{JSON: tenant.DockerConfig(front.Host)}, files, manifest)
			for _, r := range front.Requests() {
				if r.Path == "/v2/" || r.Path == "/v2" {
					t.Errorf("%s %s: the base says nothing about a repository", r.Method, r.Path)
				}
			}
		})
	}
}

func TestOneImageTakesOneToken(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"ES256", "RS256"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s, client := start(t, registry.Config{Auth: registry.Token, Algorithm: algorithm}, "docker"), open(t)
			files, _ := served(t, s, "docker")
			s.Forget()
			r := request(t, scheme.Image, s.Host, "docker", fetcher.DockerConfig{JSON: tenant.DockerConfig(s.Host)})
			_, err := client.Fetch(t.Context(), r)
			check(t, err)
			compare(t, r.Directory, files)

			want := map[string]int{
				"GET /v2/demo/hello/manifests/docker ":       1,
				"GET /token basic":                           1,
				"GET /v2/demo/hello/manifests/docker bearer": 1,
			}
			for file := range files {
				if strings.Contains(file, ":") {
					want["GET /v2/demo/hello/blobs/"+file+" bearer"] = 1
				}
			}
			got := map[string]int{}
			for _, r := range s.Requests() {
				got[r.Method+" "+r.Path+" "+r.Scheme]++
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEitherPlatformOfAnIndexIsFetchedOnRequest(t *testing.T) {
	t.Parallel()
	s, client := start(t, registry.Config{}, "oci-index"), open(t)
	artifact, err := artifacts["oci-index"]()
	check(t, err)
	manifest, err := artifact.(v1.ImageIndex).IndexManifest()
	check(t, err)
	for _, want := range manifest.Manifests {
		r := request(t, scheme.Manifest, s.Host, "oci-index", fetcher.DockerConfig{})
		r.Platform = &fetcher.Platform{OS: want.Platform.OS, Architecture: want.Platform.Architecture}
		result, err := client.Fetch(t.Context(), r)
		check(t, err)
		if got := result.Manifest.Digest.String(); got != want.Digest.String() {
			t.Errorf("%s: manifest %s, want %s", want.Platform, got, want.Digest)
		}
	}
}

func TestResolveNamesTheIndexAndTheManifest(t *testing.T) {
	t.Parallel()
	s, client := start(t, registry.Config{Auth: registry.Token}, "oci-index"), open(t)
	_, manifest := served(t, s, "oci-index")
	r := request(t, scheme.Image, s.Host, "oci-index", fetcher.DockerConfig{JSON: tenant.DockerConfig(s.Host)})
	got, err := client.Resolve(t.Context(), fetcher.ResolveRequest{URI: r.URI, Config: r.Config})
	check(t, err)
	if got.Manifest.Digest.String() != manifest.String() || got.Index == nil || got.Index.MediaType != string(types.OCIImageIndex) || len(got.Layers) != 3 {
		t.Errorf("resolved to %+v", got)
	}
	compare(t, r.Directory, tree{})
}

// record is a log that is read while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func TestPluginLogsNoSecret(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var log record
			s, client := start(t, config, "oci"), openLogged(t, &log)
			for _, config := range configs(t, tenant.DockerConfig(s.Host)) {
				_, err := client.Fetch(t.Context(), request(t, scheme.Image, s.Host, "oci", config))
				check(t, err)
			}
			check(t, client.Close())
			var auth struct {
				Auths map[string]struct{ Auth string }
			}
			check(t, json.Unmarshal(tenant.DockerConfig(s.Host), &auth))
			if log.String() == "" {
				t.Error("nothing was logged")
			}
			for _, secret := range []string{tenant.Password, auth.Auths[s.Host].Auth, "eyJ"} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log shows %s: %s", secret, log.String())
				}
			}
		})
	}
}
