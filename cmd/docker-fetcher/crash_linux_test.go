package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// site is a registry and the directories that processes fetch to.
type site struct {
	*testing.T
	registry *fetchertest.Registry
	image    fetchertest.Pushed
	want     map[string][]byte // files of the image
	dir      string
	cache    string // "": none
}

// newSite returns a site with the image app:1, whose layers have these sizes.
func newSite(t *testing.T, layers ...int) *site {
	t.Helper()
	return newSlowSite(t, fetchertest.Link{Latency: 300 * time.Microsecond, Rate: 100 << 20}, layers...)
}

// newSlowSite is newSite with that link.
func newSlowSite(t *testing.T, link fetchertest.Link, layers ...int) *site {
	t.Helper()
	s := &site{T: t, dir: filepath.Join(t.TempDir(), "image"), want: map[string][]byte{}}
	s.registry = fetchertest.New(t, fetchertest.Config{Link: link})
	s.image = s.push("1", layers...)
	return s
}

// push adds an image with layers of these sizes; those of one size are the same.
func (s *site) push(tag string, layers ...int) fetchertest.Pushed {
	image := fetchertest.Image{Config: []byte(fmt.Sprintf(`{"tag":%q}`, tag))}
	for _, size := range layers {
		image.Layers = append(image.Layers, fetchertest.RandomLayer(uint64(size), size))
	}
	p := s.registry.PutImage("app", tag, image)
	s.want["manifest"], s.want[p.ConfigDigest] = p.Manifest, p.Config
	for i, d := range p.LayerDigests {
		s.want[d] = image.Layers[i]
	}
	return p
}

// fetch returns the executable that is to fetch the image of a tag.
func (s *site) fetch(tag, dir string) *process {
	arguments := []string{"fetch", "docker://" + s.registry.Host() + "/app?" + tag + "#http", dir}
	if s.cache != "" {
		arguments = append(arguments, "--cache-dir", s.cache)
	}
	return newProcess(s.T, nil, arguments...)
}

// succeeds waits for a process that is to end well.
func (s *site) succeeds(p *process) {
	s.Helper()
	if code := p.wait(); code != 0 {
		s.Errorf("exit code %d: %s", code, &p.stderr)
	}
}

// complete fails the test unless the directory has the files and nothing else.
func (s *site) complete(dir string, want map[string][]byte) {
	s.Helper()
	for _, name := range names(s.T, dir) {
		if _, ok := want[name]; !ok {
			s.Errorf("%s was left", name)
		}
	}
	for name, data := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); !bytes.Equal(got, data) {
			s.Errorf("%s has %d bytes, %v, want %d", name, len(got), err, len(data))
		}
	}
}

// A killing is processes that are killed, one after the other, in one directory.
type killing struct {
	*site
	random  *rand.Rand
	planted map[string][]byte // wrong files that were put there
	killed  int
	hidden  int // files that the killed left

	seen func() // is told of each request
	mu   sync.Mutex
}

const kills = 100

func TestKillNineAtAnyMomentLeavesNothingPartialAndTheNextRunCompletes(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		name   string
		cached bool
		named  bool
	}{
		{"without a cache", false, false},
		{"with a cache", true, false},
		{"where unfinished files have names", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wrap := func(*process) {}
			if c.named {
				wrap = withoutProc
				if os.Getuid() != 0 {
					t.Skip("needs root: it hides /proc")
				}
			}
			k := &killing{site: newSite(t, 20_000, 70_000, 150_000, 300_000), random: rand.New(rand.NewPCG(7, uint64(i))), planted: map[string][]byte{}}
			k.registry.Inject(fetchertest.Fault{Notice: func(fetchertest.Request) { k.notice() }})
			if c.cached {
				k.cache = filepath.Join(t.TempDir(), "cache")
			}
			for range kills/3 + 1 {
				k.spoil()
				k.kill(wrap)
				k.check()
			}
			if k.killed < kills/6 {
				t.Errorf("only %d processes were killed in the middle", k.killed)
			}
			if c.named && k.hidden == 0 {
				t.Error("no kill left a file with a hidden name: nothing was swept")
			}
			k.watch(func() {})
			last := k.fetch("1", k.dir)
			wrap(last)
			last.start()
			k.succeeds(last)
			k.complete(k.dir, k.want)
			k.checkCache()
			if k.cache != "" {
				if left, _ := filepath.Glob(filepath.Join(k.cache, "*/v1/partial/*")); len(left) != 0 {
					t.Errorf("%v was left", left)
				}
			}
			t.Logf("%d of %d died in the middle, %d left a hidden file", k.killed, kills/3+1, k.hidden)
		})
	}
}

