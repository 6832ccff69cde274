//go:build unix

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// hdfs execs what the C++ original does for a task's URI, and reads the answer
// as that does: class HDFS of Apache Mesos (src/hdfs/hdfs.cpp).
type hdfs struct {
	t           *testing.T
	hadoop      string // $HADOOP_HOME/bin/hadoop
	environment []string
	credential  *syscall.Credential // nil: of this process
}

// install puts the executable in a HADOOP_HOME, as an operator does.
func install(t *testing.T, environment ...string) *hdfs {
	t.Helper()
	home := t.TempDir()
	h := &hdfs{t: t, hadoop: filepath.Join(home, "bin", "hadoop")}
	h.environment = append([]string{"HADOOP_HOME=" + home, "HOME=" + t.TempDir()}, environment...)
	must(t, os.Mkdir(filepath.Dir(h.hadoop), 0o755))
	must(t, os.Symlink(executable(t), h.hadoop))
	return h
}

// run is process::subprocess: it execs path with the arguments, the first of
// which is the name that the program gets to see.
func (h *hdfs) run(path string, arguments ...string) (stdout string, err error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute) // as long as a stall may take
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Env = arguments, h.environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.credential}
	var out, diagnostics bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	err = cmd.Run()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	if err != nil {
		err = fmt.Errorf("Unexpected result from the subprocess: status='%d', stdout='%s', stderr='%s'",
			cmd.ProcessState.ExitCode(), &out, &diagnostics)
	}
	return out.String(), err
}

// create is HDFS::create.
func (h *hdfs) create() error {
	h.t.Helper()
	_, err := h.run("/bin/sh", "sh", "-c", h.hadoop+" version 2>&1")
	return err
}

// du is HDFS::du.
func (h *hdfs) du(path string) (int64, error) {
	h.t.Helper()
	out, err := h.run(h.hadoop, "hadoop", "fs", "-du", path)
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(out, "\n") {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if (len(fields) == 2 || len(fields) == 3) && fields[len(fields)-1] == path {
			if size, err := strconv.ParseUint(fields[0], 10, 63); err == nil {
				return int64(size), nil
			}
		}
	}
	return 0, fmt.Errorf("Unexpected output format: '%s'", out)
}

// copyToLocal is HDFS::copyToLocal.
func (h *hdfs) copyToLocal(from, to string) error {
	h.t.Helper()
	_, err := h.run(h.hadoop, h.hadoop, "fs", "-copyToLocal", from, to)
	return err
}

// fetch is what mesos-fetcher does for a URI that is neither a path nor one for
// curl (src/launcher/fetcher.cpp, fetchBypassingCache).
func (h *hdfs) fetch(uri, sandbox, outputFile string) (file string, err error) {
	h.t.Helper()
	if outputFile == "" {
		outputFile = uri[strings.LastIndex(uri, "/")+1:]
	}
	file = filepath.Join(sandbox, outputFile)
	if err = h.create(); err == nil {
		err = h.copyToLocal(strings.TrimLeft(uri, " \t\n"), file)
	}
	return file, err
}

// registryOfTasks has an image of each kind, and returns what the URIs of a task name.
func registryOfTasks(t *testing.T, auth fetchertest.Auth) (r *fetchertest.Registry, docker, oci fetchertest.Pushed, multi fetchertest.PushedIndex) {
	t.Helper()
	r = fetchertest.New(t, fetchertest.Config{Auth: auth})
	layer := fetchertest.RandomLayer(1, 70_000)
	app := fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(2, 40_000), layer, layer}}
	docker = r.PutImage("team/app", "docker", app)
	app.OCI = true
	oci = r.PutImage("team/app", "oci", app)
	multi = r.PutIndex("team/app", "multi", false,
		fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: app},
		fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "arm64"}, Image: app})
	return r, docker, oci, multi
}

