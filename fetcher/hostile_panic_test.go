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

func TestADialThatReturnsNothingIsAnError(t *testing.T) {
	t.Parallel()
	for title, spoil := range map[string]func(*http.Transport){
		"its dial": func(t *http.Transport) {
			t.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
		},
		"its dial for TLS": func(t *http.Transport) {
			t.DialTLSContext = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
		},
		"its dial without context": func(t *http.Transport) { t.Dial = func(string, string) (net.Conn, error) { return nil, nil } },    //nolint:staticcheck // others may set it
		"and that for TLS":         func(t *http.Transport) { t.DialTLS = func(string, string) (net.Conn, error) { return nil, nil } }, //nolint:staticcheck // as above
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			protocols := new(http.Protocols)
			protocols.SetHTTP1(true)
			transport := &http.Transport{DisableCompression: true, Protocols: protocols}
			spoil(transport)
			err := take(t, newFetcher(t, fetcher.Config{Transport: transport}), "registry.example/team/app#https", "")
			refused(t, err, fetcher.RegistryUnreachable, "the dial of the transport returned neither a connection nor an error")
		})
	}
	t.Run("its dial to where a registry leads", func(t *testing.T) {
		t.Parallel()
		r := fetchertest.New(t, fetchertest.Config{})
		putForeign(t, r, []byte("a base layer"), "http://content.example/blob")
		transport := globe{"registry.example:80": r.Host()}.transport()
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "content.example:80" {
				return nil, nil
			}
			return dial(ctx, network, address)
		}
		err := take(t, newFetcher(t, fetcher.Config{Transport: transport}), "docker://registry.example/team/app?latest#http", "")
		refused(t, err, fetcher.BlobNotFound, "the dial of the transport returned neither a connection nor an error")
	})
}

func TestTheDialOfATransportIsUsedThoughItKnowsNoContext(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			r := served(t, fetchertest.Config{TLS: scheme == "https"})
			transport := &http.Transport{DisableCompression: true}
			if scheme == "http" {
				transport.Dial = func(network, _ string) (net.Conn, error) { return net.Dial(network, r.Host()) } //nolint:staticcheck // others may set it
			} else {
				transport.DialTLS = func(network, _ string) (net.Conn, error) { //nolint:staticcheck // as above
					return tls.Dial(network, r.Host(), &tls.Config{RootCAs: r.CertPool(), ServerName: "127.0.0.1"})
				}
			}
			if err := take(t, newFetcher(t, fetcher.Config{Transport: transport}), "registry.example/team/app#"+scheme, ""); err != nil {
				t.Error(err)
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
