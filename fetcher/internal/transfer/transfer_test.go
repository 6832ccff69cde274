package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// fetch copies in a turn of a host that nobody else uses.
func fetch(ctx context.Context, source transfer.Source, sink transfer.Sink, o transfer.Options) (pieced bool, err error) {
	turn, err := transfer.NewHost(transfer.DefaultStreams).Group(transfer.DefaultStreams).Turn(ctx, o.Size)
	if err != nil {
		return false, err
	}
	defer turn.End()
	return turn.Copy(ctx, source, sink, o)
}

// exactly fails the test unless err is want itself, with nothing around it.
func exactly(t *testing.T, err, want error) {
	t.Helper()
	if err != want { //nolint:errorlint // that is the point
		t.Errorf("got %v, want exactly %v", err, want)
	}
}

// begin has the sink hold the first bytes already.
func begin(t *testing.T, s *sink, first []byte) {
	t.Helper()
	if _, err := s.Put(first, 0); err != nil {
		t.Fatal(err)
	}
}

// closedOnce fails the test unless each body was closed once.
func closedOnce(t *testing.T, s *server) {
	t.Helper()
	if diff := cmp.Diff(slices.Repeat([]int{1}, len(s.bodies)), s.closes()); diff != "" {
		t.Errorf("closes of each body (-want +got):\n%s", diff)
	}
}

// TestCopyWritesTheWholeBlobWhateverConnectionsDo holds each connection to the
// offset that it is asked for, and the sink to each byte once and in order.
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
		"one connection gives a part of a block":                         {1000, 0, []answer{{}}, []int64{0}},
		"the last bytes come together with the end":                      {1000, 0, []answer{{joined: true}}, []int64{0}},
		"a full block comes together with the end":                       {1 << 20, 0, []answer{{joined: true}}, []int64{0}},
		"the reads are small":                                            {5000, 0, []answer{{read: 7}}, []int64{0}},
		"there are no bytes, so that none need be asked for":             {0, 0, []answer{{}}, nil},
		"nobody knows that there are no bytes":                           {0, unknown, []answer{{total: unknown}}, []int64{0}},
		"a connection breaks":                                            {1000, 0, []answer{{length: 300, end: errReset}, {}}, []int64{0, 300}},
		"a connection breaks in a later block":                           {3 << 20, 0, []answer{{length: 2<<20 + 5, end: errReset}, {}}, []int64{0, 2<<20 + 5}},
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
		"the answer begins before the byte that was asked for":           {1000, 0, []answer{{length: 300, end: errReset}, {ahead: -7}}, []int64{0, 300}},
		"a connection breaks after the last byte":                        {1000, 0, []answer{{length: 1000, end: errReset}}, []int64{0}},
		"nothing comes after the last byte, not even an end":             {1000, 0, []answer{{length: 1000, stall: true}}, []int64{0}},
		"nothing comes for a while":                                      {1000, 0, []answer{{length: 300, stall: true}, {}}, []int64{0, 300}},
		"nothing comes at first":                                         {1000, 0, []answer{{length: nothing, stall: true}, {}}, []int64{0, 0}},
		"just enough bytes come each second":                             {200 << 10, 0, []answer{{read: 1<<10 + 1, gap: time.Second}}, []int64{0}},
		"the range is ignored by a server that is slow":                  {600 << 10, 0, []answer{{length: 300 << 10, end: errReset}, {whole: true, read: 2 << 10, gap: time.Second}}, []int64{0, 300 << 10}},
		"nobody knows the size, and the range is ignored by half a body": {1000, unknown, []answer{{length: 300, end: errReset, total: unknown}, {whole: true, length: 200, total: unknown}, {total: unknown}}, []int64{0, 300, 300}},
		"nobody knows the size":                                          {1000, unknown, []answer{{total: unknown}}, []int64{0}},
		"nobody knows the size, and a connection breaks":                 {1000, unknown, []answer{{length: 300, end: errReset, total: unknown}, {total: unknown}}, []int64{0, 300}},
		"nobody knows the size, and the break looks like an end":         {1000, unknown, []answer{{length: 300, end: wrapped, total: unknown}, {total: unknown}}, []int64{0, 300}},
		"the server knows the size, and ends early":                      {1000, unknown, []answer{{length: 300}, {total: unknown}}, []int64{0, 300}},
		"the server knows the size, but not at first":                    {1000, unknown, []answer{{length: 300, end: errReset, total: unknown}, {length: 300}, {}}, []int64{0, 300, 600}},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: layer()[:test.length], answers: test.answers}
				if test.size == 0 {
					test.size = int64(test.length)
				}
				got := newSink(test.length)
				pieced, err := fetch(t.Context(), s, got, transfer.Options{Size: test.size, Stall: stall})
				if err != nil {
					t.Fatal(err)
				}
				got.holds(t, s.blob)
				got.inOrder(t)
				if diff := cmp.Diff(test.asked, s.offsets()); diff != "" {
					t.Errorf("offsets asked for (-want +got):\n%s", diff)
				}
				if want := slices.Max(append(test.asked, 0)) > 0; pieced != want {
					t.Errorf("pieced is %v, want %v", pieced, want)
				}
				closedOnce(t, s)
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
			answer{length: 2, stall: true}, "broke off after 10 bytes, in 5 attempts: stalled: only 2 bytes in 1m0s", 10, transfer.ErrStalled,
		},
		"trickles": {
			answer{read: 1, gap: 25 * time.Second}, "broke off after 10 bytes, in 5 attempts: stalled: only 2 bytes in 1m0s", 10, transfer.ErrStalled,
		},
		"bytes from further on": {
			answer{ahead: 1}, "broke off after 0 bytes, in 5 attempts: the answer begins after the byte that was asked for", 0, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: []answer{test.answer}}
				got := newSink(1000)
				_, err := fetch(t.Context(), s, got, transfer.Options{Size: 1000, Stall: stall})
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
				got.holds(t, s.blob[:test.offset])
				closedOnce(t, s)
			})
		})
	}
}

