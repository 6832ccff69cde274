package fetcher

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/manifest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// maxIndexDepth is how many indexes may lie between a reference and a manifest.
const maxIndexDepth = 2

// Resolve finds out what a docker or docker-manifest URI names. It writes
// nothing to disk but, where there is a cache, what it read into that. The error
// is an *Error, or wraps the context's.
func (f *Fetcher) Resolve(ctx context.Context, req ResolveRequest) (Resolution, error) {
	request := Request{URI: req.URI}
	watch := newWatch(ctx, req.Observe, 0)
	resolution, phase, err := f.resolve(watch.traced(ctx, req.Trace), req, watch)
	if err = cmp.Or(err, watch.stop()); err != nil {
		return Resolution{}, failed(ctx, err, phase, &request)
	}
	return resolution, nil
}

// BlobSize asks how large the blob is that a docker-blob URI names, in bytes. It
// is -1 where the registry does not tell before it sends the blob. The error is
// as that of Resolve.
func (f *Fetcher) BlobSize(ctx context.Context, req ResolveRequest) (int64, error) {
	request := Request{URI: req.URI}
	watch := newWatch(ctx, req.Observe, 0)
	size, phase, err := f.blobSize(watch.traced(ctx, req.Trace), req, watch)
	if err = cmp.Or(err, watch.stop()); err != nil {
		return 0, failed(ctx, err, phase, &request)
	}
	return size, nil
}

func (f *Fetcher) blobSize(ctx context.Context, req ResolveRequest, watch *watch) (int64, Phase, error) {
	ref, route, err := f.routed(ctx, req, watch)
	if err != nil {
		return 0, Prepare, err
	}
	if ref.Kind != scheme.Blob {
		return 0, Prepare, invalid(URISchemeUnsupported, "want a docker-blob URI; resolve tells the sizes of the others")
	}
	size, err := route.Has(ctx, ref.Digest)
	if untold(err) || err == nil && size == 0 { // some answer 0 to any HEAD
		return -1, Resolve, nil
	}
	return size, Resolve, err
}

// routed is where a request without a directory goes.
func (f *Fetcher) routed(ctx context.Context, req ResolveRequest, watch *watch) (ref scheme.Reference, r *registry.Route, err error) {
	if ref, err = scheme.FromURI(req.URI); err != nil {
		return ref, nil, err
	}
	r, err = f.route(ctx, ref, req.Config, watch)
	return ref, r, err
}

func (f *Fetcher) resolve(ctx context.Context, req ResolveRequest, watch *watch) (Resolution, Phase, error) {
	p, err := platform(req.Platform, f.config.Platform)
	if err != nil {
		return Resolution{}, Prepare, err
	}
	ref, route, err := f.routed(ctx, req, watch)
	if err != nil {
		return Resolution{}, Prepare, err
	}
	if ref.Kind == scheme.Blob {
		return Resolution{}, Prepare, invalid(URISchemeUnsupported, "a docker-blob URI names its digest already; resolve docker or docker-manifest")
	}
	from, err := f.documents(route)
	if err != nil {
		return Resolution{}, Prepare, err
	}
	image, err := resolve(ctx, from, ref, p)
	if err != nil {
		return Resolution{}, Resolve, err
	}
	return Resolution{
		Manifest: image.descriptor, Index: image.index,
		Config: image.manifest.Config, Layers: image.manifest.Layers, Platforms: image.offered,
	}, Resolve, nil
}

// image is a manifest, and the index that it was chosen from.
type image struct {
	descriptor Descriptor
	manifest   manifest.Manifest
	raw        []byte
	index      *Descriptor // nil where the reference named a manifest
	indexRaw   []byte
	offered    []Descriptor // what the index has for platforms
}

// resolve asks for what ref names, and goes through indexes to the manifest
// for the platform.
func resolve(ctx context.Context, from documents, ref scheme.Reference, p Platform) (image, error) {
	var found image
	identifier, want := ref.Identifier(), Descriptor{Digest: ref.Digest, Size: -1}
	for range maxIndexDepth + 1 {
		raw, desc, doc, err := from.get(ctx, identifier, want)
		if err != nil {
			return image{}, err
		}
		if doc.Manifest != nil {
			found.descriptor, found.manifest, found.raw = desc, *doc.Manifest, raw
			return found, nil
		}
		if found.index == nil {
			found.index, found.indexRaw, found.offered = &desc, raw, offered(doc.Index.Manifests)
		}
		if want, err = doc.Index.Select(p); err != nil {
			return image{}, err
		}
		identifier = want.Digest.String()
	}
	return image{}, fmt.Errorf("%w: more than %d indexes lie between the reference and a manifest", manifest.ErrInvalid, maxIndexDepth)
}

// offered leaves out what is for no platform: an attestation says that its
// platform is unknown.
func offered(all []Descriptor) []Descriptor {
	return slices.DeleteFunc(slices.Clone(all), func(d Descriptor) bool {
		return d.Platform == nil || d.Platform.OS == "unknown"
	})
}