// The twin of CopyToLocal, Du and ThreeFieldDu in the original's hdfs_tests.cpp,
// and of HadoopFetcherPluginTest.FetchExistingFile in its uri_fetcher_tests.cpp.
func TestAMesosFetcherFetchesTheSingleFilesThatTaskURIsName(t *testing.T) {
	t.Parallel()
	r, image, _, multi := registryOfTasks(t, fetchertest.Auth{})
	at, blob := r.Host()+"/team/app", fetchertest.RandomLayer(2, 40_000)
	for _, c := range []struct {
		name, uri, outputFile string
		want                  []byte
	}{
		{"a blob", "docker-blob://" + at + "?" + image.LayerDigests[0] + "#http", "", blob},
		{"a blob of a registry without a scheme", "docker-blob://" + at + "?" + image.LayerDigests[0], "", blob},
		{"a blob as docker writes it", "docker-blob://" + at + "@" + image.LayerDigests[0], "", blob},
		{"a blob after a blank", " docker-blob://" + at + "?" + image.LayerDigests[0], "", blob},
		{"a blob into a file", "docker-blob://" + at + "?" + image.LayerDigests[0], "layer.tar.gz", blob},
		{"a blob into a directory below", "docker-blob://" + at + "?" + image.LayerDigests[0], "below/layer", blob},
		{"a manifest", "docker-manifest://" + at + "?docker#http", "", image.Manifest},
		{"a manifest of this platform", "docker-manifest://" + at + "?multi", "m.json", multi.Images[1].Manifest},
		{"an index is no file of a task", "docker-manifest://" + at + "?" + multi.IndexDigest, "i.json", multi.Images[1].Manifest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, sandbox := install(t, "DOCKER_FETCHER_PLATFORM=linux/arm64"), t.TempDir()
			must(t, os.MkdirAll(filepath.Join(sandbox, filepath.Dir(c.outputFile)), 0o755)) // mesos-fetcher makes it
			size, err := h.du(strings.TrimSpace(c.uri))
			must(t, err)
			file, err := h.fetch(c.uri, sandbox, c.outputFile)
			must(t, err)
			got, err := os.ReadFile(file)
			must(t, err)
			if !bytes.Equal(got, c.want) || size != int64(len(got)) {
				t.Errorf("got %d bytes, and %d from -du, want %d and the same", len(got), size, len(c.want))
			}
			if all := names(t, filepath.Dir(file)); len(all) != 1 {
				t.Errorf("the sandbox has %q", all)
			}
		})
	}
}

func TestAMesosFetcherFetchesAnImageAsTheTarOfAnOCILayout(t *testing.T) {
	t.Parallel()
	r, docker, oci, multi := registryOfTasks(t, fetchertest.Auth{Scheme: fetchertest.Bearer, Username: username, Password: password})
	config := t.TempDir()
	must(t, os.WriteFile(filepath.Join(config, "config.json"),
		fmt.Appendf(nil, `{"auths": {%q: {"username": %q, "password": %q}}}`, r.Host(), username, password), 0o600))
	name := r.Host() + "/team/app"
	for _, c := range []struct {
		tag   string
		image fetchertest.Pushed
		index string // its digest
	}{
		{"docker", docker, ""}, {"oci", oci, ""}, {"multi", multi.Images[1], multi.IndexDigest}, {docker.ManifestDigest, docker, ""},
	} {
		t.Run(c.tag, func(t *testing.T) {
			t.Parallel()
			h, sandbox := install(t, "DOCKER_CONFIG="+config, "DOCKER_FETCHER_PLATFORM=linux/arm64"), t.TempDir()
			uri := "docker://" + name + "?" + c.tag + "#http"
			size, err := h.du(uri)
			must(t, err)
			file, err := h.fetch(uri, sandbox, "")
			must(t, err)
			again, err := h.fetch(uri, sandbox, "again.tar")
			must(t, err)
			data, err := os.ReadFile(file)
			must(t, err)
			if other, err := os.ReadFile(again); err != nil || !bytes.Equal(data, other) {
				t.Errorf("a second tar differs (%v)", err)
			}
			if int64(len(data)) != size {
				t.Errorf("the tar has %d bytes, -du says %d", len(data), size)
			}
			want := []string{"oci-layout", "index.json", "manifest.json", blob(c.image.ManifestDigest)}
			if c.index != "" {
				want = append(want, blob(c.index))
			}
			want = append(want, blob(c.image.ConfigDigest), blob(c.image.LayerDigests[0]), blob(c.image.LayerDigests[1]))
			annotations := map[string]string{"org.opencontainers.image.ref.name": c.tag, "io.containerd.image.name": name + ":" + c.tag}
			if strings.Contains(c.tag, ":") {
				annotations = nil
			}
			checkLayoutTar(t, data, want, c.image, annotations)
		})
	}
}

