package manifest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// layerSchema1 is what a layer of schema 1 is; the document does not say it.
const layerSchema1 = "application/vnd.docker.image.rootfs.diff.tar.gzip"

// Parse reads a manifest or index. The media type is decided from the
// Content-Type header (its parameters don't matter; empty: there was none)
// and the body: a mediaType in the body counts before the header, and neither
// counts where the fields of the document say otherwise.
//
// The error is ErrUnsupported for a document of another kind and ErrInvalid
// for a broken one. The signatures of schema 1 are not verified; Payload says
// which bytes its digest is over.
func Parse(contentType string, body []byte) (Document, error) {
	top, err := scan(body)
	if err != nil {
		return Document{}, err
	}
	mediaType, err := decide(contentType, top)
	if err != nil {
		return Document{}, err
	}
	d := Document{MediaType: mediaType}
	switch shapes[mediaType] {
	case indexShape:
		d.Index, err = parseIndex(top)
	case schema1Shape:
		d.Manifest, err = parseSchema1(top)
	default:
		d.Manifest, err = parseManifest(top)
	}
	if err != nil {
		return Document{}, err
	}
	return d, nil
}

func parseManifest(top fields) (*Manifest, error) {
	if err := top.require(2, "config", "layers"); err != nil {
		return nil, err
	}
	config, err := parseDescriptor("config", top["config"])
	if err != nil {
		return nil, err
	}
	layers, err := parseDescriptors("layers", top["layers"])
	if err != nil {
		return nil, err
	}
	return &Manifest{Config: &config, Layers: layers}, nil
}

func parseIndex(top fields) (*Index, error) {
	if err := top.require(2, "manifests"); err != nil {
		return nil, err
	}
	manifests, err := parseDescriptors("manifests", top["manifests"])
	if err != nil {
		return nil, err
	}
	return &Index{Manifests: manifests}, nil
}

// parseSchema1 reads fsLayers, which begins with the top layer.
func parseSchema1(top fields) (*Manifest, error) {
	if err := top.require(1, "fsLayers"); err != nil {
		return nil, err
	}
	layers := newList("fsLayers", top["fsLayers"])
	err := each("fsLayers", top["fsLayers"], func(where place, object json.RawMessage) error {
		var sum string
		err := members(where, object, []string{"blobSum"}, func(name string, value json.RawMessage) (err error) {
			sum, err = text(where, name, value)
			return err
		})
		if err != nil {
			return err
		}
		if err := checkDigest(where, "blobSum", digest.Digest(sum)); err != nil {
			return err
		}
		return layers.add(Descriptor{MediaType: layerSchema1, Digest: digest.Digest(sum), Size: -1})
	})
	if err != nil {
		return nil, err
	}
	if len(layers.all) == 0 {
		return nil, fmt.Errorf("%w: fsLayers is empty", ErrInvalid)
	}
	slices.Reverse(layers.all)
	return &Manifest{Layers: layers.all}, nil
}
