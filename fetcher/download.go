package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// download is one blob on its way from the hosts that have it.
type download struct {
	*job
	desc     Descriptor
	progress *active
	open     func() (*content.Writer, error) // where w is nil
	w        *content.Writer
}

func (d *download) close() {
	if d.w != nil {
		_ = d.w.Close()
	}
}

// run fetches the blob until it is complete, verified and under its name: from
// the hosts, and where they have no such blob from where the manifest says it is.
func (d *download) run(ctx context.Context, lanes []lane) (size int64, err error) {
	var failed registry.Failed
	there, err := d.along(ctx, lanes, &failed)
	if !there && err == nil && failed.Missing() {
		there, err = d.along(ctx, d.lanes(d.route.Foreign(d.desc.URLs, &failed)), &failed)
	}
	if !there && err == nil {
		err = failed.Err(d.route.File)
	}
	if err != nil {
		return 0, fmt.Errorf("blob %s of %s: %w", d.desc.Digest, d.ref.Name(), err)
	}
	return d.w.Size(), nil
}

// along asks hosts, one after the other, and reports whether one had the blob.
// What one sent is kept for the next, unless it is wrong; why it failed is noted.
// An error means that no other would fare better.
func (d *download) along(ctx context.Context, lanes []lane, failed *registry.Failed) (bool, error) {
	for _, l := range lanes {
		var before int64
		var err error
		said, ok := l.repository.Admitted(ctx)
		if ok {
			before, said, err = d.from(ctx, l)
		}
		switch {
		case ctx.Err() != nil:
			return false, cmp.Or(err, ctx.Err())
		case !ok, said != "":
			failed.Skip(l.repository, said)
			continue
		case err == nil:
			l.repository.Told(nil, true)
			return true, nil
		case local(err):
			return false, err
		}
		l.repository.Told(err, true)
		if errors.Is(err, transfer.ErrStalled) && d.stall >= DefaultStallTimeout && l.repository.Mirror() {
			l.repository.Silent(err, true) // a call with less patience speaks for itself alone
		}
		failed.Add(l.repository, err)
		// What an answer says of its size is wrong before a byte of it is written.
		if registry.Wrong(err) && l.repository.Once() && (errors.Is(err, content.ErrDigest) || d.w.Contiguous() > before) {
			if err := d.restart(); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// from goes on with the blob at one host, from byte before; or says why that is
// left alone, where it went down while this blob waited for its turn. A blob that
// came in pieces and is wrong may be right in one piece, if no other host comes
// after: not all that answer for a host need have the same.
func (d *download) from(ctx context.Context, l lane) (before int64, said string, err error) {
	turn, err := l.streams.Turn(ctx, d.desc.Size) // before a file is open, at the first host
	if err != nil {
		return 0, "", err
	}
	defer turn.End()
	if said, down := l.repository.Down(); down {
		return 0, said, nil
	}
	if d.w == nil {
		if d.w, err = d.open(); err != nil {
			return 0, "", err
		}
	}
	options := transfer.Options{
		Size: d.desc.Size, Have: d.w.Contiguous(), Stall: d.stall, Streams: d.chunks,
		Once: l.repository.Once(), Progress: d.progress.more,
	}
	before = options.Have
	d.progress.follow(before)
	pieced, err := d.copy(ctx, turn, l, options)
	if !pieced || options.Once || !errors.Is(err, content.ErrDigest) {
		return before, "", err
	}
	if err := d.restart(); err != nil {
		return before, "", err
	}
	options.Have, options.Streams = 0, 1
	_, err = d.copy(ctx, turn, l, options)
	return before, "", err
}

// restart forgets all that came.
func (d *download) restart() error {
	d.progress.more(-d.progress.offset.Load(), 1)
	return d.w.Restart()
}

func (d *download) copy(ctx context.Context, turn *transfer.Turn, l lane, o transfer.Options) (pieced bool, err error) {
	pieced, err = turn.Copy(ctx, l.repository.Blob(d.desc.Digest), d.w, o)
	if err == nil {
		err = d.w.Verify(ctx) // most of a large partial is hashed only now
	}
	if err == nil {
		err = d.w.Commit()
	}
	return pieced, err
}

// local reports whether no other host would fare better.
func local(err error) bool {
	var here *content.LocalError
	var own *Error // a panic
	return errors.As(err, &here) || errors.As(err, &own)
}
