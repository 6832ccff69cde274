package fetcher_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// globe is a network in which every name below .example is a server of this
// process that seems to be on the Internet, and intra.example one that does not.
type globe map[string]string // host and port as dialled -> where that is

// distant is a connection that looks as if it went to the Internet.
type distant struct{ net.Conn }

func (distant) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(93, 184, 216, 34), Port: 80} }

func (g globe) transport() *http.Transport {
	direct := new(net.Dialer)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DisableCompression: true, Protocols: protocols,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			at, known := g[address]
			if !known {
				return nil, fmt.Errorf("nobody may be asked but those that a test knows: %s", address)
			}
			conn, err := direct.DialContext(ctx, network, at)
			if err != nil || strings.HasPrefix(address, "intra.") {
				return conn, err
			}
			return distant{conn}, nil
		},
	}
}

// stand is a server that notes what it was asked.
type stand struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func newStand(tb testing.TB, serve http.HandlerFunc) *stand {
	tb.Helper()
	s := &stand{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r)
		s.mu.Unlock()
		serve(w, r)
	}))
	tb.Cleanup(s.Close)
	return s
}

func (s *stand) host() string { return strings.TrimPrefix(s.URL, "http://") }

func (s *stand) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.seen...)
}

// leadsInside is a config whose hosts.toml lets r lead to internal addresses: here all
// servers are at such.
func leadsInside(tb testing.TB, r *fetchertest.Registry) fetcher.Config {
	tb.Helper()
	hosts := newHostsDir(tb)
	hosts.put(r.Host(), "hosts.toml", []byte("docker-fetcher = { private_redirects = true }\nserver = \""+r.URL()+"\"\n"))
	return fetcher.Config{HostsDir: hosts.path}
}

// overseas is an image with one layer that the registry does not have.
type overseas struct {
	layer  []byte
	digest digest.Digest
	dir    string
}

// putForeign pushes an image whose layer is at urls.
func putForeign(tb testing.TB, r *fetchertest.Registry, layer []byte, urls ...string) overseas {
	tb.Helper()
	o := overseas{layer, digest.FromBytes(layer), tb.TempDir()}
	config := []byte(`{"os":"linux","architecture":"amd64"}`)
	type descriptor struct {
		MediaType string   `json:"mediaType"`
		Digest    string   `json:"digest"`
		Size      int      `json:"size"`
		URLs      []string `json:"urls,omitempty"`
	}
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": descriptor{"application/vnd.docker.container.image.v1+json", r.PutBlob("team/app", config), len(config), nil},
		"layers": []descriptor{{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", o.digest.String(), len(layer), urls}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	r.PutManifest("team/app", "latest", "application/vnd.docker.distribution.manifest.v2+json", raw)
	return o
}

func (o overseas) fetch(tb testing.TB, f *fetcher.Fetcher, r *fetchertest.Registry, config string) error {
	tb.Helper()
	req := fetcher.Request{URI: uri(tb, r, "docker", "team/app", "latest"), Directory: o.dir}
	req.Config.JSON = []byte(config)
	_, err := f.Fetch(tb.Context(), req)
	return err
}

func (o overseas) fetched(tb testing.TB, f *fetcher.Fetcher, r *fetchertest.Registry) {
	tb.Helper()
	if err := o.fetch(tb, f, r, `{}`); err != nil {
		tb.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(o.dir, o.digest.String()))
	if err != nil || !bytes.Equal(got, o.layer) {
		tb.Errorf("the layer has %d bytes, want %d (%v)", len(got), len(o.layer), err)
	}
}

func serving(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
	}
}

func TestAForeignLayerIsFetchedFromItsURLsWithoutAnythingOfOurs(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "me", Password: "hunter2"}})
	layer := []byte("a base layer")
	away := newStand(t, serving(layer))
	o := putForeign(t, r, layer, away.URL+"/base?sig=1#part")
	err := o.fetch(t, newFetcher(t, leadsInside(t, r)), r, fmt.Sprintf(`{"auths":{%q:{"username":"me","password":"hunter2"}}}`, r.Host()))
	if err != nil {
		t.Fatal(err)
	}
	seen := away.requests()
	if len(seen) != 1 || seen[0].Method != http.MethodGet || seen[0].URL.String() != "/base?sig=1" {
		t.Fatalf("it was asked %d times: %v", len(seen), seen)
	}
	for name := range seen[0].Header {
		if !strings.Contains(" Accept Accept-Encoding User-Agent ", " "+name+" ") {
			t.Errorf("it got %s: %s", name, seen[0].Header.Get(name))
		}
	}
}

