package fetcher_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// authority signs certificates.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	a := &authority{key: key, root: template()}
	a.root.IsCA, a.root.BasicConstraintsValid, a.root.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, a.root, a.root, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.root, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return a
}

func template() *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "a test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
}

// issue signs a certificate for loopback, or as change makes it.
func (a *authority) issue(tb testing.TB, change func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	t := template()
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if change != nil {
		change(t)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.root, a.key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

func (a *authority) pem() []byte { return certificatePEM(a.root.Raw) }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(tb testing.TB, c tls.Certificate) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// front is a server before another one. It may speak TLS in a way of its own,
// listen at an address of its own, and be a folder of its server.
type front struct {
	*httptest.Server
	mu    sync.Mutex
	calls int        // connections
	seen  []sighting // requests
}

// sighting is what a front noted of a request.
type sighting struct {
	path, secret string // of the field X-Secret
	certified    bool   // by a client certificate
}

// frontSetting says how a front is; its zero value speaks http on 127.0.0.1.
type frontSetting struct {
	config *tls.Config
	listen string
	folder string   // what requests begin with, and the server behind is not told
	change []string // pairs of texts to replace in fields of answers
}

func newFront(tb testing.TB, behind string, s frontSetting) *front {
	tb.Helper()
	target, err := url.Parse(behind)
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	replace := strings.NewReplacer(s.change...)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport, ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(resp *http.Response) error {
			for _, name := range []string{"Location", "Www-Authenticate"} {
				for i, value := range resp.Header[name] {
					resp.Header[name][i] = replace.Replace(value)
				}
			}
			return nil
		},
	}
	f := &front{}
	f.Server = httptest.NewUnstartedServer(f.noting(http.StripPrefix(s.folder, proxy)))
	if s.listen != "" {
		_ = f.Listener.Close()
		if f.Listener, err = net.Listen("tcp", s.listen); err != nil {
			tb.Skipf("no server can listen on %s: %v", s.listen, err)
		}
	}
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.Config.ConnState = f.count
	if s.config == nil {
		f.Start()
	} else {
		f.TLS = s.config
		f.StartTLS()
	}
	tb.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		transport.CloseIdleConnections()
	})
	return f
}

func (f *front) noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.seen = append(f.seen, sighting{r.URL.Path, r.Header.Get("X-Secret"), r.TLS != nil && len(r.TLS.PeerCertificates) > 0})
		f.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (f *front) count(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		f.mu.Lock()
		f.calls++
		f.mu.Unlock()
	}
}

func (f *front) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *front) sightings() []sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *front) host() string { return f.Listener.Addr().String() }

// hostsDir is a hosts directory in the making.
type hostsDir struct {
	testing.TB
	path string
}

func newHostsDir(tb testing.TB) hostsDir { return hostsDir{tb, tb.TempDir()} }

// put writes a file for a registry and returns its path.
func (d hostsDir) put(registry, name string, data []byte) string {
	d.Helper()
	path := filepath.Join(d.path, registry, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		d.Fatal(err)
	}
	return path
}

// take fetches by a URI without observing anything.
func take(tb testing.TB, f *fetcher.Fetcher, uri string, config string) error {
	tb.Helper()
	ref, err := scheme.ParseFamiliar(uri)
	if err != nil {
		tb.Fatal(err)
	}
	req := fetcher.Request{URI: ref.URI(), Directory: tb.TempDir()}
	if config != "" {
		req.Config.JSON = []byte(config)
	}
	_, err = f.Fetch(tb.Context(), req)
	return err
}

// refused checks that a fetch failed for a reason, in words that have all of these.
func refused(tb testing.TB, err error, reason fetcher.Reason, words ...string) {
	tb.Helper()
	var failure *fetcher.Error
	if !errors.As(err, &failure) || failure.Reason != reason {
		tb.Fatalf("got %v, want %s", err, reason)
	}
	for _, word := range words {
		if !strings.Contains(failure.Text, word) {
			tb.Errorf("%q does not say %q", failure.Text, word)
		}
	}
}

var smallImage = fetchertest.Image{Layers: smallLayer}

