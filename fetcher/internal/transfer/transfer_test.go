package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

const stall = time.Minute

// blob returns n bytes no two stretches of which are alike.
func blob(n int) []byte {
	b := make([]byte, n)
	state := uint32(1)
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
	}
	return b
}

// virtual runs f where no wait takes time.
func virtual(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// exactly fails the test unless err is want itself, with nothing around it.
func exactly(t *testing.T, err, want error) {
	t.Helper()
	if err != want { //nolint:errorlint // that is the point
		t.Errorf("got %v, want exactly %v", err, want)
	}
}

// TestCopyWritesTheWholeBlobWhateverConnectionsDo holds each connection to the
// offset that it is asked for, and the writer to each byte once and in order.
func TestCopyWritesTheWholeBlobWhateverConnectionsDo(t *testing.T) {
	t.Parallel()
	const unknown = -1
	wrapped := fmt.Errorf("connection lost: %w", io.EOF)
	for name, test := range map[string]struct {
		length  int
		size    int64 // of the options; 0: the blob's
		answers []answer
		asked   []int64
	}{
		"one connection gives all of it":                                 {3 << 20, 0, []answer{{}}, []int64{0}},
		"one connection gives a part of a buffer":                        {1000, 0, []answer{{}}, []int64{0}},
		"the last bytes come together with the end":                      {1000, 0, []answer{{joined: true}}, []int64{0}},
		"a full buffer comes together with the end":                      {1 << 20, 0, []answer{{joined: true}}, []int64{0}},
		"the reads are small":                                            {5000, 0, []answer{{read: 7}}, []int64{0}},
		"there are no bytes":                                             {0, 0, []answer{{total: unknown}}, []int64{0}},
		"a connection breaks":                                            {1000, 0, []answer{{length: 300, end: errReset}, {}}, []int64{0, 300}},
		"a connection breaks in a later buffer":                          {3 << 20, 0, []answer{{length: 2<<20 + 5, end: errReset}, {}}, []int64{0, 2<<20 + 5}},
		"a connection breaks with its last bytes":                        {1000, 0, []answer{{length: 300, end: errReset, joined: true}, {}}, []int64{0, 300}},
		"a connection breaks before its first byte":                      {1000, 0, []answer{{length: nothing, end: errReset}, {}}, []int64{0, 0}},
		"connections break four times":                                   {1000, 0, []answer{{length: 100, end: errReset}, {length: 100, end: errReset}, {length: 100, end: errReset}, {length: 100, end: errReset}, {}}, []int64{0, 100, 200, 300, 400}},
		"a body is shorter than its length":                              {1000, 0, []answer{{length: 300, end: io.ErrUnexpectedEOF}, {}}, []int64{0, 300}},
		"a body ends well but early":                                     {1000, 0, []answer{{length: 300}, {}}, []int64{0, 300}},
		"a body ends well but early, and nobody said how long it is":     {1000, 0, []answer{{length: 300, total: unknown}, {}}, []int64{0, 300}},
		"a body ends before its first byte":                              {1000, 0, []answer{{length: nothing}, {}}, []int64{0, 0}},
		"the range is ignored":                                           {1000, 0, []answer{{length: 300, end: errReset}, {whole: true}}, []int64{0, 300}},
		"the range is ignored, and that connection breaks too early":     {1000, 0, []answer{{length: 300, end: errReset}, {whole: true, length: 200, end: errReset}, {}}, []int64{0, 300, 300}},
		"the range is ignored, and that body ends too early":             {1000, 0, []answer{{length: 300, end: errReset}, {whole: true, length: 200}, {}}, []int64{0, 300, 300}},
		"the range is ignored again and again":                           {1000, 0, []answer{{length: 300, end: errReset}, {whole: true, length: 500, end: errReset}, {whole: true}}, []int64{0, 300, 500}},
		"a connection breaks after the last byte":                        {1000, 0, []answer{{length: 1000, end: errReset}}, []int64{0}},
		"nothing comes after the last byte, not even an end":             {1000, 0, []answer{{length: 1000, stall: true}}, []int64{0}},
		"nothing comes for a while":                                      {1000, 0, []answer{{length: 300, stall: true}, {}}, []int64{0, 300}},
		"nothing comes at first":                                         {1000, 0, []answer{{length: nothing, stall: true}, {}}, []int64{0, 0}},
		"each byte comes just in time":                                   {100, 0, []answer{{read: 1, gap: stall - 1}}, []int64{0}},
		"the range is ignored by a server that is slow":                  {1000, 0, []answer{{length: 300, end: errReset}, {whole: true, read: 100, gap: stall / 2}}, []int64{0, 300}},
		"nobody knows the size, and the range is ignored by half a body": {1000, unknown, []answer{{length: 300, end: errReset, total: unknown}, {whole: true, length: 200, total: unknown}, {total: unknown}}, []int64{0, 300, 300}},
		"nobody knows the size":                                          {1000, unknown, []answer{{total: unknown}}, []int64{0}},
		"nobody knows the size, and a connection breaks":                 {1000, unknown, []answer{{length: 300, end: errReset, total: unknown}, {total: unknown}}, []int64{0, 300}},
		"nobody knows the size, and the break looks like an end":         {1000, unknown, []answer{{length: 300, end: wrapped, total: unknown}, {total: unknown}}, []int64{0, 300}},
		"the server knows the size, and ends early":                      {1000, unknown, []answer{{length: 300}, {total: unknown}}, []int64{0, 300}},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(test.length), answers: test.answers}
				if test.size == 0 {
					test.size = int64(test.length)
				}
				var got bytes.Buffer
				if err := transfer.Copy(t.Context(), s, &got, transfer.Options{Size: test.size, Stall: stall}); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), s.blob) {
					t.Errorf("got %d bytes that are not the %d of the blob", got.Len(), test.length)
				}
				if diff := cmp.Diff(test.asked, s.asked); diff != "" {
					t.Errorf("offsets asked for (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(slices.Repeat([]int{1}, len(s.asked)), s.closes()); diff != "" {
					t.Errorf("closes of each body (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestCopyGivesUpAfterFiveFailuresWithoutProgress(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer answer
		text   string
		offset int64
		is     error
	}{
		"broken connections": {
			answer{length: nothing, end: errReset}, "broke off after 0 bytes, in 5 attempts: connection reset by peer", 0, errReset,
		},
		"one byte per connection": {
			answer{length: 1, end: errReset}, "broke off after 5 bytes, in 5 attempts: connection reset by peer", 5, errReset,
		},
		"early ends": {
			answer{length: 1}, "broke off after 5 bytes, in 5 attempts: the answer ended at byte 5 of 1000: unexpected EOF", 5, io.ErrUnexpectedEOF,
		},
		"stalls": {
			answer{length: 2, stall: true}, "broke off after 10 bytes, in 5 attempts: stalled: no byte for 1m0s", 10, transfer.ErrStalled,
		},
		"bytes from further on": {
			answer{ahead: 1}, "broke off after 0 bytes, in 5 attempts: the answer begins after the byte that was asked for", 0, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: []answer{test.answer}}
				var got bytes.Buffer
				err := transfer.Copy(t.Context(), s, &got, transfer.Options{Size: 1000, Stall: stall})
				var broken *transfer.Error
				if !errors.As(err, &broken) || err.Error() != test.text {
					t.Fatalf("got %v, want %s", err, test.text)
				}
				if broken.Offset != test.offset || broken.Attempts != 5 || len(s.asked) != 5 {
					t.Errorf("got offset %d, attempts %d, connections %d; want %d, 5, 5", broken.Offset, broken.Attempts, len(s.asked), test.offset)
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v is not %v", err, test.is)
				}
				if !bytes.Equal(got.Bytes(), s.blob[:test.offset]) {
					t.Errorf("the bytes written are not the first %d of the blob", test.offset)
				}
				if diff := cmp.Diff([]int{1, 1, 1, 1, 1}, s.closes()); diff != "" {
					t.Errorf("closes of each body (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAMebibyteOfProgressForgivesFailures(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(8 << 20), answers: []answer{{length: 1 << 20, end: errReset}}}
		var got bytes.Buffer
		if err := transfer.Copy(t.Context(), s, &got, transfer.Options{Size: 8 << 20, Stall: stall}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), s.blob) || len(s.asked) != 8 {
			t.Errorf("got %d bytes in %d connections, want all %d in 8", got.Len(), len(s.asked), 8<<20)
		}
	})
}

func TestLessThanAMebibyteOfProgressForgivesNothing(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(8 << 20), answers: []answer{{length: 1<<20 - 1, end: errReset}}}
		err := transfer.Copy(t.Context(), s, io.Discard, transfer.Options{Size: 8 << 20, Stall: stall})
		var broken *transfer.Error
		if !errors.As(err, &broken) || broken.Attempts != 5 || broken.Offset != 5*(1<<20-1) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheSecondAttemptFollowsAtOnceAndTheOthersLater(t *testing.T) {
	virtual(t, func(t *testing.T) {
		begin := time.Now()
		var opened []time.Duration
		source := sourceFunc(func(context.Context, int64) (transfer.Content, error) {
			opened = append(opened, time.Since(begin))
			return transfer.Content{ReadCloser: &body{ctx: t.Context(), answer: answer{end: errReset}}, Total: -1}, nil
		})
		err := transfer.Copy(t.Context(), source, io.Discard, transfer.Options{Size: 1, Stall: stall})
		if !errors.Is(err, errReset) || len(opened) != 5 {
			t.Fatalf("got %v after %d attempts", err, len(opened))
		}
		if time.Since(begin) != opened[4] {
			t.Error("there was a wait after the last attempt")
		}
		for i, bound := range []struct{ least, most time.Duration }{
			{0, 0}, {400, 1200}, {800, 2400}, {1600, 4800},
		} {
			gap := opened[i+1] - opened[i]
			if gap < bound.least*time.Millisecond || gap > bound.most*time.Millisecond {
				t.Errorf("attempt %d came %v after the one before, want %d to %d ms", i+2, gap, bound.least, bound.most)
			}
		}
	})
}

func TestAStalledConnectionIsGivenUpAfterTheStallTimeout(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), answers: []answer{{length: 300, stall: true}, {}}}
		begin := time.Now()
		if err := transfer.Copy(t.Context(), s, io.Discard, transfer.Options{Size: 1000, Stall: 7 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("the stall was seen after %v, want 7s", took)
		}
	})
}

