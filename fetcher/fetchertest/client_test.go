package fetchertest_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// answer is what a client saw.
type answer struct {
	status int
	header http.Header
	length int64 // the Content-Length; -1: none
	body   string
	err    error // while the body was read
}

// client is a plain HTTP client that follows no redirect.
type client struct {
	t    *testing.T
	http *http.Client
}

func newClient(t *testing.T, r *fetchertest.Registry) client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.CertPool()}, ForceAttemptHTTP2: true, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return client{t, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send returns what came, or the error that kept it from coming.
func (c client) send(method, address, body string, header ...string) (answer, error) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(got), err}, nil
}

// get must get a whole answer.
func (c client) get(address string, header ...string) answer {
	c.t.Helper()
	return c.do(http.MethodGet, address, "", header...)
}

func (c client) do(method, address, body string, header ...string) answer {
	c.t.Helper()
	a, err := c.send(method, address, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, address, err)
	}
	if a.err != nil {
		c.t.Fatalf("%s %s: body: %v", method, address, a.err)
	}
	return a
}

func (c client) post(address string, form url.Values) answer {
	c.t.Helper()
	return c.do(http.MethodPost, address, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

func basic(userPass string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userPass))
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("decode %q: %v", body, err)
	}
	return v
}
