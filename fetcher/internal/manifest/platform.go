package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Select chooses the manifest for a platform, of which OS and architecture
// must be set. The same platform goes first, then what containerd runs on it,
// best first: lower variants (arm v8 > v7 > v6 > v5, amd64 v3 > v2 > v1),
// the 32-bit architecture; and at last an entry of the same OS and
// architecture that names no variant. Of equals the first wins. An entry
// without a platform is chosen only where it is the only entry. What is
// chosen may be an index again. Otherwise the error is ErrNoPlatform.
func (x *Index) Select(p ocispec.Platform) (Descriptor, error) {
	if len(x.Manifests) == 1 && !hasPlatform(x.Manifests[0]) {
		return x.Manifests[0], nil
	}
	entries := slices.DeleteFunc(slices.Clone(x.Manifests), func(d Descriptor) bool { return !hasPlatform(d) })
	exact := platforms.OnlyStrict(p) // Only begins with it, but for variants that the library does not know
	for _, comparer := range []platforms.MatchComparer{exact, platforms.Only(p), variantless{exact, p.Variant}} {
		if best := choose(entries, comparer); best >= 0 {
			return entries[best], nil
		}
	}
	return Descriptor{}, fmt.Errorf("%w for %s in the index; %s", ErrNoPlatform, format(p), x.available())
}

// hasPlatform reports whether an entry says what it is for. The library would
// take an empty OS for that of this machine.
func hasPlatform(d Descriptor) bool {
	return d.Platform != nil && d.Platform.OS != "" && d.Platform.Architecture != ""
}

// choose returns the first of the best matches, -1 if there is none.
func choose(entries []Descriptor, comparer platforms.MatchComparer) int {
	best := -1
	for i, d := range entries {
		if !comparer.Match(*d.Platform) {
			continue
		}
		if best < 0 || comparer.Less(*d.Platform, *entries[best].Platform) {
			best = i
		}
	}
	return best
}

// variantless matches an entry without a variant as if it had the one asked
// for: the index does not say for which it is, so it may be the right one.
type variantless struct {
	platforms.MatchComparer
	asked string
}

func (v variantless) Match(p ocispec.Platform) bool {
	if p.Variant != "" {
		return false
	}
	p.Variant = v.asked
	return v.MatchComparer.Match(p)
}

// available lists the platforms of the index, each once. Attestations, which
// docker's builder lists as unknown/unknown, are not offered.
func (x *Index) available() string {
	const most = 20
	var names []string
	for _, d := range x.Manifests {
		if !hasPlatform(d) || d.Platform.OS == "unknown" {
			continue
		}
		if name := format(*d.Platform); !slices.Contains(names, name) {
			names = append(names, name)
		}
		if len(names) > most {
			return "it has " + strings.Join(names[:most], ", ") + " and more"
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("none of its %d entries names a platform", len(x.Manifests))
	}
	return "it has " + strings.Join(names, ", ")
}

func format(p ocispec.Platform) string { return escape(platforms.FormatAll(p)) }
