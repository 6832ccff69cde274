package fetcher_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
)

// TestATLSFailureWhereARegistryLeadsSaysWhoseItIs: those of the registry itself are
// in tls_test.go.
func TestATLSFailureWhereARegistryLeadsSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	trusted, other := newAuthority(t), newAuthority(t)
	config := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	elsewhere := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} }
	for name, test := range map[string]struct {
		config *tls.Config // nil: plain http
		cut    bool        // the handshake is, each time
		reason fetcher.Reason
		words  string
		asked  int // connections
	}{
		"an unknown authority":       {config(other.issue(t, nil)), false, fetcher.TLSFailed, "unknown authority", 1},
		"an expired certificate":     {config(trusted.issue(t, expired)), false, fetcher.TLSFailed, "certificate has expired", 1},
		"another name":               {config(trusted.issue(t, elsewhere)), false, fetcher.TLSFailed, "the certificate is for other names", 1},
		"plain http on the TLS port": {nil, false, fetcher.TLSFailed, "speaks plain http", 1},
		"a handshake that is cut":    {nil, true, fetcher.RegistryUnreachable, "EOF", 5},
	} {
		for _, at := range []place{tokenServer, contentHost} {
			t.Run(name+"/"+at.name, func(t *testing.T) {
				t.Parallel()
				behind := served(t, fetchertest.Config{Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
				realm, _, _ := strings.Cut(strings.TrimPrefix(behind.TokenURL(), "http://"), "/")
				good := config(trusted.issue(t, nil))
				token, cdn := frontSetting{config: good}, frontSetting{config: good}
				faulty := &token
				if at == contentHost {
					faulty = &cdn
				}
				faulty.config = test.config
				tokens, content := newFront(t, "http://"+realm, token), newFront(t, "http://"+behind.CDNHost(), cdn)
				bad := map[place]*front{tokenServer: tokens, contentHost: content}[at]
				name := bad.host()
				calls := bad.connections
				if test.cut {
					name, calls = hangingUp(t)
				}
				change := []string{"http://" + realm, "https://" + tokens.host(), "http://" + behind.CDNHost(), "https://" + content.host()}
				for i := range change {
					change[i] = strings.ReplaceAll(change[i], bad.host(), name)
				}
				f, now, l := newFront(t, behind.URL(), frontSetting{config: good, change: change}), time.Now(), &link{}
				virtual(t, l, func(t *testing.T) {
					transport := l.transport()
					transport.TLSClientConfig.RootCAs = trusted.pool()
					transport.TLSClientConfig.Time = func() time.Time { return now }
					fetch := newFetcher(t, fetcher.Config{Transport: transport, MaxConcurrentBlobs: 1})
					begin := time.Now()
					err := take(t, fetch, f.host()+"/team/app#https", "")
					refused(t, err, test.reason, test.words, name)
					if took := time.Since(begin); calls() != test.asked || took > 8*time.Second {
						t.Errorf("%d connections in %v", calls(), took)
					}
				})
			})
		}
	}
}

// hangingUp is a server that hangs up in the middle of a TLS handshake.
func hangingUp(t *testing.T) (at string, calls func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{Listener: l, accepted: make(chan struct{}, 1000)}
	serveBytes(t, c, nil)
	return l.Addr().String(), func() int { return len(c.accepted) }
}

// counting counts what it accepts.
type counting struct {
	net.Listener
	accepted chan struct{}
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted <- struct{}{}
	}
	return conn, err
}

// TestAProxyThatRefusesIsAskedAgainIfThatMayPass: 407 and 403 are in proxy_test.go.
func TestAProxyThatRefusesIsAskedAgainIfThatMayPass(t *testing.T) {
	t.Parallel()
	many := func(status, n int) (statuses []int) {
		for range n {
			statuses = append(statuses, status)
		}
		return statuses
	}
	for name, test := range map[string]struct {
		secure   bool
		statuses []int
		reason   fetcher.Reason // "": every byte is right
		words    string
		asked    int
	}{
		"502 to CONNECT four times, and then well": {true, many(502, 4), "", "", 0},
		"503 to CONNECT, and then well":            {true, many(503, 1), "", "", 0},
		"504 to CONNECT, and then well":            {true, many(504, 1), "", "", 0},
		"502 to CONNECT always":                    {true, many(502, 100), fetcher.RegistryUnreachable, "answers 502 Bad Gateway to CONNECT", 5},
		"407 to CONNECT always":                    {true, many(407, 100), fetcher.RegistryUnreachable, "answers 407 Proxy Authentication Required to CONNECT", 1},
		"502 to GET four times, and then well":     {false, many(502, 4), "", "", 0},
		"502 to GET always":                        {false, many(502, 100), fetcher.Registry5xx, "502 Bad Gateway", 5},
		"407 to GET always":                        {false, many(407, 100), fetcher.RegistryUnreachable, "407 Proxy Authentication Required", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, g := served(t, fetchertest.Config{TLS: test.secure}), newGateway(t, "", test.statuses...)
			now, l := time.Now(), &link{}
			virtual(t, l, func(t *testing.T) {
				transport := registry.NewTransport(&tls.Config{RootCAs: r.CertPool(), Time: func() time.Time { return now }})
				transport.Proxy, transport.DisableKeepAlives = http.ProxyURL(g.as(nil)), true
				uri := r.Host() + "/team/app#http"
				if test.secure {
					uri += "s"
				}
				begin := time.Now()
				err := take(t, newFetcher(t, fetcher.Config{Transport: transport, MaxConcurrentBlobs: 1}), uri, "")
				if took := time.Since(begin); took > 8*time.Second {
					t.Errorf("it took %v", took)
				}
				if test.reason == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				refused(t, err, test.reason, test.words)
				if asked := g.requests(); len(asked) != test.asked {
					t.Errorf("the proxy was asked %q", asked)
				}
			})
		})
	}
}