// served is an http registry with the image team/app.
func served(tb testing.TB, c fetchertest.Config) *fetchertest.Registry {
	tb.Helper()
	r := fetchertest.New(tb, c)
	r.PutImage("team/app", "latest", smallImage)
	return r
}

func TestATLSFailureSaysWhatIsWrongAndWhatToDoAndIsNotRepeated(t *testing.T) {
	t.Parallel()
	trusted, other := newAuthority(t), newAuthority(t)
	addHere := "add the CA as ca in HOSTS, or to the file that SSL_CERT_FILE names"
	valid := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to)
		}
	}
	certified := trusted.issue(t, nil)
	strangers := other.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	for title, test := range map[string]struct {
		config *tls.Config
		hosts  string // hosts.toml; "": none
		want   []string
	}{
		"an unknown authority, and no hosts.toml": {
			&tls.Config{Certificates: []tls.Certificate{certified}}, "",
			[]string{"unknown authority", "add the CA as ca in hosts.toml, or to the file that SSL_CERT_FILE names"},
		},
		"an unknown authority, and a hosts.toml without ca": {
			&tls.Config{Certificates: []tls.Certificate{certified}}, `capabilities = ["pull", "resolve"]`,
			[]string{"unknown authority", addHere},
		},
		"another authority than that of ca": {
			&tls.Config{Certificates: []tls.Certificate{other.issue(t, nil)}}, `ca = "ca.pem"`,
			[]string{"unknown authority", addHere},
		},
		"an expired certificate": {
			&tls.Config{Certificates: []tls.Certificate{trusted.issue(t, valid(-2*time.Hour, -time.Hour))}}, `ca = "ca.pem"`,
			[]string{"certificate has expired", "renew it, or set this machine's clock"},
		},
		"a certificate that is not valid yet": {
			&tls.Config{Certificates: []tls.Certificate{trusted.issue(t, valid(time.Hour, 2*time.Hour))}}, `ca = "ca.pem"`,
			[]string{"is not yet valid", "renew it, or set this machine's clock"},
		},
		"a certificate for another name": {
			&tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) {
				c.IPAddresses, c.DNSNames = nil, []string{"registry.example"}
			})}}, `ca = "ca.pem"`,
			[]string{"127.0.0.1", "the certificate is for other names"},
		},
		"TLS 1.1": {
			&tls.Config{Certificates: []tls.Certificate{certified}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, `ca = "ca.pem"`,
			[]string{"protocol version", "TLS 1.2 or later"},
		},
		"no client certificate where one is wanted": {
			&tls.Config{Certificates: []tls.Certificate{certified}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool()}, `ca = "ca.pem"`,
			[]string{"certificate required", "client certificate: name one as client in HOSTS"},
		},
		"no client certificate where one is wanted, by TLS 1.2": {
			&tls.Config{
				Certificates: []tls.Certificate{certified}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool(),
				MaxVersion: tls.VersionTLS12,
			}, `ca = "ca.pem"`,
			[]string{"tls:", "client certificate: name one as client in HOSTS"},
		},
		"a client certificate of another authority": {
			&tls.Config{Certificates: []tls.Certificate{certified}, ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(s tls.ConnectionState) error {
				_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: trusted.pool()})
				return err
			}}, "ca = \"ca.pem\"\nclient = [[\"strange.cert\", \"strange.key\"]]",
			[]string{"bad certificate", "client in HOSTS"},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			hosts := newHostsDir(t)
			f := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{config: test.config})
			file := "hosts.toml"
			if test.hosts != "" {
				file = hosts.put(f.host(), "hosts.toml", []byte(test.hosts))
			}
			if test.hosts != "" {
				hosts.put(f.host(), "ca.pem", trusted.pem())
				hosts.put(f.host(), "strange.cert", certificatePEM(strangers.Certificate[0]))
				hosts.put(f.host(), "strange.key", keyPEM(t, strangers))
			}
			err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), f.host()+"/team/app#https", "")
			for i := range test.want {
				test.want[i] = strings.ReplaceAll(test.want[i], "HOSTS", file)
			}
			refused(t, err, fetcher.TLSFailed, append(test.want, f.host())...)
			if n := f.connections(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}

