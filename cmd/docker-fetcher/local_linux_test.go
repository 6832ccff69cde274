package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// The faults of this machine: disk, limits, and people who tidy up in the middle.

// limited has the process run within a limit of the shell's ulimit.
func (p *process) limited(limit string) *process {
	p.cmd.Args = append([]string{"sh", "-c", "ulimit " + limit + ` && exec "$0" "$@"`, p.cmd.Path}, p.cmd.Args[1:]...)
	p.cmd.Path = "/bin/sh"
	return p
}

// fails waits for a process that is to end with the code and one error that matches.
func (s *site) fails(p *process, code int, text string) {
	s.Helper()
	if got := p.wait(); got != code || !regexp.MustCompile(`^(warning: without the cache: .*\n)?error: `+text+"\n$").MatchString(p.stderr.String()) || p.stdout.Len() != 0 {
		s.Errorf("got exit code %d and %q\nwant %d and %s", got, &p.stderr, code, text)
	}
}

// partialFree fails the test unless all in the directory is right.
func (s *site) partialFree() {
	s.Helper()
	for _, name := range names(s.T, s.dir) {
		got, err := os.ReadFile(filepath.Join(s.dir, name))
		if want, ok := s.want[name]; !ok || !bytes.Equal(got, want) {
			s.Errorf("%s was left with %d bytes, %v", name, len(got), err)
		}
	}
}

// mounted puts a file system of its own where path is.
func mounted(t *testing.T, path string, flags uintptr, options string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts a tmpfs")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", flags, options); err != nil {
		t.Skip("can't mount a tmpfs here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// used returns how many bytes of a file system are in use.
func used(t *testing.T, path string) uint64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		t.Fatal(err)
	}
	return (s.Blocks - s.Bfree) * uint64(s.Bsize)
}

func TestAFullDiskIsOneErrorThatNamesTheDirectoryAndLeavesNothingPartial(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		room   int64
		phase  string
		layers []int
	}{
		"in the middle of a layer":    {1 << 20, "blob sha256:[0-9a-f]{64} of .*: ", []int{100_000, 3 << 20}},
		"in the middle of a manifest": {8 << 10, "", smallLayers(200)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.layers...)
			mounted(t, s.dir, 0, fmt.Sprintf("size=%d,mode=0700", c.room))
			p := s.fetch("1", s.dir)
			p.start()
			s.fails(p, 1, c.phase+regexp.QuoteMeta(fmt.Sprintf("directory %q: no space left on device; make room and fetch again", s.dir)))
			s.partialFree()
			var kept uint64
			for _, name := range names(t, s.dir) {
				kept += uint64(len(s.want[name])+4095) &^ 4095
			}
			if n := used(t, s.dir); n > kept {
				t.Errorf("%d bytes are in use, the files have %d", n, kept)
			}
		})
	}
}

// smallLayers are the sizes of so many small layers.
func smallLayers(n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = i + 1
	}
	return sizes
}

func TestALimitOnTheSizeOfFilesIsAnErrorAndNoSignal(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprintf("cache %v", cached), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 100_000, 3<<20)
			if cached {
				s.cache = filepath.Join(t.TempDir(), "cache")
			}
			p := s.fetch("1", s.dir).limited("-f 1024") // blocks of 512 bytes
			p.start()
			s.fails(p, 1, "blob .*: "+regexp.QuoteMeta(fmt.Sprintf("directory %q: file too large; ", s.dir))+".*ulimit -f.*")
			s.partialFree()
		})
	}
}

func TestSixtyFourOpenFilesSufficeForAHundredLayers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layer  int
		cached bool
		flags  []string
	}{
		"small":                                {1000, false, nil},
		"small, with a cache":                  {1000, true, nil},
		"large":                                {280_000, false, nil},
		"large, with a cache":                  {280_000, true, nil},
		"as many at once as the flags ask for": {280_000, true, []string{"--max-concurrent-blobs=100", "--chunks-per-blob=8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sizes := smallLayers(100)
			for i := range sizes {
				sizes[i] += c.layer
			}
			s := newSlowSite(t, fetchertest.Link{ConnectionRate: 8 << 20, Latency: 5 * time.Millisecond}, sizes...)
			if c.cached {
				s.cache = filepath.Join(t.TempDir(), "cache")
			}
			p := s.fetch("1", s.dir).limited("-n 64")
			p.cmd.Args = append(p.cmd.Args, c.flags...)
			p.start()
			s.succeeds(p)
			s.complete(s.dir, s.want)
		})
	}
}

func TestTooFewOpenFilesAreOneErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	// Below 10, Go's runtime may not get as far as main.
	for n := 10; n <= 20; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, smallLayers(30)...)
			p := s.fetch("1", s.dir).limited(fmt.Sprint("-n ", n))
			p.start()
			if p.wait() == 0 {
				s.complete(s.dir, s.want)
				return
			}
			s.fails(p, 1, ".*too many open files; .*ulimit -n.*")
			s.partialFree()
		})
	}
}

func TestAPluginWithSixtyFourOpenFilesServesSeveralCallsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, smallLayers(100)...)
	s.cache = filepath.Join(t.TempDir(), "cache")
	wrapper := filepath.Join(t.TempDir(), "docker-fetcher")
	script := fmt.Sprintf("#!/bin/sh\nulimit -n 64 && exec %q \"$@\"\n", executable(t))
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := plugin.Open(t.Context(), plugin.Config{
		Path: wrapper, Args: []string{"--cache-dir", s.cache}, Env: []string{"HOME=" + t.TempDir()}, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ref, err := scheme.Parse("docker://" + s.registry.Host() + "/app?1#http")
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for i := range 4 {
		calls.Go(func() {
			dir := filepath.Join(s.dir, fmt.Sprint(i))
			if _, err := c.Fetch(t.Context(), fetcher.Request{URI: ref.URI(), Directory: dir}); err != nil {
				t.Error(err)
				return
			}
			s.complete(dir, s.want)
		})
	}
	calls.Wait()
}

func TestADirectoryThatIsTakenAwayInTheMiddleIsAnErrorAndNothingGoesElsewhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act  func(s *site) error
		code int
		text string // "": it succeeds
	}{
		"DIR is removed": {func(s *site) error { return os.RemoveAll(s.dir) }, 2, `.*directory "DIR": no such file or directory`},
		"DIR is replaced by a symbolic link": {func(s *site) error {
			return errors.Join(os.RemoveAll(s.dir), os.Mkdir(s.dir+"-elsewhere", 0o700), os.Symlink(s.dir+"-elsewhere", s.dir))
		}, 2, `.*directory "DIR": no such file or directory`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 100_000, 400_000)
			struck, hold := make(chan struct{}), make(chan struct{})
			s.registry.Inject(fetchertest.Fault{
				Match: fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: s.image.LayerDigests[1]}, Times: 1, StallAt: 200_000,
				Hold: hold, Notice: func(fetchertest.Request) { close(struck) },
			})
			p := s.fetch("1", s.dir)
			p.start()
			<-struck
			if err := c.act(s); err != nil {
				t.Error(err)
			}
			close(hold)
			s.fails(p, c.code, strings.ReplaceAll(c.text, "DIR", regexp.QuoteMeta(s.dir)))
			if left := names(t, s.dir+"-elsewhere"); len(left) != 0 {
				t.Errorf("%v went elsewhere", left)
			}
			again := s.fetch("1", s.dir)
			again.start()
			s.succeeds(again)
			s.complete(s.dir, s.want)
		})
	}
}

func TestACacheThatIsTakenAwayInTheMiddleIsAWarningAndTheFetchGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, 100_000, 400_000)
	s.cache = filepath.Join(t.TempDir(), "cache")
	struck, hold := make(chan struct{}), make(chan struct{})
	s.registry.Inject(fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: s.image.LayerDigests[1]}, Times: 1, StallAt: 200_000,
		Hold: hold, Notice: func(fetchertest.Request) { close(struck) },
	})
	p := s.fetch("1", s.dir)
	p.start()
	<-struck
	if err := os.RemoveAll(s.cache); err != nil {
		t.Error(err)
	}
	close(hold)
	s.succeeds(p)
	s.complete(s.dir, s.want)
	if !strings.Contains(p.stderr.String(), "without the cache: ") {
		t.Errorf("no warning: %s", &p.stderr)
	}
}

func TestAReadOnlyDirectoryIsOneError(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1000)
	mounted(t, s.dir, unix.MS_RDONLY, "")
	p := s.fetch("1", s.dir)
	p.start()
	s.fails(p, 1, regexp.QuoteMeta(fmt.Sprintf("directory %q: read-only file system; ", s.dir))+".*another directory")
}