func blob(d string) string { return "blobs/" + strings.Replace(d, ":", "/", 1) }

// checkLayoutTar reads a tar as those do who take an OCI image layout: from
// index.json to the manifest, and from there to config and layers.
func checkLayoutTar(t *testing.T, data []byte, want []string, image fetchertest.Pushed, annotations map[string]string) {
	t.Helper()
	var order []string
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		order, files[header.Name] = append(order, header.Name), text
		if algorithm, hex, found := strings.Cut(strings.TrimPrefix(header.Name, "blobs/"), "/"); found && digest.Algorithm(algorithm).FromBytes(text).Encoded() != hex {
			t.Errorf("%s has other bytes", header.Name)
		}
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var index ocispec.Index
	must(t, json.Unmarshal(files["index.json"], &index))
	manifest := ocispec.Descriptor{
		MediaType: image.MediaType, Digest: digest.Digest(image.ManifestDigest), Size: int64(len(image.Manifest)), Annotations: annotations,
	}
	if diff := cmp.Diff([]ocispec.Descriptor{manifest}, index.Manifests); diff != "" {
		t.Errorf("index.json (-want +got):\n%s", diff)
	}
	var m ocispec.Manifest
	must(t, json.Unmarshal(files[blob(image.ManifestDigest)], &m))
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if text, found := files[blob(d.Digest.String())]; !found || int64(len(text)) != d.Size {
			t.Errorf("%s is not there", d.Digest)
		}
	}
}

// The twin of HadoopFetcherPluginTest.FetchNonExistingFile, and of Du with a
// path that is not there.
func TestAMesosFetcherHearsWhatIsNotThere(t *testing.T) {
	t.Parallel()
	r, image, _, _ := registryOfTasks(t, fetchertest.Auth{})
	absent := digest.FromString("absent").String()
	for _, uri := range []string{
		"docker://" + r.Host() + "/team/app?absent", "docker-manifest://" + r.Host() + "/team/app?absent",
		"docker-blob://" + r.Host() + "/team/app?" + absent, "docker-blob://" + r.Host() + "/team/other?" + image.LayerDigests[0],
		"hdfs://" + r.Host() + "/team/app", "/team/app",
	} {
		t.Run(uri, func(t *testing.T) {
			t.Parallel()
			h, sandbox := install(t, "TMPDIR="+t.TempDir()), t.TempDir()
			if size, err := h.du(uri); err == nil {
				t.Errorf("-du says %d", size)
			}
			if _, err := h.fetch(uri, sandbox, "file"); err == nil {
				t.Error("it was fetched")
			}
			if all := names(t, sandbox); len(all) != 0 {
				t.Errorf("the sandbox has %q", all)
			}
		})
	}
}

// What the original's tests of class HDFS call and its fetcher does not: Exists,
// Rm and CopyFromLocal.
func TestOtherCommandsOfHadoopAreRefused(t *testing.T) {
	t.Parallel()
	h := install(t)
	for _, arguments := range [][]string{{"-test", "-e", "/a"}, {"-rm", "/a"}, {"-copyFromLocal", "/a", "/b"}} {
		if _, err := h.run(h.hadoop, append([]string{"hadoop", "fs"}, arguments...)...); err == nil || !strings.Contains(err.Error(), "status='2'") {
			t.Errorf("%q: got %v", arguments, err)
		}
	}
}

