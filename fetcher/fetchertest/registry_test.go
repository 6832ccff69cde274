package fetchertest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

const (
	v2Type   = "application/vnd.docker.distribution.manifest.v2+json"
	errTypes = "application/json"
)

func sha256Of(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestARegistryServesWhatWasPutToGETAndHEAD(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]fetchertest.Config{"http": {}, "https": {TLS: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, config)
			blob := r.PutBlob("library/busybox", []byte("a layer"))
			manifest := r.PutManifest("library/busybox", "1.36", v2Type, []byte(`{"schemaVersion":2}`))
			if blob != sha256Of("a layer") || manifest != sha256Of(`{"schemaVersion":2}`) {
				t.Fatalf("the digests are %s and %s", blob, manifest)
			}
			wantManifest := map[string]string{"Content-Type": v2Type, "Docker-Content-Digest": manifest, "Etag": `"` + manifest + `"`}
			for path, want := range map[string]struct {
				header map[string]string
				body   string
			}{
				"/v2/":                               {map[string]string{"Content-Type": "application/json"}, "{}"},
				"/v2/library/busybox/manifests/1.36": {wantManifest, `{"schemaVersion":2}`},
				"/v2/library/busybox/manifests/" + manifest: {wantManifest, `{"schemaVersion":2}`},
				"/v2/library/busybox/blobs/" + blob: {map[string]string{
					"Content-Type": "application/octet-stream", "Docker-Content-Digest": blob, "Etag": `"` + blob + `"`, "Accept-Ranges": "bytes",
				}, "a layer"},
			} {
				want.header["Docker-Distribution-Api-Version"] = "registry/2.0"
				want.header["Content-Length"] = strconv.Itoa(len(want.body))
				for method, body := range map[string]string{http.MethodGet: want.body, http.MethodHead: ""} {
					got := newClient(t, r).do(method, r.URL()+path, "")
					header := map[string]string{}
					for k := range got.header {
						if k != "Date" {
							header[k] = got.header.Get(k)
						}
					}
					if got.status != 200 || got.body != body {
						t.Errorf("%s %s: %d %q", method, path, got.status, got.body)
					}
					if diff := cmp.Diff(want.header, header); diff != "" {
						t.Errorf("%s %s: headers (-want +got):\n%s", method, path, diff)
					}
				}
			}
		})
	}
}

func TestWhatIsNotThereIsAnErrorOfTheDistributionSpec(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	digest := r.PutBlob("a/b", []byte("x"))
	c := newClient(t, r)
	tests := map[string]struct {
		method, path string
		status       int
		body         string
	}{
		"an unknown repository has no manifest": {"GET", "/v2/a/manifests/latest", 404,
			`{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry","detail":{"name":"a"}}]}`},
		"an unknown repository has no blob": {"GET", "/v2/a/blobs/" + digest, 404,
			`{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry","detail":{"name":"a"}}]}`},
		"an unknown tag": {"GET", "/v2/a/b/manifests/latest", 404,
			`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"reference":"latest"}}]}`},
		"a blob is no manifest": {"GET", "/v2/a/b/manifests/" + digest, 404,
			`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"reference":"` + digest + `"}}]}`},
		"an unknown blob": {"GET", "/v2/a/b/blobs/sha256:00", 404,
			`{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry","detail":{"digest":"sha256:00"}}]}`},
		"a write": {"PUT", "/v2/a/b/manifests/latest", 405,
			`{"errors":[{"code":"UNSUPPORTED","message":"the operation is unsupported"}]}`},
		"the root without its slash": {"GET", "/v2", 404, "404 page not found\n"},
		"no endpoint":                {"GET", "/v2/a/b/tags/list", 404, "404 page not found\n"},
		"no repository":              {"GET", "/v2/manifests/latest", 404, "404 page not found\n"},
		"no reference":               {"GET", "/v2/a/b/manifests/", 404, "404 page not found\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.do(test.method, r.URL()+test.path, "")
			if got.status != test.status || got.body != test.body {
				t.Errorf("%d %s", got.status, got.body)
			}
			if want := errTypes; strings.HasPrefix(test.body, "{") && got.header.Get("Content-Type") != want {
				t.Errorf("Content-Type %q", got.header.Get("Content-Type"))
			}
		})
	}
}

