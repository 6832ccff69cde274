package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/mesos/mesos-go/api/v1/lib"
	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/integration/build"
	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

const (
	manyTasks   = 200
	manyImages  = 20
	manyTenants = 4
	manyAtOnce  = 16
)

// TestManyTasksOfManyTenants is a day of an agent: the executable, a registry
// that asks for tokens, images that share layers, tenants that may have some of
// them. Each container must be right, each refusal a refusal, and in the end
// nothing is left open.
func TestManyTasksOfManyTenants(t *testing.T) {
	executable := filepath.Join(t.TempDir(), "docker-fetcher")
	if err := build.Fetcher(t.Context(), executable); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t)
	before := usageOfThisProcess()
	runManyTasks(t, f, executable)
	after := usageOfThisProcess()
	// The registry notices a moment later that the plugin is gone.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); after.goroutines > before.goroutines || after.files > before.files; after = usageOfThisProcess() {
		if <-tick.C; time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("leaked: %v before, %v after\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
		}
	}
	t.Logf("agent and registry: %v before, %v after", before, after)
	if after.heap > before.heap+8<<20 {
		t.Errorf("%d bytes of the heap are in use, %d were before", after.heap, before.heap)
	}
}

func runManyTasks(t *testing.T, f *fleet, executable string) {
	t.Helper()
	client, err := plugin.Open(t.Context(), plugin.Config{Path: executable})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	f.agent = newAgent(t, client)
	defer func() {
		if err := f.agent.Store.Close(); err != nil {
			t.Error(err)
		}
	}()
	info, err := client.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := usageOf(t, info.PID)
	f.server.Forget()

	begin := time.Now()
	f.run(t, f.mixed())
	t.Logf("%d tasks of %d tenants over %d images, %d at once, in %.1f s; refused: %d",
		manyTasks, manyTenants, manyImages, manyAtOnce, time.Since(begin).Seconds(), f.refused.Load())
	t.Logf("the registry was asked: %v; the blobs differ in %d", count(f.server.Requests()), f.blobs)
	after := usageOf(t, info.PID)
	t.Logf("plugin: %v before, %v after", before, after)
	if after.files > before.files {
		t.Errorf("the plugin has %d files open, had %d before", after.files, before.files)
	}
	if after.peak > 64<<20 {
		t.Errorf("the plugin used %d bytes", after.peak)
	}

	f.server.Forget()
	f.run(t, f.everyone())
	for _, r := range f.server.Requests() {
		t.Errorf("asked though the store has it: %s %s", r.Method, r.Path)
	}
}

// fleet is a registry, an agent, and who may have which image.
type fleet struct {
	server  *registry.Server
	agent   Agent
	tenants []registry.User
	want    []map[string]string // the rootfs of each image
	blobs   int                 // distinct
	refused atomic.Int64
}

// errand is one task: who wants which image.
type errand struct{ tenant, image int }

func (e errand) allowed() bool {
	return e.image%manyTenants == e.tenant || (e.image+1)%manyTenants == e.tenant
}

func repositoryOf(image int) string { return fmt.Sprintf("team/app%d", image) }

// everyone is each tenant's errand for each image that it may have.
func (f *fleet) everyone() []errand {
	var all []errand
	for i := range manyImages {
		for tenant := range manyTenants {
			if e := (errand{tenant, i}); e.allowed() {
				all = append(all, e)
			}
		}
	}
	return all
}

