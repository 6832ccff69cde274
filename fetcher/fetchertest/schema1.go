package fetchertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
)

// The media types of docker schema 1 manifests.
const (
	schema1Type       = "application/vnd.docker.distribution.manifest.v1+json"
	schema1SignedType = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Schema1 is what a docker schema 1 manifest is made from.
type Schema1 struct {
	Layers [][]byte // base layer first, as in an Image; the manifest has them in reverse
	// Signed adds a JWS, so that the manifest's digest is that of its payload
	// rather than that of its bytes. The signature itself is none.
	Signed bool
}

// PutSchema1 adds an image with a docker schema 1 manifest; the tag, which is
// part of it, must not be empty.
func (r *Registry) PutSchema1(repository, tag string, image Schema1) Pushed {
	p := Pushed{MediaType: schema1Type}
	for _, layer := range image.Layers {
		p.LayerDigests = append(p.LayerDigests, r.PutBlob(repository, layer))
	}
	payload := schema1Payload(repository, tag, p.LayerDigests)
	p.Manifest, p.ManifestDigest = payload, digestOf(payload)
	if image.Signed {
		p.MediaType, p.Manifest = schema1SignedType, signSchema1(payload)
	}
	r.store.putManifest(repository, tag, manifest{p.ManifestDigest, p.MediaType, p.Manifest})
	return p
}

func schema1Payload(repository, tag string, layers []string) []byte {
	type fsLayer struct {
		BlobSum string `json:"blobSum"`
	}
	type history struct {
		V1Compatibility string `json:"v1Compatibility"`
	}
	fsLayers, histories, parent := []fsLayer{}, []history{}, ""
	for i, digest := range layers {
		sum := sha256.Sum256([]byte(strconv.Itoa(i) + digest))
		image := map[string]string{"id": sha256Digest(sum[:])[len("sha256:"):]}
		if parent != "" {
			image["parent"] = parent
		}
		parent = image["id"]
		compatibility, _ := json.Marshal(image) // strings only
		fsLayers = append(fsLayers, fsLayer{digest})
		histories = append(histories, history{string(compatibility)})
	}
	slices.Reverse(fsLayers)
	slices.Reverse(histories)
	return document(struct {
		SchemaVersion int       `json:"schemaVersion"`
		Name          string    `json:"name"`
		Tag           string    `json:"tag"`
		Architecture  string    `json:"architecture"`
		FSLayers      []fsLayer `json:"fsLayers"`
		History       []history `json:"history"`
	}{1, repository, tag, "amd64", fsLayers, histories})
}

// signSchema1 puts a JWS into the payload, as libtrust does: the signatures
// come before the closing brace, and the protected header says how many bytes
// stood before them (formatLength) and what comes after (formatTail).
func signSchema1(payload []byte) []byte {
	encode := base64.RawURLEncoding.EncodeToString
	head, tail := payload[:bytes.LastIndex(payload, []byte("\n}"))], []byte("\n}")
	protected, _ := json.Marshal(map[string]any{
		"formatLength": len(head), "formatTail": encode(tail), "time": "2016-01-02T03:04:05Z",
	})
	fake := sha256.Sum256(payload)
	coordinate := encode(fake[:])
	signatures, _ := json.MarshalIndent([]any{map[string]any{
		"header": map[string]any{
			"jwk": map[string]string{"crv": "P-256", "kid": "FETC:HERT:EST", "kty": "EC", "x": coordinate, "y": coordinate},
			"alg": "ES256",
		},
		"signature": encode(append(fake[:], fake[:]...)),
		"protected": encode(protected),
	}}, "   ", "   ")
	return slices.Concat(head, []byte(",\n   \"signatures\": "), signatures, tail)
}
