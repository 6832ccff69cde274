package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// The twins of the docker cases of the original's uri_fetcher_tests.cpp, with
// registries on loopback in place of the Internet; docs/mesos.md has the table.

// imageFormats put an image of two layers into a registry under a tag and
// return the files that it leaves.
var imageFormats = map[string]func(r *fetchertest.Registry, tag string) map[string]string{
	"docker schema 2": func(r *fetchertest.Registry, tag string) map[string]string { return putImage(r, tag, false) },
	"OCI":             func(r *fetchertest.Registry, tag string) map[string]string { return putImage(r, tag, true) },
	"schema 1":        func(r *fetchertest.Registry, tag string) map[string]string { return putSchema1(r, tag, false) },
	"signed schema 1": func(r *fetchertest.Registry, tag string) map[string]string { return putSchema1(r, tag, true) },
	"docker list":     func(r *fetchertest.Registry, tag string) map[string]string { return putIndex(r, tag, false) },
	"OCI index":       func(r *fetchertest.Registry, tag string) map[string]string { return putIndex(r, tag, true) },
}

func putImage(r *fetchertest.Registry, tag string, oci bool) map[string]string {
	return of(r.PutImage(name, tag, fetchertest.Image{OCI: oci, Layers: layers(2)}), layers(2))
}

func putSchema1(r *fetchertest.Registry, tag string, signed bool) map[string]string {
	return of(r.PutSchema1(name, tag, fetchertest.Schema1{Layers: layers(2), Signed: signed}), layers(2))
}

func putIndex(r *fetchertest.Registry, tag string, oci bool) map[string]string {
	pushed := r.PutIndex(name, tag, oci,
		fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "arm64"}},
		fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: fetchertest.Image{Layers: layers(2)}})
	want := of(pushed.Images[1], layers(2))
	want["index"] = string(pushed.Index)
	return want
}

// waysIn are what a registry asks for, and how many tokens that takes. Where it
// names a user, the config of the call has the credential.
var waysIn = map[string]struct {
	config fetchertest.Config
	tokens int
}{
	"anonymous":                                    {fetchertest.Config{}, 0},
	"basic":                                        {asks(fetchertest.Auth{Scheme: fetchertest.Basic}), 0},
	"an anonymous token":                           {fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Service: "s"}}, 1},
	"a token":                                      {asks(fetchertest.Auth{Scheme: fetchertest.Bearer, Service: "s"}), 1},
	"a token, the challenge without service":       {asks(fetchertest.Auth{Scheme: fetchertest.Bearer}), 1},
	"a token, the challenge without scope":         {asks(fetchertest.Auth{Scheme: fetchertest.Bearer, Service: "s", Challenge: scopeless}), 1},
	"a token, the challenge with neither":          {asks(fetchertest.Auth{Scheme: fetchertest.Bearer, Challenge: scopeless}), 1},
	"a token, with neither and a query at the end": {asks(fetchertest.Auth{Scheme: fetchertest.Bearer, Challenge: scopeless, RealmQuery: "account=x"}), 1},
	"a token, the blobs on another host": {
		fetchertest.Config{Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: canary}}, 1,
	},
}

func asks(auth fetchertest.Auth) fetchertest.Config {
	auth.Username, auth.Password = "u", canary
	return fetchertest.Config{Auth: auth}
}

func scopeless(_, proper string) []string {
	challenge, _, _ := strings.Cut(proper, ",scope=")
	return []string{challenge}
}

// FetchManifest, FetchBlob and FetchImage.
func TestEveryFormatComesInEveryWay(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for way, test := range waysIn {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				r := fetchertest.New(t, test.config)
				var config fetcher.DockerConfig
				if test.config.Auth.Username != "" {
					config.JSON = login(r.Host(), "u", canary)
				}
				for format, put := range imageFormats {
					tag := strings.ReplaceAll(format, " ", "-")
					fetchEachKind(t, f, r, tag, config, put(r, tag))
				}
				if n := r.Count(fetchertest.Token); n != test.tokens {
					t.Errorf("%d tokens were asked for, want %d", n, test.tokens)
				}
				if n := r.Count(fetchertest.CDN); (n > 0) != test.config.Redirect {
					t.Errorf("%d requests to the content host", n)
				}
			})
		}
	})
}

