package agent

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// Store keeps images that were pulled. In its directory are
//
//	staging/PULL/               what a pull fetches
//	blobs/REGISTRY/ALG:HEX      blobs, compressed, as a pull fetched and verified them
//	images/OWNER                manifests
//	key                         of the owners' names; who has the store open has it locked
//
// A pull fetches into a directory of its own and moves what it fetched here by
// renaming: blobs first, so that a manifest that is here had all of its blobs.
// A pull fetches no blob that is here. Two pulls at once of images that share a
// layer may both fetch it; the cache of the fetcher helps against that, not
// the store.
//
// Who may have what: the owner of a manifest is a reference together with a
// docker config, so a tenant gets only what its own credential was served, and
// asks the registry itself before it gets the blobs that another one fetched. A
// blob is handed out for the registry it came from only, since a tenant can run
// a registry that names any digest. A right that a registry takes back lives
// on here; only a pull by force is refused then.
//
// A store belongs to one process at a time, which opens it once. Nothing is ever
// removed from it, but an operator may, the key only while nobody has the store
// open: what is missing is pulled again.
type Store struct {
	dir     string
	key     []byte
	lock    *os.File // the key's file
	flights flights
}

// OpenStore opens the store in dir, which it makes if missing, and removes what
// pulls left that were killed. It fails while the store is open, in this process
// or another. The caller closes it.
func OpenStore(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var err error
	if s.lock, err = lockFile(s.path("key")); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("store: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// Close lets another process open the store. Nothing may be provisioned from it
// then or later.
func (s *Store) Close() error {
	// The close alone would not do while a program is being started, which has
	// the file open until its exec.
	_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
	return s.lock.Close()
}

// lockFile opens a file, which it makes if missing, and locks it. The kernel
// lets go of the lock when the process dies.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("%s is in use: a store belongs to one process at a time, give each agent its own", filepath.Dir(path))
	default:
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, errors.Join(err, file.Close())
}

// prepare makes a locked store ready for pulls.
func (s *Store) prepare() (err error) {
	if err := os.RemoveAll(s.path("staging")); err != nil {
		return err
	}
	for _, sub := range []string{"staging", "blobs", "images"} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return err
		}
	}
	s.key, err = readKey(s.path("key"))
	return err
}

// readKey reads the key at path, or makes one; with a new key nothing stored is found.
func readKey(path string) ([]byte, error) {
	const size = 32
	key, err := os.ReadFile(path)
	if err != nil || len(key) == size {
		return key, err
	}
	key = make([]byte, size)
	_, _ = rand.Read(key) // never fails
	return key, os.WriteFile(path, key, 0o600)
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// puller fetches a manifest, and the blobs that has does not report, into dir.
type puller func(ctx context.Context, image scheme.Reference, config fetcher.DockerConfig, dir string,
	has func(ocispec.Descriptor) bool) (ocispec.Manifest, error)

// get returns the image of task, pulling it if it is not here whole, or by
// force. Tasks that want the same at once share one pull. It goes on while one
// of them wants it; the last one's cancel ends it.
func (s *Store) get(ctx context.Context, reference scheme.Reference, task Task, pull puller) (Image, error) {
	owner := s.owner(reference, task.Config)
	key := fmt.Sprint(owner, task.Force) // by force is not the same
	return s.flights.share(ctx, key, func(ctx context.Context) (Image, error) {
		if !task.Force {
			if image, found := s.lookup(owner, reference); found {
				return image, nil
			}
		}
		return s.pull(ctx, owner, reference, task.Config, pull)
	})
}

// owner returns the name for what this config is served for this reference. It
// does not lead back to the config, not even to one that is easy to guess.
func (s *Store) owner(reference scheme.Reference, config fetcher.DockerConfig) string {
	hash := hmac.New(sha256.New, s.key)
	for _, part := range [][]byte{[]byte(reference.String()), config.JSON, config.MesosSecret, config.MesosSecretJSON} {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// lookup returns an image if it is here with all of its blobs. A manifest that
// can't be read is pulled again.
func (s *Store) lookup(owner string, reference scheme.Reference) (_ Image, found bool) {
	manifest, err := readManifest(s.path("images", owner))
	image := Image{Manifest: manifest, Blobs: s.blobs(reference)}
	return image, err == nil && len(missingBlobs(manifest, image.has)) == 0
}

// blobs returns the directory of a registry's blobs.
func (s *Store) blobs(reference scheme.Reference) string {
	return s.path("blobs", reference.RegistryScheme+"_"+reference.Host())
}

func (s *Store) pull(ctx context.Context, owner string, reference scheme.Reference, config fetcher.DockerConfig, pull puller) (_ Image, err error) {
	staging, err := os.MkdirTemp(s.path("staging"), "")
	if err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	image := Image{Blobs: s.blobs(reference)}
	image.Manifest, err = pull(ctx, reference, config, staging, image.has)
	if err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(image.Blobs, 0o700); err != nil {
		return Image{}, err
	}
	fetched := Image{Blobs: staging}
	for _, blob := range missingBlobs(image.Manifest, image.has) {
		if !fetched.has(blob) {
			return Image{}, fmt.Errorf("pull %s: blob %s is not the %d bytes that the manifest says", reference, blob.Digest, blob.Size)
		}
		if err := os.Rename(fetched.blob(blob), image.blob(blob)); err != nil {
			return Image{}, err
		}
	}
	return image, os.Rename(filepath.Join(staging, "manifest"), s.path("images", owner))
}

// Image is an image on disk.
type Image struct {
	Manifest ocispec.Manifest
	Blobs    string // the directory that has its config and layers, by digest
}

func (i Image) blob(blob ocispec.Descriptor) string {
	return filepath.Join(i.Blobs, blob.Digest.String())
}

// has reports whether a blob is there. The fetcher verified it before it got
// its name; the size tells of a power failure, which can empty files.
func (i Image) has(blob ocispec.Descriptor) bool {
	info, err := os.Lstat(i.blob(blob))
	return err == nil && info.Mode().IsRegular() && info.Size() == blob.Size
}
