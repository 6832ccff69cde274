package fleet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/docker-fetcher/docker-fetcher/integration/build"
	"github.com/docker-fetcher/docker-fetcher/integration/fleet"
	"github.com/docker-fetcher/docker-fetcher/integration/fleet/simulate"
	"github.com/docker-fetcher/docker-fetcher/integration/image"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

const (
	agents     = 6
	layers     = 3
	layerSize  = 32 << 20
	originRate = 20_000_000 // so that peers are the nearer source, as they are in a data center
	repository = "fleet/image"
)

// The executables, and a context that an interrupt ends. All processes are
// started under it, so that an interrupted test ends them and removes its files.
var (
	fetcher, kraken string
	interrupted     context.Context
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if _, err := os.Stat("/usr/sbin/nginx"); err != nil {
		fmt.Println("SKIP: Kraken needs /usr/sbin/nginx: apt-get install nginx-light")
		return 0
	}
	if os.Getuid() != 0 {
		fmt.Println("SKIP: Kraken's nginx needs root: it writes to /var/log/nginx")
		return 0
	}
	var stop context.CancelFunc
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "fleet-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		fetcher, kraken = filepath.Join(dir, "docker-fetcher"), filepath.Join(dir, "kraken")
		err = errors.Join(build.Fetcher(interrupted, fetcher), buildKraken(interrupted, kraken))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// buildKraken compiles the executable of all of Kraken's components, whose
// SQLite is C.
func buildKraken(ctx context.Context, path string) error {
	command := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "./kraken")
	command.Env = append(os.Environ(), "CGO_ENABLED=1")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build Kraken, which needs gcc: %w\n%s", err, output)
	}
	return nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// meter is a door of a registry that counts what goes out through it.
type meter struct {
	Host  string
	bytes atomic.Int64
}

func (m *meter) megabytes() float64 { return float64(m.bytes.Load()) / 1e6 }

type counted struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// door opens a door of the upstream.
func door(t *testing.T, upstream *registry.Server) *meter {
	t.Helper()
	m := &meter{}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: upstream.Host}) },
		ModifyResponse: func(response *http.Response) error {
			response.Body = counted{response.Body, &m.bytes}
			return nil
		},
	})
	t.Cleanup(server.Close)
	m.Host = server.Listener.Addr().String()
	return m
}

// site is an upstream registry with an image, and a fleet in front of it. The
// fleet and the fetchers have a door each, so that it shows who got what.
type site struct {
	toFleet, toFetchers *meter
	fleet               *fleet.Fleet
	files               map[string]int64 // of the image, by digest: their sizes
	manifest            v1.Hash
	size                int64
}

// newSite makes a site with an image of its own; seed makes it differ from others.
func newSite(t *testing.T, seed int64) *site {
	t.Helper()
	upstream, err := registry.Start(registry.Config{})
	check(t, err)
	t.Cleanup(func() { check(t, upstream.Close()) })
	made, err := random.Image(layerSize, layers, random.WithSource(rand.NewSource(seed)))
	check(t, err)
	check(t, image.Push(interrupted, upstream.Host+"/"+repository+":1", made, "", ""))

	s := &site{toFleet: door(t, upstream), toFetchers: door(t, upstream)}
	s.describe(t, made)
	s.fleet, err = fleet.Start(interrupted, fleet.Config{
		Binary: kraken, Dir: t.TempDir(), Upstream: s.toFleet.Host, Agents: agents, OriginRate: originRate,
	})
	check(t, err)
	t.Cleanup(func() { check(t, s.fleet.Close()) })
	return s
}

func (s *site) describe(t *testing.T, made v1.Image) {
	t.Helper()
	manifest, err := made.Manifest()
	check(t, err)
	s.manifest, err = made.Digest()
	check(t, err)
	s.files = map[string]int64{manifest.Config.Digest.String(): manifest.Config.Size}
	for _, layer := range manifest.Layers {
		s.files[layer.Digest.String()] = layer.Size
	}
	for _, size := range s.files {
		s.size += size
	}
}

// fetch runs a docker-fetcher with a hosts directory of its own, checks what it
// made and removes that.
func (s *site) fetch(mirror string) error {
	dir, err := os.MkdirTemp("", "fetched-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	hosts, err := writeHosts(filepath.Join(dir, "hosts"), s.toFetchers.Host, mirror)
	if err != nil {
		return err
	}
	command := exec.CommandContext(interrupted, fetcher, "fetch", "--hosts-dir", hosts,
		"docker://"+s.toFetchers.Host+"/"+repository+"?1#http", filepath.Join(dir, "image"))
	command.Env = []string{"HOME=" + dir}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("docker-fetcher through %q: %w\n%s", mirror, err, output)
	}
	return s.verify(filepath.Join(dir, "image"))
}