func TestRepositoriesKeepTheirContentApartWhateverTheirNames(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	names := []string{"a", "a/b", "a/b/c/d", "a/manifests", "blobs/a/manifests/b"}
	for _, name := range names {
		r.PutManifest(name, "latest", v2Type, []byte(name))
	}
	for _, name := range names {
		if got := c.get(r.URL() + "/v2/" + name + "/manifests/latest").body; got != name {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestATagMovesToTheManifestThatWasPutLast(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	first := r.PutManifest("a", "latest", v2Type, []byte("1"))
	r.PutManifest("a", "latest", v2Type, []byte("2"))
	if got := c.get(r.URL() + "/v2/a/manifests/latest").body; got != "2" {
		t.Errorf("the tag gives %q", got)
	}
	if got := c.get(r.URL() + "/v2/a/manifests/" + first).body; got != "1" {
		t.Errorf("the first digest gives %q", got)
	}
}

func TestRedirectedBlobsComeFromTheContentHost(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true, TLS: true})
	c := newClient(t, r)
	digest := r.PutBlob("a/b", []byte("0123456789"))
	redirect := c.get(r.URL() + "/v2/a/b/blobs/" + digest)
	location := redirect.header.Get("Location")
	if redirect.status != 307 || !strings.HasPrefix(location, "https://"+r.CDNHost()+"/a/b/"+digest+"?X-Amz-Algorithm=") || r.CDNHost() == r.Host() {
		t.Fatalf("%d to %q", redirect.status, location)
	}
	plain, _, _ := strings.Cut(location, "?")
	tests := map[string]struct {
		address string
		header  []string
		status  int
		body    string
	}{
		"the whole":                   {location, nil, 200, "0123456789"},
		"a range":                     {location, []string{"Range", "bytes=2-4"}, 206, "234"},
		"a credential is refused":     {location, []string{"Authorization", basic("u:p")}, 400, "<Code>InvalidArgument</Code>"},
		"a missing signature":         {plain, nil, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"a changed signature":         {location + "0", nil, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"another blob's signature":    {strings.Replace(location, digest, "sha256:00", 1), nil, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"an address beside the blobs": {"https://" + r.CDNHost() + "/", nil, 404, "404 page not found"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := c.get(test.address, test.header...); got.status != test.status || !strings.Contains(got.body, test.body) {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	if got := c.get(r.URL() + "/v2/a/b/blobs/sha256:00"); got.status != 404 {
		t.Errorf("a blob that isn't there is redirected: %d", got.status)
	}
}

func TestTheAuthorityOfARegistrySignsForThatRegistryOnly(t *testing.T) {
	t.Parallel()
	one, two := fetchertest.New(t, fetchertest.Config{TLS: true}), fetchertest.New(t, fetchertest.Config{TLS: true})
	if got := newClient(t, one).get(one.URL() + "/v2/"); got.status != 200 {
		t.Errorf("its own authority: %d", got.status)
	}
	_, err := newClient(t, two).send("GET", one.URL()+"/v2/", "")
	if err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("another's authority: %v", err)
	}
	if open := fetchertest.New(t, fetchertest.Config{}); open.CA() != nil || open.TokenURL() != "" || open.CDNHost() != "" {
		t.Error("an open registry has an authority, a token server or a content host")
	}
}

func TestRequestsAreNotedAsTheyWereSent(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	digest := r.PutBlob("a/b", []byte("0123456789"))
	c.get(r.URL() + "/v2/")
	r.Reset()
	c.get(r.URL()+"/v2/a/b/blobs/"+digest+"?ns=docker.io", "Range", "bytes=2-4", "If-Range", `"`+digest+`"`,
		"Accept", "x/y", "Accept", "z/*", "User-Agent", "test/1", "Authorization", "Bearer t", "Accept-Encoding", "identity")
	c.do("HEAD", r.URL()+"/v2/a/b/manifests/no%20tag", "", "User-Agent", "test/1")
	want := []fetchertest.Request{{
		Endpoint: fetchertest.Blob, Repository: "a/b", Identifier: digest,
		Method: "GET", Scheme: "http", Proto: "HTTP/1.1", Host: r.Host(), Path: "/v2/a/b/blobs/" + digest, Query: "ns=docker.io",
		Range: "bytes=2-4", IfRange: `"` + digest + `"`, Authorization: "Bearer t", Accept: "x/y, z/*",
		AcceptEncoding: "identity", UserAgent: "test/1", Status: 206, BodyBytes: 3,
	}, {
		Endpoint: fetchertest.Manifest, Repository: "a/b", Identifier: "no tag",
		Method: "HEAD", Scheme: "http", Proto: "HTTP/1.1", Host: r.Host(), Path: "/v2/a/b/manifests/no%20tag", UserAgent: "test/1", Status: 404,
	}}
	got := r.Requests()
	for i := range got {
		got[i].Connection = "" // another one each time
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if r.Count(fetchertest.Blob) != 1 || r.Count(fetchertest.Root) != 0 || r.Count(fetchertest.Any) != 2 {
		t.Errorf("counts: %d, %d, %d", r.Count(fetchertest.Blob), r.Count(fetchertest.Root), r.Count(fetchertest.Any))
	}
}

func TestBytesAreCountedBeforeAClientHasThem(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	digest := r.PutGeneratedBlob("a", 1, 1<<20)
	newClient(t, r).get(r.URL() + "/v2/a/blobs/" + digest)
	if got := r.Requests()[0]; got.BodyBytes != 1<<20 || got.Status != 200 {
		t.Errorf("%d bytes, status %d", got.BodyBytes, got.Status)
	}
}
