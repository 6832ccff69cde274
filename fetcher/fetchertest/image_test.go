package fetchertest_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

func TestAnImagesManifestNamesItsBlobs(t *testing.T) {
	t.Parallel()
	layers := [][]byte{fetchertest.RandomLayer(1, 100), fetchertest.RandomLayer(2, 200), fetchertest.RandomLayer(1, 100)}
	tests := map[string]struct {
		oci                     bool
		manifest, config, layer string
	}{
		"docker": {false, v2Type, "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		"OCI": {true, "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json",
			"application/vnd.oci.image.layer.v1.tar+gzip"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			c := newClient(t, r)
			pushed := r.PutImage("a/b", "1", fetchertest.Image{OCI: test.oci, Config: []byte(`{"os":"linux"}`), Layers: layers})
			want := fetchertest.Pushed{
				MediaType:    test.manifest,
				ConfigDigest: sha256Of(`{"os":"linux"}`), Config: []byte(`{"os":"linux"}`),
				LayerDigests: []string{sha256Of(string(layers[0])), sha256Of(string(layers[1])), sha256Of(string(layers[0]))},
			}
			want.Manifest = []byte(`{
   "schemaVersion": 2,
   "mediaType": "` + test.manifest + `",
   "config": {
      "mediaType": "` + test.config + `",
      "size": 14,
      "digest": "` + want.ConfigDigest + `"
   },
   "layers": [
      {
         "mediaType": "` + test.layer + `",
         "size": 100,
         "digest": "` + want.LayerDigests[0] + `"
      },
      {
         "mediaType": "` + test.layer + `",
         "size": 200,
         "digest": "` + want.LayerDigests[1] + `"
      },
      {
         "mediaType": "` + test.layer + `",
         "size": 100,
         "digest": "` + want.LayerDigests[0] + `"
      }
   ]
}`)
			want.ManifestDigest = sha256Of(string(want.Manifest))
			if diff := cmp.Diff(want, pushed); diff != "" {
				t.Errorf("pushed (-want +got):\n%s", diff)
			}
			got := c.get(r.URL() + "/v2/a/b/manifests/1")
			if got.body != string(want.Manifest) || got.header.Get("Content-Type") != test.manifest {
				t.Errorf("the tag gives %s %s", got.header.Get("Content-Type"), got.body)
			}
			for i, digest := range pushed.LayerDigests {
				if c.get(r.URL()+"/v2/a/b/blobs/"+digest).body != string(layers[i]) {
					t.Errorf("layer %d differs", i)
				}
			}
		})
	}
}

func TestAnIndexNamesAnImageForEachPlatform(t *testing.T) {
	t.Parallel()
	type entry struct {
		MediaType string
		Size      int
		Digest    string
		Platform  *fetchertest.Platform
	}
	amd64 := fetchertest.Platform{OS: "linux", Architecture: "amd64"}
	armv7 := fetchertest.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for index, manifest := range map[string]string{
		"application/vnd.docker.distribution.manifest.list.v2+json": v2Type,
		"application/vnd.oci.image.index.v1+json":                   "application/vnd.oci.image.manifest.v1+json",
	} {
		t.Run(index, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			pushed := r.PutIndex("a", "latest", strings.Contains(index, ".oci."),
				fetchertest.PlatformImage{Platform: amd64, Image: fetchertest.Image{Layers: [][]byte{{1}}}},
				fetchertest.PlatformImage{Platform: armv7, Image: fetchertest.Image{Layers: [][]byte{{2}}}},
				fetchertest.PlatformImage{Image: fetchertest.Image{Layers: [][]byte{{3}}}})
			got := newClient(t, r).get(r.URL() + "/v2/a/manifests/latest")
			if got.header.Get("Content-Type") != index || got.body != string(pushed.Index) || pushed.IndexDigest != sha256Of(got.body) {
				t.Fatalf("%s %s", got.header.Get("Content-Type"), got.body)
			}
			var want []entry
			for i, p := range []*fetchertest.Platform{&amd64, &armv7, nil} {
				want = append(want, entry{manifest, len(pushed.Images[i].Manifest), pushed.Images[i].ManifestDigest, p})
			}
			document := decode[struct{ Manifests []entry }](t, got.body)
			if diff := cmp.Diff(want, document.Manifests); diff != "" {
				t.Errorf("manifests (-want +got):\n%s", diff)
			}
			if got := string(pushed.Images[1].Config); !strings.Contains(got, `"variant": "v7"`) {
				t.Errorf("the second config is %s", got)
			}
			if got := newClient(t, r).get(r.URL() + "/v2/a/manifests/" + pushed.Images[1].ManifestDigest); got.body != string(pushed.Images[1].Manifest) || got.header.Get("Content-Type") != manifest {
				t.Errorf("the second image is %d %v %s", got.status, got.header, got.body)
			}
		})
	}
}