func TestASchema1ImageIsRefusedBeforeItsLayersAreFetched(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutSchema1("app", "1", fetchertest.Schema1{Layers: [][]byte{fetchertest.RandomLayer(1, 4<<20)}, Signed: true})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, StallAt: 1000})
	h, sandbox := install(t), t.TempDir()
	uri := "docker://" + r.Host() + "/app?1"
	const want = "manifest.v1+prettyjws, which has no place in an OCI image layout"
	if _, err := h.du(uri); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("-du: got %v", err)
	}
	if _, err := h.fetch(uri, sandbox, ""); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	if all := names(t, sandbox); len(all) != 0 {
		t.Errorf("the sandbox has %q", all)
	}
	_, err := h.fetch("docker-manifest://"+r.Host()+"/app?1", sandbox, "manifest.json")
	must(t, err)
}

func TestWhatIsInTheWayStays(t *testing.T) {
	t.Parallel()
	r, image, _, _ := registryOfTasks(t, fetchertest.Auth{})
	h := install(t)
	for _, c := range []struct {
		name    string
		prepare func(path string) error
		want    string
	}{
		{"a file", func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) }, "File exists"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "File exists"},
		{"a link to nowhere", func(path string) error { return os.Symlink("nowhere", path) }, "File exists"},
		{"no directory", func(path string) error { return os.Remove(filepath.Dir(path)) }, "no such file or directory"},
		{"a file for a directory", func(path string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o600))
		}, "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sandbox := filepath.Join(t.TempDir(), "sandbox")
			must(t, os.Mkdir(sandbox, 0o755))
			dest := filepath.Join(sandbox, "file")
			must(t, c.prepare(dest))
			before, _ := os.Lstat(dest)
			err := h.copyToLocal("docker-blob://"+r.Host()+"/team/app?"+image.LayerDigests[0], dest)
			if want := "copyToLocal: `" + dest + "': " + c.want + "\n"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if after, _ := os.Lstat(dest); before != nil && (!os.SameFile(before, after) || before.Size() != after.Size()) {
				t.Error("it did not stay")
			}
		})
	}
	if n := r.Count(fetchertest.Blob); n != 0 {
		t.Errorf("%d requests were made though there is no place for the answer", n)
	}
}

// madePartial is a directory that has the file "new", in a sandbox.
func madePartial(t *testing.T) (p *partial, sandbox string) {
	t.Helper()
	sandbox = t.TempDir()
	p, err := newPartial(sandbox)
	must(t, err)
	t.Cleanup(func() { must(t, p.close()) })
	must(t, p.dir.WriteFile("new", []byte("new"), 0o600))
	return p, sandbox
}

func TestPlaceReplacesNothingThatCameInTheMeantime(t *testing.T) {
	t.Parallel()
	for _, no := range []error{nil, syscall.EPERM, syscall.EOPNOTSUPP, syscall.EMLINK} {
		t.Run(fmt.Sprint(no), func(t *testing.T) {
			t.Parallel()
			p, sandbox := madePartial(t)
			link := p.sandbox.Link
			if no != nil {
				link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: no} }
			}
			must(t, os.WriteFile(filepath.Join(sandbox, "dest"), []byte("mine"), 0o600))
			if err := p.place("new", "dest", link); !errors.Is(err, fs.ErrExist) {
				t.Errorf("got %v", err)
			}
			must(t, p.place("new", "vacant", link))
			for name, want := range map[string]string{"dest": "mine", "vacant": "new"} {
				if got, err := os.ReadFile(filepath.Join(sandbox, name)); err != nil || string(got) != want {
					t.Errorf("%s: got %q, %v", name, got, err)
				}
			}
		})
	}
}

func TestPlaceRenamesOnlyWhereThereAreNoLinks(t *testing.T) {
	t.Parallel()
	p, sandbox := madePartial(t)
	err := p.place("new", "dest", func(string, string) error { return syscall.EIO })
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(sandbox, "dest")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was renamed: %v", err)
	}
}

func TestPlaceTakesBackWhatIsNotTheFileThatWasMade(t *testing.T) {
	t.Parallel()
	p, sandbox := madePartial(t)
	err := p.place("new", "dest", func(_, to string) error { return os.Symlink("/etc/passwd", filepath.Join(sandbox, to)) })
	if !errors.Is(err, errSwapped) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(sandbox, "dest")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it stayed: %v", err)
	}
}

