// Package manifest reads manifests and indexes and chooses the platform.
//
// Its input comes from a registry and is not trusted: every accepted document
// is bounded in size and number, means the same to every reader, and holds
// valid digests only.
package manifest

import (
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Descriptor is the image-spec's descriptor. Size is -1 where the manifest
// does not give it (docker schema 1).
type Descriptor = ocispec.Descriptor

// The media types of docker's documents; those of OCI are in image-spec.
const (
	MediaTypeDockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeDockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Accept is the value of the Accept header for a manifest: what Parse reads,
// in one line, for some registries look at the first line only. A registry
// that chooses by order and not by what it has gives an image before an
// index, and schema 1, which has neither sizes nor a config, last.
const Accept = ocispec.MediaTypeImageManifest + ", " + MediaTypeDockerManifest + ", " +
	ocispec.MediaTypeImageIndex + ", " + MediaTypeDockerManifestList + ", " +
	MediaTypeDockerSchema1Signed + ", " + MediaTypeDockerSchema1

// MaxSize bounds a document, in bytes (distribution-spec, "Pushing
// Manifests": registries should enforce some limit, 4 MiB is the one they name).
const MaxSize = 4 << 20

// What errors.Is finds in the errors of this package.
var (
	// ErrUnsupported is a document of a kind that this package can't use.
	ErrUnsupported = errors.New("Unsupported manifest MIME type") //nolint:staticcheck // ST1005: the original's wording
	// ErrInvalid is a broken document.
	ErrInvalid = errors.New("invalid manifest")
	// ErrNoPlatform is an index without a manifest for the platform asked for.
	ErrNoPlatform = errors.New("no manifest")
)

// Manifest is the list of the blobs of one image.
type Manifest struct {
	Config *Descriptor  // nil for docker schema 1
	Layers []Descriptor // base layer first, duplicates kept
}

// Index is a list of manifests, one for each platform: an OCI image index or
// a docker manifest list.
type Index struct {
	Manifests []Descriptor
}

// Document is what Parse made of a body. Exactly one of Manifest and Index is set.
type Document struct {
	MediaType string // decided, without parameters
	Manifest  *Manifest
	Index     *Index
}

// Blobs returns the config and then the layers, each digest once, at its
// first position.
func (m *Manifest) Blobs() []Descriptor {
	var blobs []Descriptor
	seen := map[digest.Digest]bool{}
	add := func(d Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			blobs = append(blobs, d)
		}
	}
	if m.Config != nil {
		add(*m.Config)
	}
	for _, d := range m.Layers {
		add(d)
	}
	return blobs
}