func TestAForeignLayerIsContinuedWhereAnURLBrokeOff(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprintf("cached %v", cached), func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			layer := fetchertest.RandomLayer(7, 300*kibibyte)
			broken := newStand(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(layer)))
				_, _ = w.Write(layer[:200*kibibyte])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			whole := newStand(t, serving(layer))
			config := leadsInside(t, r)
			if cached {
				config.CacheDir = newCache(t)
			}
			putForeign(t, r, layer, broken.URL, whole.URL).fetched(t, newFetcher(t, config), r)
			if n := len(broken.requests()); n != 1 {
				t.Errorf("the one that broke off was asked %d times", n)
			}
			var ranges []string
			for _, q := range whole.requests() {
				ranges = append(ranges, q.Header.Get("Range"))
			}
			if want := []string{"bytes=204800-"}; !slices.Equal(ranges, want) {
				t.Errorf("the next was asked for %q, want %q", ranges, want)
			}
		})
	}
}

func TestTheURLsOfAForeignLayerAreAskedInOrderUntilOneServesTheRightBytes(t *testing.T) {
	t.Parallel()
	layer := []byte("a base layer")
	good := newStand(t, serving(layer))
	wrong := newStand(t, serving([]byte("A BASE LAYER")))
	longer := newStand(t, serving([]byte("a base layer and more")))
	closed := newStand(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not for you", http.StatusUnauthorized) })
	leading := newStand(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, good.URL+"/elsewhere", http.StatusFound)
	})
	zipped := newStand(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(layer)
	})
	for title, urls := range map[string][]string{
		"the first serves":                          {good.URL, closed.URL},
		"the first wants a login":                   {closed.URL, good.URL},
		"the first has other bytes":                 {wrong.URL, good.URL},
		"the first has more bytes":                  {longer.URL, good.URL},
		"the first compresses":                      {zipped.URL, good.URL},
		"the first redirects":                       {leading.URL},
		"the first is not http":                     {"ftp://" + good.host(), "file:///etc/passwd", good.URL},
		"the first has a user name":                 {"http://me:secret@" + good.host(), good.URL},
		"the first is no URL":                       {"http://\x7f/", "http://[", "", good.URL},
		"the same one twice":                        {closed.URL, closed.URL, good.URL},
		"one that is wrong comes after one that is": {wrong.URL, longer.URL, wrong.URL, good.URL},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			putForeign(t, r, layer, urls...).fetched(t, newFetcher(t, leadsInside(t, r)), r)
		})
	}
}

func TestAForeignLayerThatNoURLServesIsMissingAndEachIsNamed(t *testing.T) {
	t.Parallel()
	layer := []byte("a base layer")
	wrong := newStand(t, serving([]byte("A BASE LAYER")))
	gone := newStand(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "moved house\x1b[31m", http.StatusGone) })
	unsafe := newStand(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	r := fetchertest.New(t, fetchertest.Config{})
	o := putForeign(t, r, layer, "ftp://"+wrong.host()+"/a?secret=hunter2", "http://me:hunter2@"+wrong.host(), "http://[",
		wrong.URL+"/b?sig=hunter2", gone.URL+"/c", unsafe.URL+"/d")
	err := o.fetch(t, newFetcher(t, leadsInside(t, r)), r, `{}`)
	refused(t, err, fetcher.BlobNotFound,
		"/v2/team/app/blobs/"+o.digest.String()+": 404 Not Found", "; nor do the URLs serve that the manifest names: ",
		"ftp://"+wrong.host()+"/a (only http and https are asked)", "http://"+wrong.host()+" (one with a user name is not asked)",
		"one that can't be read as a URL", wrong.URL+"/b (", gone.URL+"/c (410 Gone)",
		unsafe.URL+`/d (redirect to a "file" URL refused)`)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it shows a secret: %v", err)
	}
	if strings.Contains(err.Error(), "moved") {
		t.Errorf("who chose the URL reads the answer: %v", err)
	}
	if n := len(wrong.requests()); n != 1 {
		t.Errorf("%d requests went where one was to go", n)
	}
	holdsNot(t, o)
}

// holdsNot fails the test where the layer is there.
func holdsNot(tb testing.TB, o overseas) {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(o.dir, o.digest.Algorithm().String()+"*"))
	if err != nil || slices.Contains(names, filepath.Join(o.dir, o.digest.String())) {
		tb.Errorf("the layer is there: %v %v", names, err)
	}
}

func TestTheURLsOfAForeignLayerAreAskedOnlyWhereTheRegistrySaysThatItHasNoSuchBlob(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		fault  fetchertest.Fault
		reason fetcher.Reason
	}{
		"denied":     {fetchertest.Fault{Status: 403}, fetcher.RegistryDenied},
		"a defect":   {fetchertest.Fault{Status: 501}, fetcher.Registry5xx},
		"many pulls": {fetchertest.Fault{Status: 429, Header: http.Header{"Retry-After": {"600"}}}, fetcher.RateLimited},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			layer := []byte("a base layer")
			away := newStand(t, serving(layer))
			r := fetchertest.New(t, fetchertest.Config{})
			o := putForeign(t, r, layer, away.URL)
			test.fault.Match = fetchertest.Match{Endpoint: fetchertest.Blob, Identifier: o.digest.String()}
			r.Inject(test.fault)
			refused(t, o.fetch(t, newFetcher(t, leadsInside(t, r)), r, `{}`), test.reason)
			if n := len(away.requests()); n != 0 {
				t.Errorf("the URL was asked %d times", n)
			}
		})
	}
	t.Run("the registry has it", func(t *testing.T) {
		t.Parallel()
		layer := []byte("a base layer")
		away := newStand(t, serving(layer))
		r := fetchertest.New(t, fetchertest.Config{})
		o := putForeign(t, r, layer, away.URL)
		r.PutBlob("team/app", layer)
		o.fetched(t, newFetcher(t, leadsInside(t, r)), r)
		if n := len(away.requests()); n != 0 {
			t.Errorf("the URL was asked %d times", n)
		}
	})
}

func TestOfManyURLsOfAForeignLayerTheFirst16AreAsked(t *testing.T) {
	t.Parallel()
	none := newStand(t, http.NotFound)
	r := fetchertest.New(t, fetchertest.Config{})
	o := putForeign(t, r, []byte("a base layer"), slices.Repeat([]string{none.URL}, 1000)...)
	refused(t, o.fetch(t, newFetcher(t, leadsInside(t, r)), r, `{}`), fetcher.BlobNotFound, "the other 984 were not asked")
	if n := len(none.requests()); n != 16 {
		t.Errorf("%d requests", n)
	}
}

func TestAPublicRegistrysForeignURLsLeadToNoInternalAddress(t *testing.T) {
	t.Parallel()
	layer := []byte("a base layer")
	inside := newStand(t, serving(layer))
	leading := newStand(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://intra.example/blob", http.StatusFound)
	})
	for title, place := range map[string]string{
		"an address":                 inside.URL,
		"a name that leads there":    "http://intra.example/blob",
		"a redirect that does":       "http://content.example/blob",
		"a decimal number":           "http://2130706433/",
		"hexadecimal, a dot missing": "http://0x7f.1/",
		"octal":                      "http://017700000001/",
		"a metadata service":         "http://169.254.169.254/latest/meta-data/",
		"one in IPv6":                "http://[fe80::1%25eth0]/",
		"one mapped into IPv6":       "http://[::ffff:169.254.169.254]/",
		"localhost":                  "http://localhost:1/",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			o := putForeign(t, r, layer, place)
			transport := globe{
				"registry.example:80": r.Host(), "intra.example:80": inside.host(), "content.example:80": leading.host(), inside.host(): inside.host(),
			}.transport()
			err := take(t, newFetcher(t, fetcher.Config{Transport: transport}), "docker://registry.example/team/app?latest#http", "")
			refused(t, err, fetcher.BlobNotFound, "(an internal address, which is refused without private_redirects in hosts.toml)")
			holdsNot(t, o)
		})
	}
	t.Cleanup(func() {
		if n := len(inside.requests()); n != 0 {
			t.Errorf("the internal address was asked %d times", n)
		}
	})
}

func TestAnInternalRegistrysForeignURLsLeadToNoInternalAddressUnlessTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	layer := []byte("a base layer")
	for title, host := range map[string]string{"by its address": "", "by a name": "intra.example"} {
		for _, allowed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, allowed %v", title, allowed), func(t *testing.T) {
				t.Parallel()
				inside := newStand(t, serving(layer))
				r := fetchertest.New(t, fetchertest.Config{})
				putForeign(t, r, layer, inside.URL+"/latest/meta-data", "http://intra.example:81/blob")
				name, hosts := cmp.Or(host, r.Host()), newHostsDir(t)
				hosts.put(name, "hosts.toml", fmt.Appendf(nil, "docker-fetcher = { private_redirects = %v }\nserver = \"http://%s\"\n", allowed, name))
				f := newFetcher(t, fetcher.Config{HostsDir: hosts.path, Transport: globe{
					r.Host(): r.Host(), "intra.example:80": r.Host(), "intra.example:81": inside.host(), inside.host(): inside.host(),
				}.transport()})
				err := take(t, f, "docker://"+name+"/team/app?latest#http", "")
				if allowed {
					if err != nil || len(inside.requests()) != 1 {
						t.Errorf("%v after %d requests", err, len(inside.requests()))
					}
					return
				}
				refused(t, err, fetcher.BlobNotFound, inside.URL+"/latest/meta-data (an internal address", "http://intra.example:81/blob (an internal address")
				if n := len(inside.requests()); n != 0 {
					t.Errorf("the internal address was asked %d times", n)
				}
			})
		}
	}
}