// documents are the manifests of a repository, with those that the cache has
// because the registry served them to this reader before.
type documents struct {
	route *registry.Route
	cache *content.Cache // nil: none
	owner string
}

func (f *Fetcher) documents(r *registry.Route) (documents, error) {
	d := documents{route: r}
	if f.caches == nil {
		return d, nil
	}
	var err error
	if d.cache, err = f.caches.Of(r.Origin.Registry()); err != nil {
		return d, err
	}
	d.owner = d.cache.Owner(r.Identity())
	return d, nil
}

// new reports whether nothing was served to this reader before that is kept.
func (d documents) new() bool { return d.cache == nil || !d.cache.Knows(d.owner) }

// get returns one document and holds it to the descriptor. A want without a
// digest, for a tag, takes that which the registry names, if it names one: then
// at least nothing between it and us has changed the bytes.
func (d documents) get(ctx context.Context, identifier string, want Descriptor) ([]byte, Descriptor, manifest.Document, error) {
	if raw, desc, doc, ok := d.kept(want); ok {
		return raw, desc, doc, nil
	}
	var found served
	err := d.route.Manifest(ctx, identifier, func(m registry.Manifest) (err error) {
		found, err = check(m, want)
		return err
	})
	if err != nil {
		return nil, Descriptor{}, manifest.Document{}, err
	}
	return found.body, found.descriptor, found.document, d.keep(found.descriptor, found.body)
}

// served is a manifest that holds.
type served struct {
	body       []byte
	descriptor Descriptor
	document   manifest.Document
}

// check reads what a host served and holds it to the descriptor.
func check(m registry.Manifest, want Descriptor) (served, error) {
	if named := digest.Digest(m.Digest); want.Digest == "" && manifest.Verifiable(named) {
		want.Digest = named
	}
	doc, err := manifest.Parse(m.ContentType, m.Body)
	desc, wrong := verify(m.Body, doc.MediaType, want)
	if wrong != nil {
		err = wrong // whatever the bytes mean, they are not those asked for
	}
	if err != nil {
		return served{}, fmt.Errorf("GET %s: %w", m.URL, err)
	}
	return served{m.Body, desc, doc}, nil
}

// kept returns a document of the cache. One that only the registry's
// Content-Type explains, or that isn't what want says, is asked for.
func (d documents) kept(want Descriptor) ([]byte, Descriptor, manifest.Document, bool) {
	if d.cache == nil || want.Digest == "" {
		return nil, Descriptor{}, manifest.Document{}, false
	}
	body, ok := d.cache.Document(d.owner, want.Digest)
	if !ok {
		return nil, Descriptor{}, manifest.Document{}, false
	}
	doc, err := manifest.Parse("", body)
	if err != nil {
		return nil, Descriptor{}, manifest.Document{}, false
	}
	desc, err := verify(body, doc.MediaType, want)
	return body, desc, doc, err == nil
}

// keep stores a document in the cache. The digest of a signed schema 1 manifest
// is not that of its bytes, which is all that the cache can verify.
func (d documents) keep(desc Descriptor, body []byte) error {
	if d.cache == nil || desc.Digest != desc.Digest.Algorithm().FromBytes(body) {
		return nil
	}
	return d.cache.PutDocument(d.owner, desc.Digest, body)
}

// verify returns the descriptor of a document, if it is the one that want names.
func verify(body []byte, mediaType string, want Descriptor) (Descriptor, error) {
	if want.Size >= 0 && want.Size != int64(len(body)) {
		return Descriptor{}, fmt.Errorf("%w: got %d bytes, the index says %d", content.ErrSize, len(body), want.Size)
	}
	algorithm := digest.Canonical
	if want.Digest != "" {
		algorithm = want.Digest.Algorithm()
	}
	got := algorithm.FromBytes(body)
	if got != want.Digest {
		if payload, err := manifest.Payload(mediaType, body); err == nil {
			got = algorithm.FromBytes(payload) // of a signed schema 1 manifest, else the same
		}
	}
	if want.Digest != "" && got != want.Digest {
		return Descriptor{}, fmt.Errorf("%w: got %s", content.ErrDigest, got)
	}
	return Descriptor{MediaType: mediaType, Digest: got, Size: int64(len(body))}, nil
}

// started counts what a fetch of these blobs will leave.
func (i image) started(blobs []Descriptor) Started {
	s := Started{Manifest: i.descriptor, TotalBytes: int64(len(i.raw) + len(i.indexRaw)), TotalFiles: 1 + len(blobs)}
	if i.index != nil {
		s.TotalFiles++
	}
	for _, b := range blobs {
		if b.Size < 0 || b.Size > math.MaxInt64-s.TotalBytes { // a manifest may say any size
			s.TotalBytes = -1
			break
		}
		s.TotalBytes += b.Size
	}
	return s
}