// writeHosts writes the hosts directory of a machine: its own agent first, for
// what has a digest, then the registry. Without a mirror there is the registry alone.
func writeHosts(dir, registry, mirror string) (string, error) {
	text := "server = \"http://" + registry + "\"\n"
	if mirror != "" {
		text += "\n[host.\"http://" + mirror + "\"]\n  capabilities = [\"pull\"]\n"
	}
	path := filepath.Join(dir, registry, "hosts.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(path, []byte(text), 0o600)
}

// verify says whether dir holds the image, every byte of it.
func (s *site) verify(dir string) error {
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest"))
	if err != nil {
		return err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil || digest != s.manifest {
		return fmt.Errorf("%s has the manifest %s, want %s: %w", dir, digest, s.manifest, err)
	}
	for name, size := range s.files {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		hash := sha256.New()
		n, err := io.Copy(hash, file)
		_ = file.Close()
		if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); err != nil || n != size || got != name {
			return fmt.Errorf("%s has %d bytes of digest %s, want %d: %w", file.Name(), n, got, size, err)
		}
	}
	return nil
}

// fetchAll runs a docker-fetcher for each agent at once, by way of it or, without
// peers, past it. It returns how long they took, each, and their errors.
func (s *site) fetchAll(peers bool) (took []time.Duration, errs []error) {
	took, errs = make([]time.Duration, agents), make([]error, agents)
	begin := time.Now()
	var group sync.WaitGroup
	for i, agent := range s.fleet.Agents {
		group.Go(func() {
			mirror := ""
			if peers {
				mirror = agent.Host
			}
			errs[i] = s.fetch(mirror)
			took[i] = time.Since(begin)
		})
	}
	group.Wait()
	return took, errs
}

func TestTheImageLeavesTheUpstreamAboutOnce(t *testing.T) {
	s := newSite(t, 1)
	took, errs := s.fetchAll(false)
	check(t, errors.Join(errs...))
	s.report(t, "without peers", slices.Max(took))
	if got := s.toFetchers.bytes.Load(); got < agents*s.size {
		t.Errorf("without peers %d bytes left the upstream, want %d images of %d", got, agents, s.size)
	}

	s.toFetchers.bytes.Store(0)
	took, errs = s.fetchAll(true)
	check(t, errors.Join(errs...))
	s.report(t, "six agents", slices.Max(took))
	s.agrees(t, slices.Max(took))
	// Kraken gets a blob twice now and then; fetchers only ask what the tag stands for.
	if got := s.toFleet.bytes.Load() + s.toFetchers.bytes.Load(); got >= 2*s.size {
		t.Errorf("%d bytes left the upstream, want less than two images of %d", got, s.size)
	}
	if got := s.toFetchers.bytes.Load(); got > s.size/100 {
		t.Errorf("fetchers with an agent got %d bytes from the upstream itself", got)
	}
}

func TestTheFetcherOfAKilledAgentFallsBackToTheUpstream(t *testing.T) {
	s := newSite(t, 2)
	victim := s.fleet.Agents[1]
	killed := make(chan error, 1)
	go func() { killed <- killHalfway(victim, layers*layerSize/(4<<20)/2) }()
	took, errs := s.fetchAll(true)
	check(t, <-killed)
	check(t, errors.Join(errs...))
	s.report(t, "one agent killed", slices.Max(took))
	if got := s.toFleet.bytes.Load(); got >= 2*s.size {
		t.Errorf("%d bytes went to the fleet, want less than two images of %d", got, s.size)
	}
	if got := s.toFetchers.bytes.Load(); got == 0 || got > s.size+s.size/100 {
		t.Errorf("%d bytes went to fetchers, want what one of them lacked of an image of %d", got, s.size)
	}
}

// killHalfway kills an agent when it has some pieces.
func killHalfway(agent *fleet.Agent, pieces int) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-interrupted.Done():
			return interrupted.Err()
		case <-ticker.C:
		}
		origin, peers, err := agent.Pieces()
		if err != nil {
			return err
		}
		if origin+peers >= pieces {
			return agent.Kill()
		}
	}
}

// agrees fails the test if the simulation of the plan is far from this run. One
// run is up to a quarter from the mean of several, and the machine may be busy.
func (s *site) agrees(t *testing.T, took time.Duration) {
	t.Helper()
	image := simulate.Image{Layers: layers, Layer: s.size / layers}
	mean := simulate.Loopback(agents, image, originRate).RunSeveral(10)
	t.Logf("simulated: %.1f s, %.0f pieces from the origin, %.0f from peers", mean.Last.Seconds(), mean.FromOrigin, mean.FromPeers)
	if got, want := took.Seconds(), mean.Last.Seconds(); got > 2*want || got < want/2 {
		t.Errorf("it took %.1f s, the simulation says %.1f s", got, want)
	}
	fromOrigin, _ := s.pieces(t)
	if got, want := float64(fromOrigin), mean.FromOrigin; got > 2*want || got < want/2 {
		t.Errorf("the origin gave %.0f pieces, the simulation says %.0f", got, want)
	}
}

// pieces returns what all agents got from the origin and from each other.
func (s *site) pieces(t *testing.T) (fromOrigin, fromPeers int) {
	t.Helper()
	for _, agent := range s.fleet.Agents {
		origin, peers, err := agent.Pieces()
		check(t, err)
		fromOrigin, fromPeers = fromOrigin+origin, fromPeers+peers
	}
	return fromOrigin, fromPeers
}

// report prints what a pull by all fetchers cost.
func (s *site) report(t *testing.T, way string, took time.Duration) {
	t.Helper()
	fromOrigin, fromPeers := s.pieces(t)
	sum := s.toFleet.megabytes() + s.toFetchers.megabytes()
	table := tabwriter.NewWriter(t.Output(), 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "way\tseconds\tto the fleet, MB\tto fetchers, MB\ttimes the image\tpieces from the origin\tfrom peers\t")
	fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.1f\t%.2f\t%d\t%d\t\n", way, took.Seconds(),
		s.toFleet.megabytes(), s.toFetchers.megabytes(), sum*1e6/float64(s.size), fromOrigin, fromPeers)
	check(t, table.Flush())
}