// A registry takes a manifest with URLs from who does not have the blob.
func TestAManifestWithURLsGivesNobodyABlobOfTheCacheAndFillsNone(t *testing.T) {
	t.Parallel()
	secret := []byte("what only the owner may read")
	away, none := newStand(t, serving(secret)), newStand(t, http.NotFound)
	for title, test := range map[string]struct {
		place string
		there bool
	}{"a URL that serves nothing": {none.URL, false}, "a URL that serves": {away.URL, true}} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			config := leadsInside(t, r)
			config.CacheDir = newCache(t)
			f := newFetcher(t, config)
			name := r.PutBlob("victim/private", secret)
			of := func(repository string) (fetcher.Result, error) {
				return f.Fetch(t.Context(), fetcher.Request{URI: uri(t, r, "docker-blob", repository, name), Directory: t.TempDir()})
			}
			o := putForeign(t, r, secret, test.place)
			if test.there {
				o.fetched(t, f, r)
			}
			for _, reused := range []bool{false, true} {
				if got, err := of("victim/private"); err != nil || got.Files[0].Reused != reused {
					t.Fatalf("the owner has %+v, %v, want reused %v", got, err, reused)
				}
			}
			if test.there {
				o.fetched(t, f, r)
			} else {
				refused(t, o.fetch(t, f, r, `{}`), fetcher.BlobNotFound)
				holdsNot(t, o)
			}
			_, err := of("team/app")
			refused(t, err, fetcher.BlobNotFound)
		})
	}
}

func TestWhoHoldsUpAForeignLayerHoldsUpNobodyElseThroughTheCache(t *testing.T) {
	t.Parallel()
	layer := []byte("a base layer")
	r := fetchertest.New(t, fetchertest.Config{})
	config := leadsInside(t, r)
	config.CacheDir = newCache(t)
	f := newFetcher(t, config)
	begun := make(chan struct{})
	slow := newStand(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(layer)))
		_, _ = w.Write(layer[:3])
		w.(http.Flusher).Flush()
		close(begun)
		<-q.Context().Done()
	})
	o := putForeign(t, r, layer, slow.URL)
	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan error)
	go func() {
		_, err := f.Fetch(ctx, fetcher.Request{URI: uri(t, r, "docker", "team/app", "latest"), Directory: o.dir})
		held <- err
	}()
	<-begun
	limited, end := context.WithTimeout(t.Context(), 20*time.Second) // less than the cache waits for who holds a blob
	defer end()
	name := r.PutBlob("victim/private", layer)
	_, err := f.Fetch(limited, fetcher.Request{URI: uri(t, r, "docker-blob", "victim/private", name), Directory: t.TempDir()})
	if err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-held; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestForeignURLsThatNeverAnswerAreGivenUpInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took, asked, err := hanging(t, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		refused(t, err, fetcher.BlobNotFound, "no answer within 5s", "not asked, as those before took too long")
		if took > 30*time.Second || asked != 2 {
			t.Errorf("it took %v and %d requests", took, asked)
		}
	})
}

func TestAForeignURLThatStallsIsTheLastOneAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took, asked, err := hanging(t, func(req *http.Request) (*http.Response, error) {
			resp := answer(req, http.StatusOK, "a base layer")
			resp.Body = mute{req.Context()}
			return resp, nil
		})
		refused(t, err, fetcher.BlobNotFound, "not asked, as those before took too long")
		if took > 2*fetcher.DefaultStallTimeout || asked != 1 {
			t.Errorf("it took %v and %d requests", took, asked)
		}
	})
}

// hanging fetches an image whose config is at 16 URLs, at each of which serve answers.
func hanging(t *testing.T, serve inProcess) (took time.Duration, asked int, err error) {
	t.Helper()
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
		"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":%[1]q,"size":12,"urls":[%[2]s]},"layers":[]}`,
		digest.FromString("a base layer"), strings.Repeat(`"https://hangs.example/",`, 15)+`"https://hangs.example/"`)
	f := newFetcher(t, fetcher.Config{Transport: inProcess(func(req *http.Request) (*http.Response, error) {
		switch {
		case req.URL.Host == "hangs.example":
			asked++
			return serve(req)
		case strings.Contains(req.URL.Path, "/manifests/"):
			return answer(req, http.StatusOK, manifest), nil
		}
		return answer(req, http.StatusNotFound, ""), nil
	})})
	begin := time.Now()
	err = take(t, f, "docker://registry.example/team/app?latest", "")
	return time.Since(begin), asked, err
}

// mute is a body of which nothing comes.
type mute struct{ ctx context.Context }

func (m mute) Read([]byte) (int, error) {
	<-m.ctx.Done()
	return 0, m.ctx.Err()
}

func (mute) Close() error { return nil }

// inProcess is a transport without sockets.
type inProcess func(*http.Request) (*http.Response, error)

func (f inProcess) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}
}
