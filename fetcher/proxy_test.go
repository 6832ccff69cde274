package fetcher_test

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
)

// gateway is a proxy on loopback. It answers its first requests with these
// statuses, and leads to where the others want to go.
type gateway struct {
	*httptest.Server
	password string // as user:password; "": none is needed
	tunnels  sync.WaitGroup

	mu       sync.Mutex
	statuses []int
	asked    []string // "CONNECT host:port", "GET host:port"
	open     []net.Conn
}

func newGateway(t *testing.T, password string, statuses ...int) *gateway {
	t.Helper()
	g := &gateway{password: password, statuses: statuses}
	transport := &http.Transport{DisableCompression: true}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := g.refuses(r); status != 0 {
			w.WriteHeader(status)
			return
		}
		if r.Method == http.MethodConnect {
			g.tunnel(w, r)
			return
		}
		resp, err := transport.RoundTrip(&http.Request{Method: r.Method, URL: r.URL, Header: r.Header})
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header()["Content-Type"] = resp.Header["Content-Type"]
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.mu.Lock()
		for _, conn := range g.open {
			_ = conn.Close()
		}
		g.mu.Unlock()
		g.tunnels.Wait()
		g.Close()
		transport.CloseIdleConnections()
	})
	return g
}

// refuses notes a request, and returns the status of its refusal; 0: none.
func (g *gateway) refuses(r *http.Request) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.Method+" "+r.Host)
	if len(g.statuses) > 0 {
		status := g.statuses[0]
		g.statuses = g.statuses[1:]
		return status
	}
	given := r.Header.Get("Proxy-Authorization")
	if g.password != "" && given != "Basic "+base64.StdEncoding.EncodeToString([]byte(g.password)) {
		return http.StatusProxyAuthRequired
	}
	return 0
}

func (g *gateway) tunnel(w http.ResponseWriter, r *http.Request) {
	far, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = near.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	g.mu.Lock()
	g.open = append(g.open, near, far)
	g.mu.Unlock()
	for _, way := range []struct {
		to   net.Conn
		from io.Reader
	}{{far, buffered}, {near, far}} {
		g.tunnels.Go(func() {
			_, _ = io.Copy(way.to, way.from)
			_ = near.Close()
			_ = far.Close()
		})
	}
}

func (g *gateway) requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

// as is the proxy's URL with a user and password.
func (g *gateway) as(user *url.Userinfo) *url.URL {
	return &url.URL{Scheme: "http", Host: g.Listener.Addr().String(), User: user}
}

// through are transports by a proxy: ours, and a plain one that a caller may give.
func through(t *testing.T, r *fetchertest.Registry, proxy *url.URL) map[string]*http.Transport {
	t.Helper()
	config := &tls.Config{}
	if strings.HasPrefix(r.URL(), "https:") {
		config.RootCAs = r.CertPool()
	}
	ours, plain := registry.NewTransport(config), &http.Transport{TLSClientConfig: config.Clone()}
	for _, transport := range []*http.Transport{ours, plain} {
		transport.Proxy = http.ProxyURL(proxy)
	}
	return map[string]*http.Transport{"our transport": ours, "a caller's transport": plain}
}

func TestWhatAProxySaysToCONNECTIsReportedAsTheProxys(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		password string
		statuses []int
		user     *url.Userinfo
		asked    int
		want     []string // nil: it serves
	}{
		"407 without a password": {
			"u:s3cr3t", nil, nil, 1,
			[]string{"the proxy PROXY answers 407 Proxy Authentication Required to CONNECT", "in HTTPS_PROXY, as http://USER:PASSWORD@HOST:PORT"},
		},
		"407 with a wrong password": {
			"u:s3cr3t", nil, url.UserPassword("u", "c4n4ry"), 1,
			[]string{"the proxy PROXY answers 407"},
		},
		"the right password": {"u:s3cr3t", nil, url.UserPassword("u", "s3cr3t"), 1, nil},
		"502, and then well": {"", []int{502}, nil, 2, nil},
		"403": {
			"", []int{403, 403}, nil, 1,
			[]string{"the proxy PROXY answers 403 Forbidden to CONNECT", "ask its operator, or put the registry into NO_PROXY"},
		},
	} {
		for _, kind := range []string{"our transport", "a caller's transport"} {
			t.Run(title+", "+kind, func(t *testing.T) {
				t.Parallel()
				r := served(t, fetchertest.Config{TLS: true})
				g := newGateway(t, test.password, test.statuses...)
				transport := through(t, r, g.as(test.user))[kind]
				t.Cleanup(transport.CloseIdleConnections)
				f := newFetcher(t, fetcher.Config{Transport: transport, MaxConcurrentBlobs: 1})
				err := take(t, f, r.Host()+"/team/app#https", "")
				if test.want == nil && err != nil {
					t.Error(err)
				}
				if test.want != nil {
					want := strings.ReplaceAll(strings.Join(test.want, "\n"), "proxy PROXY", "proxy "+g.Listener.Addr().String())
					refused(t, err, fetcher.RegistryUnreachable, strings.Split(want, "\n")...)
					unspoken(t, err)
				}
				asked := g.requests()
				if n := len(asked); n < test.asked || test.want != nil && n > test.asked { // an image may need more connections
					t.Errorf("the proxy was asked %q", asked)
				}
				if slices.ContainsFunc(asked, func(s string) bool { return s != "CONNECT "+r.Host() }) {
					t.Errorf("the proxy was asked %q", asked)
				}
			})
		}
	}
}

