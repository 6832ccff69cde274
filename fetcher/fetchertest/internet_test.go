package fetchertest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// surfer is a plain HTTP client behind the internet's proxy.
func surfer(t *testing.T, n *fetchertest.Internet) client {
	t.Helper()
	transport := &http.Transport{
		Proxy: http.ProxyURL(n.Proxy()), TLSClientConfig: &tls.Config{RootCAs: n.CertPool()}, DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return client{t, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// profile finds a row by its name.
func profile(t *testing.T, name string) fetchertest.Profile {
	t.Helper()
	for _, p := range fetchertest.Profiles {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no profile %q", name)
	return fetchertest.Profile{}
}

func TestTheProxyLeadsToNoOtherHost(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	n.Add(t, profile(t, "Microsoft Container Registry"))
	c := surfer(t, n)
	for _, address := range []string{"https://mcr.microsoft.com.example.com/v2/", "https://mcr.microsoft.com:5000/v2/", "https://127.0.0.1/v2/"} {
		if _, err := c.send(http.MethodGet, address, ""); err == nil || !strings.Contains(err.Error(), "Bad Gateway") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"http://mcr.microsoft.com.example.com/v2/", "http://mcr.microsoft.com:5000/v2/"} {
		if got := c.get(address); got.status != http.StatusBadGateway {
			t.Errorf("%s: %d", address, got.status)
		}
	}
	if got := c.get("http://mcr.microsoft.com/v2/"); got.status != http.StatusNotFound {
		t.Errorf("a registry by http: %d", got.status)
	}
	if got := c.get("https://mcr.microsoft.com:443/v2/"); got.status != http.StatusOK {
		t.Errorf("the registry: %d", got.status)
	}
	var got []string
	for _, q := range n.Requests() {
		got = append(got, strings.Join([]string{q.Method, q.Host, string(q.Endpoint), http.StatusText(q.Status)}, " "))
	}
	want := []string{
		"CONNECT mcr.microsoft.com.example.com other Bad Gateway", "CONNECT mcr.microsoft.com other Bad Gateway",
		"CONNECT 127.0.0.1 other Bad Gateway", "GET mcr.microsoft.com.example.com other Bad Gateway",
		"GET mcr.microsoft.com other Bad Gateway", "GET mcr.microsoft.com other Not Found", "GET mcr.microsoft.com root OK",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestATunnelEndsAtTheHostThatItWasMadeFor(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	n.Add(t, profile(t, "Docker Hub"))
	c := surfer(t, n)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry-1.docker.io/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "auth.docker.io"
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host's name in a tunnel: %d", resp.StatusCode)
	}
	names := resp.TLS.PeerCertificates[0].DNSNames
	if diff := cmp.Diff([]string{"registry-1.docker.io"}, names); diff != "" {
		t.Errorf("names in the certificate (-want +got):\n%s", diff)
	}
}

func TestNobodyTrustsTheHostsOfAnInternetWithoutItsCA(t *testing.T) {
	t.Parallel()
	n, other := fetchertest.NewInternet(t), fetchertest.NewInternet(t)
	n.Add(t, profile(t, "Quay"))
	c := surfer(t, n)
	c.http.Transport.(*http.Transport).TLSClientConfig.RootCAs = other.CertPool()
	var unknown x509.UnknownAuthorityError
	if _, err := c.send(http.MethodGet, "https://quay.io/v2/", ""); !errors.As(err, &unknown) {
		t.Errorf("with the CA of another internet: %v", err)
	}
}

func TestTheRequestsOfAllHostsAreInOneOrderAndThoseOfARegistryAreItsOwn(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	hub, quay := n.Add(t, profile(t, "Docker Hub")), n.Add(t, profile(t, "Quay"))
	c := surfer(t, n)
	c.get("https://registry-1.docker.io/v2/")
	c.get("https://quay.io/v2/")
	c.get("https://auth.docker.io/token")
	hosts := func(requests []fetchertest.Request) (names []string) {
		for _, q := range requests {
			names = append(names, q.Scheme+"://"+q.Host)
		}
		return names
	}
	for title, test := range map[string]struct{ got, want []string }{
		"all":        {hosts(n.Requests()), []string{"https://registry-1.docker.io", "https://quay.io", "https://auth.docker.io"}},
		"Docker Hub": {hosts(hub.Requests()), []string{"https://registry-1.docker.io", "https://auth.docker.io"}},
		"Quay":       {hosts(quay.Requests()), []string{"https://quay.io"}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", title, diff)
		}
	}
	hub.Reset()
	if got := len(n.Requests()); got != 1 {
		t.Errorf("after the Hub's reset, %d requests", got)
	}
	n.Reset()
	if got := quay.Count(fetchertest.Any); got != 0 {
		t.Errorf("after the internet's reset, %d requests", got)
	}
}

func TestARegistryOfTheInternetTakesFaultsAndEndsWithTheTest(t *testing.T) {
	t.Parallel()
	n := fetchertest.NewInternet(t)
	r := n.Add(t, profile(t, "Microsoft Container Registry"))
	digest := r.PutBlob("a", []byte("0123456789"))
	c := surfer(t, n)
	r.Inject(
		fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Times: 1, CutAt: 4},
		fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Times: 1, CutAt: 4, Reset: true},
		fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, StallAt: 4},
	)
	for range 2 {
		got, err := c.send(http.MethodGet, "https://mcr.microsoft.com/v2/a/blobs/"+digest, "")
		if err == nil && got.err == nil {
			t.Errorf("a cut blob came as %q", got.body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://mcr.microsoft.com/v2/a/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req) // it stalls until the test ends
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
}