func TestASchema1ManifestHasItsLayersInReverse(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	pushed := r.PutSchema1("a", "1", fetchertest.Schema1{Layers: [][]byte{{1}, {2}}})
	got := newClient(t, r).get(r.URL() + "/v2/a/manifests/1")
	document := decode[struct {
		SchemaVersion int
		Name, Tag     string
		FSLayers      []struct{ BlobSum string }
		History       []struct{ V1Compatibility string }
	}](t, got.body)
	if got.header.Get("Content-Type") != "application/vnd.docker.distribution.manifest.v1+json" || got.body != string(pushed.Manifest) ||
		pushed.ManifestDigest != sha256Of(got.body) || document.SchemaVersion != 1 || document.Name != "a" || document.Tag != "1" ||
		len(document.FSLayers) != 2 || len(document.History) != 2 {
		t.Fatalf("%s %s", got.header.Get("Content-Type"), got.body)
	}
	if document.FSLayers[0].BlobSum != sha256Of("\x02") || document.FSLayers[1].BlobSum != sha256Of("\x01") {
		t.Errorf("fsLayers %v", document.FSLayers)
	}
	top := decode[map[string]string](t, document.History[0].V1Compatibility)
	base := decode[map[string]string](t, document.History[1].V1Compatibility)
	if top["parent"] == "" || top["parent"] != base["id"] || base["parent"] != "" {
		t.Errorf("history: top %v, base %v", top, base)
	}
	if diff := cmp.Diff([]string{sha256Of("\x01"), sha256Of("\x02")}, pushed.LayerDigests); diff != "" {
		t.Errorf("pushed layers (-want +got):\n%s", diff)
	}
}

func TestASignedSchema1ManifestsDigestIsThatOfItsPayload(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	pushed := r.PutSchema1("a", "1", fetchertest.Schema1{Layers: [][]byte{{1}}, Signed: true})
	got := newClient(t, r).get(r.URL() + "/v2/a/manifests/" + pushed.ManifestDigest)
	if got.status != 200 || got.header.Get("Content-Type") != "application/vnd.docker.distribution.manifest.v1+prettyjws" {
		t.Fatalf("%d %s", got.status, got.header.Get("Content-Type"))
	}
	signatures := decode[struct{ Signatures []struct{ Protected string } }](t, got.body).Signatures
	if len(signatures) != 1 {
		t.Fatalf("signatures: %v", signatures)
	}
	header := struct {
		FormatLength int
		FormatTail   string
	}{}
	protected, err := base64.RawURLEncoding.DecodeString(signatures[0].Protected)
	if err != nil || json.Unmarshal(protected, &header) != nil {
		t.Fatalf("protected header %q: %v", protected, err)
	}
	tail, err := base64.RawURLEncoding.DecodeString(header.FormatTail)
	if err != nil {
		t.Fatal(err)
	}
	payload := got.body[:header.FormatLength] + string(tail)
	if sha256Of(payload) != pushed.ManifestDigest || !json.Valid([]byte(payload)) || strings.Contains(payload, "signatures") {
		t.Errorf("the payload is %s", payload)
	}
}