// unspoken checks that an error shows no password.
func unspoken(t *testing.T, err error) {
	t.Helper()
	if strings.Contains(err.Error(), "c4n4ry") || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("it shows the password: %v", err)
	}
}

func TestAProxyThatIsDownIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for title, config := range map[string]fetchertest.Config{"https": {TLS: true}, "http": {}} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := served(t, config)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			down := listener.Addr().String()
			_ = listener.Close()
			proxy := &url.URL{Scheme: "http", Host: down, User: url.UserPassword("u", "c4n4ry")}
			f := newFetcher(t, fetcher.Config{Transport: through(t, r, proxy)["our transport"]})
			err = take(t, f, r.Host()+"/team/app#"+title, "")
			refused(t, err, fetcher.RegistryUnreachable, "proxyconnect", down, "check the proxy that HTTPS_PROXY or HTTP_PROXY names")
			unspoken(t, err)
		})
	}
}

func TestPlainHTTPThroughAProxyMayNeedAPasswordToo(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		user *url.Userinfo
		want bool
	}{
		"without":            {nil, false},
		"with a wrong one":   {url.UserPassword("u", "c4n4ry"), false},
		"with the right one": {url.UserPassword("u", "s3cr3t"), true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r, g := served(t, fetchertest.Config{}), newGateway(t, "u:s3cr3t")
			transport := through(t, r, g.as(test.user))["our transport"]
			t.Cleanup(transport.CloseIdleConnections)
			err := take(t, newFetcher(t, fetcher.Config{Transport: transport}), r.Host()+"/team/app#http", "")
			if test.want {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, fetcher.RegistryUnreachable, "407 Proxy Authentication Required", "in HTTP_PROXY, as http://USER:PASSWORD@HOST:PORT")
			unspoken(t, err)
			if n := len(g.requests()); n != 1 {
				t.Errorf("the proxy was asked %d times", n)
			}
		})
	}
}

func TestTheProxiesOfTheEnvironmentAreUsedAndNO_PROXYIsHonoured(t *testing.T) {
	t.Parallel()
	// This address is loopback that no proxy setting takes for such.
	const here = "0.0.0.0"
	trusted := newAuthority(t)
	for title, test := range map[string]struct {
		secure  bool
		env     string
		proxied bool
	}{
		"https by HTTPS_PROXY":                    {true, "HTTPS_PROXY=http://u:s3cr3t@PROXY", true},
		"http by HTTP_PROXY":                      {false, "HTTP_PROXY=http://u:s3cr3t@PROXY", true},
		"https is not for HTTP_PROXY":             {true, "HTTP_PROXY=http://u:s3cr3t@PROXY", false},
		"a host of NO_PROXY is asked straight":    {true, "HTTPS_PROXY=http://u:s3cr3t@PROXY NO_PROXY=" + here, false},
		"so is a range of addresses, and by http": {false, "HTTP_PROXY=http://u:s3cr3t@PROXY no_proxy=example.com,0.0.0.0/8", false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s, scheme := frontSetting{}, "http"
			if test.secure {
				s.config, scheme = &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}, "https"
			}
			f, g := newFront(t, served(t, fetchertest.Config{}).URL(), s), newGateway(t, "u:s3cr3t")
			hosts := newHostsDir(t)
			_, port, err := net.SplitHostPort(f.host())
			if err != nil {
				t.Fatal(err)
			}
			hosts.put(here+":"+port, "hosts.toml", []byte("skip_verify = true\n"))
			env := strings.Fields(strings.ReplaceAll(test.env, "@PROXY", "@"+g.Listener.Addr().String()))
			if text := elsewhere(t, here+":"+port+"/team/app#"+scheme, hosts.path, env...); text != "" {
				t.Fatal(text)
			}
			if asked := g.requests(); (len(asked) > 0) != test.proxied {
				t.Errorf("the proxy was asked %q", asked)
			}
		})
	}
}

func TestAMirrorAndATokenServerAreAskedThroughTheProxy(t *testing.T) {
	t.Parallel()
	r := served(t, fetchertest.Config{TLS: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	g := newGateway(t, "")
	hosts := newHostsDir(t)
	origin := served(t, fetchertest.Config{})
	hosts.put(origin.Host(), "ca.pem", r.CA())
	hosts.put(origin.Host(), "hosts.toml", []byte("[host.\""+r.URL()+"\"]\nca = \"ca.pem\"\n"))
	transport := registry.NewTransport(nil)
	transport.Proxy = http.ProxyURL(g.as(nil))
	t.Cleanup(transport.CloseIdleConnections)
	if err := take(t, newFetcher(t, fetcher.Config{Transport: transport, HostsDir: hosts.path}), origin.Host()+"/team/app#http", ""); err != nil {
		t.Fatal(err)
	}
	realm, err := url.Parse(r.TokenURL())
	if err != nil {
		t.Fatal(err)
	}
	asked := g.requests()
	if !slices.Contains(asked, "CONNECT "+r.Host()) || !slices.Contains(asked, "CONNECT "+realm.Host) || origin.Count(fetchertest.Any) != 0 {
		t.Errorf("the proxy was asked %q", asked)
	}
}

// The hosts of the world have names that no name server is asked for here.
func TestARegistryIsReachedByItsNameThroughTheProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	internet := fetchertest.NewInternet(t)
	profile := fetchertest.Profiles[0]
	internet.Add(t, profile).PutImage(profile.Public.Repository, profile.Public.Tag, smallImage)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, internet.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := elsewhere(t, profile.Public.URI, "", "HTTPS_PROXY="+internet.Proxy().String(), "SSL_CERT_FILE="+roots)
	if text != "" {
		t.Error(text)
	}
}
