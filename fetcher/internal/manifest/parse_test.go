package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const (
	emptyLayer = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"

	layerOCI     = "application/vnd.oci.image.layer.v1.tar"
	configOCI    = "application/vnd.oci.image.config.v1+json"
	configDocker = "application/vnd.docker.container.image.v1+json"
)

func sum(text string) digest.Digest { return digest.FromString(text) }

func TestParseReadsEachKindOfDocument(t *testing.T) {
	t.Parallel()
	schema1 := &Manifest{Layers: []Descriptor{
		{MediaType: layerSchema1, Digest: sum("base layer"), Size: -1},
		{MediaType: layerSchema1, Digest: emptyLayer, Size: -1},
		{MediaType: layerSchema1, Digest: sum("top layer"), Size: -1},
		{MediaType: layerSchema1, Digest: emptyLayer, Size: -1},
	}}
	for _, tt := range []struct {
		file string
		want Document
	}{
		{"docker-manifest.json", Document{MediaType: MediaTypeDockerManifest, Manifest: &Manifest{
			Config: &Descriptor{MediaType: configDocker, Digest: sum("config"), Size: 1457},
			Layers: []Descriptor{
				{MediaType: layerSchema1, Digest: sum("base layer"), Size: 2811478},
				{MediaType: layerSchema1, Digest: emptyLayer, Size: 32},
				{
					MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: sum("top layer"),
					Size: 5368709120, URLs: []string{"https://example.com/layers/top.tar.gz"},
				},
				{MediaType: layerSchema1, Digest: emptyLayer, Size: 32},
			},
		}}},
		{"oci-manifest.json", Document{MediaType: ocispec.MediaTypeImageManifest, Manifest: &Manifest{
			Config: &Descriptor{MediaType: configOCI, Digest: sum("config"), Size: 581},
			Layers: []Descriptor{
				{MediaType: layerOCI + "+gzip", Digest: sum("base layer"), Size: 2811478},
				{MediaType: layerOCI + "+zstd", Digest: sum("top layer"), Size: 1024},
			},
		}}},
		{"docker-manifest-list.json", Document{MediaType: MediaTypeDockerManifestList, Index: &Index{Manifests: []Descriptor{
			{MediaType: MediaTypeDockerManifest, Digest: digest.FromBytes(golden(t, "docker-manifest.json")), Size: 1245, Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}},
			{MediaType: MediaTypeDockerManifest, Digest: sum("armv7 manifest"), Size: 1199, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
			{MediaType: MediaTypeDockerManifest, Digest: sum("arm64 manifest"), Size: 1200, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}},
			{MediaType: MediaTypeDockerManifest, Digest: sum("s390x manifest"), Size: 1198, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}},
		}}}},
		{"oci-index.json", Document{MediaType: ocispec.MediaTypeImageIndex, Index: &Index{Manifests: []Descriptor{
			{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(golden(t, "oci-manifest.json")), Size: 645, Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}},
			{MediaType: ocispec.MediaTypeImageManifest, Digest: sum("arm64 manifest"), Size: 673, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}},
			{
				MediaType: ocispec.MediaTypeImageManifest, Digest: sum("attestation manifest"), Size: 566, Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"},
				Annotations: map[string]string{
					"vnd.docker.reference.digest": digest.FromBytes(golden(t, "oci-manifest.json")).String(),
					"vnd.docker.reference.type":   "attestation-manifest",
				},
			},
		}}}},
		{"schema1-signed.json", Document{MediaType: MediaTypeDockerSchema1Signed, Manifest: schema1}},
		{"schema1.json", Document{MediaType: MediaTypeDockerSchema1, Manifest: schema1}},
	} {
		// The Content-Type of a registry that does it right, of some that don't, and of one that is wrong.
		for _, contentType := range []string{
			tt.want.MediaType, tt.want.MediaType + "; charset=utf-8", strings.ToUpper(tt.want.MediaType) + " ;charset=ISO-8859-1",
			"", "text/plain", "application/json", "application/octet-stream", "text/html; charset=utf-8", ";",
			MediaTypeDockerManifest, MediaTypeDockerManifestList, MediaTypeDockerSchema1, MediaTypeDockerSchema1Signed,
			ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, "application/vnd.oci.artifact.manifest.v1+json",
		} {
			got, err := Parse(contentType, golden(t, tt.file))
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%s as %q: %v\n%s", tt.file, contentType, err, diff)
			}
		}
	}
}