func TestACertificateIsAcceptedAsTheHostsFileSays(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	server := trusted.issue(t, nil)
	client := trusted.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	mutual := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool()}
	for title, test := range map[string]struct {
		config *tls.Config
		hosts  string
	}{
		"its authority is ca":                    {&tls.Config{Certificates: []tls.Certificate{server}}, `ca = "ca.pem"`},
		"ca is a list":                           {&tls.Config{Certificates: []tls.Certificate{server}}, `ca = ["ca.pem"]`},
		"nothing is verified":                    {&tls.Config{Certificates: []tls.Certificate{server}}, `skip_verify = true`},
		"the client's is a pair of files":        {mutual.Clone(), "ca = \"ca.pem\"\nclient = [[\"client.cert\", \"client.key\"]]"},
		"the client's and its key are in a file": {mutual.Clone(), "ca = \"ca.pem\"\nclient = \"both.pem\""},
		"the files are as docker has them":       {mutual.Clone(), ""},
		"the client's by TLS 1.2":                {limited(mutual.Clone()), "ca = \"ca.pem\"\nclient = \"both.pem\""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			hosts := newHostsDir(t)
			f := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{config: test.config})
			cert, key := certificatePEM(client.Certificate[0]), keyPEM(t, client)
			hosts.put(f.host(), "client.cert", cert)
			hosts.put(f.host(), "client.key", key)
			hosts.put(f.host(), "both.pem", append(slices.Clone(cert), key...))
			if test.hosts == "" {
				hosts.put(f.host(), "ca.crt", trusted.pem())
			} else {
				hosts.put(f.host(), "ca.pem", trusted.pem())
				hosts.put(f.host(), "hosts.toml", []byte(test.hosts))
			}
			if err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), f.host()+"/team/app#https", ""); err != nil {
				t.Error(err)
			}
		})
	}
}

func limited(c *tls.Config) *tls.Config {
	c.MaxVersion = tls.VersionTLS12
	return c
}

// estate is a registry, its token server and its content host, each behind a front.
type estate struct {
	registry, token, cdn *front
	hosts                hostsDir
	behind               *fetchertest.Registry
}

// newEstate has fronts that speak TLS as these say; nil: http.
func newEstate(t *testing.T, registry, token, cdn *tls.Config) *estate {
	t.Helper()
	behind := served(t, fetchertest.Config{Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	e := &estate{hosts: newHostsDir(t), behind: behind}
	realm, err := url.Parse(behind.TokenURL())
	if err != nil {
		t.Fatal(err)
	}
	e.token = newFront(t, realm.Scheme+"://"+realm.Host, frontSetting{config: token})
	e.cdn = newFront(t, "http://"+behind.CDNHost(), frontSetting{config: cdn})
	e.registry = newFront(t, behind.URL(), frontSetting{config: registry, change: []string{
		realm.Scheme + "://" + realm.Host, e.token.URL, "http://" + behind.CDNHost(), e.cdn.URL,
	}})
	return e
}

func (e *estate) take(t *testing.T, text string) error {
	t.Helper()
	e.hosts.put(e.registry.host(), "hosts.toml", []byte(text))
	return take(t, newFetcher(t, fetcher.Config{HostsDir: e.hosts.path}), e.registry.host()+"/team/app#https", "")
}

func TestTheTokenServerIsAskedWithTheHostsCertificatesAndTheContentHostIsNot(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	server := []tls.Certificate{trusted.issue(t, nil)}
	client := trusted.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	mutual := func() *tls.Config {
		return &tls.Config{Certificates: server, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool()}
	}
	e := newEstate(t, mutual(), mutual(), &tls.Config{Certificates: server, ClientAuth: tls.RequestClientCert})
	e.hosts.put(e.registry.host(), "ca.pem", trusted.pem())
	e.hosts.put(e.registry.host(), "client.pem", append(certificatePEM(client.Certificate[0]), keyPEM(t, client)...))
	err := e.take(t, "ca = \"ca.pem\"\nclient = \"client.pem\"\n")
	refused(t, err, fetcher.TLSFailed, "redirected to "+e.cdn.URL, "unknown authority",
		"add the CA to the file that SSL_CERT_FILE names; ca in hosts.toml does not hold where a registry redirects to")
	if n := len(e.cdn.sightings()); n != 0 {
		t.Errorf("the content host got %d requests", n)
	}
	tokens := e.token.sightings()
	if len(tokens) == 0 || slices.ContainsFunc(tokens, func(s sighting) bool { return !s.certified }) {
		t.Errorf("the token server got %v", tokens)
	}
	if n := e.cdn.connections(); n == 0 || n > 2 { // config and layer
		t.Errorf("%d connections to the content host", n)
	}
}

func TestAContentHostThatTheSystemTrustsGetsNeitherTheClientCertificateNorTheHostsFields(t *testing.T) {
	t.Parallel()
	trusted, world := newAuthority(t), newAuthority(t)
	client := trusted.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	// A server without CAs to name takes any client certificate that is offered.
	e := newEstate(t,
		&tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}, ClientAuth: tls.RequireAnyClientCert},
		&tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}, ClientAuth: tls.RequestClientCert},
		&tls.Config{Certificates: []tls.Certificate{world.issue(t, nil)}, ClientAuth: tls.RequestClientCert})
	e.hosts.put(e.registry.host(), "ca.pem", trusted.pem())
	e.hosts.put(e.registry.host(), "client.pem", append(certificatePEM(client.Certificate[0]), keyPEM(t, client)...))
	e.hosts.put(e.registry.host(), "hosts.toml", []byte("ca = \"ca.pem\"\nclient = \"client.pem\"\n[header]\nx-secret = \"c4n4ry\"\n"))
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, world.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := elsewhere(t, e.registry.host()+"/team/app#https", e.hosts.path, "SSL_CERT_FILE="+roots); text != "" {
		t.Fatal(text)
	}
	for name, test := range map[string]struct {
		front     *front
		certified bool
		secret    string
	}{
		"registry":     {e.registry, true, "c4n4ry"},
		"token server": {e.token, true, ""},
		"content host": {e.cdn, false, ""},
	} {
		seen := test.front.sightings()
		if len(seen) == 0 {
			t.Errorf("%s: not asked", name)
		}
		for _, s := range seen {
			if s.certified != test.certified || s.secret != test.secret {
				t.Errorf("%s got %+v", name, s)
			}
		}
	}
}

