package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// accept is what a manifest may be. Kraken asks for manifests by digest without
// saying what it takes, and by tag for Docker's alone.
var accept = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// newFront returns what makes a plain registry, at HOST:PORT, serve Kraken
// images of every kind:
//
//	/v2/...                 the registry itself, told what manifests are accepted
//	/tags/REPOSITORY:TAG    the digest that the tag stands for, as text
func newFront(registry string) http.Handler {
	target := &url.URL{Scheme: "http", Host: registry}
	mux := http.NewServeMux()
	mux.Handle("GET /v2/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		if strings.Contains(r.In.URL.Path, "/manifests/") {
			r.Out.Header.Set("Accept", accept)
		}
	}})
	mux.HandleFunc("GET /tags/", func(w http.ResponseWriter, r *http.Request) {
		repository, tag, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/tags/"), ":")
		digest, status, err := resolve(r, target.JoinPath("v2", repository, "manifests", tag))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, digest) //nolint:gosec // for Kraken, as plain text
	})
	return mux
}

// resolve asks a registry for the digest of a manifest, on behalf of r.
func resolve(r *http.Request, manifest *url.URL) (digest string, status int, err error) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodHead, manifest.String(), nil)
	if err != nil {
		return "", 0, err
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = response.Body.Close() }()
	digest = response.Header.Get("Docker-Content-Digest")
	if response.StatusCode == http.StatusOK && digest == "" {
		return "", 0, fmt.Errorf("HEAD %s: no Docker-Content-Digest", manifest)
	}
	return digest, response.StatusCode, nil
}
