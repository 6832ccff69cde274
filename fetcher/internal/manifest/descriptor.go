package manifest

import (
	_ "crypto/sha256" // go-digest validates what is linked only
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxDescriptors bounds the distinct digests of one document.
	maxDescriptors = 10_000
	// maxDetails bounds the urls, annotations and os.features of all its
	// descriptors together: a few bytes of JSON make one, but in memory it takes
	// ten times as many.
	maxDetails = 20_000
	// shortest is what an element with a digest has at least, in bytes.
	shortest = len(`{"blobSum":"sha256:"}`) + 64
)

// list collects the descriptors of one field up to the bounds.
type list struct {
	field   string
	all     []Descriptor
	seen    map[digest.Digest]bool
	details int
}

// newList returns a list that never has to grow for this array.
func newList(field string, array json.RawMessage) *list {
	return &list{field: field, all: make([]Descriptor, 0, len(array)/shortest), seen: map[digest.Digest]bool{}}
}

func (l *list) add(d Descriptor) error {
	l.seen[d.Digest] = true
	if len(l.seen) > maxDescriptors {
		return fmt.Errorf("%w: %s has more than %d distinct digests", ErrInvalid, l.field, maxDescriptors)
	}
	l.all = append(l.all, d)
	return nil
}

// detail counts one more of what hangs on descriptors.
func (l *list) detail() error {
	if l.details++; l.details > maxDetails {
		return fmt.Errorf("%w: %s has more than %d urls, annotations and os.features", ErrInvalid, l.field, maxDetails)
	}
	return nil
}

func parseDescriptors(field string, array json.RawMessage) ([]Descriptor, error) {
	l := newList(field, array)
	err := each(field, array, func(where place, value json.RawMessage) error {
		d, err := l.parse(where, value)
		if err != nil {
			return err
		}
		return l.add(d)
	})
	if len(l.all) == 0 {
		return nil, err
	}
	return l.all, err
}

func parseDescriptor(field string, value json.RawMessage) (Descriptor, error) {
	return (&list{field: field}).parse(place{field, -1, ""}, value)
}

var descriptorFields = []string{"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"}

// parse reads one descriptor (image-spec, descriptor.md): digest and size are
// required, and everything that is fetched by it hangs on them.
func (l *list) parse(where place, object json.RawMessage) (Descriptor, error) {
	const largest = 1 << 62 // leaves room to add sizes up
	var d Descriptor
	sized := false
	err := members(where, object, descriptorFields, func(name string, value json.RawMessage) error {
		if name == "size" {
			sized = string(value) != "null"
		}
		return l.member(&d, where, name, value)
	})
	if err != nil {
		return Descriptor{}, err
	}
	if err := checkDigest(where, "digest", d.Digest); err != nil {
		return Descriptor{}, err
	}
	switch {
	case !sized:
		return Descriptor{}, fmt.Errorf("%w: %s: there is no size", ErrInvalid, where)
	case d.Size < 0 || d.Size > largest:
		return Descriptor{}, fmt.Errorf("%w: %s: the size %d is out of bounds", ErrInvalid, where, d.Size)
	}
	return d, nil
}

// member reads one member of a descriptor.
func (l *list) member(d *Descriptor, where place, name string, value json.RawMessage) (err error) {
	switch name {
	case "mediaType":
		d.MediaType, err = text(where, name, value)
	case "artifactType":
		d.ArtifactType, err = text(where, name, value)
	case "digest":
		var s string
		s, err = text(where, name, value)
		d.Digest = digest.Digest(s)
	case "size":
		d.Size, err = integer(where, name, value)
	case "data":
		d.Data, err = data(where, name, value)
	case "urls":
		d.URLs, err = l.texts(where, name, value)
	case "annotations":
		d.Annotations, err = l.annotations(where, name, value)
	case "platform":
		d.Platform, err = l.platform(where, name, value)
	}
	return err
}

// texts reads an array of strings, or null.
func (l *list) texts(where place, name string, value json.RawMessage) (all []string, err error) {
	if string(value) == "null" {
		return nil, nil
	}
	if value[0] != '[' {
		return nil, wrong(where, name)
	}
	for element := range elements(value) {
		s, err := text(where, name, element)
		if err != nil {
			return nil, err
		}
		if err := l.detail(); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// annotations reads an object of strings, or null.
func (l *list) annotations(where place, name string, value json.RawMessage) (map[string]string, error) {
	if string(value) == "null" {
		return nil, nil
	}
	if value[0] != '{' {
		return nil, wrong(where, name)
	}
	all := map[string]string{}
	for key, value := range pairs(value) {
		s, err := text(where, name, value)
		if err != nil {
			return nil, err
		}
		if err := l.detail(); err != nil {
			return nil, err
		}
		all[string(unescape(key))] = s
	}
	return all, nil
}

var platformFields = []string{"os", "architecture", "variant", "os.version", "os.features"}

func (l *list) platform(where place, name string, value json.RawMessage) (*ocispec.Platform, error) {
	if string(value) == "null" {
		return nil, nil
	}
	if value[0] != '{' {
		return nil, wrong(where, name)
	}
	where.member = name
	p := &ocispec.Platform{}
	err := members(where, value, platformFields, func(field string, value json.RawMessage) (err error) {
		switch field {
		case "os":
			p.OS, err = text(where, field, value)
		case "architecture":
			p.Architecture, err = text(where, field, value)
		case "variant":
			p.Variant, err = text(where, field, value)
		case "os.version":
			p.OSVersion, err = text(where, field, value)
		case "os.features":
			p.OSFeatures, err = l.texts(where, field, value)
		}
		return err
	})
	return p, err
}

// data reads bytes in base64, or null.
func data(where place, name string, value json.RawMessage) ([]byte, error) {
	s, err := text(where, name, value)
	if err != nil || s == "" {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, where, err)
	}
	return data, nil
}

// checkDigest takes what may become a file's name.
func checkDigest(where place, name string, d digest.Digest) error {
	switch {
	case Verifiable(d):
		return nil
	case d == "":
		return fmt.Errorf("%w: %s: %s is missing", ErrInvalid, where, name)
	case len(d) > 200 || d.Validate() != nil:
		return fmt.Errorf("%w: %s: %s %q is not valid", ErrInvalid, where, name, cut(string(d)))
	}
	return fmt.Errorf("%w: %s: %s %q is neither sha256 nor sha512", ErrInvalid, where, name, cut(string(d)))
}

// Verifiable reports whether d is of sha256 or sha512, with as many lower-case
// hexadecimal digits as that has: nothing else makes a file's name.
func Verifiable(d digest.Digest) bool {
	algorithm, hex, _ := strings.Cut(string(d), ":")
	known := algorithm == "sha256" && len(hex) == 64 || algorithm == "sha512" && len(hex) == 128
	return known && strings.Trim(hex, "0123456789abcdef") == ""
}
