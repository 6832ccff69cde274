package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/integration/build"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

// config says what soak to run.
type config struct {
	Seed       uint64
	Time       time.Duration // of faults
	Fetchers   int           // at once
	Doors      int           // with faults of their own
	Images     int           // the first of kinds
	Longest    time.Duration // a fault
	Report     time.Duration // between two reports
	Executable string        // empty: it is built
	Out        io.Writer
}

// soak is a registry behind doors that fail, and those who fetch from it.
type soak struct {
	config   config
	dir      string
	cacheDir string // shared by all fetchers that have a cache
	counts   *counts
	registry *registry.Server
	servers  []*http.Server
	doors    []*door // to the registry
	content  *door   // to the blobs of the redirected repository
	images   []made
	peers    map[bool]*peer // with a cache and without
}

// run runs a soak. What it found is in the counts; the error is of the soak
// itself, and then there are none.
func run(ctx context.Context, config config) (_ *counts, err error) {
	dir, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return nil, err
	}
	s := &soak{config: config, dir: dir, cacheDir: filepath.Join(dir, "cache"), counts: newCounts(), peers: map[bool]*peer{}}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.build(ctx); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	reference, err := s.warm(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.soak(ctx); err != nil {
		if failures := s.counts.failures(); failures != "" {
			err = fmt.Errorf("%w\n%s", err, failures)
		}
		return nil, err
	}
	return s.counts, s.audit(ctx, reference)
}

// say writes a line of the report.
func (s *soak) say(format string, values ...any) {
	_, _ = fmt.Fprintf(s.config.Out, format+"\n", values...)
}

// build compiles the executable, if there is none.
func (s *soak) build(ctx context.Context) error {
	if s.config.Executable != "" {
		return nil
	}
	s.config.Executable = filepath.Join(s.dir, "docker-fetcher")
	return build.Fetcher(ctx, s.config.Executable)
}

// open opens the registry, its fronts and doors, pushes the images and launches
// the plugins.
func (s *soak) open(ctx context.Context) (err error) {
	s.registry, err = registry.Start(registry.Config{Auth: registry.Token, Users: []registry.User{author, tenant}})
	if err != nil {
		return err
	}
	blobs := map[string][]byte{}
	s.images, err = makeImages(ctx, source(s.config.Seed, "images", 0), s.registry.Host, blobs, s.config.Images)
	if err != nil {
		return err
	}
	if s.content, err = s.openDoor(ctx, contents(blobs, s.counts)); err != nil {
		return err
	}
	for number := range s.config.Doors {
		f := &front{registry: s.registry.Host, content: s.content.address, counts: s.counts, tokens: map[string]time.Time{}}
		d, err := s.openDoor(ctx, f.handler())
		if err != nil {
			return err
		}
		f.door = d.address // before the first request comes
		s.doors = append(s.doors, d)
		path := filepath.Join(s.dir, fmt.Sprintf("config-%d.json", number))
		if err := os.WriteFile(path, tenant.DockerConfig(d.address), 0o600); err != nil {
			return err
		}
	}
	return s.openPeers(ctx, s.peers)
}

// openDoor serves handler behind a door.
func (s *soak) openDoor(ctx context.Context, handler http.Handler) (*door, error) {
	address, server, err := listen(ctx, handler)
	if err != nil {
		return nil, err
	}
	s.servers = append(s.servers, server)
	return openDoor(ctx, address)
}

func (s *soak) openPeers(ctx context.Context, peers map[bool]*peer) error {
	for cached, dir := range map[bool]string{true: s.cacheDir, false: ""} {
		p, err := openPeer(ctx, s.config.Executable, dir)
		if err != nil {
			return err
		}
		peers[cached] = p
	}
	return nil
}

// all are the doors.
func (s *soak) all() []*door { return append([]*door{s.content}, s.doors...) }

// warm has the plugins do all that they will, without faults, and notes what
// they take afterwards. It returns how many goroutines a plugin has then, with a
// cache and without: those of two others, which it ends to count them.
func (s *soak) warm(ctx context.Context) (reference map[bool]int, err error) {
	others := map[bool]*peer{}
	if err := s.openPeers(ctx, others); err != nil {
		return nil, err
	}
	reference = map[bool]int{}
	ours := s.peers
	for _, peers := range []map[bool]*peer{others, ours} {
		s.peers = peers
		if err := s.exercise(ctx); err != nil {
			return nil, err
		}
		if failures := s.counts.failures(); failures != "" {
			return nil, fmt.Errorf("before the faults: %s", failures)
		}
		for cached, p := range peers {
			if p.before, err = p.rest(ctx, 1<<10); err != nil {
				return nil, err
			}
			if s.counts.resident("plugin", p.before.peak); p != ours[cached] {
				reference[cached] = goroutines(p.quit())
			}
		}
	}
	return reference, nil
}

