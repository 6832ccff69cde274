package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// answerBudget is the longest wait for the answer to one request, with all
	// that its authorization, retries and redirects need.
	answerBudget = 18 * time.Second
	// A small body has bodyGrace, and more for every byte that came: with the
	// answerBudget, a registry that fails slowly is reported within 30 s.
	bodyGrace   = 10 * time.Second
	leastPerSec = 16 << 10
)

// lateError is an answer that did not come in time.
type lateError time.Duration

func (e lateError) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(e)) }

// mirrorWait is how long a mirror may take for the first byte of a blob, where
// the operator does not say: one that gets blobs from its peers has the whole
// blob before it answers.
const mirrorWait = 5 * time.Minute

// budget is the longest wait for the answer to q.
func (r *Repository) budget(q *request) time.Duration {
	if q.missing != blobMissing || q.method != http.MethodGet {
		return answerBudget
	}
	return r.patience()
}

// patience is the longest wait for the first byte of a blob.
func (r *Repository) patience() time.Duration {
	switch {
	case r.place != nil && r.once:
		return foreignWait
	case r.configured != nil && r.configured.Wait > 0:
		return r.configured.Wait
	case r.Mirror():
		return mirrorWait
	}
	return answerBudget
}

// inTime does ask for q, whose answer has to come within its budget. The time
// for the body is the reader's to bound.
func (r *Repository) inTime(ctx context.Context, q *request, ask func(context.Context, *request) (*http.Response, error)) (*http.Response, error) {
	limited, cancel := context.WithCancelCause(ctx)
	budget := r.budget(q)
	late := time.AfterFunc(budget-q.spent, func() { cancel(lateError(budget)) })
	defer late.Stop()
	resp, err := ask(limited, q)
	if err != nil {
		if ended := context.Cause(limited); ctx.Err() == nil && errors.As(ended, new(lateError)) {
			err = r.failure(ctx, q.method, q.url, ended)
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &ending{resp.Body, func() { cancel(nil) }}
	return resp, nil
}

// errTrickle is a small body that comes too slowly.
var errTrickle = errors.New("the answer trickles in too slowly")

// hurried closes a body whose bytes don't keep up.
type hurried struct {
	io.ReadCloser
	begin time.Time
	watch *time.Timer
	late  atomic.Bool
	n     int64
}

func hurry(body io.ReadCloser) io.ReadCloser {
	h := &hurried{ReadCloser: body, begin: time.Now()}
	h.watch = time.AfterFunc(bodyGrace, func() {
		h.late.Store(true)
		_ = body.Close()
	})
	return h
}

// Read reads, and earns time with what it brings.
func (h *hurried) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if h.late.Load() {
		return n, errTrickle
	}
	if n > 0 {
		h.n += int64(n)
		earned := time.Duration(h.n) * time.Second / leastPerSec
		h.watch.Reset(time.Until(h.begin.Add(bodyGrace + earned)))
	}
	return n, err
}

// Close ends the watch as well.
func (h *hurried) Close() error {
	h.watch.Stop()
	return h.ReadCloser.Close()
}

// ending is a body that ends something else with it.
type ending struct {
	io.ReadCloser
	end func()
}

func (e *ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}