func TestASlowWriterIsNoStall(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(3 << 20), answers: []answer{{}}}
		slow := writerFunc(func(p []byte) (int, error) {
			time.Sleep(3 * stall)
			return len(p), nil
		})
		if err := transfer.Copy(t.Context(), s, slow, transfer.Options{Size: 3 << 20, Stall: stall}); err != nil {
			t.Fatal(err)
		}
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
		}
	})
}

func TestTheStallOfAnotherTransferIsNotOurs(t *testing.T) {
	virtual(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &server{blob: blob(1000), answers: []answer{{length: 300, stall: true}}}
		time.AfterFunc(time.Second, func() { cancel(transfer.ErrStalled) }) // as an errgroup does
		err := transfer.Copy(ctx, s, io.Discard, transfer.Options{Size: 1000, Stall: stall})
		exactly(t, err, context.Canceled)
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
		}
	})
}

func TestTheEndOfTheContextEndsTheCopyAtOnce(t *testing.T) {
	t.Parallel()
	for where, answers := range map[string][]answer{
		"while it reads":                  {{length: 300, stall: true}},
		"while it waits for the end":      {{length: 1000, stall: true}},
		"while it skips":                  {{length: 300, end: errReset}, {whole: true, length: 100, stall: true}},
		"while it waits for the next one": {{length: nothing, end: errReset}, {length: nothing, end: errReset}, {refuse: errors.New("asked too early")}},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			t.Run("by cancel", func(t *testing.T) {
				virtual(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(100*time.Millisecond, cancel)
					endsWith(ctx, t, answers, context.Canceled)
				})
			})
			t.Run("by deadline", func(t *testing.T) {
				virtual(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					endsWith(ctx, t, answers, context.DeadlineExceeded)
				})
			})
		})
	}
}

