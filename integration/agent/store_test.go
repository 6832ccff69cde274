package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// origin is a fetcher that has the blobs of a store and manifests by
// repository. It serves each repository to one config, or to all.
type origin struct {
	blobs     store
	manifests map[string][]byte
	readers   map[string]string // by repository; missing: everybody
	gate      chan struct{}     // each call waits until it is closed; nil: it does not
	stubborn  bool              // even if its context ends

	mu    sync.Mutex
	calls []string
}

// newOrigin serves these images, by repository the layers.
func newOrigin(t *testing.T, images map[string][]string) *origin {
	t.Helper()
	o := &origin{blobs: store{}, manifests: map[string][]byte{}}
	for repository, layers := range images {
		var packed [][]byte
		for _, layer := range layers {
			packed = append(packed, archive(t, text(layer, layer)))
		}
		o.blobs.image(t, ocispec.ImageConfig{}, packed...)
		o.manifests[repository] = o.blobs["manifest"]
	}
	return o
}

var errRefused = errors.New("refused")

func (o *origin) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	o.mu.Lock()
	o.calls = append(o.calls, fmt.Sprintf("%s %s/%s %s", strings.TrimPrefix(r.URI.Scheme, "docker-"), *r.URI.Host, r.URI.Path, r.Config.JSON))
	o.mu.Unlock()
	if o.gate != nil {
		select {
		case <-o.gate:
		case <-ctx.Done():
			if o.stubborn {
				<-o.gate
			}
			return fetcher.Result{}, ctx.Err()
		}
	}
	if reader, private := o.readers[r.URI.Path]; private && reader != string(r.Config.JSON) {
		return fetcher.Result{}, errRefused
	}
	name, data := "manifest", o.manifests[r.URI.Path]
	if r.URI.Scheme == "docker-blob" {
		name, data = *r.URI.Query, o.blobs[*r.URI.Query]
	}
	return fetcher.Result{}, os.WriteFile(filepath.Join(r.Directory, name), data, 0o600)
}

// asked returns the calls since the last time, sorted.
func (o *origin) asked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := o.calls
	o.calls = nil
	slices.Sort(calls)
	return calls
}

// imageTask returns a task of tenant, or of nobody, that runs repository on a registry.
func imageTask(registry, repository, tenant string) Task {
	task := Task{Name: Name{Registry: registry, Repository: repository}}
	if tenant != "" {
		task.Config.JSON = []byte(tenant)
	}
	return task
}

// newAgent returns an agent with a new store. In the end its store must have
// no pull and its directory no container.
func newAgent(t *testing.T, f Fetcher) Agent {
	t.Helper()
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "store"))
	a := Agent{Fetcher: f, Store: s, Dir: filepath.Join(dir, "containers")}
	if err := os.Mkdir(a.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range []string{a.Dir, s.path("staging")} {
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("%s has %v %v, want nothing", dir, left, err)
			}
		}
	})
	return a
}

// openStore opens a store. If the test has not closed it, the end does.
func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// reopen returns the store as it is when the agent starts again.
func reopen(t *testing.T, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openStore(t, s.dir)
}

// provision returns what is in the rootfs of a task, which it destroys.
func provision(t *testing.T, a Agent, task Task) map[string]string {
	t.Helper()
	c, err := a.Provision(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Destroy(); err != nil {
			t.Error(err)
		}
	}()
	return describeTree(t, c.Rootfs)
}

func same[T any](t *testing.T, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestASecondTaskStartsWithoutARequest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1", "2"}})
	a := newAgent(t, o)
	want := map[string]string{"1": "= 1", "2": "= 2"}
	same(t, want, provision(t, a, imageTask("h.example", "a", "T")))
	same(t, []string{"blob h.example/a T", "blob h.example/a T", "blob h.example/a T", "manifest h.example/a T"}, o.asked())
	same(t, want, provision(t, a, imageTask("h.example", "a", "T")))
	same(t, nil, o.asked())

	a.Store = reopen(t, a.Store)
	same(t, want, provision(t, a, imageTask("h.example", "a", "T")))
	same(t, nil, o.asked())
}

func TestImagesShareLayers(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"base", "1"}, "b": {"base", "2"}})
	a := newAgent(t, o)
	same(t, map[string]string{"base": "= base", "1": "= 1"}, provision(t, a, imageTask("h.example", "a", "T")))
	o.asked()
	same(t, map[string]string{"base": "= base", "2": "= 2"}, provision(t, a, imageTask("h.example", "b", "T")))
	same(t, []string{"blob h.example/b T", "manifest h.example/b T"}, o.asked()) // both have one config
}