func TestAMebibyteOfProgressForgivesFailures(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: layer()[:8<<20], answers: []answer{{length: 1 << 20, end: errReset}}}
		got := newSink(8 << 20)
		if _, err := fetch(t.Context(), s, got, transfer.Options{Size: 8 << 20, Stall: stall, Streams: 1}); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		if len(s.asked) != 8 {
			t.Errorf("it took %d connections, want 8", len(s.asked))
		}
	})
}

func TestLessThanAMebibyteOfProgressForgivesNothing(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: layer()[:8<<20], answers: []answer{{length: 1<<20 - 1, end: errReset}}}
		_, err := fetch(t.Context(), s, discard, transfer.Options{Size: 8 << 20, Stall: stall, Streams: 1})
		var broken *transfer.Error
		if !errors.As(err, &broken) || broken.Attempts != 5 || broken.Offset != 5*(1<<20-1) {
			t.Errorf("got %v", err)
		}
	})
}

// TestTheSecondAttemptFollowsAtOnceAndTheOthersLater also shows that no helper
// asks in the pauses: the answers prove ranges, the blob is large and the host has
// room for more streams.
func TestTheSecondAttemptFollowsAtOnceAndTheOthersLater(t *testing.T) {
	virtual(t, func(t *testing.T) {
		begin := time.Now()
		var opened []time.Duration
		s := &server{blob: layer()[:4<<20], choose: func(int, transfer.Request) answer {
			opened = append(opened, time.Since(begin))
			return answer{length: 10, end: errReset}
		}}
		_, err := fetch(t.Context(), s, discard, transfer.Options{Size: 4 << 20, Stall: stall})
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
		if _, err := fetch(t.Context(), s, discard, transfer.Options{Size: 1000, Stall: 8 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 8*time.Second {
			t.Errorf("the stall was seen after %v, want 8s", took)
		}
	})
}

// TestASlowSinkIsNoStall has a size for which a goroutine of its own is worth it,
// and one for which none is.
func TestASlowSinkIsNoStall(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"of a small blob": 3 << 20, "of a large blob": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: layer()[:size], answers: []answer{{}}}
				slow := sinkFunc(func([]byte, int64) error {
					time.Sleep(3 * stall)
					return nil
				})
				if _, err := fetch(t.Context(), s, slow, transfer.Options{Size: int64(size), Stall: stall, Streams: 1}); err != nil {
					t.Fatal(err)
				}
				if len(s.asked) != 1 {
					t.Errorf("asked %d times, want once", len(s.asked))
				}
			})
		})
	}
}