// exercise fetches every image through every door by every plugin, all at once,
// and ends the connections. The doors are well: a fetch that fails is a violation.
func (s *soak) exercise(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(s.config.Fetchers)
	for number := range len(s.images) * len(s.doors) * 4 {
		e := errand{
			Caller: hosted, Unhindered: true, Cached: number%2 == 0, Redirected: number/2%2 == 0,
			Door: number / 4 % len(s.doors), Image: number / 4 / len(s.doors),
		}
		group.Go(func() error {
			s.do(ctx, e, filepath.Join(s.dir, fmt.Sprintf("warm-%d", number)))
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.cut(ctx)
}

// cut ends all connections through the doors, also through proxies that were
// left behind.
func (s *soak) cut(ctx context.Context) error {
	for _, server := range s.servers {
		server.SetKeepAlivesEnabled(false) // ends those that are idle
		server.SetKeepAlivesEnabled(true)
	}
	var failed error
	for _, d := range s.all() {
		failed = errors.Join(failed, d.cut(ctx))
	}
	return failed
}

// soak has the doors fail and the fetchers fetch, for the time that is set.
func (s *soak) soak(ctx context.Context) error {
	s.say("%v of faults, seed %d, %d fetchers, %d doors", s.config.Time, s.config.Seed, s.config.Fetchers, len(s.doors))
	s.counts.begin()
	stop := make(chan struct{})
	var work errgroup.Group
	for number, d := range s.all() {
		r := source(s.config.Seed, "door", number)
		work.Go(func() error { return d.haunt(ctx, stop, r, s.config.Longest, s.counts) })
	}
	sweeper := source(s.config.Seed, "sweeper", 0)
	work.Go(func() error {
		for !waitOrStop(ctx, stop, pause(sweeper, s.config.Longest/100, s.config.Longest/4)) {
			s.counts.sweep(sweep(s.cacheDir, sweeper))
		}
		return ctx.Err()
	})
	for number := range s.config.Fetchers {
		r := source(s.config.Seed, "fetcher", number)
		work.Go(func() error {
			for n := 0; !stopped(stop) && ctx.Err() == nil; n++ {
				s.do(ctx, drawErrand(r, len(s.images), len(s.doors)), filepath.Join(s.dir, fmt.Sprintf("%d-%d", number, n)))
			}
			return ctx.Err()
		})
	}
	s.report(ctx)
	close(stop)
	return work.Wait()
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// report says how it goes, until the time is over or too much went wrong.
func (s *soak) report(ctx context.Context) {
	begin := time.Now()
	end := time.NewTimer(s.config.Time)
	defer end.Stop()
	tick := time.NewTicker(s.config.Report)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.registry.Forget() // it records each request
			s.observe()
			s.say("%4.0f s %v", time.Since(begin).Seconds(), s.counts)
		case <-end.C:
			return
		case <-s.counts.tooMany:
			return
		case <-ctx.Done():
			return
		}
	}
}

// observe notes what the plugins take.
func (s *soak) observe() {
	for _, p := range s.peers {
		if v, err := look(p.pid); err == nil { // the audit tells of one that is gone
			s.counts.resident("plugin", v.peak)
		}
	}
}

// audit looks for what is left when all is over: nothing but plugins that do all
// that they did before.
func (s *soak) audit(ctx context.Context, reference map[bool]int) error {
	if err := s.cut(ctx); err != nil {
		return err
	}
	s.counts.prove()
	if err := s.exercise(ctx); err != nil {
		return err
	}
	s.observe()
	s.counts.weigh()
	for cached, p := range s.peers {
		text, found := p.leaks(ctx, reference[cached])
		s.say("plugin (cache: %t): %s", cached, text)
		for _, leak := range found {
			s.counts.violation("%s", leak)
		}
	}
	files, err := inspectCache(s.cacheDir)
	if err != nil {
		s.counts.violation("cache: %v", err)
	}
	s.say("cache: %d files, verified", files)
	replaced := 0
	for _, d := range s.all() {
		replaced += d.replaced
	}
	s.say("end: %v; %d doors renewed", s.counts, replaced)
	return nil
}

// close ends what was opened.
func (s *soak) close() error {
	var failed error
	for _, p := range s.peers {
		failed = errors.Join(failed, p.client.Close())
	}
	var ending sync.WaitGroup
	for _, d := range s.doors {
		ending.Go(func() { _ = within(context.Background(), func() error { d.proxy.Stop(); return nil }) })
	}
	if s.content != nil {
		_ = within(context.Background(), func() error { s.content.proxy.Stop(); return nil })
	}
	ending.Wait()
	for _, server := range s.servers {
		failed = errors.Join(failed, server.Close())
	}
	if s.registry != nil {
		failed = errors.Join(failed, s.registry.Close())
	}
	return errors.Join(failed, os.RemoveAll(s.dir))
}