func TestATenantGetsWhatAnotherFetchedOnlyIfTheRegistrySaysSo(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}})
	o.readers = map[string]string{"a": "T"}
	a := newAgent(t, o)
	want := map[string]string{"1": "= 1"}
	same(t, want, provision(t, a, imageTask("h.example", "a", "T")))
	o.asked()

	for range 2 { // no refusal is remembered as a yes
		if _, err := a.Provision(t.Context(), imageTask("h.example", "a", "U")); !errors.Is(err, errRefused) {
			t.Errorf("error %v, want that of the registry", err)
		}
		same(t, []string{"manifest h.example/a U"}, o.asked())
	}
	o.readers["a"] = "U"
	same(t, want, provision(t, a, imageTask("h.example", "a", "U")))
	same(t, []string{"manifest h.example/a U"}, o.asked())
	same(t, want, provision(t, a, imageTask("h.example", "a", "U")))
	same(t, nil, o.asked())
}

func TestBlobsOfOneRegistryAreNotThoseOfAnother(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}})
	a := newAgent(t, o)
	for _, registry := range []string{"h.example", "evil.example", "h.example:5000", "h.example:80"} {
		provision(t, a, imageTask(registry, "a", "T"))
		if asked := o.asked(); len(asked) != 3 {
			t.Errorf("%s was asked for %v, want the manifest and both blobs", registry, asked)
		}
	}
}

func TestTheStoreNamesNoTenant(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}})
	a, b := newAgent(t, o), newAgent(t, o)
	names := map[string]bool{}
	for _, a := range []Agent{a, b} {
		provision(t, a, imageTask("h.example", "a", canary))
		for name, content := range describeTree(t, a.Store.dir) {
			if strings.Contains(name+content, canary) {
				t.Errorf("%s shows the config", name)
			}
			if strings.HasPrefix(name, "images/") {
				names[name] = true
			}
		}
	}
	if len(names) != 2 {
		t.Errorf("two stores name one tenant by %v, so the name can be guessed", names)
	}
}

func TestMissingLayerIsPulledAgain(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"a link":  func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, map[string][]string{"a": {"1", "2"}})
			a := newAgent(t, o)
			provision(t, a, imageTask("h.example", "a", "T"))
			o.asked()
			layer := store{}.add(archive(t, text("2", "2"))).Digest.String()
			if err := damage(a.Store.path("blobs", "https_h.example", layer)); err != nil {
				t.Fatal(err)
			}
			same(t, map[string]string{"1": "= 1", "2": "= 2"}, provision(t, a, imageTask("h.example", "a", "T")))
			same(t, []string{"blob h.example/a T", "manifest h.example/a T"}, o.asked())
		})
	}
}

func TestManifestThatCannotBeReadIsPulledAgain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}})
	a := newAgent(t, o)
	task := imageTask("h.example", "a", "T")
	provision(t, a, task)
	o.asked()
	reference, err := a.Reference(task)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(a.Store.path("images", a.Store.owner(reference, task.Config)), 10); err != nil {
		t.Fatal(err)
	}
	same(t, map[string]string{"1": "= 1"}, provision(t, a, task))
	same(t, []string{"manifest h.example/a T"}, o.asked())
}

func TestImageForcePullingAsksTheRegistryAgain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}, "b": {"1", "2"}})
	a := newAgent(t, o)
	task := imageTask("h.example", "a", "T")
	same(t, map[string]string{"1": "= 1"}, provision(t, a, task))
	o.asked()

	o.manifests["a"] = o.manifests["b"] // somebody pushed
	same(t, map[string]string{"1": "= 1"}, provision(t, a, task))
	same(t, nil, o.asked())
	forced := task
	forced.Force = true
	same(t, map[string]string{"1": "= 1", "2": "= 2"}, provision(t, a, forced))
	same(t, []string{"blob h.example/a T", "manifest h.example/a T"}, o.asked()) // not the layer that is there
	same(t, map[string]string{"1": "= 1", "2": "= 2"}, provision(t, a, task))    // from now on
	same(t, map[string]string{"1": "= 1", "2": "= 2"}, provision(t, a, forced))
	same(t, []string{"manifest h.example/a T"}, o.asked())
}

