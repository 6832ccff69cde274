package integration_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

// pullThrough is the CNCF distribution registry as a cache of another registry,
// to which it logs in as the author.
type pullThrough struct {
	Host string

	serving  sync.WaitGroup
	mu       sync.Mutex
	requests []registry.Request
}

// startCache starts a pull-through cache of the registry at origin, HOST:PORT.
func startCache(t *testing.T, origin string) *pullThrough {
	t.Helper()
	config := &configuration.Configuration{Proxy: configuration.Proxy{
		RemoteURL: "http://" + origin, Username: author.Name, Password: author.Password,
	}}
	config.Storage = configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": t.TempDir()}}
	config.Log.AccessLog.Disabled = true
	config.HTTP.Secret = "signs the state of uploads, of which a cache has none"
	app := handlers.NewApp(context.Background(), config)

	c := &pullThrough{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.serving.Add(1)
		defer c.serving.Done()
		c.mu.Lock()
		c.requests = append(c.requests, registry.Request{
			Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Scheme: r.Header.Get("Authorization"),
		})
		c.mu.Unlock()
		app.ServeHTTP(w, r)
	}))
	c.Host = server.Listener.Addr().String()
	t.Cleanup(func() { server.Close(); check(t, app.Shutdown()) })
	return c
}

// settle waits until what was asked of the cache is kept by it: it commits a
// blob when the client has the last byte already.
func (c *pullThrough) settle() { c.serving.Wait() }

// asked returns the requests that the cache got.
func (c *pullThrough) asked() []registry.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// mirrored returns a hosts directory in which a cache is the mirror of a registry.
func mirrored(t *testing.T, origin *registry.Server, c *pullThrough) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, origin.Host, "hosts.toml")
	check(t, os.Mkdir(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(`server = "http://`+origin.Host+`"

[host."http://`+c.Host+`"]
  capabilities = ["pull", "resolve"]
`), 0o600))
	return dir
}

// fetchMirrored fetches the image of a tag or digest with the command, by way of
// the mirrors in hosts, with the tenant's credential for the origin.
func fetchMirrored(t *testing.T, origin *registry.Server, hosts, reference string, want tree) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	_, stderr, code := command(t, "fetch", "docker://"+origin.Host+"/"+repository+"?"+reference+"#http", dir,
		"--hosts-dir", hosts, "--docker-config", configFile(t, tenant, origin))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	compare(t, dir, want)
}

// count returns how many of the requests ask, by method, for a path that has a part.
func count(requests []registry.Request, method, part string) int {
	n := 0
	for _, r := range requests {
		if r.Method == method && strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

func TestPullThroughCacheAsksTheOriginOnce(t *testing.T) {
	t.Parallel()
	origin := start(t, registry.Config{Auth: registry.Token}, "oci")
	files, manifest := served(t, origin, "oci")
	cache := startCache(t, origin.Host)
	hosts := mirrored(t, origin, cache)
	origin.Forget()

	fetchMirrored(t, origin, hosts, "oci", files)
	cache.settle()
	blobs := len(files) - 1
	if got := count(origin.Requests(), "GET", "/blobs/sha256:"); got != blobs {
		t.Errorf("the first fetcher made the cache ask the origin for %d blobs, want %d", got, blobs)
	}
	// The plan of docs/fleet.md counts on these.
	if got := count(origin.Requests(), "GET", "/token"); got != blobs+1 {
		t.Errorf("the first fetcher made the cache ask for %d tokens, want one for each blob and one for the manifest", got)
	}

	origin.Forget()
	fetchMirrored(t, origin, hosts, manifest.String(), files)
	if asked := origin.Requests(); len(asked) != 0 {
		t.Errorf("the second fetcher, by digest, made the cache ask the origin: %v", asked)
	}
	fetchMirrored(t, origin, hosts, "oci", files)
	if asked := origin.Requests(); count(asked, "HEAD", "/manifests/oci") != 1 || count(asked, "GET", "/v2/"+repository) != 0 {
		t.Errorf("the third fetcher, by tag, made the cache ask the origin %v, want one HEAD of the tag", asked)
	}

	check(t, origin.Close())
	fetchMirrored(t, origin, hosts, "oci", files)
	if stdout, stderr, code := command(t, "fetch", "docker://"+origin.Host+"/"+repository+"?oci#http", filepath.Join(t.TempDir(), "image")); code != 6 {
		t.Errorf("without the cache the exit code is %d, want 6: %s%s", code, stdout, stderr)
	}

	for _, r := range cache.asked() {
		if r.Scheme != "" {
			t.Errorf("%s %s carries the tenant's credential to the cache", r.Method, r.Path)
		}
		if r.Query.Get("ns") != origin.Host {
			t.Errorf("%s %s says ns=%s, want %s", r.Method, r.Path, r.Query.Get("ns"), origin.Host)
		}
	}
}

// A cold cache shares no download: docs/fleet.md says what follows from that.
func TestPullThroughCacheAsksForABlobAgainWhileItIsComing(t *testing.T) {
	t.Parallel()
	origin := start(t, registry.Config{}, "oci")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The gate lets nobody through to a blob until two have come.
	var waiting sync.WaitGroup
	waiting.Add(2)
	both := make(chan struct{})
	go func() { waiting.Wait(); close(both) }()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: origin.Host})
	}}
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			waiting.Done()
			select {
			case <-both:
			case <-ctx.Done():
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	cache := startCache(t, gate.Listener.Addr().String())

	artifact, err := artifacts["oci"]()
	check(t, err)
	config, err := artifact.(v1.Image).ConfigName()
	check(t, err)
	failed := make(chan error)
	for range 2 {
		go func() {
			failed <- get(ctx, "http://"+cache.Host+"/v2/"+repository+"/blobs/"+config.String())
		}()
	}
	for range 2 {
		check(t, <-failed)
	}
	if asked := count(origin.Requests(), "GET", "/blobs/"); asked != 2 {
		t.Errorf("the origin was asked for the blob %d times, want 2", asked)
	}
}

// get asks for a URL and reads the answer, which has to be 200.
func get(ctx context.Context, target string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", target, response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