func TestADirectoryThatIsNotTheOneJustMadeIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(path string) error{
		"a link out of the sandbox": func(path string) error { return os.Symlink("/", path) },
		"a link inside": func(path string) error {
			return errors.Join(os.Mkdir(path+"2", 0o700), os.Symlink(filepath.Base(path)+"2", path))
		},
		"one with something in it": func(path string) error { return os.MkdirAll(filepath.Join(path, "image.tar"), 0o700) },
		"one that others may write to": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777))
		},
		"one of another user": func(path string) error {
			if os.Geteuid() != 0 {
				return os.WriteFile(path, nil, 0o600) // only root can give one away
			}
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 65534, 65534))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := t.TempDir()
			must(t, prepare(filepath.Join(sandbox, "hidden")))
			p := &partial{sandbox: openRoot(t, sandbox), name: "hidden"}
			if err := p.open(); err == nil {
				t.Error("it was taken")
			}
			p.release()
		})
	}
}

// fetcherOf has its requests go to a registry with the image app:1.
func fetcherOf(t *testing.T) (*fetcher.Fetcher, fetcher.Request) {
	t.Helper()
	r, _ := registryWithoutLogin(t)
	f, err := fetcher.New(fetcher.Config{})
	must(t, err)
	return f, fetcher.Request{URI: reference(t, "docker://"+r.Host()+"/app?1#http").URI()}
}

func registryWithoutLogin(t *testing.T) (*fetchertest.Registry, fetchertest.Pushed) {
	t.Helper()
	r := fetchertest.New(t, fetchertest.Config{})
	return r, r.PutImage("app", "1", fetchertest.Image{Layers: [][]byte{fetchertest.RandomLayer(1, 4<<20)}})
}

func TestAFetchDoesNotFollowWhatIsPutInThePlaceOfItsDirectory(t *testing.T) {
	t.Parallel()
	f, request := fetcherOf(t)
	p, sandbox := madePartial(t)
	elsewhere := t.TempDir()
	must(t, os.Rename(filepath.Join(sandbox, p.name), filepath.Join(sandbox, "aside")))
	must(t, os.Symlink(elsewhere, filepath.Join(sandbox, p.name)))
	_, err := p.fetch(t.Context(), f, request)
	if runtime.GOOS == "linux" {
		if all := names(t, elsewhere); len(all) > 0 {
			t.Errorf("it wrote %q elsewhere", all)
		}
		must(t, err)
		err = p.place("manifest", "dest", p.sandbox.Link)
	}
	if !errors.Is(err, errSwapped) {
		t.Errorf("got %v, want %v", err, errSwapped)
	}
	must(t, os.Remove(filepath.Join(sandbox, p.name)))
}

func TestAFailedFetchNamesTheDirectoryAsPeopleKnowIt(t *testing.T) {
	t.Parallel()
	f, request := fetcherOf(t)
	p, sandbox := madePartial(t)
	path := filepath.Join(sandbox, p.name)
	must(t, os.RemoveAll(path))
	_, err := p.fetch(t.Context(), f, request)
	if err == nil || !strings.Contains(err.Error(), strconv.Quote(path)) {
		t.Errorf("got %v, want %q in it", err, path)
	}
}

