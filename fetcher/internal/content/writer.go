package content

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxUnknownSize bounds a blob whose size nobody said: the disk is not a
	// peer's to fill.
	maxUnknownSize = 64 << 30
	// maxCatchUp is how many bytes that were written before one WriteAt hashes,
	// while its connection stands still: it takes some milliseconds.
	maxCatchUp = 8 << 20
	// minReserved is the smallest file for which room on the disk is reserved,
	// and reserveStep how much at a time: a size is only a peer's word.
	minReserved = 1 << 20
	reserveStep = 256 << 20
)

// What is wrong with bytes, as opposed to the directory (LocalError).
var (
	ErrDigest = errors.New("wrong digest") // not that of the descriptor
	ErrSize   = errors.New("wrong size")   // not that of the descriptor
	ErrTooBig = errors.New("blob of unknown size is larger than 64 GiB")
)

// keeper is where a writer's file came from and where it goes.
type keeper interface {
	// publish gives the file its name. Size and digest are verified. It may
	// close w.file.
	publish(w *Writer) error
	// discard comes once, after a Close without a Commit that succeeded, when
	// w.file is closed. What the writer knows of its bytes may be asked.
	discard(w *Writer) error
	// local marks an error of this machine.
	local(err error) error
}

// Writer takes the bytes of one file, in any order, until Commit or Close.
//
// They are hashed in order, each byte once: what continues the hashed ones is
// hashed as it comes, while it is in the processor's cache; what came ahead of
// its turn is read again, from the page cache, by the call that closes the gap.
// One call hashes at a time and none waits for it.
type Writer struct {
	keeper keeper
	file   *os.File
	desc   ocispec.Descriptor

	mu       sync.Mutex
	taken    spans // what is written or is about to be
	written  spans // of that, what is in the file
	reserved int64 // so many first bytes have their room on the disk
	failed   error // an error of the file; nothing more is taken then
	ended    bool  // closed or committed

	// turn is held by who hashes. It is let go under mu, when nothing is left to
	// hash: who finds it held there knows that its bytes are seen to.
	turn   sync.Mutex
	hash   hash.Hash
	hashed int64 // so many first bytes
}

// begin returns the writer of an empty file.
func begin(k keeper, file *os.File, desc ocispec.Descriptor) *Writer {
	return &Writer{keeper: k, file: file, desc: desc, hash: desc.Digest.Algorithm().Hash()}
}

// newWriter returns the writer of a file whose first have bytes are the blob's
// already; the rest of it is cut off. They are hashed when their turn comes, so
// that a wrong one is found by Commit. The descriptor is one that Create takes.
// Where there is an error, the file stays open and the keeper is not called.
func newWriter(k keeper, file *os.File, desc ocispec.Descriptor, have int64) (*Writer, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, k.local(err)
	}
	have = max(0, min(have, info.Size()))
	if desc.Size >= 0 {
		have = min(have, desc.Size)
	}
	if have < info.Size() {
		if err := file.Truncate(have); err != nil {
			return nil, k.local(err)
		}
	}
	w := begin(k, file, desc)
	w.taken.add(span{0, have})
	w.written.add(span{0, have})
	w.reserved = have
	return w, nil
}