func TestTheFileOfSSL_CERT_FILEIsTrusted(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	f := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{config: &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}})
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, trusted.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := elsewhere(t, f.host()+"/team/app#https", "", "SSL_CERT_FILE="+roots); text != "" {
		t.Error(text)
	}
	if text := elsewhere(t, f.host()+"/team/app#https", "", "SSL_CERT_FILE="+os.DevNull); !strings.Contains(text, "SSL_CERT_FILE") {
		t.Errorf("without it: %q", text)
	}
}

// elsewhere fetches in a process of its own, with these variables, and returns
// the error's text; "": there was none. Go reads some variables once.
func elsewhere(t *testing.T, uri, hosts string, env ...string) string {
	t.Helper()
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("the system says whom to trust here, not SSL_CERT_FILE")
	}
	result := filepath.Join(t.TempDir(), "result")
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProcessOfItsOwn$")
	command.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasSuffix(strings.ToLower(name), "_proxy")
	}), append(env, elsewhereURI+"="+uri, elsewhereHosts+"="+hosts, elsewhereResult+"="+result)...)
	output, _ := command.CombinedOutput() // what counts is in the file
	text, err := os.ReadFile(result)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(text)
}

const (
	elsewhereURI    = "FETCHER_TEST_URI"
	elsewhereHosts  = "FETCHER_TEST_HOSTS"
	elsewhereResult = "FETCHER_TEST_RESULT"
)

