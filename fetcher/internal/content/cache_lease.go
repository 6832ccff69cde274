package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tellEvery is how often a record says how far a partial is: so much of a
// transfer is lost with a process that dies.
const tellEvery = 20 * time.Millisecond

// lease is the lock of one entry, for as long as it takes to hand its blob out
// or to fetch it. It is the keeper of the writer that fetches.
type lease struct {
	cache *Cache
	key   string // file name of the entry, the partial and the blob
	entry *os.File
	done  chan struct{} // closed when the lock is let go

	ctx  context.Context // of Obtain
	dir  *Dir
	name string
	desc ocispec.Descriptor

	mu     sync.Mutex
	record record
	writer *Writer     // of the partial
	timer  *time.Timer // to the next tell
	over   bool
}

func (l *lease) blob() string { return l.cache.at("blobs", l.key) }

func (l *lease) partial() string { return l.cache.at("partial", l.key) }

// release lets go of the lock.
func (l *lease) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}

func (l *lease) end() {
	if l.over {
		return
	}
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
	unlock(l.entry)
	c := l.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[l.key] == l.done { // another goroutine may have it by now
		delete(c.held, l.key)
	}
	close(l.done)
}

// save writes the record, and with that the time of the last use. One that
// can't be written is as none: the blob is hashed, the partial begun, anew.
func (l *lease) save(r record) {
	l.record = r
	_, _ = l.entry.WriteAt(r.encode(), 0)
}

// serve hands out the blob, or returns the writer of who is to fetch it.
func (l *lease) serve() (*Writer, int64, error) {
	f, info, err := openPlain(l.blob(), os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w, err := l.begin()
		return w, 0, err
	case errors.Is(err, errNotPlain):
		w, err := l.heal()
		return w, 0, err
	case err != nil:
		return nil, 0, l.local(err)
	}
	defer f.Close()
	if !own(info) {
		return l.renew(f)
	}
	info, err = l.verify(f, info)
	switch {
	case err != nil:
		return nil, 0, err
	case info == nil:
		w, err := l.heal()
		return w, 0, err
	case l.desc.Size >= 0 && l.desc.Size != info.Size():
		return nil, 0, fmt.Errorf("%w: the blob has %d bytes, the descriptor says %d", ErrSize, info.Size(), l.desc.Size)
	}
	return nil, info.Size(), l.handOut(f, info)
}

// verify returns what the file is that holds the blob; nil if it does not.
func (l *lease) verify(f *os.File, info fs.FileInfo) (fs.FileInfo, error) {
	r := record{stage: stored, stamp: stampOf(info), marked: l.record.marked}
	if l.record.proves(r.stamp, func() bool { return marked(f) }) {
		l.record = r
		return info, nil
	}
	info, err := l.prepare(f)
	if err != nil {
		return nil, l.local(err)
	}
	ok, err := matches(l.ctx, f, l.desc.Digest)
	if !ok || err != nil {
		return nil, err
	}
	_ = os.Remove(l.partial()) // a power loss may have left both
	return info, nil
}

// prepare begins the record of a file whose bytes are verified, or are about to be.
func (l *lease) prepare(f *os.File) (fs.FileInfo, error) {
	marked := l.cache.canMark() && mark(f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	l.record = record{stage: stored, stamp: stampOf(info), marked: marked}
	return info, nil
}

// handOut gives the blob in f its name in the directory, and saves the record
// that verify or prepare began.
func (l *lease) handOut(f *os.File, before fs.FileInfo) error {
	linked, err := l.give(f, before)
	now, trouble := f.Stat()
	if trouble != nil {
		return l.local(trouble)
	}
	if !unwritten(now, before) || l.record.marked && !marked(f) {
		l.save(record{})
		if err == nil {
			_ = l.dir.Remove(l.name)
		}
		return l.local(errChanged)
	}
	if linked { // which changes ctime
		l.record.stamp = stampOf(now)
	}
	l.save(l.record)
	var local *LocalError
	if err == nil || errors.As(err, &local) || l.isEnd(err) {
		return err
	}
	return l.dir.local(err)
}

// heal removes what is wrong under the blob's name, and has it fetched again.
func (l *lease) heal() (*Writer, error) {
	if err := os.RemoveAll(l.blob()); err != nil {
		return nil, l.local(err)
	}
	return l.begin()
}

// renew stores the blob in f once more, as a file of its own: this one is not
// only ours. It is fetched again where f does not hold it.
func (l *lease) renew(f *os.File) (*Writer, int64, error) {
	w, err := l.begin()
	if err != nil {
		return nil, 0, err
	}
	buffer := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buffer)
	_, err = io.CopyBuffer(io.NewOffsetWriter(w, 0), reader{l.ctx, f}, buffer[:])
	if err == nil {
		err = w.Commit()
	}
	var local *LocalError
	switch {
	case err == nil:
		return nil, w.Size(), nil
	case errors.As(err, &local), l.isEnd(err):
	default:
		if err = w.Restart(); err == nil {
			return w, 0, nil
		}
	}
	_ = w.Close()
	return nil, 0, err
}