func TestNobodyLeadsAFileOfATaskElsewhereWhileItIsFetched(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(path, elsewhere, file string) error{
		"by a link in place of the directory": func(path, elsewhere, _ string) error { return os.Symlink(elsewhere, path) },
		"by a link in another directory": func(path, elsewhere, file string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Symlink(filepath.Join(elsewhere, file), filepath.Join(path, file)))
		},
	} {
		for _, kind := range []string{"docker", "docker-blob"} {
			t.Run(name+" of a "+kind, func(t *testing.T) {
				t.Parallel()
				r, image := registryWithoutLogin(t)
				file, reference := "image.tar", "1"
				if kind == "docker-blob" {
					file, reference = image.LayerDigests[0], image.LayerDigests[0]
				}
				struck, hold := make(chan struct{}, 100), make(chan struct{})
				r.Inject(fetchertest.Fault{
					Match:   fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: image.LayerDigests[0], Method: "GET"},
					StallAt: 1 << 20, Hold: hold, Notice: func(fetchertest.Request) { struck <- struct{}{} },
				})
				sandbox, elsewhere := t.TempDir(), t.TempDir()
				must(t, os.WriteFile(filepath.Join(elsewhere, file), []byte("mine"), 0o600))
				dest := filepath.Join(sandbox, "dest")
				p := newProcess(t, nil, "hadoop", "fs", "-copyToLocal", kind+"://"+r.Host()+"/app?"+reference+"#http", dest)
				p.start()
				<-struck
				hidden := names(t, sandbox)
				if len(hidden) != 1 {
					t.Fatalf("the sandbox has %q", hidden)
				}
				path := filepath.Join(sandbox, hidden[0])
				must(t, os.Rename(path, filepath.Join(sandbox, "aside")))
				must(t, plant(path, elsewhere, file))
				close(hold)
				want := "error: copyToLocal: `" + dest + "': " + errSwapped.Error() + "\n"
				if code := p.wait(); code != 1 || p.stderr.String() != want {
					t.Errorf("got exit code %d and %q, want 1 and %q", code, &p.stderr, want)
				}
				if got, err := os.ReadFile(filepath.Join(elsewhere, file)); err != nil || string(got) != "mine" {
					t.Errorf("got %.10q, %v", got, err)
				}
				if _, err := os.Lstat(dest); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is a file: %v", err)
				}
				if all := names(t, filepath.Join(sandbox, "aside")); len(all) > 0 {
					t.Errorf("%q was left", all)
				}
			})
		}
	}
}

func TestASignalEndsCopyToLocalAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"docker", "docker-blob"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r, image, struck := stalled(t)
			reference := "1"
			if kind == "docker-blob" {
				reference = image.LayerDigests[0]
			}
			sandbox := t.TempDir()
			p := newProcess(t, nil, "hadoop", "fs", "-copyToLocal", kind+"://"+r.Host()+"/app?"+reference+"#http", filepath.Join(sandbox, "file"))
			p.start()
			<-struck
			if code := p.signal(syscall.SIGTERM); code != 130 || p.stderr.String() != "error: interrupted\n" {
				t.Errorf("got exit code %d and %q", code, &p.stderr)
			}
			if all := names(t, sandbox); len(all) != 0 {
				t.Errorf("%q was left", all)
			}
		})
	}
}

func TestABlobThatIsWrongIsNoFileOfTheSandbox(t *testing.T) {
	t.Parallel()
	r, image, _, _ := registryOfTasks(t, fetchertest.Auth{})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob, Method: "GET"}, Corrupt: true})
	h, sandbox := install(t), t.TempDir()
	for _, uri := range []string{"docker://" + r.Host() + "/team/app?docker", "docker-blob://" + r.Host() + "/team/app?" + image.LayerDigests[0]} {
		if _, err := h.fetch(uri, sandbox, ""); err == nil || !strings.Contains(err.Error(), "status='5'") {
			t.Errorf("got %v", err)
		}
		if all := names(t, sandbox); len(all) != 0 {
			t.Errorf("the sandbox has %q", all)
		}
	}
}

func TestDuOfABlobAsksForItsSizeOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault fetchertest.Fault
	}{
		{"where it would never end", fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob, Method: "GET"}, StallAt: 1 << 20}},
		{"where HEAD is not told the size", fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob, Method: "HEAD"}, Chunked: true}},
		{"where HEAD is refused", fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob, Method: "HEAD"}, Status: 405}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			d := r.PutBlob("app", fetchertest.RandomLayer(1, 4<<20))
			r.Inject(c.fault)
			temp := t.TempDir()
			if size, err := install(t, "TMPDIR="+temp).du("docker-blob://" + r.Host() + "/app?" + d); err != nil || size != 4<<20 {
				t.Errorf("got %d, %v, want %d", size, err, 4<<20)
			}
			if all := names(t, temp); len(all) != 0 {
				t.Errorf("%q was left", all)
			}
		})
	}
}