// WriteAt writes p from offset on and hashes what can be hashed then; safe for
// concurrent use. It writes nothing of a p that goes beyond the descriptor's
// size (ErrSize), or beyond 64 GiB where that is unknown (ErrTooBig). Bytes that
// were written already, or are being written, stay as they are: p's are dropped
// and count as written, so that no byte of the file can change once it is
// hashed. After an error of the file only Restart helps.
func (w *Writer) WriteAt(p []byte, offset int64) (int, error) {
	unhashed, err := w.Put(p, offset)
	if err == nil {
		err = unhashed.Hash()
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Unhashed is bytes that a Writer has written and that are in memory still. Its
// zero value is none.
type Unhashed struct {
	w      *Writer
	p      []byte
	offset int64
}

// Hash hashes them if it is their turn. What is out of turn, or never hashed so,
// is read from the file later.
func (u Unhashed) Hash() error {
	if u.w == nil {
		return nil
	}
	return u.w.catchUp(u.p, u.offset)
}

// Put is WriteAt without the hash, which another goroutine may do before p is
// used again.
func (w *Writer) Put(p []byte, offset int64) (Unhashed, error) {
	end := offset + int64(len(p))
	var unhashed Unhashed
	for at := offset; ; {
		s, err := w.take(span{at, end})
		if err != nil {
			return Unhashed{}, err
		}
		if s.from < s.to {
			fresh := p[s.from-offset : s.to-offset]
			if err := w.write(fresh, s.from); err != nil {
				return Unhashed{}, err
			}
			unhashed = Unhashed{w, fresh, s.from}
		}
		if at = s.to; at == end {
			return unhashed, nil
		}
	}
}

// take claims the first stretch of s that nobody wrote yet.
func (w *Writer) take(s span) (span, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.stopped(); err != nil {
		return span{}, err
	}
	if err := w.fits(s); err != nil {
		return span{}, err
	}
	s = w.taken.missing(s)
	w.taken.add(s)
	return s, nil
}

// stopped says why nothing more is taken, if so.
func (w *Writer) stopped() error {
	if w.ended {
		return w.local(fs.ErrClosed)
	}
	return w.failed
}

func (w *Writer) fits(s span) error {
	switch {
	case s.from < 0 || s.to < s.from: // the sum was too large
		return fmt.Errorf("no file has bytes %d to %d", s.from, s.to)
	case w.desc.Size >= 0 && s.to > w.desc.Size:
		return fmt.Errorf("%w: more than the %d bytes that the descriptor says", ErrSize, w.desc.Size)
	case s.to > maxUnknownSize && w.desc.Size < 0:
		return ErrTooBig
	}
	return nil
}

// write writes bytes that were taken.
func (w *Writer) write(p []byte, offset int64) error {
	n := 0
	err := w.reserve(offset + int64(len(p)))
	if err == nil {
		n, err = w.file.WriteAt(p, offset)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written.add(span{offset, offset + int64(n)})
	if err == nil {
		return nil
	}
	err = w.local(err)
	if w.failed == nil {
		w.failed = err
	}
	return err
}

// reserve has the disk keep room ahead of a write that goes up to end, so that a
// full one is known early.
func (w *Writer) reserve(end int64) error {
	if w.desc.Size < minReserved {
		return nil
	}
	w.mu.Lock()
	next := span{w.reserved, w.reserved}
	if end > w.reserved {
		next.to = min(w.reserved+reserveStep, w.desc.Size)
	}
	w.reserved = next.to
	w.mu.Unlock()
	if next.from == next.to {
		return nil
	}
	return reserve(w.file, next)
}

// catchUp hashes p, which stands at offset, and what follows it, unless somebody
// else is at that: who hashes goes on with what others have written meanwhile.
func (w *Writer) catchUp(p []byte, offset int64) error {
	w.mu.Lock()
	turn := w.stopped() == nil && w.turn.TryLock()
	w.mu.Unlock()
	if !turn {
		return nil
	}
	return w.hashOn(context.Background(), p, offset, maxCatchUp)
}

// hashOn hashes what continues the hashed bytes, and gives the turn back: p,
// which stands at offset, from memory, and at most limit bytes of the file.
func (w *Writer) hashOn(ctx context.Context, p []byte, offset, limit int64) error {
	for {
		end, ok := w.due(limit > 0 || w.hashed == offset)
		if !ok {
			return nil
		}
		if w.hashed == offset {
			_, _ = w.hash.Write(p)
			w.hashed += int64(len(p))
			continue
		}
		if w.hashed < offset {
			end = min(end, offset)
		}
		n, err := w.reread(ctx, min(limit, end-w.hashed))
		if err != nil {
			w.turn.Unlock()
			return err
		}
		limit -= n
	}
}

// due returns where the bytes end that can be hashed; where there are none, or
// no more are wanted, the turn is over.
func (w *Writer) due(more bool) (end int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end = w.written.prefix()
	if !more || w.hashed == end {
		w.turn.Unlock()
		return 0, false
	}
	return end, true
}

// reread hashes the next bytes of the file, at most limit and at most a buffer
// full, and returns how many.
func (w *Writer) reread(ctx context.Context, limit int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	buffer := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buffer)
	n, err := w.file.ReadAt(buffer[:min(limit, int64(len(buffer)))], w.hashed)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("somebody cut off the file at byte %d: %w", w.hashed+int64(n), io.ErrUnexpectedEOF)
	}
	if err != nil {
		return 0, w.local(err)
	}
	_, _ = w.hash.Write(buffer[:n])
	w.hashed += int64(n)
	return int64(n), nil
}

// Size returns how many bytes were written.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written.size()
}

