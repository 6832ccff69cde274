package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The digests of docker_spec_tests.cpp.
const (
	nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	upper   = "sha256:cea0d2071b01b0a79aa4a05ea56ab6fdf3fafa03369d9f4eea8d46ea33c43e5f"
	base    = "sha256:2a7812e636235448785062100bb9103096aa6655a8f6bb9ac9b13fe8290f66df"

	configSum = "sha256:b5b2b2c507a0944348e0303114d8d93aaaa081732b86451d9bce1f432a537bc7"
	firstSum  = "sha256:e692418e4cbaf90ca69d05a66403747baa33ee08806650b51fab815ad7fc331f"
	secondSum = "sha256:3c3a4604a545cdc127456d94e421cd355bca5b528f4a9c1905b15da2eb4a4c6b"
	thirdSum  = "sha256:ec4b8955958665577945c89419d1af06b5f7636b4ac3da7f12184802ad867736"
)

// members of its documents.
type document map[string]any

// with returns d with more members, or other ones; nil leaves one out.
func (d document) with(more document) document {
	all := document{}
	for _, members := range []document{d, more} {
		for name, value := range members {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
	}
	return all
}

func (d document) encode(t *testing.T) []byte {
	t.Helper()
	body, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// The documents of its tests.
var (
	// imageV1 is what a v1Compatibility holds, and an image before registries
	// had API version 2: no manifest.
	imageV1 = document{
		"id":        "d7057cb020844f245031d27b76cb18af05db1cc3a96a29fa7777af75f5ac91a3",
		"parent":    "cfa753dfea5e68a24366dfba16e6edf573daa447abf65bc11619c1a98a3aff54",
		"container": "7f652467f9e6d1b3bf51172868b9b0c2fa1c711b112f4e987029b1624dd6295f",
		"created":   "2015-09-21T20:15:47.866196515Z", "architecture": "amd64", "os": "linux", "docker_version": "1.8.2", "Size": 0,
		"config": document{"Cmd": []string{"sh"}, "Labels": document{"com.nvidia.cuda.version": "7.5"}},
	}
	named    = document{"name": "dmcgowan/test-image", "tag": "latest", "architecture": "amd64"}
	unsigned = named.with(document{
		"schemaVersion": 1,
		"fsLayers":      []document{{"blobSum": nothing}, {"blobSum": upper}, {"blobSum": nothing}, {"blobSum": base}},
		"history":       []document{compatibility, compatibility, compatibility, compatibility},
	})
	compatibility = document{"v1Compatibility": `{"id":"2ce2e90b0bc7224de3db1f0d646fe8e2c4dd37f1793928287f6074bc451a57ea",` +
		`"parent":"cf2616975b4a3cba083ca99bc3f0bf25f5f528c3c52be1596b30f60b0b1c37ff"}`}
	signatures = []document{{
		"header":    document{"alg": "ES256", "jwk": document{"crv": "P-256", "kid": "LYRA:YAG2:QQKS:376F:QQXY:3UNK:SXH7:K6ES:Y5AU:XUN5:ZLVY:KBYL", "kty": "EC"}},
		"signature": "m3bgdBXZYRQ4ssAbrgj8Kjl7GNgrKQvmCSY-00yzQosKi-8UBrIRrn3Iu5alj82B6u_jNrkGCjEx3TxrfT1rig",
		"protected": "eyJmb3JtYXRMZW5ndGgiOjYwNjMsImZvcm1hdFRhaWwiOiJDbjAiLCJ0aW1lIjoiMjAxNC0wOS0xMVQxNzoxNDozMFoifQ",
	}}
	signed = unsigned.with(document{"signatures": signatures})

	schema2 = document{
		"schemaVersion": 2, "mediaType": MediaTypeDockerManifest,
		"config": document{"mediaType": configDocker, "size": 7023, "digest": configSum},
		"layers": []document{
			{"mediaType": layerSchema1, "size": 32654, "digest": firstSum},
			{"mediaType": layerSchema1, "size": 16724, "digest": secondSum},
			{"mediaType": layerSchema1, "size": 73109, "digest": thirdSum},
		},
	}
)

// The twins of the manifest tests of the original's docker_spec_tests.cpp,
// v1::parse, v2::parse and v2_2::parse (src/docker/spec.cpp), and what these
// demand beyond that. A row that differs says why.
func TestADocumentIsReadAsByTheOriginalSaveWhereARowSaysWhy(t *testing.T) {
	t.Parallel()
	schema1Of := func(mediaType string, layers ...digest.Digest) string {
		return fmt.Sprintf("%s no config %s", mediaType, layers)
	}
	wholeSchema1 := schema1Of(MediaTypeDockerSchema1Signed, base, nothing, upper, nothing)
	schema2Of := func(mediaType string, layers ...string) string {
		return fmt.Sprintf("%s %s 7023 %s", mediaType, configSum, layers)
	}
	three := []string{firstSum + " 32654", secondSum + " 16724", thirdSum + " 73109"}
	layer := func(d string, size int64) []document {
		return []document{{"mediaType": layerSchema1, "size": size, "digest": d}}
	}
	for _, tt := range []struct {
		name, contentType string
		body              document
		original          bool   // takes it
		ours              string // what Parse makes of it, empty: it refuses it
		err               string
		why               string
	}{
		{"ParseV1ImageManifest", "application/json", imageV1, true, "", "it has no schemaVersion",
			"the JSON of an image is no manifest, and none is fetched as one; the agent reads it in what was fetched"},

		{"ParseV2ImageManifest", MediaTypeDockerSchema1Signed, signed, true, wholeSchema1, "", ""},
		{"ParseInvalidV2ImageManifest", MediaTypeDockerSchema1Signed, named, false, "", "it has no schemaVersion", ""},
		{"ParseInvalidV2ImageManifest, a nameless type", "application/json", named, false, "", "Unsupported manifest MIME type: application/json", ""},
		{"ValidateV2ImageManifestFsLayersNonEmpty", MediaTypeDockerSchema1Signed, named.with(document{"schemaVersion": 1, "signatures": signatures}), false, "", "it has no fsLayers", ""},
		{"ValidateV2ImageManifestSignaturesNonEmpty", MediaTypeDockerSchema1Signed,
			named.with(document{"schemaVersion": 1, "fsLayers": []document{{"blobSum": base}}}), false, schema1Of(MediaTypeDockerSchema1, base), "",
			"registries serve unsigned manifests of schema 1, nobody verifies the signatures, and the history, which it lacks as well, names no blob"},
		{"schema 1 without signatures", MediaTypeDockerSchema1, unsigned, true, schema1Of(MediaTypeDockerSchema1, base, nothing, upper, nothing), "", ""},
		{"schema 1 with fewer layers than history", MediaTypeDockerSchema1, unsigned.with(document{"fsLayers": []document{{"blobSum": base}}}), false,
			schema1Of(MediaTypeDockerSchema1, base), "", "the history names no blob, so it is not read"},
		{"schema 1 with empty fsLayers", MediaTypeDockerSchema1, unsigned.with(document{"fsLayers": []document{}, "history": []document{}}), false, "", "fsLayers is empty", ""},
		{"schema 1 with a blobSum without a colon", MediaTypeDockerSchema1, unsigned.with(document{"fsLayers": []document{{"blobSum": "x"}}, "history": []document{compatibility}}),
			false, "", `fsLayers[0]: blobSum "x" is not valid`, ""},
		{"schema 1 with a path for a blobSum", MediaTypeDockerSchema1, unsigned.with(document{"fsLayers": []document{{"blobSum": "x:/../../etc/passwd"}}, "history": []document{compatibility}}),
			true, "", `fsLayers[0]: blobSum "x:/../../etc/passwd" is not valid`, "it becomes a file's name; the original only looks for a colon"},

		{"ParseV2_2ImageManifest", MediaTypeDockerManifest, schema2, true, schema2Of(MediaTypeDockerManifest, three...), "", ""},
		{"ParseInvalidV2_2ImageManifest", MediaTypeDockerManifest, schema2.with(document{"schemaVersion": nil, "layers": nil}), false, "", "it has no schemaVersion", ""},
		{"ValidateV2_2ImageManifestLayersNonEmpty", MediaTypeDockerManifest, schema2.with(document{"layers": nil}), false, "", "it has no layers", ""},
		{"an empty list of layers", MediaTypeDockerManifest, schema2.with(document{"layers": []document{}}), false, schema2Of(MediaTypeDockerManifest), "",
			"artifacts may have none (image-spec, manifest.md); an agent that needs a layer sees so itself"},
		{"schemaVersion 1 with layers", MediaTypeDockerManifest, schema2.with(document{"schemaVersion": 1}), false, "", `its schemaVersion is "1", not 2`, ""},
		{"no mediaType", MediaTypeDockerManifest, schema2.with(document{"mediaType": nil}), false, schema2Of(MediaTypeDockerManifest, three...), "",
			"the Content-Type and the fields say it too"},
		{"an OCI manifest", ocispec.MediaTypeImageManifest, schema2.with(document{"mediaType": ocispec.MediaTypeImageManifest}), false,
			schema2Of(ocispec.MediaTypeImageManifest, three...), "", "the original is older than OCI"},
		{"a type with parameters", MediaTypeDockerManifest + "; charset=utf-8", schema2, false, schema2Of(MediaTypeDockerManifest, three...), "",
			"parameters don't matter (RFC 9110, section 8.3); the fetcher of the original compares the whole field"},
		{"no type", "", schema2, false, schema2Of(MediaTypeDockerManifest, three...), "", "the body says it; the fetcher of the original wants a Content-Type"},
		{"a layer of 4 GiB", MediaTypeDockerManifest, schema2.with(document{"layers": layer(firstSum, 4<<30)}), false,
			schema2Of(MediaTypeDockerManifest, firstSum+" 4294967296"), "", "the original's size is a uint32"},
		{"a digest without a colon", MediaTypeDockerManifest, schema2.with(document{"layers": layer("x", 1)}), false, "", `layers[0]: digest "x" is not valid`, ""},
		{"a path for a digest", MediaTypeDockerManifest, schema2.with(document{"layers": layer("x:/../../etc/passwd", 1)}), true, "",
			`layers[0]: digest "x:/../../etc/passwd" is not valid`, "it becomes a file's name; the original only looks for a colon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.contentType, tt.body.encode(t))
			if (tt.why == "") != (tt.original == (tt.ours != "")) {
				t.Errorf("the row says %q, though the original takes it: %v and ours: %v", tt.why, tt.original, tt.ours != "")
			}
			if (err == nil) != (tt.ours != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("error %#v is of no kind", err)
			}
			if diff := cmp.Diff(tt.ours, summary(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// summary is a document in one line: its type, config and layers, base first.
func summary(d Document) string {
	switch {
	case d.Manifest == nil:
		return ""
	case d.Manifest.Config == nil:
		var layers []digest.Digest
		for _, l := range d.Manifest.Layers {
			layers = append(layers, l.Digest)
		}
		return fmt.Sprintf("%s no config %s", d.MediaType, layers)
	}
	var layers []string
	for _, l := range d.Manifest.Layers {
		layers = append(layers, fmt.Sprintf("%s %d", l.Digest, l.Size))
	}
	return fmt.Sprintf("%s %s %d %s", d.MediaType, d.Manifest.Config.Digest, d.Manifest.Config.Size, layers)
}

// The document was cut down for the original's test, so the bytes that its
// signature is over are not in it. The original checks no digest.
func TestTheSignedDocumentOfTheOriginalsTestHasNoDigest(t *testing.T) {
	t.Parallel()
	body := signed.encode(t)
	_, err := Payload(MediaTypeDockerSchema1Signed, body)
	want := fmt.Sprintf("invalid manifest: signatures: formatLength 6063 is not within the body of %d bytes", len(body))
	if !errors.Is(err, ErrInvalid) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