func TestATaskDoesNotGetTheFilesOfTheCache(t *testing.T) {
	t.Parallel()
	r, image, _, _ := registryOfTasks(t, fetchertest.Auth{})
	h, sandbox := install(t, "DOCKER_FETCHER_CACHE_DIR="+t.TempDir()), t.TempDir()
	_, err := h.fetch("docker://"+r.Host()+"/team/app?docker", sandbox, "app.tar")
	must(t, err)
	r.Reset()
	_, err = h.fetch("docker://"+r.Host()+"/team/app?docker", sandbox, "again.tar")
	must(t, err)
	if n := r.Count(fetchertest.Blob); n != 0 {
		t.Errorf("%d requests for blobs that the cache has", n)
	}
	file, err := h.fetch("docker-blob://"+r.Host()+"/team/app?"+image.LayerDigests[0], sandbox, "blob")
	must(t, err)
	info, err := os.Stat(file)
	must(t, err)
	if links := info.Sys().(*syscall.Stat_t).Nlink; links != 1 {
		t.Errorf("the file has %d names", links)
	}
}

// mesos-fetcher runs as the task's user, with the agent's HOME.
func TestTheTasksUserNeedNotReadTheHomeOfTheAgent(t *testing.T) {
	t.Parallel()
	r, image, _, _ := registryOfTasks(t, fetchertest.Auth{})
	root := t.TempDir()
	config := filepath.Join(root, ".docker", "config.json")
	must(t, os.Mkdir(filepath.Dir(config), 0o700))
	must(t, os.WriteFile(config, []byte("broken"), 0o000))
	h, sandbox := install(t, "HOME="+root), t.TempDir()
	if os.Geteuid() == 0 {
		h.credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		h.hadoop = filepath.Join(sandbox, "hadoop") // the directory of the built one is for this user only
		data, err := os.ReadFile(executable(t))
		must(t, err)
		must(t, os.WriteFile(h.hadoop, data, 0o755))
		must(t, os.Chmod(filepath.Dir(sandbox), 0o755))
		must(t, os.Chmod(sandbox, 0o777))
	}
	uri := "docker-blob://" + r.Host() + "/team/app?" + image.LayerDigests[0]
	if _, err := h.fetch(uri, sandbox, "blob"); err != nil {
		t.Error(err)
	}
	h.environment = append(h.environment, "DOCKER_CONFIG="+filepath.Dir(config))
	if _, err := h.fetch(uri, sandbox, "other"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a config that was named counts as none: %v", err)
	}
}

func TestArgumentsOfTheExecutableByItsName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		line, want []string
	}{
		{"its own", []string{"/usr/bin/docker-fetcher", "version"}, []string{"version"}},
		{"none", []string{"docker-fetcher"}, []string{}},
		{"hadoop, as the original's du calls it", []string{"hadoop", "fs", "-du", "a"}, []string{"hadoop", "fs", "-du", "a"}},
		{"hadoop with its path, as copyToLocal has it", []string{"/opt/bin/hadoop", "version"}, []string{"hadoop", "version"}},
		{"not even a name", nil, nil},
	} {
		if diff := cmp.Diff(c.want, arguments(c.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestHadoopScripts runs the executable as $HADOOP_HOME/bin/hadoop, with the
// commands of TestScripts.
func TestHadoopScripts(t *testing.T) {
	t.Parallel()
	hadoop := install(t).hadoop
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/hadoop",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HADOOP_HOME", filepath.Dir(filepath.Dir(hadoop)))
			e.Setenv("PASSWORD", password)
			e.Values[scriptKey{}] = &script{t: e.T().(testing.TB)}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"registry": command((*script).startRegistry),
			"requests": command((*script).checkRequests),
			"config":   command((*script).writeConfig),
			"exits":    command((*script).checkExit),
			"holds":    command((*script).checkDirectory),
		},
	})
}