// begin returns the writer of the partial: what the record says of it is kept,
// and verified by Commit with the rest.
func (l *lease) begin() (*Writer, error) {
	f, have, err := l.open()
	if err != nil {
		return nil, l.local(err)
	}
	w, err := newWriter(l, f, l.desc, have)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer = w
	l.timer = time.AfterFunc(tellEvery, l.tell)
	return w, nil
}

// open opens the partial, and says how many first bytes of it are known.
func (l *lease) open() (f *os.File, have int64, err error) {
	if l.record.stage == partial {
		if f, _, err := openPlain(l.partial(), os.O_RDWR); err == nil {
			return f, l.record.received, nil
		}
	}
	const create = os.O_RDWR | os.O_CREATE | os.O_EXCL | plainly
	err = l.cache.laid(func() (err error) {
		f, err = os.OpenFile(l.partial(), create, 0o600)
		return err
	})
	if errors.Is(err, fs.ErrExist) { // of which nothing is known
		if err := os.RemoveAll(l.partial()); err != nil {
			return nil, 0, err
		}
		f, err = os.OpenFile(l.partial(), create, 0o600)
	}
	return f, 0, err
}

// tell has the record say how far the partial is.
func (l *lease) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	if n := l.writer.Contiguous(); l.record.stage != partial || l.record.received != n {
		l.save(record{stage: partial, received: n})
	}
	l.timer.Reset(tellEvery)
}

// publish stores the blob and hands it out.
func (l *lease) publish(w *Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.store(w.file); err != nil {
		return err
	}
	// From here on the file is not the writer's any more.
	defer l.end()
	defer w.file.Close()
	info, err := l.prepare(w.file)
	if err != nil {
		return err
	}
	return l.handOut(w.file, info)
}

// store moves the partial, whose bytes are verified, to the blobs.
func (l *lease) store(f *os.File) error {
	if err := f.Chmod(blobMode); err != nil {
		return err
	}
	if !named(f, l.partial()) {
		return errChanged
	}
	return l.cache.laid(func() error { return os.Rename(l.partial(), l.blob()) })
}

// errChanged is the doing of somebody who does not hold the lock.
var errChanged = errors.New("somebody changed a file of the cache while it was used")

// discard keeps the partial, unless nobody could tell whether it is worth it: a
// complete one that was not committed has wrong bytes.
func (l *lease) discard(w *Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil
	}
	defer l.end()
	if !named(l.entry, l.cache.at("entries", l.key)) {
		return nil // the cache was cleared away: what is there now is another's
	}
	n := w.Contiguous()
	if 0 < n && n < w.desc.Size {
		l.save(record{stage: partial, received: n})
		return nil
	}
	if err := os.Remove(l.partial()); !errors.Is(err, fs.ErrNotExist) && err != nil {
		return err
	}
	// Nor is anything kept of a blob that can't be had.
	return l.cache.removeEntry(l.key, l.entry)
}

// local marks an error of this machine; the end of ctx is none.
func (l *lease) local(err error) error {
	if l.isEnd(err) {
		return err
	}
	return l.cache.local(err)
}

// isEnd reports whether an error is the end of ctx.
func (l *lease) isEnd(err error) bool {
	ended := l.ctx.Err()
	return ended != nil && errors.Is(err, ended)
}