func TestAProcessOfItsOwn(t *testing.T) {
	uri := os.Getenv(elsewhereURI)
	if uri == "" {
		t.Skip("it is run by other tests")
	}
	text := ""
	if err := take(t, newFetcher(t, fetcher.Config{HostsDir: os.Getenv(elsewhereHosts)}), uri, ""); err != nil {
		text = err.Error()
	}
	if err := os.WriteFile(os.Getenv(elsewhereResult), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Exit(1) // connections are kept for a next fetch, which TestMain would wait for
}

func TestTheFieldsOfAHostReachItAndReplaceNothingOfTheProtocol(t *testing.T) {
	t.Parallel()
	r := served(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	f := newFront(t, r.URL(), frontSetting{})
	hosts := newHostsDir(t)
	hosts.put(f.host(), "hosts.toml", []byte("[header]\nX-Secret = \"c4n4ry\"\n"))
	if err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), f.host()+"/team/app#http", ""); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.sightings() {
		if s.secret != "c4n4ry" {
			t.Errorf("%s came without the field", s.path)
		}
	}
	for _, q := range r.Requests() {
		if q.Endpoint == fetchertest.Manifest && strings.Contains(q.Accept, "text/html") || q.Endpoint == fetchertest.Blob && q.AcceptEncoding != "identity" {
			t.Errorf("it got %+v", q)
		}
	}
}

func TestTheProbeOfAHostHasItsFieldsToo(t *testing.T) {
	t.Parallel()
	silent := func(string, string) []string { return []string{} }
	r := served(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Challenge: silent}})
	f := newFront(t, r.URL(), frontSetting{})
	hosts := newHostsDir(t)
	hosts.put(f.host(), "hosts.toml", []byte("[header]\nX-Secret = \"c4n4ry\"\n"))
	if err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), f.host()+"/team/app#http", ""); err != nil {
		t.Fatal(err)
	}
	probed := false
	for _, s := range f.sightings() {
		probed = probed || s.path == "/v2/"
		if s.secret != "c4n4ry" {
			t.Errorf("%s came without the field", s.path)
		}
	}
	if !probed {
		t.Error("there was no probe")
	}
}

func TestAMirrorMayBeAFolderOfAServer(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct{ folder, url, more, asked string }{
		"a folder before /v2":               {"/artifactory/docker", "/artifactory/docker", "", "/artifactory/docker/v2/team/app/"},
		"a folder before /v2 that is named": {"/docker", "/docker/v2/", "", "/docker/v2/team/app/"},
		"a folder in place of /v2":          {"/api/docker", "/api/docker", "override_path = true", "/api/docker/team/app/"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			behind, origin := served(t, fetchertest.Config{}), served(t, fetchertest.Config{})
			to := behind.URL()
			if test.more != "" {
				to += "/v2"
			}
			f := newFront(t, to, frontSetting{folder: test.folder})
			hosts := newHostsDir(t)
			hosts.put(origin.Host(), "hosts.toml", fmt.Appendf(nil, "[host.%q]\n%s\n", f.URL+test.url, test.more))
			if err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), origin.Host()+"/team/app#http", ""); err != nil {
				t.Fatal(err)
			}
			if n := origin.Count(fetchertest.Any); n != 0 {
				t.Errorf("the origin got %d requests", n)
			}
			for _, s := range f.sightings() {
				if !strings.HasPrefix(s.path, test.asked) {
					t.Errorf("asked %s", s.path)
				}
			}
		})
	}
}

func TestADirectoryInDockersFormIsNamedByItself(t *testing.T) {
	t.Parallel()
	trusted, other := newAuthority(t), newAuthority(t)
	f := newFront(t, served(t, fetchertest.Config{}).URL(), frontSetting{config: &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}})
	hosts := newHostsDir(t)
	dir := filepath.Dir(hosts.put(f.host(), "ca.crt", other.pem()))
	err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), f.host()+"/team/app#https", "")
	refused(t, err, fetcher.TLSFailed, "add the CA as *.crt in "+dir+", or")
}

// A server of an old TLS chooses it whatever it was offered.
func TestAServerThatChoosesAnOldTLSIsToldApart(t *testing.T) {
	t.Parallel()
	hello := append([]byte{0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2}, make([]byte, 36)...)
	hello[len(hello)-3], hello[len(hello)-2] = 0xc0, 0x13 // no session, and this cipher suite
	at, calls := answering(t, hello)
	err := take(t, newFetcher(t, fetcher.Config{}), at+"/team/app#https", "")
	refused(t, err, fetcher.TLSFailed, "unsupported protocol version", "TLS 1.2 or later")
	if n := calls(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// answering is a server that says these bytes to whatever comes first.
func answering(t *testing.T, answer []byte) (at string, calls func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write(answer)
			_, _ = io.Copy(io.Discard, conn) // until the client goes
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		ended.Wait()
	})
	return listener.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}