// endsWith holds a copy to end with exactly want, 100 ms from now.
func endsWith(ctx context.Context, t *testing.T, answers []answer, want error) {
	t.Helper()
	s := &server{blob: blob(1000), answers: answers}
	begin := time.Now()
	err := transfer.Copy(ctx, s, io.Discard, transfer.Options{Size: 1000, Stall: stall})
	exactly(t, err, want)
	if took := time.Since(begin); took != 100*time.Millisecond {
		t.Errorf("it took %v, want 100ms", took)
	}
	if diff := cmp.Diff(slices.Repeat([]int{1}, len(s.asked)), s.closes()); diff != "" {
		t.Errorf("closes of each body (-want +got):\n%s", diff)
	}
}

func TestTheContextOfAConnectionEndsWithIt(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), answers: []answer{{length: 300, end: errReset}, {}}}
		if err := transfer.Copy(t.Context(), s, io.Discard, transfer.Options{Size: 1000, Stall: stall}); err != nil {
			t.Fatal(err)
		}
		for i, b := range s.bodies {
			t.Log("connection", i)
			exactly(t, context.Cause(b.ctx), context.Canceled)
		}
	})
}

func TestWhatOpenReturnsIsReturnedAsItIsAndFinal(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied")
	for name, test := range map[string]struct {
		answers []answer
		asked   []int64
	}{
		"at first":       {[]answer{{refuse: denied}}, []int64{0}},
		"after a resume": {[]answer{{length: 300, end: errReset}, {refuse: denied}}, []int64{0, 300}},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: test.answers}
				err := transfer.Copy(t.Context(), s, io.Discard, transfer.Options{Size: 1000, Stall: stall})
				exactly(t, err, denied)
				if diff := cmp.Diff(test.asked, s.asked); diff != "" {
					t.Errorf("offsets asked for (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestWhatTheWriterReturnsIsReturnedAsItIsAndFinal(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	for name, a := range map[string]answer{
		"with a good connection":                {},
		"with one that breaks at the same time": {length: 300, end: errReset},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: []answer{a}}
				w := writerFunc(func([]byte) (int, error) { return 0, full })
				err := transfer.Copy(t.Context(), s, w, transfer.Options{Size: 1000, Stall: stall})
				exactly(t, err, full)
				if diff := cmp.Diff([]int{1}, s.closes()); diff != "" {
					t.Errorf("closes of each body (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestBytesBeyondTheSizeGoToTheWriterWhichRefusesThem(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), answers: []answer{{extra: "more", total: -1}}}
		refused := errors.New("too much")
		seen := 0
		w := writerFunc(func(p []byte) (int, error) {
			if seen += len(p); seen > 1000 {
				return 0, refused
			}
			return len(p), nil
		})
		err := transfer.Copy(t.Context(), s, w, transfer.Options{Size: 1000, Stall: stall})
		exactly(t, err, refused)
		if seen != 1004 || len(s.asked) != 1 {
			t.Errorf("the writer saw %d bytes of %d connections, want 1004 of 1", seen, len(s.asked))
		}
	})
}

func TestAServerWithABlobOfAnotherSizeIsRefusedBeforeItsBytesCome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size    int64
		answers []answer
		text    string
	}{
		"smaller than the descriptor says": {1000, []answer{{total: 999}}, "wrong size: the server has 999 bytes, expected were 1000"},
		"larger than the descriptor says":  {1000, []answer{{total: 1001}}, "wrong size: the server has 1001 bytes, expected were 1000"},
		"another one than at first":        {-1, []answer{{length: 300, end: errReset}, {total: 999}}, "wrong size: the server has 999 bytes, expected were 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: test.answers}
				var got bytes.Buffer
				err := transfer.Copy(t.Context(), s, &got, transfer.Options{Size: test.size, Stall: stall})
				if !errors.Is(err, content.ErrSize) || err.Error() != test.text {
					t.Errorf("got %v, want %s", err, test.text)
				}
				if want := 300 * (len(test.answers) - 1); got.Len() != want {
					t.Errorf("%d bytes were written, want %d", got.Len(), want)
				}
				if diff := cmp.Diff(slices.Repeat([]int{1}, len(test.answers)), s.closes()); diff != "" {
					t.Errorf("closes of each body (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestProgressTellsOffsetAndAttempt(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(3 << 20), answers: []answer{{length: 1<<20 + 5, end: errReset}, {whole: true}}}
		type report struct {
			Offset  int64
			Attempt int
		}
		var got []report
		options := transfer.Options{Size: 3 << 20, Stall: stall, Progress: func(offset int64, attempt int) {
			got = append(got, report{offset, attempt})
		}}
		if err := transfer.Copy(t.Context(), s, io.Discard, options); err != nil {
			t.Fatal(err)
		}
		want := []report{{1 << 20, 1}, {1<<20 + 5, 1}, {2<<20 + 5, 2}, {3 << 20, 2}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

// FuzzCopy has connections end wherever the input says, in each of the ways
// that an answer knows: what was written is a beginning of the blob, all of it
// if the copy succeeded.
func FuzzCopy(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 100, 2, 50, 3, 0, 4, 200, 0, 0})
	f.Add([]byte{5, 9, 5, 9, 5, 9, 5, 9, 5, 9})
	f.Fuzz(func(t *testing.T, plan []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{blob: blob(1000)}
			for ; len(plan) >= 2; plan = plan[2:] {
				kind, length := plan[0], int(plan[1])
				a := answer{length: length, whole: kind&1 != 0, joined: kind&2 != 0, stall: kind&4 != 0}
				if kind&8 != 0 {
					a.end = errReset
				}
				if kind&16 != 0 {
					a.total = -1
				}
				s.answers = append(s.answers, a)
			}
			s.answers = append(s.answers, answer{})
			var got bytes.Buffer
			err := transfer.Copy(t.Context(), s, &got, transfer.Options{Size: 1000, Stall: stall})
			if !bytes.HasPrefix(s.blob, got.Bytes()) || err == nil && got.Len() != len(s.blob) {
				t.Errorf("%d bytes were written, not a beginning of the blob; error %v", got.Len(), err)
			}
			for i, n := range s.closes() {
				if n != 1 {
					t.Errorf("body %d was closed %d times", i, n)
				}
			}
		})
	})
}

func BenchmarkCopy(b *testing.B) {
	const size = 64 << 20
	source := sourceFunc(func(context.Context, int64) (transfer.Content, error) {
		return transfer.Content{ReadCloser: io.NopCloser(io.LimitReader(zeros{}, size)), Total: size}, nil
	})
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if err := transfer.Copy(b.Context(), source, discard, transfer.Options{Size: size, Stall: stall}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestCopyNeedsNoMemoryForASize holds what BenchmarkCopy shows: the buffer is
// pooled, and what else is allocated does not grow with the blob. It is not
// parallel, since the count is that of the process.
func TestCopyNeedsNoMemoryForASize(t *testing.T) {
	const runs = 100
	for _, size := range []int64{1 << 10, 16 << 20} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			source := sourceFunc(func(context.Context, int64) (transfer.Content, error) {
				return transfer.Content{ReadCloser: io.NopCloser(io.LimitReader(zeros{}, size)), Total: size}, nil
			})
			if err := transfer.Copy(t.Context(), source, discard, transfer.Options{Size: size, Stall: stall}); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if n := after.Mallocs - before.Mallocs; n > runs*30 {
			t.Errorf("%d allocations for %d blobs of %d bytes", n, runs, size)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > runs<<20/2 { // of a pool, some are lost
			t.Errorf("%d bytes allocated for %d blobs of %d bytes", n, runs, size)
		}
	}
}

type sourceFunc func(context.Context, int64) (transfer.Content, error)

func (f sourceFunc) Open(ctx context.Context, offset int64) (transfer.Content, error) {
	return f(ctx, offset)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var discard = writerFunc(func(p []byte) (int, error) { return len(p), nil })

// zeros gives as much as a TLS record holds with each read.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	p = p[:min(len(p), 16<<10)]
	clear(p)
	return len(p), nil
}

// dripping gives its bytes one by one.
type dripping string

func (d dripping) Open(context.Context, int64) (transfer.Content, error) {
	body := io.NopCloser(iotest.OneByteReader(strings.NewReader(string(d))))
	return transfer.Content{ReadCloser: body, Total: int64(len(d))}, nil
}

func TestProgressMovesWithEachReadHoweverSlowTheLine(t *testing.T) {
	t.Parallel()
	var got []int64
	options := transfer.Options{Size: 3, Stall: stall, Progress: func(offset int64, _ int) { got = append(got, offset) }}
	if err := transfer.Copy(t.Context(), dripping("abc"), io.Discard, options); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2, 3}, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}
