package fetchertest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// RandomLayer returns size bytes that look random and are the same for the
// same seed: what [Registry.PutGeneratedBlob] serves for that seed.
func RandomLayer(seed uint64, size int) []byte {
	layer := make([]byte, size)
	fill(layer, seed, 0)
	return layer
}

// PutGeneratedBlob adds a blob of size bytes that is made while it is read,
// so that it takes no memory, and returns its digest. The whole is hashed once, here.
func (r *Registry) PutGeneratedBlob(repository string, seed uint64, size int64) (digest string) {
	c := generated{seed, size}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(c, 0, size)); err != nil {
		panic(fmt.Sprintf("fetchertest: hash a generated blob: %v", err)) // neither side can fail
	}
	digest = sha256Digest(hash.Sum(nil))
	r.store.putBlob(repository, digest, c)
	return digest
}

// generated is a content without bytes in memory.
type generated struct {
	seed uint64
	size int64
}

func (g generated) Size() int64 { return g.size }

func (g generated) ReadAt(p []byte, off int64) (int, error) {
	if off >= g.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), g.size-off)
	fill(p[:n], g.seed, off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// fill writes the bytes of seed's stream from offset off into p. The stream is
// a row of 8-byte words, each computed from its index.
func fill(p []byte, seed uint64, off int64) {
	seed = mix(seed)
	index, skip := uint64(off)/8, off%8
	var word [8]byte
	if skip != 0 {
		binary.LittleEndian.PutUint64(word[:], mix(seed+index))
		p = p[copy(p, word[skip:]):]
		index++
	}
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, mix(seed+index))
		index++
	}
	binary.LittleEndian.PutUint64(word[:], mix(seed+index))
	copy(p, word[:])
}

// mix is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, 2014) as a function of its counter.
func mix(x uint64) uint64 {
	x = (x + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