func TestManifestWithTheWrongSizeOfABlobIsRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}, "b": {"1"}})
	o.manifests["b"] = []byte(strings.ReplaceAll(string(o.manifests["a"]), fmt.Sprintf(`"size":%d`, len(archive(t, text("1", "1")))), `"size":7`))
	a := newAgent(t, o)
	for range 2 {
		_, err := a.Provision(t.Context(), imageTask("h.example", "b", "T"))
		if want := " is not the 7 bytes that the manifest says"; !strings.HasSuffix(errorText(err), want) {
			t.Errorf("error %v, want one that ends with %s", err, want)
		}
	}
	same(t, map[string]string{"1": "= 1"}, provision(t, a, imageTask("h.example", "a", "T")))
}

func TestALayerThatCannotBeUnpackedLeavesNoContainer(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"../x"}})
	_, err := newAgent(t, o).Provision(t.Context(), imageTask("h.example", "a", "T"))
	if want := `entry "../x": "../x" leads out of the tree`; !strings.HasSuffix(errorText(err), want) {
		t.Errorf("error %v, want one that ends with %s", err, want)
	}
}

func TestProvisionNeedsAStore(t *testing.T) {
	t.Parallel()
	_, err := Agent{}.Provision(t.Context(), imageTask("h.example", "a", "T"))
	if want := "provision: the agent has no store"; errorText(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestOpenStoreRemovesWhatAKilledPullLeft(t *testing.T) {
	t.Parallel()
	a := newAgent(t, nil)
	if err := os.WriteFile(a.Store.path("staging", "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reopen(t, a.Store)
}

func TestAStoreThatIsOpenOpensForNobodyElse(t *testing.T) {
	t.Parallel()
	a := newAgent(t, nil)
	pull := a.Store.path("staging", "pull")
	if err := os.WriteFile(pull, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenStore(a.Store.dir)
	if want := "store: " + a.Store.dir + " is in use: a store belongs to one process at a time, give each agent its own"; errorText(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if _, err := os.Stat(pull); err != nil {
		t.Errorf("the pull of the first lost its directory: %v", err)
	}
	key := a.Store.key
	if a.Store = reopen(t, a.Store); !bytes.Equal(key, a.Store.key) {
		t.Error("the store has another key, so nothing in it is found")
	}
}

func TestAKeyCutShortIsReplaced(t *testing.T) {
	t.Parallel()
	s := newAgent(t, nil).Store
	if err := os.Truncate(s.path("key"), 10); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	key := s.key
	if s = reopen(t, s); len(key) != 32 || !bytes.Equal(key, s.key) {
		t.Errorf("the new key has %d bytes, want 32 that stay", len(key))
	}
}

func TestOpenStoreReportsWhatIsInItsWay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"key", "blobs"} {
		dir := t.TempDir()
		path, blocked := filepath.Join(dir, name), os.Mkdir
		if name == "blobs" {
			blocked = func(path string, mode os.FileMode) error { return os.WriteFile(path, nil, mode) }
		}
		if err := blocked(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(dir); !strings.HasPrefix(errorText(err), "store: ") || !strings.Contains(errorText(err), path) {
			t.Errorf("error %v, want one about %s", err, path)
		}
	}
}

// waiting are tasks that are being provisioned.
type waiting struct {
	cancel  []context.CancelFunc
	results []chan error
}

// begin provisions count tasks at once and returns when all of them wait. It
// must be called in a bubble of synctest.
func begin(t *testing.T, a Agent, count int, task Task) waiting {
	t.Helper()
	var w waiting
	for range count {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		w.cancel, w.results = append(w.cancel, cancel), append(w.results, result)
		go func() {
			c, err := a.Provision(ctx, task)
			if err == nil {
				err = c.Destroy()
			}
			result <- err
		}()
	}
	synctest.Wait()
	return w
}

func TestPullingSameImageSimultaneouslyIsOnePullThatACancelDoesNotEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, map[string][]string{"a": {"1"}})
		o.gate = make(chan struct{})
		a := newAgent(t, o)
		w := begin(t, a, 3, imageTask("h.example", "a", "T"))
		w.cancel[0]() // the one that began the pull, or not
		w.cancel[1]()
		for _, result := range w.results[:2] {
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v of a cancelled task, want context canceled", err)
			}
		}
		close(o.gate)
		if err := <-w.results[2]; err != nil {
			t.Errorf("error %v of the task that stayed", err)
		}
		w.cancel[2]()
		same(t, []string{"blob h.example/a T", "blob h.example/a T", "manifest h.example/a T"}, o.asked())
	})
}