func TestTheStallOfAnotherTransferIsNotOurs(t *testing.T) {
	virtual(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &server{blob: blob(1000), answers: []answer{{length: 300, stall: true}}}
		time.AfterFunc(time.Second, func() { cancel(transfer.ErrStalled) }) // as an errgroup does
		_, err := fetch(ctx, s, discard, transfer.Options{Size: 1000, Stall: stall})
		exactly(t, err, context.Canceled)
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
		}
	})
}

func TestTheEndOfTheContextEndsTheCopyAtOnce(t *testing.T) {
	t.Parallel()
	for where, answers := range map[string][]answer{
		"while it asks":                   {{wait: time.Hour}},
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
	_, err := fetch(ctx, s, discard, transfer.Options{Size: 1000, Stall: stall})
	exactly(t, err, want)
	if took := time.Since(begin); took != 100*time.Millisecond {
		t.Errorf("it took %v, want 100ms", took)
	}
	closedOnce(t, s)
}

func TestTheContextOfAConnectionEndsWithIt(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), answers: []answer{{length: 300, end: errReset}, {}}}
		if _, err := fetch(t.Context(), s, discard, transfer.Options{Size: 1000, Stall: stall}); err != nil {
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
				_, err := fetch(t.Context(), s, discard, transfer.Options{Size: 1000, Stall: stall})
				exactly(t, err, denied)
				if diff := cmp.Diff(test.asked, s.offsets()); diff != "" {
					t.Errorf("offsets asked for (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestWhatTheSinkReturnsIsReturnedAsItIsAndFinal has a size for which a goroutine
// of its own is worth it, and one for which none is.
func TestWhatTheSinkReturnsIsReturnedAsItIsAndFinal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size   int
		answer answer
		from   int64 // the sink fails from this byte on
	}{
		"with a good connection":                                {1000, answer{}, 0},
		"with one that breaks at the same time":                 {1000, answer{length: 300, end: errReset}, 0},
		"with a good connection and a large blob":               {16 << 20, answer{}, 0},
		"with a good connection, later":                         {16 << 20, answer{}, 5 << 20},
		"with one that breaks at the same time of a large blob": {16 << 20, answer{length: 300, end: errReset}, 0},
		"with one that gives nothing more":                      {16 << 20, answer{length: 1<<20 + 300, stall: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: layer()[:test.size], answers: []answer{test.answer}}
				full := errors.New("disk full")
				w := sinkFunc(func(_ []byte, offset int64) error {
					if offset >= test.from {
						return full
					}
					return nil
				})
				_, err := fetch(t.Context(), s, w, transfer.Options{Size: int64(test.size), Stall: stall, Streams: 1})
				exactly(t, err, full)
				if len(s.asked) != 1 {
					t.Errorf("asked %d times, want once", len(s.asked))
				}
				if n := s.bodies[0].given; int64(n) > test.from+1<<20 {
					t.Errorf("%d bytes were read, though byte %d could not be written", n, test.from)
				}
				closedOnce(t, s)
			})
		})
	}
}

func TestBytesBeyondTheSizeAreAnErrorAndNotWritten(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), answers: []answer{{extra: "more", total: -1}}}
		got := newSink(1000)
		_, err := fetch(t.Context(), s, got, transfer.Options{Size: 1000, Stall: stall})
		if text := "wrong size: more than the 1000 bytes that the descriptor says"; !errors.Is(err, content.ErrSize) || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
		got.holds(t, s.blob)
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
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
		"smaller than what it gave":        {-1, []answer{{length: 300, end: errReset, total: -1}, {total: 299}}, "wrong size: the server has 299 bytes, but gave 300 before"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: test.answers}
				got := newSink(1000)
				_, err := fetch(t.Context(), s, got, transfer.Options{Size: test.size, Stall: stall})
				if !errors.Is(err, content.ErrSize) || err.Error() != test.text {
					t.Errorf("got %v, want %s", err, test.text)
				}
				got.holds(t, s.blob[:300*(len(test.answers)-1)])
				closedOnce(t, s)
			})
		})
	}
}