// withoutProc hides /proc from a process, by which files without a name get one.
func withoutProc(p *process) {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p.cmd.Args = append([]string{"sh", "-c", `mount -t tmpfs none /proc && exec "$0" "$@"`, p.cmd.Path}, p.cmd.Args[1:]...)
	p.cmd.Path = "/bin/sh"
}

// spoil takes files of the directory away, and puts wrong ones in their place.
func (k *killing) spoil() {
	if k.random.IntN(3) == 0 && k.cache != "" {
		if err := os.RemoveAll(k.cache); err != nil {
			k.Fatal(err)
		}
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		k.Fatal(err)
	}
	for name, data := range k.want {
		path := filepath.Join(k.dir, name)
		act := k.random.IntN(3)
		if act == 0 {
			continue
		}
		_ = os.Remove(path)
		delete(k.planted, name)
		if act == 2 {
			k.planted[name] = data[:k.random.IntN(len(data))]
			if err := os.WriteFile(path, k.planted[name], 0o600); err != nil {
				k.Fatal(err)
			}
		}
	}
}

// kill starts a process and kills it a random time after a random request, or
// after its start.
func (k *killing) kill(wrap func(*process)) {
	after, pause := int64(k.random.IntN(7)), time.Duration(k.random.Int64N(int64(time.Millisecond)))
	p := k.fetch("1", k.dir)
	wrap(p)
	var requests atomic.Int64
	started := make(chan struct{})
	kill := sync.OnceFunc(func() {
		time.AfterFunc(pause, func() {
			<-started
			_ = p.cmd.Process.Kill()
		})
	})
	k.watch(func() {
		if requests.Add(1) == after {
			kill()
		}
	})
	if after == 0 {
		pause *= 10 // it starts
	}
	p.start()
	close(started)
	if after == 0 {
		kill()
	}
	if p.wait() == -1 {
		k.killed++
	} else if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		k.Errorf("exit code %d: %s", code, &p.stderr)
	}
}

// watch has f told of each request from now on.
func (k *killing) watch(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = f
}

func (k *killing) notice() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen()
}

var hiddenFile = regexp.MustCompile(`^\.docker-fetcher-[0-9a-f]{16}\.partial$`)

// check looks at what a process has left that was killed.
func (k *killing) check() {
	k.Helper()
	for _, name := range names(k.T, k.dir) {
		if hiddenFile.MatchString(name) {
			k.hidden++
			continue
		}
		got, err := os.ReadFile(filepath.Join(k.dir, name))
		planted, wrong := k.planted[name]
		if want, ok := k.want[name]; !ok || !bytes.Equal(got, want) && (!wrong || !bytes.Equal(got, planted)) {
			k.Fatalf("%s has %d bytes that are not its own, %v", name, len(got), err)
		}
	}
	k.checkCache()
}

// checkCache holds all stored blobs to their names.
func (s *site) checkCache() {
	s.Helper()
	stored, _ := filepath.Glob(filepath.Join(s.cache, "*/v1/blobs/*"))
	for _, path := range stored {
		data, err := os.ReadFile(path)
		if d := digest.FromBytes(data).String(); err != nil || d != filepath.Base(path) {
			s.Errorf("%s has %d bytes of %s, %v", path, len(data), d, err)
		}
	}
}

func TestTwoProcessesFetchToOneDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	for name, tags := range map[string][2]string{
		"the same image":                {"1", "1"},
		"two images that share a layer": {"1", "2"},
	} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cache %v", name, cached), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, 100_000, 200_000)
				other := s.image
				if tags[1] != tags[0] {
					other = s.push(tags[1], 200_000, 300_000)
				}
				if cached {
					s.cache = filepath.Join(t.TempDir(), "cache")
				}
				var manifests atomic.Int64
				both := make(chan struct{})
				s.registry.Inject(fetchertest.Fault{ // no blob comes before both are under way
					Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Hold: both,
				}, fetchertest.Fault{
					Match:  fetchertest.Match{Endpoint: fetchertest.Manifest},
					Notice: func(fetchertest.Request) { closeAt(&manifests, 2, both) },
				})
				one, two := s.fetch(tags[0], s.dir), s.fetch(tags[1], s.dir)
				one.start()
				two.start()
				s.succeeds(one)
				s.succeeds(two)
				if got, _ := os.ReadFile(filepath.Join(s.dir, "manifest")); bytes.Equal(got, s.image.Manifest) {
					s.want["manifest"] = s.image.Manifest // either's
				} else {
					s.want["manifest"] = other.Manifest
				}
				s.complete(s.dir, s.want)
			})
		}
	}
}

// closeAt closes the channel when it was called so many times.
func closeAt(n *atomic.Int64, times int64, c chan struct{}) {
	if n.Add(1) == times {
		close(c)
	}
}

func TestTwentyProcessesOnOneCacheFetchEachBlobOnceThoughHalfOfThemAreEnded(t *testing.T) {
	t.Parallel()
	for _, ended := range []int{0, 10} {
		t.Run(fmt.Sprintf("%d ended", ended), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 100_000, 200_000, 600_000)
			s.cache = filepath.Join(t.TempDir(), "cache")
			slow := s.image.LayerDigests[2]
			struck, all, hold := make(chan struct{}), make(chan struct{}), make(chan struct{})
			var manifests atomic.Int64
			s.registry.Inject(fetchertest.Fault{
				Match: fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: slow}, Times: 1, StallAt: 400_000,
				Hold: hold, Notice: func(fetchertest.Request) { close(struck) },
			}, fetchertest.Fault{ // whoever goes on
				Match: fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: slow, Ranged: true}, Hold: hold,
			}, fetchertest.Fault{
				Match:  fetchertest.Match{Endpoint: fetchertest.Manifest, Identifier: "1"},
				Notice: func(fetchertest.Request) { closeAt(&manifests, 20, all) },
			})
			var processes []*process
			for i := range 20 {
				p := s.fetch("1", filepath.Join(s.dir, fmt.Sprint(i)))
				p.start()
				processes = append(processes, p)
				if i == 0 {
					<-struck // this one fetches
				}
			}
			<-all
			for _, p := range processes[:ended] {
				if code := p.signal(syscall.SIGTERM); code != 130 {
					t.Errorf("exit code %d: %s", code, &p.stderr)
				}
			}
			close(hold)
			for i, p := range processes[ended:] {
				s.succeeds(p)
				s.complete(filepath.Join(s.dir, fmt.Sprint(ended+i)), s.want)
			}
			s.fetchedOnce(slow, ended > 0)
			for i := range ended {
				for _, name := range names(t, filepath.Join(s.dir, fmt.Sprint(i))) {
					if _, ok := s.want[name]; !ok || name == slow {
						t.Errorf("%s was left by one that was ended", name)
					}
				}
			}
		})
	}
}

// fetchedOnce fails the test unless each blob was asked for once; the slow one,
// where it was interrupted, once more from where that was.
func (s *site) fetchedOnce(slow string, interrupted bool) {
	s.Helper()
	var got []string
	for _, q := range s.registry.Requests() {
		if q.Endpoint == fetchertest.Blob {
			got = append(got, cmp.Or(strings.TrimRight(q.Range, "0123456789"), "whole ")+q.Identifier)
		}
	}
	var want []string
	for name := range s.want {
		if name != "manifest" {
			want = append(want, "whole "+name)
		}
	}
	if interrupted {
		all := len(got)
		got = slices.DeleteFunc(got, func(r string) bool { return strings.HasPrefix(r, "bytes=") && strings.HasSuffix(r, slow) })
		if len(got) == all {
			s.Errorf("nobody went on where the one ended that was interrupted: %v", got)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("requests for blobs: %v, want %v", got, want)
	}
}
