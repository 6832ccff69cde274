package fetcher_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// net/http calls the functions of a transport in goroutines of its own, where a
// panic would end the process.
func TestAPanicInAFunctionOfTheTransportFailsTheFetchAndShowsItsTextToNobody(t *testing.T) {
	t.Parallel()
	const words = "a secret slips out"
	for title, spoil := range map[string]func(*http.Transport){
		"its dial": func(t *http.Transport) {
			t.DialContext = func(context.Context, string, string) (net.Conn, error) { panic(words) }
		},
		"its dial for TLS": func(t *http.Transport) {
			t.DialTLSContext = func(context.Context, string, string) (net.Conn, error) { panic(words) }
		},
		"its check of certificates": func(t *http.Transport) {
			t.TLSClientConfig.VerifyConnection = func(tls.ConnectionState) error { panic(words) }
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := served(t, fetchertest.Config{TLS: true})
			protocols := new(http.Protocols)
			protocols.SetHTTP1(true)
			transport := &http.Transport{DisableCompression: true, Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: r.CertPool()}}
			spoil(transport)
			err := take(t, newFetcher(t, fetcher.Config{Transport: transport}), r.Host()+"/team/app#https", "")
			refused(t, err, fetcher.Panicked, "internal error; please report it with the log")
			if strings.Contains(err.Error(), words) {
				t.Errorf("it shows the panic: %v", err)
			}
			if cause := errors.Unwrap(err); cause == nil || !strings.Contains(cause.Error(), words) || !strings.Contains(cause.Error(), "goroutine ") {
				t.Errorf("the log gets %v", cause)
			}
		})
	}
}

// The functions that net/http calls for a request panic in the fetch's own goroutine.
func TestAPanicOfAProxyFunctionIsTheCallers(t *testing.T) {
	t.Parallel()
	r := served(t, fetchertest.Config{})
	f := newFetcher(t, fetcher.Config{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { panic("here") }}})
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = take(t, f, r.Host()+"/team/app#http", "")
}