// Contiguous returns how many first bytes were written without a gap: from
// there on a transfer goes on.
func (w *Writer) Contiguous() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written.prefix()
}

// Restart forgets all bytes: the file is empty again. It also helps after a
// Commit that found a wrong digest. No other call may run meanwhile.
func (w *Writer) Restart() error {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return w.stopped()
	}
	if err := w.file.Truncate(0); err != nil {
		return w.local(err)
	}
	w.taken, w.written, w.reserved, w.failed = w.taken[:0], w.written[:0], 0, nil
	w.hash.Reset()
	w.hashed = 0
	return nil
}

// Verify holds the bytes against the descriptor: ErrSize, ErrDigest, or the
// error of ctx, for to hash what is not hashed yet takes seconds where most of a
// large file was there before. Every WriteAt must have returned.
func (w *Writer) Verify(ctx context.Context) error {
	if err := w.complete(); err != nil {
		return err
	}
	w.turn.Lock()
	if err := w.hashOn(ctx, nil, -1, math.MaxInt64); err != nil {
		return err
	}
	if sum := hex.EncodeToString(w.hash.Sum(nil)); sum != w.desc.Digest.Encoded() {
		return fmt.Errorf("%w: got %s:%s, want %s", ErrDigest, w.desc.Digest.Algorithm(), sum, w.desc.Digest)
	}
	return nil
}

// complete reports what is missing of the file.
func (w *Writer) complete() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.stopped(); err != nil {
		return err
	}
	size, prefix := w.written.size(), w.written.prefix()
	switch {
	case w.desc.Size >= 0 && size != w.desc.Size:
		return fmt.Errorf("%w: got %d bytes, the descriptor says %d", ErrSize, size, w.desc.Size)
	case size != prefix:
		return fmt.Errorf("%w: got %d bytes, with a gap at byte %d", ErrSize, size, prefix)
	}
	return nil
}

// Commit verifies size and digest and then gives the file its name, in one
// step, whatever had that name before; only a directory is never replaced. A
// Commit that fails leaves what was there. Every WriteAt must have returned.
func (w *Writer) Commit() error {
	if err := w.Verify(context.Background()); err != nil {
		return err
	}
	if err := w.keeper.publish(w); err != nil {
		return w.local(err)
	}
	w.end()
	return nil
}

// end has the writer take nothing more, and reports whether it did so before.
func (w *Writer) end() (before bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before = w.ended
	w.ended = true
	return before
}

// Close ends the writer; what becomes of a file without a Commit is its
// keeper's to say.
func (w *Writer) Close() error {
	before := w.end()
	if !before {
		w.trim()
	}
	err := w.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	if !before {
		err = errors.Join(err, w.keeper.discard(w))
	}
	if err != nil {
		return w.local(err)
	}
	return nil
}

// trim gives back the room behind the bytes with which a resume begins. A file
// that can't be trimmed has that room until then.
func (w *Writer) trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.written.prefix(); n < w.reserved {
		_ = w.file.Truncate(n)
	}
}

// local marks an error of this machine, unless the keeper did.
func (w *Writer) local(err error) error {
	var local *LocalError
	if errors.As(err, &local) {
		return err
	}
	return w.keeper.local(err)
}