// desc is a descriptor in JSON.
func desc(mediaType, text string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, mediaType, sum(text))
}

// image is a manifest in JSON, after the members given.
func image(members, configType string) string {
	return `{"schemaVersion":2,` + members + `"config":` + desc(configType, "c") + `,"layers":[` + desc(layerOCI, "l") + `]}`
}

func TestParseDecidesTheMediaType(t *testing.T) {
	t.Parallel()
	own := func(mediaType string) string { return `"mediaType":"` + mediaType + `",` }
	index := func(members, of string) string {
		return `{"schemaVersion":2,` + members + `"manifests":[` + desc(of, "m") + `]}`
	}
	const weird = "application/vnd.example.weird+json"
	for _, tt := range []struct{ name, contentType, body, want string }{
		{"a docker config makes a docker manifest", "", image("", configDocker), MediaTypeDockerManifest},
		{"an OCI config makes an OCI manifest", "", image("", configOCI), ocispec.MediaTypeImageManifest},
		{"an unknown config makes an OCI manifest: an artifact", "", image("", "application/vnd.cncf.helm.config.v1+json"), ocispec.MediaTypeImageManifest},
		{"docker manifests make a docker list", "", index("", MediaTypeDockerManifest), MediaTypeDockerManifestList},
		{"OCI manifests make an OCI index", "", index("", ocispec.MediaTypeImageManifest), ocispec.MediaTypeImageIndex},
		{"no manifests make an OCI index", "text/plain", `{"schemaVersion":2,"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{"the header decides where the body does not say", MediaTypeDockerManifest, image("", configOCI), MediaTypeDockerManifest},
		{"the body goes before the header", MediaTypeDockerManifest, image(own(ocispec.MediaTypeImageManifest), configDocker), ocispec.MediaTypeImageManifest},
		{"the body's own type may have parameters and capitals", "", image(own("Application/vnd.oci.image.manifest.v1+JSON; x=y"), configDocker), ocispec.MediaTypeImageManifest},
		{"an empty type in the body says nothing", ocispec.MediaTypeImageManifest, image(own(""), configDocker), ocispec.MediaTypeImageManifest},
		{"a null type in the body says nothing", ocispec.MediaTypeImageManifest, image(`"mediaType":null,`, configDocker), ocispec.MediaTypeImageManifest},
		{"a header of another shape says nothing", ocispec.MediaTypeImageIndex, image("", configDocker), MediaTypeDockerManifest},
		{"a header of another shape does not win", MediaTypeDockerManifest, index(own(ocispec.MediaTypeImageIndex), MediaTypeDockerManifest), ocispec.MediaTypeImageIndex},
		{"the header vouches for an unknown type in the body", ocispec.MediaTypeImageManifest, image(own(weird), configDocker), ocispec.MediaTypeImageManifest},
		{"an unknown header does not matter", weird, image("", configOCI), ocispec.MediaTypeImageManifest},
		{"nulls beside manifests don't make it ambiguous", "", `{"schemaVersion":2,"manifests":[],"layers":null,"config":null,"fsLayers":null}`, ocispec.MediaTypeImageIndex},
		{"an empty index may have null for its list", "", `{"schemaVersion":2,` + own(ocispec.MediaTypeImageIndex) + `"manifests":null}`, ocispec.MediaTypeImageIndex},
		{"an artifact may have null for its layers", "", `{"schemaVersion":2,"config":` + desc(configOCI, "c") + `,"layers":null}`, ocispec.MediaTypeImageManifest},
		{"signatures make schema 1 signed, whatever the header", MediaTypeDockerSchema1, string(golden(t, "schema1-signed.json")), MediaTypeDockerSchema1Signed},
		{"no signatures make it plain, whatever the header", MediaTypeDockerSchema1Signed, string(golden(t, "schema1.json")), MediaTypeDockerSchema1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.contentType, []byte(tt.body))
			if err != nil || got.MediaType != tt.want {
				t.Errorf("%s, %v", got.MediaType, err)
			}
			if isIndex := shapes[tt.want] == indexShape; (got.Index != nil) != isIndex || (got.Manifest != nil) == isIndex {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestParseRefusesAnUnknownKindOfDocument(t *testing.T) {
	t.Parallel()
	const known = "; known are docker manifests of schema 1 and 2, docker manifest lists, OCI image manifests and OCI image indexes"
	const artifact = `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"x/y","blobs":[]}`
	for _, tt := range []struct{ name, contentType, body, want string }{
		{"an OCI artifact manifest", "application/vnd.oci.artifact.manifest.v1+json", artifact, "application/vnd.oci.artifact.manifest.v1+json"},
		{"an OCI artifact manifest under another name", ocispec.MediaTypeImageManifest, artifact, "application/vnd.oci.artifact.manifest.v1+json"},
		{"another JSON document", "application/json; charset=utf-8", `{"errors":[{"code":"UNKNOWN"}]}`, "application/json"},
		{"another JSON document without a Content-Type", "", `{}`, "none"},
		{"a type that neither header nor body explain", "application/vnd.example.v9+json", image(`"mediaType":"application/vnd.example.v9+json",`, configOCI), "application/vnd.example.v9+json"},
		{"a type with control characters", "", `{"mediaType":"a\u001b[31mb"}`, `a\x1b[31mb`},
		{"a long type", "", `{"mediaType":"` + strings.Repeat("a", 1000) + `"}`, strings.Repeat("a", 60) + "..."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.contentType, []byte(tt.body))
			if !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrInvalid) || got != (Document{}) {
				t.Fatalf("%+v, %v", got, err)
			}
			if want := "Unsupported manifest MIME type: " + tt.want + known; err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestParseRefusesABrokenDocument(t *testing.T) {
	t.Parallel()
	config, layer := desc(configOCI, "c"), desc(layerOCI, "l")
	layers := func(s string) string { return `{"schemaVersion":2,"config":` + config + `,"layers":` + s + `}` }
	with := func(digest, rest string) string { return layers(`[` + layer + `,{"digest":` + digest + rest + `}]`) }
	fs := func(s string) string { return `{"schemaVersion":1,"fsLayers":` + s + `}` }
	valid := `"` + sum("x").String() + `"`
	for _, tt := range []struct{ name, contentType, body, want string }{
		{"nothing", "", "", "it is empty"},
		{"blanks", "", " \r\n", "it is empty"},
		{"HTML", "text/html", "<html><body>Please log in to the proxy, and do it before you come back", `it is not a JSON object: it begins with "<html><body>Please log in to the proxy, and do it before you..."`},
		{"a byte order mark", "", "\ufeff" + layers("[]"), `it is not a JSON object: it begins with "\ufeff{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd..."`},
		{"an array", "", "[]", `it is not a JSON object: it begins with "[]"`},
		{"null", "", "null", `it is not a JSON object: it begins with "null"`},
		{"a cut document", "", `{"schemaVersion":2`, "it is not valid JSON: unexpected end of JSON input (byte 18)"},
		{"a trailing comma", "", `{"schemaVersion":2,}`, "it is not valid JSON: invalid character '}' looking for beginning of object key string (byte 20)"},
		{"data after it", "", `{} {}`, "it is not valid JSON: invalid character '{' after top-level value (byte 4)"},
		{"deep nesting", "", `{"a":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + `}`, "it is not valid JSON: invalid character '[' exceeded max depth (byte 10005)"},
		{"more than 4 MiB", "", `{` + strings.Repeat(" ", 4<<20) + `}`, "it has 4194306 bytes, more than 4194304"},

		{"manifests beside layers", "", `{"schemaVersion":2,"manifests":[],"layers":[]}`, "it is ambiguous: it has layers beside manifests"},
		{"manifests beside a config", "", `{"schemaVersion":2,"manifests":[],"config":` + config + `}`, "it is ambiguous: it has config beside manifests"},
		{"fsLayers beside layers", "", `{"schemaVersion":1,"fsLayers":[],"layers":[]}`, "it is ambiguous: it has fsLayers beside config and layers"},
		{"fsLayers beside manifests", "", `{"schemaVersion":1,"fsLayers":[],"manifests":[]}`, "it is ambiguous: it has fsLayers beside manifests"},
		{"a manifest that calls itself an index", ocispec.MediaTypeImageManifest, image(`"mediaType":"`+ocispec.MediaTypeImageIndex+`",`, configOCI), "its mediaType is " + ocispec.MediaTypeImageIndex + ", but it has config and layers"},
		{"an index that calls itself a manifest", "", `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerManifest + `","manifests":[]}`, "its mediaType is " + MediaTypeDockerManifest + ", but it has manifests"},
		{"schema 1 that calls itself a manifest", "", `{"schemaVersion":1,"mediaType":"` + MediaTypeDockerManifest + `","fsLayers":[]}`, "its mediaType is " + MediaTypeDockerManifest + ", but it has fsLayers"},
		{"a number for the media type", "", `{"mediaType":5}`, "mediaType is not a string"},

		{"schemaVersion twice", "", `{"schemaVersion":2,"schemaVersion":1}`, `it has the field "schemaVersion" twice`},
		{"mediaType twice", "", image(`"mediaType":"x","mediaType":"x",`, configOCI), `it has the field "mediaType" twice`},
		{"layers twice", "", `{"layers":[],"layers":[]}`, `it has the field "layers" twice`},
		{"layers in another case", "", image(`"Layers":[],`, configOCI), `it has the field "Layers", which is "layers" in another case`},
		{"manifests in another case", "", image(`"MANIFESTS":[],`, configOCI), `it has the field "MANIFESTS", which is "manifests" in another case`},
		{"a letter that folds to one of fsLayers", "", `{"f\u017fLayers":[]}`, `it has the field "fſLayers", which is "fsLayers" in another case`},
		{"an escaped name twice", "", `{"config":{},"\u0063onfig":{}}`, `it has the field "config" twice`},
		{"a digest twice", "", with(valid, `,"digest":`+valid+`,"size":1`), `layers[1] has the field "digest" twice`},
		{"a size in another case", "", with(valid, `,"size":1,"Size":2`), `layers[1] has the field "Size", which is "size" in another case`},
		{"a blobSum twice", "", fs(`[{"blobSum":` + valid + `,"blobsum":` + valid + `}]`), `fsLayers[0] has the field "blobsum", which is "blobSum" in another case`},

		{"no schemaVersion", "", `{"config":` + config + `,"layers":[]}`, "it has no schemaVersion"},
		{"schemaVersion 3", "", `{"schemaVersion":3,"config":` + config + `,"layers":[]}`, `its schemaVersion is "3", not 2`},
		{"a string for schemaVersion", "", `{"schemaVersion":"2","manifests":[]}`, `its schemaVersion is "\"2\"", not 2`},
		{"schemaVersion 2 with fsLayers", "", `{"schemaVersion":2,"fsLayers":[]}`, `its schemaVersion is "2", not 1`},
		{"no config", "", `{"schemaVersion":2,"layers":[]}`, "it has no config"},
		{"no layers", "", `{"schemaVersion":2,"config":` + config + `}`, "it has no layers"},
		{"no manifests", ocispec.MediaTypeImageIndex, `{"schemaVersion":2}`, "it has no manifests"},
		{"no fsLayers", MediaTypeDockerSchema1Signed, `{"schemaVersion":1,"name":"dmcgowan/test-image","tag":"latest"}`, "it has no fsLayers"},
		{"null for the config", "", `{"schemaVersion":2,"config":null,"layers":[]}`, "config is not an object"},
		{"an array for the config", "", `{"schemaVersion":2,"config":[],"layers":[]}`, "config is not an object"},
		{"an object for layers", "", layers(`{}`), "layers is not an array"},
		{"an object for manifests", "", `{"schemaVersion":2,"manifests":{}}`, "manifests is not an array"},
		{"an object for fsLayers", "", fs(`{}`), "fsLayers is not an array"},
		{"empty fsLayers", "", fs(`[]`), "fsLayers is empty"},

		{"null for a layer", "", layers(`[null]`), "layers[0] is not an object"},
		{"a string for a layer", "", layers(`[` + layer + `,"x"]`), "layers[1] is not an object"},
		{"no digest", "", layers(`[{"size":1}]`), "layers[0]: digest is missing"},
		{"an empty digest", "", with(`""`, `,"size":1`), "layers[1]: digest is missing"},
		{"a number for the digest", "", with(`5`, `,"size":1`), "layers[1]: digest has the wrong type or is out of range"},
		{"a digest without an algorithm", "", with(`"`+sum("x").Encoded()+`"`, `,"size":1`), `layers[1]: digest "` + sum("x").Encoded()[:60] + `..." is not valid`},
		{"a short digest", "", with(`"sha256:abcd"`, `,"size":1`), `layers[1]: digest "sha256:abcd" is not valid`},
		{"a digest in capitals", "", with(`"sha256:`+strings.Repeat("AB", 32)+`"`, `,"size":1`), `layers[1]: digest "sha256:ABABABABABABABABABABABABABABABABABABABABABABABABABABA..." is not valid`},
		{"a path for a digest", "", with(`"../../etc/passwd"`, `,"size":1`), `layers[1]: digest "../../etc/passwd" is not valid`},
		{"md5", "", with(`"md5:d41d8cd98f00b204e9800998ecf8427e"`, `,"size":1`), `layers[1]: digest "md5:d41d8cd98f00b204e9800998ecf8427e" is not valid`},
		{"sha384", "", with(`"sha384:`+strings.Repeat("ab", 48)+`"`, `,"size":1`), `layers[1]: digest "sha384:ababababababababababababababababababababababababababa..." is neither sha256 nor sha512`},
		{"no size", "", with(valid, ``), "layers[1]: there is no size"},
		{"null for the size", "", with(valid, `,"size":null`), "layers[1]: there is no size"},
		{"a negative size", "", with(valid, `,"size":-1`), "layers[1]: the size -1 is out of bounds"},
		{"a size near overflow", "", with(valid, `,"size":4611686018427387905`), "layers[1]: the size 4611686018427387905 is out of bounds"},
		{"a size that overflows", "", with(valid, `,"size":9223372036854775808`), "layers[1]: size has the wrong type or is out of range"},
		{"a fraction for the size", "", with(valid, `,"size":1.5`), "layers[1]: size has the wrong type or is out of range"},
		{"a string for the size", "", with(valid, `,"size":"7"`), "layers[1]: size has the wrong type or is out of range"},
		{"a string for the urls", "", with(valid, `,"size":7,"urls":"https://x"`), "layers[1]: urls has the wrong type or is out of range"},
		{"no base64 for the data", "", with(valid, `,"size":7,"data":"?"`), "layers[1]: illegal base64 data at input byte 0"},
		{"a control character in a field's name", "", with(valid, `,"size":7,"annotations":{"a\u001b":5}`), `layers[1]: annotations has the wrong type or is out of range`},
		{"a bad digest of the config", "", `{"schemaVersion":2,"config":{"digest":"x","size":1},"layers":[]}`, `config: digest "x" is not valid`},
		{"a bad digest in an index", "", `{"schemaVersion":2,"manifests":[{"digest":"x","size":1}]}`, `manifests[0]: digest "x" is not valid`},
		{"a bad blobSum", "", fs(`[{"blobSum":"x"}]`), `fsLayers[0]: blobSum "x" is not valid`},
		{"no blobSum", "", fs(`[{}]`), `fsLayers[0]: blobSum is missing`},
		{"a number for the blobSum", "", fs(`[{"blobSum":1}]`), `fsLayers[0]: blobSum has the wrong type or is out of range`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.contentType, []byte(tt.body))
			if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnsupported) || got != (Document{}) {
				t.Fatalf("%+v, %v", got, err)
			}
			if want := "invalid manifest: " + tt.want; err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestParseTakesSizesUpToItsBound(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 1, 5 << 30, 1 << 62} {
		body := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[{"digest":%q,"size":%d}]}`, desc(configOCI, "c"), digest.SHA512.FromString("x"), size)
		got, err := Parse("", []byte(body))
		if err != nil || got.Manifest.Layers[0].Size != size {
			t.Errorf("%d: %v", size, err)
		}
	}
}

func TestParseBoundsTheNumberOfDistinctDigests(t *testing.T) {
	t.Parallel()
	var all []string
	for i := range 10_001 {
		all = append(all, sum(fmt.Sprint(i)).String())
	}
	elements := func(name string, digests []string) string {
		return `[{"` + name + `":"` + strings.Join(digests, `"},{"`+name+`":"`) + `"}]`
	}
	twice := append(all[:10_000:10_000], all[:10]...)
	got, err := Parse("", []byte(`{"schemaVersion":1,"fsLayers":`+elements("blobSum", twice)+`}`))
	if err != nil || len(got.Manifest.Layers) != 10_010 || len(got.Manifest.Blobs()) != 10_000 {
		t.Errorf("10,000 and some again: %v", err)
	}
	for _, tt := range []struct{ where, body string }{
		{"fsLayers", `{"schemaVersion":1,"fsLayers":` + elements("blobSum", all) + `}`},
		{"manifests", `{"schemaVersion":2,"manifests":` + elements(`size":1,"digest`, all) + `}`},
	} {
		_, err := Parse("", []byte(tt.body))
		if want := "invalid manifest: " + tt.where + " has more than 10000 distinct digests"; !errors.Is(err, ErrInvalid) || err.Error() != want {
			t.Errorf("%s: %v", tt.where, err)
		}
	}
}

func TestBlobsHasTheConfigFirstAndEachDigestOnce(t *testing.T) {
	t.Parallel()
	names := func(m *Manifest) (all []string) {
		for _, d := range m.Blobs() {
			all = append(all, fmt.Sprint(d.MediaType, " ", d.Size))
		}
		return all
	}
	d := func(mediaType, text string, size int64) Descriptor {
		return Descriptor{MediaType: mediaType, Digest: sum(text), Size: size}
	}
	config := d("config", "c", 1)
	layers := []Descriptor{d("base", "1", 2), d("empty", "0", 3), d("top", "2", 4), d("empty again", "0", 3), d("the config again", "c", 1)}
	if diff := cmp.Diff([]string{"config 1", "base 2", "empty 3", "top 4"}, names(&Manifest{Config: &config, Layers: layers})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"base 2", "empty 3"}, names(&Manifest{Layers: layers[:2:2]})); diff != "" {
		t.Error(diff)
	}
	if got := names(&Manifest{}); got != nil {
		t.Error(got)
	}
}

func TestAcceptNamesEveryTypeThatParseReads(t *testing.T) {
	t.Parallel()
	var listed []string
	for name := range strings.SplitSeq(Accept, ", ") {
		listed = append(listed, name)
		if shapes[name] == noShape {
			t.Errorf("%s can't be read", name)
		}
	}
	if len(listed) != len(shapes) {
		t.Errorf("%q names %d of %d types", Accept, len(listed), len(shapes))
	}
}
