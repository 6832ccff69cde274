package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shape is what the fields of a document make it.
type shape string

const (
	noShape       shape = ""
	manifestShape shape = "config and layers"
	indexShape    shape = "manifests"
	schema1Shape  shape = "fsLayers"
)

// shapes says which fields belong to the media types that Parse reads.
var shapes = map[string]shape{
	ocispec.MediaTypeImageManifest: manifestShape,
	ocispec.MediaTypeImageIndex:    indexShape,
	MediaTypeDockerManifest:        manifestShape,
	MediaTypeDockerManifestList:    indexShape,
	MediaTypeDockerSchema1:         schema1Shape,
	MediaTypeDockerSchema1Signed:   schema1Shape,
}

// decide finds the media type. Registries lose the Content-Type, or serve one
// type under the name of another, so the body's own word goes first. But no
// word stands against the fields: a document that says one thing and is
// another would be a manifest for one reader and an index for the next
// (CVE-2021-41190).
func decide(contentType string, top fields) (string, error) {
	is, err := top.shape()
	if err != nil {
		return "", err
	}
	var own string
	if top.has("mediaType") {
		if own, err = text(whole, "mediaType", top["mediaType"]); err != nil {
			return "", fmt.Errorf("%w: mediaType is not a string", ErrInvalid)
		}
	}
	own, header := bare(own), bare(contentType)
	switch {
	case is != noShape && shapes[own] != noShape && shapes[own] != is:
		return "", fmt.Errorf("%w: its mediaType is %s, but it has %s", ErrInvalid, own, is)
	case is == schema1Shape:
		return schema1Type(top), nil
	case shapes[own] != noShape:
		return own, nil
	case is == noShape && own != "":
		return "", unsupported(own)
	case shapes[header] != noShape && (is == noShape || shapes[header] == is):
		return header, nil
	case own != "":
		return "", unsupported(own)
	case is == noShape:
		return "", unsupported(header)
	}
	return guess(is, top), nil
}

// shape refuses a document with the fields of more than one.
func (f fields) shape() (shape, error) {
	found := noShape
	for _, field := range []struct {
		name string
		of   shape
	}{
		{"manifests", indexShape}, {"config", manifestShape}, {"layers", manifestShape}, {"fsLayers", schema1Shape},
	} {
		if !f.has(field.name) {
			continue
		}
		if found != noShape && found != field.of {
			return "", fmt.Errorf("%w: it is ambiguous: it has %s beside %s", ErrInvalid, field.name, found)
		}
		found = field.of
	}
	return found, nil
}

// schema1Type goes by the signatures: registries mix the two names up, and
// the digest of a signed manifest is not over the whole body.
func schema1Type(top fields) string {
	if top.has("signatures") {
		return MediaTypeDockerSchema1Signed
	}
	return MediaTypeDockerSchema1
}

// guess tells docker's types from OCI's by what the document points to. Only
// OCI lets the mediaType of a document be absent, so the doubt is OCI's.
func guess(is shape, top fields) string {
	if is == indexShape {
		for first := range elements(top["manifests"]) {
			if isDocker(first) {
				return MediaTypeDockerManifestList
			}
			break
		}
		return ocispec.MediaTypeImageIndex
	}
	if isDocker(top["config"]) {
		return MediaTypeDockerManifest
	}
	return ocispec.MediaTypeImageManifest
}

// isDocker reports whether a descriptor's media type is one of docker's. What
// is none is found later.
func isDocker(descriptor json.RawMessage) bool {
	var mediaType string
	if len(descriptor) == 0 || descriptor[0] != '{' {
		return false
	}
	err := members(whole, descriptor, []string{"mediaType"}, func(name string, value json.RawMessage) (err error) {
		mediaType, err = text(whole, name, value)
		return err
	})
	return err == nil && strings.HasPrefix(mediaType, "application/vnd.docker.")
}

// bare strips a media type of its parameters (RFC 9110 section 8.3.1).
func bare(mediaType string) string {
	name, _, _ := strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(name))
}

func unsupported(mediaType string) error {
	if mediaType == "" {
		mediaType = "none"
	}
	return fmt.Errorf("%w: %s; known are docker manifests of schema 1 and 2, docker manifest lists, "+
		"OCI image manifests and OCI image indexes", ErrUnsupported, escape(mediaType))
}
