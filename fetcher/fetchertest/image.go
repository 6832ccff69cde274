package fetchertest

import (
	"encoding/json"
	"fmt"
)

// mediaTypes are the names of one kind of image.
type mediaTypes struct{ index, manifest, config, layer string }

var (
	docker = mediaTypes{
		index:    "application/vnd.docker.distribution.manifest.list.v2+json",
		manifest: "application/vnd.docker.distribution.manifest.v2+json",
		config:   "application/vnd.docker.container.image.v1+json",
		layer:    "application/vnd.docker.image.rootfs.diff.tar.gzip",
	}
	oci = mediaTypes{
		index:    "application/vnd.oci.image.index.v1+json",
		manifest: "application/vnd.oci.image.manifest.v1+json",
		config:   "application/vnd.oci.image.config.v1+json",
		layer:    "application/vnd.oci.image.layer.v1.tar+gzip",
	}
)

func kindOf(isOCI bool) mediaTypes {
	if isOCI {
		return oci
	}
	return docker
}

// Image is what a manifest is made from. The bytes need not be what their
// media types say; no registry looks.
type Image struct {
	OCI    bool     // OCI media types; false: docker schema 2
	Config []byte   // nil: a small one for linux/amd64
	Layers [][]byte // base layer first; the same one may come twice
}

// Platform is what an image in an index runs on. The zero value leaves the
// platform out.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// PlatformImage is an image in an index.
type PlatformImage struct {
	Platform Platform
	Image    Image
}

// Pushed is an image as a registry holds it.
type Pushed struct {
	ManifestDigest string
	MediaType      string // of the manifest
	Manifest       []byte
	ConfigDigest   string // empty for docker schema 1
	Config         []byte
	LayerDigests   []string // base layer first
}

// PushedIndex is an index as a registry holds it.
type PushedIndex struct {
	IndexDigest string
	MediaType   string
	Index       []byte
	Images      []Pushed
}

type descriptor struct {
	MediaType string    `json:"mediaType"`
	Size      int64     `json:"size"`
	Digest    string    `json:"digest"`
	Platform  *Platform `json:"platform,omitempty"`
}

// PutImage adds an image with its blobs, under the tag if that isn't empty.
func (r *Registry) PutImage(repository, tag string, image Image) Pushed {
	kind := kindOf(image.OCI)
	p := Pushed{MediaType: kind.manifest, Config: image.Config}
	if p.Config == nil {
		p.Config = config(Platform{OS: "linux", Architecture: "amd64"})
	}
	p.ConfigDigest = r.PutBlob(repository, p.Config)
	layers := []descriptor{}
	for _, layer := range image.Layers {
		digest := r.PutBlob(repository, layer)
		p.LayerDigests = append(p.LayerDigests, digest)
		layers = append(layers, descriptor{MediaType: kind.layer, Size: int64(len(layer)), Digest: digest})
	}
	p.Manifest = document(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, kind.manifest, descriptor{MediaType: kind.config, Size: int64(len(p.Config)), Digest: p.ConfigDigest}, layers})
	p.ManifestDigest = r.PutManifest(repository, tag, p.MediaType, p.Manifest)
	return p
}

// PutIndex adds an OCI index or a docker manifest list with its images, which
// take the index's kind and are reached by digest only.
func (r *Registry) PutIndex(repository, tag string, isOCI bool, images ...PlatformImage) PushedIndex {
	kind := kindOf(isOCI)
	p := PushedIndex{MediaType: kind.index}
	manifests := []descriptor{}
	for _, i := range images {
		i.Image.OCI = isOCI
		d := descriptor{MediaType: kind.manifest}
		if i.Platform != (Platform{}) {
			d.Platform = &i.Platform
			if i.Image.Config == nil {
				i.Image.Config = config(i.Platform)
			}
		}
		image := r.PutImage(repository, "", i.Image)
		d.Digest, d.Size = image.ManifestDigest, int64(len(image.Manifest))
		p.Images = append(p.Images, image)
		manifests = append(manifests, d)
	}
	p.Index = document(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, kind.index, manifests})
	p.IndexDigest = r.PutManifest(repository, tag, p.MediaType, p.Index)
	return p
}

// config is the least that the image-spec asks of an image configuration.
func config(p Platform) []byte {
	type rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	return document(struct {
		Platform
		RootFS rootFS `json:"rootfs"`
	}{p, rootFS{"layers", []string{}}})
}

// document is a manifest's usual form: JSON indented by three spaces.
func document(value any) []byte {
	body, err := json.MarshalIndent(value, "", "   ")
	if err != nil {
		panic(fmt.Sprintf("fetchertest: encode a manifest: %v", err)) // strings and numbers only
	}
	return body
}