// report is a call of Progress.
type report struct {
	More    int64
	Attempt int
}

func TestProgressTellsTheBytesOfEachReadAndTheAttempt(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: layer()[:3<<20], answers: []answer{{length: 1<<20 + 5, end: errReset}, {whole: true}}}
		var got []report
		options := transfer.Options{Size: 3 << 20, Stall: stall, Progress: func(more int64, attempt int) {
			got = append(got, report{more, attempt})
		}}
		if _, err := fetch(t.Context(), s, discard, options); err != nil {
			t.Fatal(err)
		}
		want := []report{{1 << 20, 1}, {5, 1}, {1 << 20, 2}, {1<<20 - 5, 2}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

// dripping gives its bytes one by one.
type dripping string

func (d dripping) Open(context.Context, transfer.Request) (transfer.Content, error) {
	body := io.NopCloser(iotest.OneByteReader(strings.NewReader(string(d))))
	return transfer.Content{ReadCloser: body, Total: int64(len(d))}, nil
}

func TestProgressMovesWithEachReadHoweverSlowTheLine(t *testing.T) {
	t.Parallel()
	var got []int64
	options := transfer.Options{Size: 3, Stall: stall, Progress: func(more int64, _ int) { got = append(got, more) }}
	if _, err := fetch(t.Context(), dripping("abc"), discard, options); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 1, 1}, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func TestACopyGoesOnAfterWhatTheSinkHasAlready(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		have    int64
		answers []answer
		asked   []int64
	}{
		"some of it":                           {300, []answer{{}}, []int64{300}},
		"some of it, and the range is ignored": {300, []answer{{whole: true}}, []int64{300}},
		"some of it, and a connection breaks":  {300, []answer{{length: 100, end: errReset}, {}}, []int64{300, 400}},
		"all of it":                            {1000, []answer{{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: blob(1000), answers: test.answers}
				got := newSink(1000)
				begin(t, got, s.blob[:test.have])
				var more int64
				options := transfer.Options{Size: 1000, Have: test.have, Stall: stall, Progress: func(n int64, _ int) { more += n }}
				pieced, err := fetch(t.Context(), s, got, options)
				if err != nil || !pieced {
					t.Fatalf("got %v, %v, want true, nil", pieced, err)
				}
				got.holds(t, s.blob)
				if diff := cmp.Diff(test.asked, s.offsets()); diff != "" {
					t.Errorf("offsets asked for (-want +got):\n%s", diff)
				}
				if more != 1000-test.have {
					t.Errorf("%d bytes were reported, want %d", more, 1000-test.have)
				}
			})
		})
	}
}

// FuzzCopy has connections end wherever the input says, in each of the ways
// that an answer knows: what was written is a beginning of the blob, all of it
// if the copy succeeded.
func FuzzCopy(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 100, 2, 50, 3, 0, 4, 200, 0, 0})
	f.Add([]byte{5, 9, 5, 9, 5, 9, 5, 9, 5, 9})
	f.Add([]byte{24, 9, 16, 3, 32, 1})
	f.Fuzz(func(t *testing.T, plan []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{blob: blob(1000)}
			options := transfer.Options{Size: 1000, Stall: stall}
			if len(plan)%2 != 0 {
				options.Size = -1
			}
			for ; len(plan) >= 2; plan = plan[2:] {
				kind, length := plan[0], int(plan[1])
				a := answer{length: length, whole: kind&1 != 0, joined: kind&2 != 0, stall: kind&4 != 0}
				if kind&8 != 0 {
					a.end = errReset
				}
				if kind&16 != 0 {
					a.total = -1
				}
				if kind&32 != 0 {
					a.total = int64(length)
				}
				s.answers = append(s.answers, a)
			}
			s.answers = append(s.answers, answer{})
			got := newSink(1000)
			_, err := fetch(t.Context(), s, got, options)
			n := got.once(t)
			if !bytes.Equal(got.bytes[:n], s.blob[:n]) {
				t.Errorf("the %d bytes that were written are not the first of the blob", n)
			}
			if err == nil && n < 1000 && options.Size >= 0 {
				t.Errorf("the copy succeeded with %d bytes", n)
			}
			closedOnce(t, s)
		})
	})
}