// fetchEachKind fetches an image as a whole, its manifest alone and each of its
// blobs alone, each into a directory of its own.
func fetchEachKind(t *testing.T, f Fetcher, r *fetchertest.Registry, tag string, config fetcher.DockerConfig, want map[string]string) {
	t.Helper()
	fetch := func(kind scheme.Kind, identifier string, want map[string]string) {
		dir := t.TempDir()
		_, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, kind, r, identifier), Directory: dir, Config: config, Platform: &linuxAMD64})
		if err != nil {
			t.Errorf("%s %s: %v", kind, tag, err)
			return
		}
		leaves(t, dir, want)
	}
	fetch(scheme.Image, tag, want)
	documents := maps.Clone(want)
	for file, data := range want {
		if strings.Contains(file, ":") {
			delete(documents, file)
			fetch(scheme.Blob, file, map[string]string{file: data})
		}
	}
	fetch(scheme.Manifest, tag, documents)
}

// CURL_InvalidUri, for what is ours. The original writes the body of an error
// answer to the path of the blob.
func TestARegistrysRefusalIsTheCallsAndLeavesNoFile(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for status, kind := range map[int]error{
			http.StatusUnauthorized: fetcher.ErrUnauthorized, http.StatusForbidden: fetcher.ErrDenied,
			http.StatusNotFound: fetcher.ErrNotFound, http.StatusInternalServerError: fetcher.ErrUnavailable,
		} {
			t.Run(http.StatusText(status), func(t *testing.T) {
				t.Parallel()
				r := fetchertest.New(t, fetchertest.Config{})
				pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
				// A day is too long to wait, so no attempt follows.
				r.Inject(fetchertest.Fault{Status: status, Header: http.Header{"Retry-After": {"86400"}}})
				for _, asked := range []scheme.URI{
					uri(t, scheme.Image, r, "latest"), uri(t, scheme.Manifest, r, "latest"), uri(t, scheme.Blob, r, pushed.LayerDigests[0]),
				} {
					dir := t.TempDir()
					_, err := f.Fetch(t.Context(), fetcher.Request{URI: asked, Directory: dir})
					if !errors.Is(err, kind) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
						t.Errorf("%s: got %v, want %v", asked.Scheme, err, kind)
					}
					leaves(t, dir, map[string]string{})
				}
			})
		}
	})
}

// The original's agent has a config by --docker_config, and Image.Docker.config
// goes before it, key for key.
func TestTheSecretOfACallGoesBeforeTheAgentsConfigAndNeverReplacesIt(t *testing.T) {
	t.Parallel()
	auth := fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: canary}
	one, other := fetchertest.New(t, fetchertest.Config{Auth: auth}), fetchertest.New(t, fetchertest.Config{Auth: auth})
	defaults := fmt.Appendf(nil, `{"auths":{%q:{"username":"u","password":"stale"},%q:{"username":"u","password":%q}}}`,
		"https://"+one.Host()+"/v1/", other.Host(), canary)
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, defaults, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*fetchertest.Registry{one, other} {
		r.PutImage(name, "latest", fetchertest.Image{})
	}
	for title, subject := range configured(fetcher.Config{DefaultDockerConfig: defaults}, "DOCKER_FETCHER_DEFAULT_DOCKER_CONFIG="+file) {
		f := subject(t)
		for _, test := range []struct {
			name   string
			from   *fetchertest.Registry
			secret []byte
			want   error
		}{
			{"the agent's is stale", one, nil, fetcher.ErrUnauthorized},
			{"the secret stands in for it", one, login(one.Host(), "u", canary), nil},
			{"the agent's serves what the secret has not", other, login(one.Host(), "u", canary), nil},
			{"a stale secret is not replaced by the agent's", other, login(other.Host(), "u", "stale"), fetcher.ErrUnauthorized},
			{"nor does the secret of a call stay for the next", one, nil, fetcher.ErrUnauthorized},
		} {
			_, err := f.Fetch(t.Context(), fetcher.Request{
				URI: uri(t, scheme.Manifest, test.from, "latest"), Directory: t.TempDir(), Config: fetcher.DockerConfig{JSON: test.secret},
			})
			if !errors.Is(err, test.want) {
				t.Errorf("%s: %s: got %v, want %v", title, test.name, err, test.want)
			}
		}
	}
}

