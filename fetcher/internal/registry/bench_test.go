package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// BenchmarkOpen opens and reads tiny blobs: from a server on loopback, whose
// share in the figures is that of "net http alone", and without a network.
func BenchmarkOpen(b *testing.B) {
	const blob = "tiny"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		_, _ = io.WriteString(w, blob)
	}))
	defer s.Close()
	d := digest.FromString(blob)
	b.Run("net http alone", func(b *testing.B) {
		b.ReportAllocs()
		transport := NewTransport(nil)
		for b.Loop() {
			req, err := http.NewRequest(http.MethodGet, s.URL+"/v2/"+name+"/blobs/"+d.String(), nil)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			discard(resp)
		}
	})
	ref, err := scheme.Parse("docker://" + strings.TrimPrefix(s.URL, "http://") + "/" + name + "?latest#http")
	if err != nil {
		b.Fatal(err)
	}
	for title, transport := range map[string]http.RoundTripper{
		"loopback": NewTransport(nil),
		"no network": roundTripper(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
		}),
	} {
		b.Run(title, func(b *testing.B) {
			b.ReportAllocs()
			r := New(transport, "docker-fetcher/test").Repository(b.Context(), ref, credential.Match{}, nil)
			for b.Loop() {
				content, err := r.Blob(d).Open(b.Context(), transfer.Request{})
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, content)
				content.Close()
			}
		})
	}
}