func TestSimultaneousPullsOfOtherTenantsAreTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, map[string][]string{"a": {"1"}})
		o.readers = map[string]string{"a": "T"}
		o.gate = make(chan struct{})
		a := newAgent(t, o)
		allowed := begin(t, a, 2, imageTask("h.example", "a", "T"))
		refused := begin(t, a, 2, imageTask("h.example", "a", "U"))
		close(o.gate)
		for i := range 2 {
			if err := <-allowed.results[i]; err != nil {
				t.Errorf("error %v of the tenant that is allowed", err)
			}
			if err := <-refused.results[i]; !errors.Is(err, errRefused) {
				t.Errorf("error %v of the other, want that of the registry", err)
			}
			allowed.cancel[i]()
			refused.cancel[i]()
		}
		same(t, []string{"blob h.example/a T", "blob h.example/a T", "manifest h.example/a T", "manifest h.example/a U"}, o.asked())
	})
}

func TestPullDiscardedByAllIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, map[string][]string{"a": {"1"}})
		o.gate = make(chan struct{}) // stays shut: only a cancel ends the pull
		a := newAgent(t, o)
		w := begin(t, a, 3, imageTask("h.example", "a", "T"))
		for i := range w.cancel {
			w.cancel[i]()
			if err := <-w.results[i]; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want context canceled", err)
			}
		}
		same(t, []string{"manifest h.example/a T"}, o.asked())

		o.gate = nil
		same(t, map[string]string{"1": "= 1"}, provision(t, a, imageTask("h.example", "a", "T")))
	})
}

func TestATaskThatComesWhileAPullIsBeingCancelledPullsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, map[string][]string{"a": {"1"}})
		o.gate, o.stubborn = make(chan struct{}), true
		a := newAgent(t, o)
		first := begin(t, a, 1, imageTask("h.example", "a", "T"))
		first.cancel[0]()
		synctest.Wait()
		second := begin(t, a, 1, imageTask("h.example", "a", "T"))
		same(t, []string{"manifest h.example/a T", "manifest h.example/a T"}, o.asked())
		close(o.gate)
		if err := <-first.results[0]; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v of the first, want context canceled", err)
		}
		if err := <-second.results[0]; err != nil {
			t.Errorf("error %v of the second", err)
		}
		second.cancel[0]()
	})
}

func TestATaskThatIsCancelledAlreadyPullsNothing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"1"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newAgent(t, o).Provision(ctx, imageTask("h.example", "a", "T")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context canceled", err)
	}
	same(t, nil, o.asked())
}

func TestProgressAddsUpWhatTheBlobsReport(t *testing.T) {
	t.Parallel()
	var got []Progress
	blobs := []ocispec.Descriptor{{Digest: "sha256:a", Size: 10}, {Digest: "sha256:b", Size: 20}}
	m := newMeter(imageReference(t), blobs, func(p Progress) { got = append(got, p) })
	a, b := m.observer(blobs[0]), m.observer(blobs[1])
	a(fetcher.Progress{BytesDone: 4})
	b(fetcher.Progress{BytesDone: 5})
	a(fetcher.FileDone{})
	a(fetcher.Progress{BytesDone: 9})
	m.done(blobs[0])
	m.done(blobs[1])
	var want []Progress
	for _, p := range []struct {
		done  int
		bytes int64
	}{{0, 0}, {0, 4}, {0, 9}, {0, 14}, {1, 15}, {2, 30}} {
		want = append(want, Progress{Image: imageReference(t), Blobs: 2, BlobsDone: p.done, Bytes: 30, BytesDone: p.bytes})
	}
	same(t, want, got)
}

func TestProgressOfAPullCountsTheBlobsThatTheStoreLacks(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, map[string][]string{"a": {"base", "1"}, "b": {"base", "2"}})
	a := newAgent(t, o)
	var last Progress
	a.Observe = func(p Progress) { last = p }
	for _, pull := range []struct {
		repository string
		blobs      int
	}{{"a", 3}, {"b", 1}} {
		provision(t, a, imageTask("h.example", pull.repository, "T"))
		if last.Blobs != pull.blobs || last.BlobsDone != pull.blobs || last.BytesDone != last.Bytes {
			t.Errorf("%s: the last progress is %+v, want %d blobs", pull.repository, last, pull.blobs)
		}
	}
}

func imageReference(t *testing.T) scheme.Reference {
	t.Helper()
	reference, err := (Agent{}).Reference(imageTask("h.example", "a", ""))
	if err != nil {
		t.Fatal(err)
	}
	return reference
}