// GeneratedRepositoryScope (MESOS-10092). The original first shows that without
// its fallback the same image fails; here the scope is always composed where it
// is missing, so the test holds the registry itself to being of that kind.
func TestAScopeIsComposedWhereTheChallengeHasNone(t *testing.T) {
	t.Parallel()
	const scope = "repository:nvidia/k8s/cuda-sample:pull"
	for _, p := range fetchertest.Profiles {
		if p.Host != "nvcr.io" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(p.Cold.Challenge, "service=") {
				t.Fatalf("%s is of another kind", p.Cold.Challenge)
			}
			for title := range subjects {
				t.Run(title, func(t *testing.T) {
					t.Parallel()
					f, registry := underItsName(t, p, title)
					pushed := registry.PutImage(p.Public.Repository, p.Public.Tag, fetchertest.Image{Layers: layers(2)})
					ref, err := scheme.NewImage(p.Public.Repository, p.Public.Tag, p.Host, "", 0)
					if err != nil {
						t.Fatal(err)
					}
					dir := t.TempDir()
					if _, err := f.Fetch(t.Context(), fetcher.Request{URI: ref.URI(), Directory: dir}); err != nil {
						t.Fatal(err)
					}
					leaves(t, dir, of(pushed, layers(2)))
					if diff := cmp.Diff([]url.Values{{"scope": {scope}}}, tokensAsked(registry)); diff != "" {
						t.Errorf("tokens (-want +got):\n%s", diff)
					}
				})
			}
		})
	}
}

// underItsName plays a registry, and returns the subject of that title, which
// reaches it.
func underItsName(t *testing.T, p fetchertest.Profile, title string) (Fetcher, *fetchertest.Registry) {
	t.Helper()
	internet := fetchertest.NewInternet(t)
	registry := internet.Add(t, p)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, internet.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		Proxy: http.ProxyURL(internet.Proxy()), TLSClientConfig: &tls.Config{RootCAs: internet.CertPool()}, DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	all := configured(fetcher.Config{Transport: transport}, "HTTPS_PROXY="+internet.Proxy().String(), "SSL_CERT_FILE="+ca)
	return all[title](t), registry
}

// tokensAsked are the parameters of the token requests.
func tokensAsked(r *fetchertest.Registry) (asked []url.Values) {
	for _, q := range r.Requests() {
		if q.Endpoint == fetchertest.Token {
			values, _ := url.ParseQuery(q.Query)
			asked = append(asked, values)
		}
	}
	return asked
}

// stub is a host's plugin, made by hand: nothing of this package is in it.
type stub struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (stub) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a host serves nothing")
}

func (stub) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pb.NewFetcherServiceClient(conn), nil
}

// InvokeFetchByName: the original's fetchers are chosen by scheme or by name,
// and this one's name there is docker.
func TestAHostDispensesThePluginByName(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(built(t), "serve")
	cmd.Env = []string{"PLUGIN_UNIX_SOCKET_DIR=" + short(t)}
	host := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion: 1, MagicCookieKey: "DOCKER_FETCHER_PLUGIN", MagicCookieValue: "6a2f0c4be1d94d7f8f53a1c97e20b5d8",
		},
		VersionedPlugins: map[int]goplugin.PluginSet{1: {"fetcher": stub{}}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Cmd:              cmd, SkipHostEnv: true, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(host.Kill)
	protocol, err := host.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.Dispense("curl"); err == nil {
		t.Error("another name was dispensed")
	}
	dispensed, err := protocol.Dispense("fetcher")
	if err != nil {
		t.Fatal(err)
	}
	service := dispensed.(pb.FetcherServiceClient)
	info, err := service.GetInfo(t.Context(), &pb.GetInfoRequest{})
	if err != nil || info.GetName() != "docker" {
		t.Fatalf("it is %q, %v", info.GetName(), err)
	}
	r := fetchertest.New(t, fetchertest.Config{})
	pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: layers(2)})
	dir, u := t.TempDir(), uri(t, scheme.Image, r, "latest")
	_, err = service.FetchSync(t.Context(), &pb.FetchSyncRequest{Fetch: &pb.FetchRequest{
		Uri:       &pb.Uri{Scheme: u.Scheme, Host: u.Host, Port: u.Port, Path: u.Path, Query: u.Query, Fragment: u.Fragment},
		Directory: dir,
	}})
	if err != nil {
		t.Fatal(err)
	}
	leaves(t, dir, of(pushed, layers(2)))
}

// shared is one blob that stops half way, and calls for it into one directory.
type shared struct {
	registry *fetchertest.Registry
	dir      string
	digest   string
	data     []byte
	release  func() // lets the blob come to its end
	first    sharing
	others   []sharing
}

// sharing is one of the calls.
type sharing struct {
	cancel context.CancelFunc
	takes  <-chan struct{} // closed when it takes part in the transfer
	ended  <-chan error
}

