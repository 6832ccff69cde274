package manifest

import (
	_ "crypto/sha256" // go-digest validates what is linked only
	_ "crypto/sha512"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// maxDescriptors bounds the distinct digests of one document.
const maxDescriptors = 10_000

// list collects descriptors up to the bound.
type list struct {
	all  []Descriptor
	seen map[digest.Digest]bool
}

func (l *list) add(where string, d Descriptor) error {
	if l.seen == nil {
		l.seen = map[digest.Digest]bool{}
	}
	l.seen[d.Digest] = true
	if len(l.seen) > maxDescriptors {
		return fmt.Errorf("%w: %s has more than %d distinct digests", ErrInvalid, where, maxDescriptors)
	}
	l.all = append(l.all, d)
	return nil
}

func parseDescriptors(where string, raw json.RawMessage) ([]Descriptor, error) {
	var found list
	err := each(where, raw, func(at string, raw json.RawMessage) error {
		d, err := parseDescriptor(at, raw)
		if err != nil {
			return err
		}
		return found.add(where, d)
	})
	return found.all, err
}

// parseDescriptor reads one descriptor (image-spec, descriptor.md): digest and
// size are required, and everything that is fetched by it hangs on them.
func parseDescriptor(where string, raw json.RawMessage) (Descriptor, error) {
	const most = 1 << 62 // leaves room to add sizes up
	given, err := members(where, raw, "mediaType", "digest", "size", "urls", "platform")
	if err != nil {
		return Descriptor{}, err
	}
	var d Descriptor
	if err := unmarshal(where, raw, &d); err != nil {
		return Descriptor{}, err
	}
	if err := checkDigest(where+": digest", d.Digest); err != nil {
		return Descriptor{}, err
	}
	switch {
	case !given.has("size"):
		return Descriptor{}, fmt.Errorf("%w: %s: there is no size", ErrInvalid, where)
	case d.Size < 0 || d.Size > most:
		return Descriptor{}, fmt.Errorf("%w: %s: the size %d is out of bounds", ErrInvalid, where, d.Size)
	}
	return d, nil
}

// checkDigest takes what may become a file's name: an algorithm that can be
// verified and hex of its length.
func checkDigest(where string, d digest.Digest) error {
	switch err := d.Validate(); {
	case d == "":
		return fmt.Errorf("%w: %s is missing", ErrInvalid, where)
	case err != nil:
		return fmt.Errorf("%w: %s %q is not valid", ErrInvalid, where, cut(string(d)))
	case d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512:
		return fmt.Errorf("%w: %s %q is neither sha256 nor sha512", ErrInvalid, where, cut(string(d)))
	}
	return nil
}
