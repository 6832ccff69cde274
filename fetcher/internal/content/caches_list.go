package content

import (
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Shelf is what the cache of one registry holds.
type Shelf struct {
	Registry      string // the name of its directory: https_HOST[:PORT] or http_HOST[:PORT]
	Blobs         []Stored
	Partials      int // blobs that are not complete
	PartialBytes  int64
	Documents     int // manifests and indexes, each once for each owner
	DocumentBytes int64
	Used          time.Time // the last use of any of it; zero where there is nothing
}

// Stored is one verified blob.
type Stored struct {
	Digest digest.Digest
	Size   int64     // bytes
	Used   time.Time // the last use
}

// List returns what each registry's cache holds, by name, the blobs that were
// used last first. It reads no blob and waits for nobody.
func (c *Caches) List() ([]Shelf, error) {
	caches, err := c.all()
	if err != nil {
		return nil, err
	}
	var shelves []Shelf
	for _, named := range caches {
		items, err := named.items()
		if err != nil {
			return nil, named.local(err)
		}
		shelf := Shelf{Registry: named.registry}
		for _, i := range items {
			shelf.add(i)
		}
		slices.SortFunc(shelf.Blobs, func(a, b Stored) int { return b.Used.Compare(a.Used) })
		shelves = append(shelves, shelf)
	}
	return shelves, nil
}

// add counts an item. An entry alone is nothing.
func (s *Shelf) add(i *item) {
	switch {
	case i.path != "":
		s.Documents++
		s.DocumentBytes += i.other
	case i.blob >= 0:
		s.Blobs = append(s.Blobs, Stored{Digest: i.digest(), Size: i.blob, Used: i.used})
	case i.partial == 0:
		return
	}
	if i.partial > 0 {
		s.Partials++
		s.PartialBytes += i.partial
	}
	if i.used.After(s.Used) {
		s.Used = i.used
	}
}

// digest is that which the name of the item's file says.
func (i *item) digest() digest.Digest { return digest.Digest(strings.Replace(i.key, "_", ":", 1)) }