// mixed is manyTasks errands of everyone, and one of each tenant for each image
// that it may not have, in no order.
func (f *fleet) mixed() []errand {
	var all []errand
	for everyone := f.everyone(); len(all) < manyTasks; {
		all = append(all, everyone...)
	}
	all = all[:manyTasks]
	for i := range manyImages {
		for tenant := range manyTenants {
			if e := (errand{tenant, i}); !e.allowed() {
				all = append(all, e)
			}
		}
	}
	rand.New(rand.NewSource(1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{}
	author := registry.User{Name: "author", Password: "of-all-images", Grants: registry.Grants{"*": {"pull", "push"}}}
	for tenant := range manyTenants {
		grants := registry.Grants{}
		for i := range manyImages {
			if (errand{tenant, i}).allowed() {
				grants[repositoryOf(i)] = []string{"pull"}
			}
		}
		f.tenants = append(f.tenants, registry.User{Name: fmt.Sprint("tenant", tenant), Password: fmt.Sprint("of-tenant-", tenant), Grants: grants})
	}
	var err error
	if f.server, err = registry.Start(registry.Config{Auth: registry.Token, Users: append(f.tenants, author)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.server.Close(); err != nil {
			t.Error(err)
		}
	})
	f.push(t, author)
	return f
}

// push pushes the images. Image i has the base, one of five layers above it and
// one of its own, and each of the layers is packed in another way.
func (f *fleet) push(t *testing.T, author registry.User) {
	t.Helper()
	pushes, ctx := errgroup.WithContext(t.Context())
	pushes.SetLimit(manyTenants)
	distinct := map[v1.Hash]bool{}
	for i := range manyImages {
		layers := []v1.Layer{
			gzipped(t, dir("bin/"), text("etc/name", "base"), text("etc/gone", "x"), text("var/cache/old", "x"), text("data", random(0))),
			static.NewLayer(zstandard(t, archive(t, text("etc/.wh.gone", ""), text("opt/runtime", fmt.Sprint(i%5)), symlink("opt/link", "/etc"), text("lib/data", random(1+i%5)))), types.OCILayerZStd),
			static.NewLayer(archive(t, text("etc/name", fmt.Sprint("app", i)), text("opt/link/app", fmt.Sprint(i)), dir("var/cache"), text("var/cache/.wh..wh..opq", ""),
				text("bin/app", random(100+i)), hardlink("bin/alias", "bin/app")), types.OCIUncompressedLayer),
		}
		made := newImage(t, v1.Config{Env: []string{fmt.Sprint("APP=", i)}}, layers...)
		f.want = append(f.want, map[string]string{
			"bin": "dir", "bin/app": "= " + random(100+i), "bin/alias": "= " + random(100+i), "data": "= " + random(0),
			"etc": "dir", "etc/name": fmt.Sprint("= app", i), "etc/app": fmt.Sprint("= ", i),
			"lib": "dir", "lib/data": "= " + random(1+i%5), "opt": "dir", "opt/runtime": fmt.Sprint("= ", i%5), "opt/link": "-> /etc",
			"var": "dir", "var/cache": "dir",
		})
		manifest, err := made.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range append(manifest.Layers, manifest.Config) {
			distinct[blob.Digest] = true
		}
		pushes.Go(func() error {
			return image.Push(ctx, f.server.Host+"/"+repositoryOf(i)+":latest", made, author.Name, author.Password)
		})
	}
	if err := pushes.Wait(); err != nil {
		t.Fatal(err)
	}
	f.blobs = len(distinct)
	remote.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// random returns some KiB that do not compress, the same for the same seed.
func random(seed int) string {
	source := rand.New(rand.NewSource(int64(seed)))
	data := make([]byte, 1<<10+source.Intn(16<<10))
	source.Read(data)
	return string(data)
}

// run does the errands, manyAtOnce at a time.
func (f *fleet) run(t *testing.T, errands []errand) {
	t.Helper()
	tasks, ctx := errgroup.WithContext(t.Context())
	tasks.SetLimit(manyAtOnce)
	for _, e := range errands {
		tasks.Go(func() error {
			if err := f.do(ctx, t, e); err != nil {
				return fmt.Errorf("tenant %d, image %d: %w", e.tenant, e.image, err)
			}
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		t.Error(err)
	}
}

// do provisions one task, compares its rootfs with what it must be and
// destroys it; where the tenant may not have the image, it must be refused.
func (f *fleet) do(ctx context.Context, t *testing.T, e errand) error {
	task, err := ParseTask(taskInfo(f.server.Host+"/"+repositoryOf(e.image), f.tenants[e.tenant].DockerConfig(f.server.Host)))
	if err != nil {
		return err
	}
	c, err := f.agent.Provision(ctx, task)
	if !e.allowed() {
		f.refused.Add(1)
		if !errors.Is(err, fetcher.ErrUnauthorized) || c.Rootfs != "" {
			return fmt.Errorf("got %q and the error %q, want a refusal", c.Rootfs, errorText(err))
		}
		return nil
	}
	if err != nil {
		return err
	}
	if diff := cmp.Diff(f.want[e.image], describeTree(t, c.Rootfs)); diff != "" {
		err = fmt.Errorf("rootfs: %s", diff)
	}
	if diff := cmp.Diff([]string{fmt.Sprint("APP=", e.image)}, c.Config.Env); diff != "" {
		err = errors.Join(err, fmt.Errorf("config: %s", diff))
	}
	return errors.Join(err, c.Destroy())
}

// taskInfo is what a framework sends.
func taskInfo(image string, config []byte) []byte {
	data, err := json.Marshal(&mesos.TaskInfo{
		Name: "task", TaskID: mesos.TaskID{Value: "1"}, AgentID: mesos.AgentID{Value: "1"},
		Command: &mesos.CommandInfo{Shell: new(bool)},
		Container: &mesos.ContainerInfo{
			Type: mesos.ContainerInfo_MESOS.Enum(),
			Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{
				Type: mesos.Image_DOCKER.Enum(),
				Docker: &mesos.Image_Docker{
					Name:   image,
					Config: &mesos.Secret{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: config}},
				},
			}},
		},
	})
	if err != nil {
		panic(err) // these always encode
	}
	return data
}

// count counts requests by what they are for.
func count(requests []registry.Request) map[string]int {
	counts := map[string]int{}
	for _, r := range requests {
		kind := "other"
		for _, path := range []string{"/token", "/manifests/", "/blobs/"} {
			if strings.Contains(r.Path, path) {
				kind = strings.Trim(path, "/")
			}
		}
		counts[kind]++
	}
	return counts
}

// usage is what a process has in use.
type usage struct {
	goroutines int
	files      int // open, without sockets
	sockets    int
	heap       uint64
	rss, peak  int64
}

func (u usage) String() string {
	var s []string
	if u.goroutines > 0 {
		s = append(s, fmt.Sprintf("%d goroutines, %.1f MiB of heap", u.goroutines, float64(u.heap)/(1<<20)))
	}
	s = append(s, fmt.Sprintf("%d files, %d sockets", u.files, u.sockets))
	if u.rss > 0 {
		s = append(s, fmt.Sprintf("RSS %.1f MiB (peak %.1f)", float64(u.rss)/(1<<20), float64(u.peak)/(1<<20)))
	}
	return strings.Join(s, ", ")
}

func usageOfThisProcess() usage {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	u := usage{goroutines: runtime.NumGoroutine(), heap: memory.HeapAlloc}
	files, sockets := openFiles(os.Getpid())
	u.files, u.sockets = files+sockets, sockets // here sockets leak like files
	return u
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	u := usage{}
	u.files, u.sockets = openFiles(pid)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.rss = kib << 10
		case "VmHWM":
			u.peak = kib << 10
		}
	}
	return u
}

// openFiles counts the open files of a process; one that is closed meanwhile is none.
func openFiles(pid int) (files, sockets int) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		switch {
		case err != nil:
		case strings.HasPrefix(target, "socket:"):
			sockets++
		default:
			files++
		}
	}
	return files, sockets
}