// share begins a call, and more when the first one's transfer is under way. It
// returns when all take part. The others are streamed, which tells when.
func share(t *testing.T, f Fetcher) *shared {
	t.Helper()
	s := &shared{registry: fetchertest.New(t, fetchertest.Config{}), dir: t.TempDir(), data: fetchertest.RandomLayer(11, 100_000)}
	s.digest = s.registry.PutBlob(name, s.data)
	hold, arrived := make(chan struct{}), make(chan struct{}, 100)
	s.release = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(s.release)
	s.registry.Inject(fetchertest.Fault{StallAt: int64(len(s.data) / 2), Hold: hold, Notice: func(fetchertest.Request) { arrived <- struct{}{} }})
	s.first = s.begin(t, f)
	within(t, arrived, "the first request")
	if h, ok := f.(heard); ok {
		if c, ok := h.Fetcher.(synced); ok {
			f = heard{c.Client}
		}
	}
	for range 3 {
		s.others = append(s.others, s.begin(t, f))
	}
	for _, call := range s.others {
		within(t, call.takes, "a call to take part")
	}
	return s
}

func (s *shared) begin(t *testing.T, f Fetcher) sharing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	takes, ended := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(takes) })
	request := fetcher.Request{
		URI: uri(t, scheme.Blob, s.registry, s.digest), Directory: s.dir, ProgressInterval: time.Millisecond,
		Observe: func(e fetcher.Event) {
			if p, ok := e.(fetcher.Progress); ok && len(p.Active) > 0 {
				once()
			}
		},
	}
	go func() {
		_, err := f.Fetch(ctx, request)
		ended <- err
	}()
	return sharing{cancel, takes, ended}
}

// within returns what comes from a channel, in a time that no machine needs.
func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("waited too long for %s", what)
		panic("not reached")
	}
}

// PullingSameImageSimultaneously, one floor below: there the provisioner's store
// shares a pull, and a blob of two images is fetched twice.
func TestCallsForOneBlobShareADownloadAndCancellingOneLeavesTheOthers(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		s := share(t, f)
		s.first.cancel() // the one that began the transfer
		if err := within(t, s.first.ended, "the cancelled call"); !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled call got %v", err)
		}
		s.release()
		for _, call := range s.others {
			if err := within(t, call.ended, "another call"); err != nil {
				t.Errorf("another call got %v", err)
			}
			call.cancel()
		}
		leaves(t, s.dir, map[string]string{s.digest: string(s.data)})
		if n := s.registry.Count(fetchertest.Any); n != 1 {
			t.Errorf("%d requests for one blob", n)
		}
	})
}

// PullDiscarded, one floor below.
func TestCancellingAllCallsForABlobStopsTheTransfer(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		s := share(t, f)
		begin := time.Now()
		for _, call := range append(s.others, s.first) {
			call.cancel()
			if err := within(t, call.ended, "a cancelled call"); !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled call got %v", err)
			}
		}
		for s.underWay(t) {
			if time.Since(begin) > 20*time.Second {
				t.Fatal("the transfer goes on")
			}
			runtime.Gosched()
		}
		t.Logf("the registry saw the end after %v", time.Since(begin).Round(100*time.Microsecond))
		leaves(t, s.dir, map[string]string{})
		s.release()
		again := s.begin(t, f)
		if err := within(t, again.ended, "the next call"); err != nil {
			t.Errorf("the next call got %v", err)
		}
		again.cancel()
		leaves(t, s.dir, map[string]string{s.digest: string(s.data)})
	})
}

// underWay reports whether the registry is answering a request for a blob.
func (s *shared) underWay(t *testing.T) bool {
	t.Helper()
	s.registry.Reset() // the load begins with what is under way
	return s.registry.Load(t, s.registry.Host()).BlobsAtOnce > 0
}

// A cell of the table has folders and, after each, the tests in it.
func TestEveryTwinInTheTableIsThere(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("../docs/mesos.md")
	if err != nil {
		t.Fatal(err)
	}
	folder, found := "", 0
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(table), -1) {
		word := m[1]
		if info, err := os.Stat(filepath.Join("..", word)); err == nil && info.IsDir() {
			folder = word
		}
		if strings.HasPrefix(word, "Test") {
			found++
			if !declared(t, folder, word) {
				t.Errorf("%s is not in %s", word, folder)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d tests were found in the table", found)
	}
}

// declared reports whether a folder has a test of that name.
func declared(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+test+"(t *testing.T)") {
			return true
		}
	}
	return false
}
