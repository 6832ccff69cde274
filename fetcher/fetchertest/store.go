package fetchertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"sync"
)

// store holds the repositories by name.
type store struct {
	mu           sync.RWMutex
	repositories map[string]*repository
}

type repository struct {
	blobs     map[string]content  // by digest
	manifests map[string]manifest // by digest
	tags      map[string]string   // to digests
}

type manifest struct {
	digest, mediaType string
	body              []byte
}

// PutBlob adds a blob, which must not change any more, and returns its sha256 digest.
func (r *Registry) PutBlob(repository string, data []byte) (digest string) {
	digest = digestOf(data)
	r.store.putBlob(repository, digest, bytes.NewReader(data))
	return digest
}

// PutManifest adds a manifest or index of any bytes, under its sha256 digest
// and, if tag isn't empty, under the tag, which it takes from what had it.
func (r *Registry) PutManifest(repository, tag, mediaType string, body []byte) (digest string) {
	digest = digestOf(body)
	r.store.putManifest(repository, tag, manifest{digest, mediaType, body})
	return digest
}

func (s *store) putBlob(name, digest string, c content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repository(name).blobs[digest] = c
}

func (s *store) putManifest(name, tag string, m manifest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repository := s.repository(name)
	repository.manifests[m.digest] = m
	if tag != "" {
		repository.tags[tag] = m.digest
	}
}

// repository finds the repository or makes it. The lock is held.
func (s *store) repository(name string) *repository {
	if s.repositories == nil {
		s.repositories = map[string]*repository{}
	}
	if s.repositories[name] == nil {
		s.repositories[name] = &repository{map[string]content{}, map[string]manifest{}, map[string]string{}}
	}
	return s.repositories[name]
}

func (s *store) has(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.repositories[name] != nil
}

// names lists the repositories.
func (s *store) names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.repositories))
}

// blob finds a blob of a repository that exists.
func (s *store) blob(name, digest string) (content, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.repositories[name].blobs[digest]
	return c, ok
}

// manifest finds a manifest, by tag or digest, of a repository that exists.
func (s *store) manifest(name, reference string) (manifest, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	repository := s.repositories[name]
	if digest, ok := repository.tags[reference]; ok {
		reference = digest
	}
	m, ok := repository.manifests[reference]
	return m, ok
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return sha256Digest(sum[:])
}

func sha256Digest(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }
