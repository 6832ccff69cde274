package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker-fetcher/docker-fetcher/scheme"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// headerTimeout bounds the wait for an answer's first byte, so that a
	// registry which accepts connections but never answers is reported in time.
	headerTimeout  = 15 * time.Second
	maxHeaderBytes = 256 << 10
	// idlePerHost keeps the connections of parallel fetches for the next ones.
	idlePerHost = 64
)

// NewTransport returns the transport for registries: HTTP/1.1 only, since one
// HTTP/2 connection per host would carry all blobs of an image; proxies from
// the environment; no transparent compression, which would change the bytes
// that digests are taken over. A nil config: the system's roots.
func NewTransport(config *tls.Config) *http.Transport {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.NextProtos = []string{"http/1.1"}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxyFromEnvironment,
		OnProxyConnectResponse: connected,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
		Protocols:              protocols,
	}
}

// proxyFromEnvironment is http.ProxyFromEnvironment, but for a variable that names
// no proxy. That takes some of these for none, so that requests go past the
// proxy, and others for a host that they don't mean.
func proxyFromEnvironment(req *http.Request) (*url.URL, error) {
	name := strings.ToUpper(req.URL.Scheme) + "_PROXY"
	addr, known := literal(req.URL.Hostname())
	near := known && addr.IsLoopback() // never by a proxy
	if text := cmp.Or(os.Getenv(name), os.Getenv(strings.ToLower(name))); !near && text != "" && !namesProxy(text) {
		return nil, &proxySettingError{name}
	}
	return http.ProxyFromEnvironment(req)
}

// namesProxy reports whether text is the URL of a proxy, or its host and port.
func namesProxy(text string) bool {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && !strings.HasSuffix(u.Host, ":") && slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)
}

// proxySettingError is a variable that names no proxy. What it holds may be secret.
type proxySettingError struct{ name string }

func (e *proxySettingError) Error() string {
	return "the environment's " + e.name + " can't be read as the URL of a proxy"
}

// readRoots has the system's certificates read while the first connection is
// made: Go reads them once, at the first verification, which takes 11 ms.
func readRoots() {
	go func() { _, _ = x509.SystemCertPool() }()
}

// speaksPlain finds out whether a loopback registry speaks plain http. A
// registry elsewhere is never asked: there only the URI's fragment counts.
func (c *Client) speaksPlain(ctx context.Context, ref scheme.Reference) bool {
	host := ref.Host()
	c.mu.Lock()
	plain, known := c.plain[host]
	c.mu.Unlock()
	if known {
		return plain
	}
	plain, err := plainHTTP(ctx, host)
	if err != nil {
		return false // the request itself will say what is wrong
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	note(c.plain, host, plain)
	return plain
}

// plainHTTP begins a TLS handshake with a loopback server and says whether the
// answer was something else. Nothing is verified, as nothing is sent.
func plainHTTP(ctx context.Context, host string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, _, err := net.SplitHostPort(host); err != nil {
		host += ":443"
	}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	err = tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // see above
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	return false, nil
}

// discard reads what little is left, so that the connection serves again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}
