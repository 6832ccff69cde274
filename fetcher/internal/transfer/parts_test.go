package transfer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

const mebibyte = 1 << 20

// layer is a blob that many parts are worth.
var layer = sync.OnceValue(func() []byte { return blob(64 * mebibyte) })

// at returns answers all of which are a, but for some connections.
func at(a answer, others map[int]answer) func(int, transfer.Request) answer {
	return func(connection int, _ transfer.Request) answer {
		if other, ok := others[connection]; ok {
			return other
		}
		return a
	}
}

// with returns capped, changed in one thing.
func with(change func(a *answer)) answer {
	a := capped
	change(&a)
	return a
}

// copyFrom copies the server's blob in a turn of the host.
func copyFrom(ctx context.Context, host *transfer.Host, s *server, w transfer.Sink) (pieced bool, err error) {
	size := int64(len(s.blob))
	turn, err := host.Group(transfer.DefaultStreams).Turn(ctx, size)
	if err != nil {
		return false, err
	}
	defer turn.End()
	return turn.Copy(ctx, s, w, transfer.Options{Size: size, Stall: stall})
}

// left fails the test unless the host is as it was before the copies.
func left(t *testing.T, host *transfer.Host) {
	t.Helper()
	if !host.Idle() || host.Running() != 0 || host.Watched() != 0 {
		t.Errorf("%d streams run, and the host knows %d connections and transfers; want none", host.Running(), host.Watched())
	}
}

// tiles fails the test unless the requests are for each byte once, in parts of
// no more than most.
func tiles(t *testing.T, s *server, most int64) {
	t.Helper()
	asked := slices.Clone(s.asked)
	slices.SortFunc(asked, func(a, b transfer.Request) int { return cmp.Compare(a.Offset, b.Offset) })
	size, end := int64(len(s.blob)), int64(0)
	for _, r := range asked {
		if r.Offset != end {
			t.Errorf("byte %d was asked for next to byte %d", r.Offset, end)
		}
		if r.Length == 0 {
			r.Length = size - r.Offset
		}
		if r.Length > most {
			t.Errorf("%d bytes were asked for at once, want at most %d", r.Length, most)
		}
		end = r.Offset + r.Length
	}
	if end != size {
		t.Errorf("bytes 0 to %d were asked for, want %d", end, size)
	}
}

func TestABlobOfAFarHostComesInPartsOverManyStreams(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer(), answers: []answer{capped}}, farHost(8)
		got := newSink(len(s.blob))
		got.takes = time.Millisecond
		begin := time.Now()
		pieced, err := copyFrom(t.Context(), host, s, got)
		if err != nil || !pieced {
			t.Fatalf("got %v, %v, want true, nil", pieced, err)
		}
		got.holds(t, s.blob)
		tiles(t, s, 4*mebibyte)
		closedOnce(t, s)
		left(t, host)
		if s.most != 8 || got.most < 2 {
			t.Errorf("%d connections and %d writes at once, want 8 and more than 1", s.most, got.most)
		}
		// 64 MiB at 100 MB/s take 671 ms, the requests of each stream 40 ms each.
		if took := time.Since(begin); took > 1100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAHostFoundToBeFarByTheFirstAnswerHelpsThatBlob knows nothing of the host
// before.
func TestAHostFoundToBeFarByTheFirstAnswerHelpsThatBlob(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer(), answers: []answer{capped}}, transfer.NewHost(8)
		got := newSink(len(s.blob))
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		left(t, host)
		if s.most != 8 {
			t.Errorf("%d connections at once, want 8", s.most)
		}
		if diff := gocmp.Diff(transfer.Request{Ranged: true}, s.asked[0]); diff != "" {
			t.Errorf("the first request (-want +got):\n%s", diff)
		}
		for _, r := range s.asked[1:] {
			if r.Offset == 0 || r.Length > 4*mebibyte || r.Length == 0 && r.Offset < int64(len(s.blob)-4*mebibyte) {
				t.Errorf("asked for %+v", r)
			}
		}
	})
}

// TestANearHostWithCappedConnectionsGetsMoreStreams is the target that rises
// while that makes the blob come faster.
func TestANearHostWithCappedConnectionsGetsMoreStreams(t *testing.T) {
	virtual(t, func(t *testing.T) {
		near := with(func(a *answer) { a.wait, a.roundTrip = time.Millisecond, time.Millisecond })
		s, host := &server{blob: layer(), answers: []answer{near}}, transfer.NewHost(16)
		got := newSink(len(s.blob))
		begin := time.Now()
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		left(t, host)
		if s.most < 8 {
			t.Errorf("%d connections at once, want at least 8", s.most)
		}
		for _, r := range s.asked[1:] {
			if r.Length > 16*mebibyte || r.Length == 0 && r.Offset < int64(len(s.blob)-16*mebibyte) {
				t.Errorf("asked for %+v, want 16 MiB at most", r)
			}
		}
		if took := time.Since(begin); took > 2*time.Second { // one stream takes 5.4 s
			t.Errorf("it took %v", took)
		}
	})
}

// TestAFullLinkGetsNoMoreStreams is the target that is taken back since more of
// them bring no more.
func TestAFullLinkGetsNoMoreStreams(t *testing.T) {
	virtual(t, func(t *testing.T) {
		a := answer{wait: time.Millisecond, roundTrip: time.Millisecond, read: 16_000, link: &link{rate: 12.5e6}}
		s, host := &server{blob: layer(), answers: []answer{a}}, transfer.NewHost(16)
		target := host.Target()
		got := newSink(len(s.blob))
		begin := time.Now()
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		if host.Target() != target || s.most > 2*target {
			t.Errorf("the host gets %d streams and had %d at most, want %d, and once more as many for a try", host.Target(), s.most, target)
		}
		if took := time.Since(begin); took > 5800*time.Millisecond { // the link takes 5.4 s
			t.Errorf("it took %v", took)
		}
	})
}

// TestASlowSinkGetsNoMoreStreams has a network that is far faster than the disk.
func TestASlowSinkGetsNoMoreStreams(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer(), answers: []answer{{read: 1 << 20, gap: time.Millisecond}}}, transfer.NewHost(16)
		got := newSink(len(s.blob))
		got.takes = 50 * time.Millisecond
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		if s.most != 1 {
			t.Errorf("there were %d connections at once, want 1", s.most)
		}
	})
}

func TestTheFirstRequestAsksForWhatTheHostIsGoodFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		host    func() *transfer.Host
		size    int64
		group   int // its limit
		streams int
		want    transfer.Request
	}{
		"a small blob of a near host":                       {nearHost, 8*mebibyte - 1, 8, 0, transfer.Request{}},
		"a large blob of a near host":                       {nearHost, 8 * mebibyte, 8, 0, transfer.Request{Ranged: true}},
		"a large blob of a near host, in one stream":        {nearHost, 8 * mebibyte, 8, 1, transfer.Request{}},
		"a small blob of a far host":                        {farHost8, mebibyte - 1, 8, 0, transfer.Request{}},
		"a blob of a far host":                              {farHost8, mebibyte, 8, 0, transfer.Request{Length: mebibyte / 2, Ranged: true}},
		"a large blob of a far host":                        {farHost8, 100 * mebibyte, 8, 0, transfer.Request{Length: 4 * mebibyte, Ranged: true}},
		"a blob of a far host, in two streams":              {farHost8, 4 * mebibyte, 8, 2, transfer.Request{Length: mebibyte, Ranged: true}},
		"a blob of a far host, in a group of two streams":   {farHost8, 4 * mebibyte, 2, 0, transfer.Request{Length: mebibyte, Ranged: true}},
		"a large blob of a far host, with no more streams":  {farHost8, 100 * mebibyte, 1, 0, transfer.Request{Length: 4 * mebibyte, Ranged: true}},
		"a large blob of a far host, without ranges wanted": {farHost8, 100 * mebibyte, 8, 1, transfer.Request{}},
		"a blob of unknown size":                            {farHost8, -1, 8, 0, transfer.Request{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stop := errors.New("seen")
			var asked []transfer.Request
			source := sourceFunc(func(_ context.Context, r transfer.Request) (transfer.Content, error) {
				asked = append(asked, r)
				return transfer.Content{}, stop
			})
			turn, err := test.host().Group(test.group).Turn(t.Context(), test.size)
			if err != nil {
				t.Fatal(err)
			}
			defer turn.End()
			_, err = turn.Copy(t.Context(), source, discard, transfer.Options{Size: test.size, Stall: stall, Streams: test.streams})
			exactly(t, err, stop)
			if diff := gocmp.Diff([]transfer.Request{test.want}, asked); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func nearHost() *transfer.Host { return transfer.NewHost(8) }
func farHost8() *transfer.Host { return farHost(8) }

func TestABlobHasNoMoreStreamsThanItsOptionsSay(t *testing.T) {
	t.Parallel()
	for _, streams := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: layer(), answers: []answer{capped}}
				turn, err := farHost(8).Group(8).Turn(t.Context(), int64(len(s.blob)))
				if err != nil {
					t.Fatal(err)
				}
				defer turn.End()
				got := newSink(len(s.blob))
				if _, err = turn.Copy(t.Context(), s, got, transfer.Options{Size: int64(len(s.blob)), Stall: stall, Streams: streams}); err != nil {
					t.Fatal(err)
				}
				got.holds(t, s.blob)
				if s.most != streams {
					t.Errorf("%d connections at once, want %d", s.most, streams)
				}
			})
		})
	}
}

func TestOneStreamAsksForARangeOnlyToResume(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: layer(), choose: at(capped, map[int]answer{0: with(func(a *answer) { a.length, a.end = 10*mebibyte, errReset })})}
		got := newSink(len(s.blob))
		turn, err := farHost(8).Group(8).Turn(t.Context(), int64(len(s.blob)))
		if err != nil {
			t.Fatal(err)
		}
		defer turn.End()
		pieced, err := turn.Copy(t.Context(), s, got, transfer.Options{Size: int64(len(s.blob)), Stall: stall, Streams: 1})
		if err != nil || !pieced {
			t.Fatalf("got %v, %v, want true, nil", pieced, err)
		}
		got.holds(t, s.blob)
		got.inOrder(t)
		if diff := gocmp.Diff([]transfer.Request{{}, {Offset: 10 * mebibyte}}, s.asked); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

func TestAServerThatIgnoresRangesGivesTheBlobInOneStream(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]func() *transfer.Host{"near": nearHost, "far": farHost8} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s := &server{blob: layer(), answers: []answer{with(func(a *answer) { a.whole = true })}}
				got := newSink(len(s.blob))
				pieced, err := copyFrom(t.Context(), host(), s, got)
				if err != nil || pieced {
					t.Fatalf("got %v, %v, want false, nil", pieced, err)
				}
				got.holds(t, s.blob)
				got.inOrder(t)
				if len(s.asked) != 1 {
					t.Errorf("asked %d times, want once", len(s.asked))
				}
			})
		})
	}
}

// TestAServerThatStopsKnowingRangesGivesTheRestInOneStream has the first three
// connections answered by ranges, the others by the whole blob.
func TestAServerThatStopsKnowingRangesGivesTheRestInOneStream(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]func() *transfer.Host{"near": nearHost, "far": farHost8} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s, host := &server{blob: layer()}, host()
				s.choose = at(with(func(a *answer) { a.whole = true }), map[int]answer{0: capped, 1: capped, 2: capped})
				got := newSink(len(s.blob))
				begin := time.Now()
				if _, err := copyFrom(t.Context(), host, s, got); err != nil {
					t.Fatal(err)
				}
				got.holds(t, s.blob)
				left(t, host)
				closedOnce(t, s)
				if n := len(s.asked); n > 10 {
					t.Errorf("asked %d times, want at most by each of 8 streams, and twice to go on", n)
				}
				read := 0
				for _, b := range s.bodies {
					if b.whole && b.given > 0 {
						read++
					}
				}
				if read > 2 {
					t.Errorf("%d of the answers with the whole blob were read, want those of the first stream", read)
				}
				// The whole blob takes one stream 5.4 s; 12 MiB of it may come before.
				if took := time.Since(begin); took > 12*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestPartsThatStreamsDoNotGetAreFetchedByOthers has some connections fail in some
// way, but not the first, which gives bytes up to the end if it must.
func TestPartsThatStreamsDoNotGetAreFetchedByOthers(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied")
	for name, bad := range map[string]answer{
		"no connection":                        {refuse: denied, wait: time.Millisecond},
		"a connection that breaks":             with(func(a *answer) { a.length, a.end = 100_000, errReset }),
		"a connection that breaks at once":     with(func(a *answer) { a.length, a.end = nothing, errReset }),
		"a short answer":                       with(func(a *answer) { a.length = mebibyte }),
		"a connection that stalls":             with(func(a *answer) { a.length, a.stall = 100_000, true }),
		"bytes from further on":                with(func(a *answer) { a.ahead = 1 }),
		"bytes from before":                    with(func(a *answer) { a.ahead = -1000 }),
		"the bytes of a blob of another size":  with(func(a *answer) { a.total = 1000 }),
		"the bytes of a blob that has changed": with(func(a *answer) { a.validator = "other" }),
		"the whole blob":                       with(func(a *answer) { a.whole = true }),
		"more bytes than were asked for":       with(func(a *answer) { a.extra = "more" }),
	} {
		for which, last := range map[string]int{"the second": 1, "the second to the fifth": 4, "all helpers": 7} {
			t.Run(name+" for "+which, func(t *testing.T) {
				virtual(t, func(t *testing.T) {
					s, host := &server{blob: layer()[:16*mebibyte]}, transfer.NewHost(8)
					s.choose = func(connection int, r transfer.Request) answer {
						a := with(func(a *answer) { a.validator = "one" })
						if connection > 0 && connection <= last {
							a = bad
						}
						if r.Length == 0 {
							a.extra = ""
						}
						return a
					}
					got := newSink(len(s.blob))
					if _, err := copyFrom(t.Context(), host, s, got); err != nil {
						t.Fatal(err)
					}
					got.holds(t, s.blob)
					left(t, host)
					closedOnce(t, s)
				})
			})
		}
	}
}

func TestAHostThatRefusesAStreamGetsFewer(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer()}, farHost(8)
		s.choose = at(capped, map[int]answer{5: {refuse: errors.New("too many connections"), wait: time.Millisecond}})
		got := newSink(len(s.blob))
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		if host.Target() != 7 {
			t.Errorf("the host gets %d streams, want 7", host.Target())
		}
	})
}

// TestAHostThatRefusedAStreamIsAskedAgainLater has a blob that lasts a minute over
// one stream.
func TestAHostThatRefusedAStreamIsAskedAgainLater(t *testing.T) {
	virtual(t, func(t *testing.T) {
		slow := with(func(a *answer) { a.read = capped.read / 10 })
		s, host := &server{blob: layer()}, farHost(8)
		s.choose = at(slow, map[int]answer{1: {refuse: errors.New("too many connections")}})
		turn, err := host.Group(8).Turn(t.Context(), int64(len(s.blob)))
		if err != nil {
			t.Fatal(err)
		}
		defer turn.End()
		begin := time.Now()
		if _, err := turn.Copy(t.Context(), s, discard, transfer.Options{Size: int64(len(s.blob)), Stall: stall, Streams: 2}); err != nil {
			t.Fatal(err)
		}
		if s.most != 2 {
			t.Errorf("there were %d connections at once, want 2 again", s.most)
		}
		// Ten seconds alone and the rest in two streams are 32 s, alone it takes 55 s.
		if took := time.Since(begin); took < 25*time.Second || took > 40*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAHostThatThrottlesGetsHalfTheStreams counts the connections that begin
// after the others ended.
func TestAHostThatThrottlesGetsHalfTheStreams(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer()}, farHost(8)
		var after int
		s.choose = func(connection int, _ transfer.Request) answer {
			if connection > 16 {
				after = max(after, s.open+1)
			}
			return with(func(a *answer) { a.throttled = connection == 8 })
		}
		got := newSink(len(s.blob))
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		if host.Target() != 4 || after != 4 {
			t.Errorf("the host gets %d streams and had %d, want 4", host.Target(), after)
		}
	})
}

// TestAHostThatThrottlesOneOrManyStreamsAtOnceGetsHalf has some of the first
// answers of the eight streams throttled.
func TestAHostThatThrottlesOneOrManyStreamsAtOnceGetsHalf(t *testing.T) {
	t.Parallel()
	for name, throttled := range map[string][]int{"the first": {0}, "the last": {7}, "all helpers": {1, 2, 3, 4, 5, 6, 7}} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s, host := &server{blob: layer()}, farHost(8)
				s.choose = func(connection int, _ transfer.Request) answer {
					return with(func(a *answer) { a.throttled = slices.Contains(throttled, connection) })
				}
				if _, err := copyFrom(t.Context(), host, s, discard); err != nil {
					t.Fatal(err)
				}
				if host.Target() != 4 {
					t.Errorf("the host gets %d streams, want 4", host.Target())
				}
			})
		})
	}
}

// TestAHostThatRefusesAStreamBesideSmallBlobsGetsFewer has many small blobs wait
// for their bytes, each of which counts a quarter.
func TestAHostThatRefusesAStreamBesideSmallBlobsGetsFewer(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := transfer.NewHost(32)
		host.SetTarget(8)
		q := newQueue(t)
		for i := range 20 { // five streams
			q.come(t.Context(), host.Group(1), small, fmt.Sprint(i))
		}
		s := &server{blob: layer()[:16*mebibyte], choose: func(connection int, _ transfer.Request) answer {
			if connection > 0 {
				return answer{refuse: errors.New("too many connections"), wait: time.Millisecond}
			}
			return answer{read: 100_000, gap: 10 * time.Millisecond}
		}}
		if _, err := copyFrom(t.Context(), host, s, discard); err != nil {
			t.Fatal(err)
		}
		q.endAll()
		// One stream of its own, two that were refused, and perhaps a second try.
		if n := len(s.asked); n > 4 || host.Target() > 7 {
			t.Errorf("asked %d times, and the host gets %d streams; want 3 and 6", n, host.Target())
		}
	})
}

// tooMany is what a source says where the host wants fewer requests.
type tooMany struct{ error }

func (tooMany) Throttled() bool { return true }

// TestABlobThatIsRefusedForATimeIsWaitedForBesideOthers has the host refuse the
// first three requests for it.
func TestABlobThatIsRefusedForATimeIsWaitedForBesideOthers(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(8)
		refused := answer{wait: 100 * time.Millisecond, refuse: tooMany{errors.New("429")}}
		s := &server{blob: layer()[:1000], answers: []answer{refused, refused, refused, {}}}
		got := newSink(len(s.blob))
		beside(t, host, func() {
			if _, err := copyFrom(t.Context(), host, s, got); err != nil {
				t.Fatal(err)
			}
		})
		got.holds(t, s.blob)
		if len(s.asked) != 4 || host.Target() >= 8 {
			t.Errorf("asked %d times, and the host gets %d streams; want 4 and fewer than 8", len(s.asked), host.Target())
		}
	})
}

func TestABlobThatIsRefusedForEverIsAnErrorInTheEnd(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host, refusal := farHost(8), tooMany{errors.New("429")}
		s := &server{blob: layer()[:1000], answers: []answer{{wait: 100 * time.Millisecond, refuse: refusal}}}
		_, err := copyFrom(t.Context(), host, s, discard)
		exactly(t, err, refusal) // nobody else is served either
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
		}
		s.asked = nil
		beside(t, host, func() { _, err = copyFrom(t.Context(), host, s, discard) })
		var broken *transfer.Error
		if !errors.As(err, &broken) || !errors.Is(err, refusal) || len(s.asked) != 5 {
			t.Errorf("got %v after %d requests, want %v after 5", err, len(s.asked), refusal)
		}
	})
}

// TestABlobThatChangesBeginsAnewInOneStream has another blob, of the same size,
// from the sixth connection on.
func TestABlobThatChangesBeginsAnewInOneStream(t *testing.T) {
	t.Parallel()
	for name, have := range map[string]int64{"from nothing": 0, "from what the sink had": 5 * mebibyte} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				one, other := layer()[:32*mebibyte], layer()[32*mebibyte:]
				s, host := &server{blob: one}, farHost(8)
				s.choose = func(connection int, _ transfer.Request) answer {
					if connection >= 9 {
						return with(func(a *answer) { a.of, a.validator = other, "two" })
					}
					return with(func(a *answer) { a.validator = "one" })
				}
				got := newSink(len(s.blob))
				begin(t, got, s.blob[:have])
				var arrived atomic.Int64
				arrived.Store(have)
				turn, err := host.Group(8).Turn(t.Context(), int64(len(s.blob)))
				if err != nil {
					t.Fatal(err)
				}
				pieced, err := turn.Copy(t.Context(), s, got, transfer.Options{
					Size: int64(len(s.blob)), Have: have, Stall: stall,
					Progress: func(more int64, _ int) { arrived.Add(more) },
				})
				turn.End()
				if err != nil || pieced {
					t.Fatalf("got %v, %v, want false, nil", pieced, err)
				}
				got.holds(t, other)
				got.inOrder(t)
				left(t, host)
				if got.restarts != 1 || arrived.Load() != int64(len(other)) {
					t.Errorf("it began anew %d times and reported %d bytes, want 1 and %d", got.restarts, arrived.Load(), len(other))
				}
				if diff := gocmp.Diff(transfer.Request{}, s.asked[len(s.asked)-1]); diff != "" {
					t.Errorf("the last request (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestABlobThatChangesASecondTimeIsAnError(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), choose: func(connection int, _ transfer.Request) answer {
			return answer{length: 100, end: errReset, validator: fmt.Sprint(connection / 2)}
		}}
		got := newSink(1000)
		_, err := copyFrom(t.Context(), farHost(8), s, got)
		var broken *transfer.Error
		if text := "broke off after 0 bytes, in 5 attempts: the blob changed while it was fetched"; !errors.As(err, &broken) || err.Error() != text {
			t.Errorf("got %v, want %s", err, text)
		}
		// One, its change, anew in one, and its change.
		if diff := gocmp.Diff([]int64{0, 100, 200, 0, 100}, s.offsets()); diff != "" {
			t.Errorf("offsets asked for (-want +got):\n%s", diff)
		}
		if got.restarts != 1 {
			t.Errorf("it began anew %d times, want once", got.restarts)
		}
	})
}

func TestWhatASinkThatCannotRestartSaysIsReturned(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: blob(1000), answers: []answer{{length: 100, end: errReset, validator: "one"}, {validator: "two"}}}
		_, err := copyFrom(t.Context(), farHost(8), s, brittle{discard})
		exactly(t, err, errBrittle)
	})
}

var errBrittle = errors.New("no way back")

type brittle struct{ sinkFunc }

func (brittle) Restart() error { return errBrittle }

// TestASlowConnectionAmongFastOnesIsGivenUp has one connection bring a hundredth
// of what the others do, while they are busy or when they are done.
func TestASlowConnectionAmongFastOnesIsGivenUp(t *testing.T) {
	t.Parallel()
	fast := with(func(a *answer) { a.read, a.gap = 10_000, 10*time.Millisecond }) // 1 MB/s
	slow := with(func(a *answer) { a.read, a.gap = 1000, 100*time.Millisecond })
	for name, test := range map[string]struct {
		number int // of the slow connection
		most   time.Duration
	}{
		"in the beginning":      {2, 10 * time.Second},
		"that of the first":     {0, 10 * time.Second},
		"with one of the last":  {28, 15 * time.Second},
		"with one of the rests": {35, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				s, host := &server{blob: layer(), choose: at(fast, map[int]answer{test.number: slow})}, farHost(8)
				got := newSink(len(s.blob))
				begin := time.Now()
				if _, err := copyFrom(t.Context(), host, s, got); err != nil {
					t.Fatal(err)
				}
				got.holds(t, s.blob)
				left(t, host)
				if test.number >= len(s.asked) {
					t.Fatalf("there were only %d connections", len(s.asked))
				}
				// 64 MiB at 8 MB/s take 8.4 s, the slow connection is known after 5.
				if took := time.Since(begin); took > test.most {
					t.Errorf("it took %v, want at most %v", took, test.most)
				}
				if host.Target() != 8 {
					t.Errorf("the host gets %d streams, want 8: it refused none", host.Target())
				}
			})
		})
	}
}

// TestAStalledPartOfABlobThatElseComesInOneTickIsGivenUp has all other parts
// there before a tick could measure them.
func TestAStalledPartOfABlobThatElseComesInOneTickIsGivenUp(t *testing.T) {
	virtual(t, func(t *testing.T) {
		fast := with(func(a *answer) { a.read = mebibyte })
		stalled := with(func(a *answer) { a.length, a.stall = 1000, true })
		s, host := &server{blob: layer()[:4*mebibyte], choose: at(fast, map[int]answer{3: stalled})}, farHost(16)
		got := newSink(len(s.blob))
		begin := time.Now()
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		left(t, host)
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("it took %v, want the 5 s after which a connection is slow", took)
		}
	})
}

// TestTheLastPartIsDividedAmongIdleStreams has one connection that is slower
// than the others, but not by enough to be given up.
func TestTheLastPartIsDividedAmongIdleStreams(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		number    int // of the slow connection
		streams   int
		roundTrip time.Duration
		size      int
		most      time.Duration
	}{
		// 7.125 connections of 12.5 MB/s take 753 ms, and the slow one 671 ms for a
		// last mebibyte that cannot be divided.
		"that of the first stream":          {0, 8, capped.roundTrip, 64 * mebibyte, 1800 * time.Millisecond},
		"that of a helper":                  {1, 8, capped.roundTrip, 64 * mebibyte, 1800 * time.Millisecond},
		"that of the first of two":          {0, 2, capped.roundTrip, 64 * mebibyte, 5800 * time.Millisecond},
		"that of the second of two":         {1, 2, capped.roundTrip, 64 * mebibyte, 5800 * time.Millisecond},
		"that of the first of two, near by": {0, 2, 0, 32 * mebibyte, 3600 * time.Millisecond},
		"that of the second, near by":       {1, 2, 0, 32 * mebibyte, 3600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				fast := with(func(a *answer) { a.roundTrip = test.roundTrip })
				slow := fast
				slow.read /= 8
				s, host := &server{blob: layer()[:test.size], choose: at(fast, map[int]answer{test.number: slow})}, transfer.NewHost(test.streams)
				host.RoundTrip(test.roundTrip)
				host.SetTarget(test.streams)
				got := newSink(len(s.blob))
				begin := time.Now()
				if _, err := copyFrom(t.Context(), host, s, got); err != nil {
					t.Fatal(err)
				}
				got.holds(t, s.blob)
				if took := time.Since(begin); took > test.most {
					t.Errorf("it took %v, want at most %v", took, test.most)
				}
			})
		})
	}
}

// beside runs f while another blob of the host comes fast.
func beside(t *testing.T, host *transfer.Host, f func()) {
	t.Helper()
	fast := &server{blob: layer(), answers: []answer{with(func(a *answer) { a.read, a.gap = 10_000, 10*time.Millisecond })}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	turn, err := host.Group(1).Turn(ctx, int64(len(fast.blob)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := turn.Copy(ctx, fast, discard, transfer.Options{Size: int64(len(fast.blob)), Stall: stall, Streams: 1})
		turn.End()
		done <- err
	}()
	f()
	cancel()
	exactly(t, <-done, context.Canceled)
}

// TestToBeSlowIsNoFailureAndIsHeldAgainstABlobThreeTimes has all connections of a
// blob slow beside another, so that a fourth new one would not help either.
func TestToBeSlowIsNoFailureAndIsHeldAgainstABlobThreeTimes(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host, begin := farHost(8), time.Now()
		var opened []time.Duration
		s := &server{blob: blob(600_000), choose: func(connection int, _ transfer.Request) answer {
			opened = append(opened, time.Since(begin).Round(time.Second))
			a := answer{wait: 37 * time.Millisecond, read: 1000, gap: 100 * time.Millisecond}
			if connection == 0 {
				a.length, a.end = 1000, errReset // the next one proves ranges
			}
			return a
		}}
		got := newSink(len(s.blob))
		beside(t, host, func() {
			if _, err := copyFrom(t.Context(), host, s, got); err != nil {
				t.Fatal(err)
			}
		})
		got.holds(t, s.blob)
		if diff := gocmp.Diff([]time.Duration{0, 0, 5 * time.Second, 10 * time.Second, 15 * time.Second}, opened); diff != "" {
			t.Errorf("connections (-want +got):\n%s", diff)
		}
	})
}

// TestAnIdleHostForgetsHowFastItWas has a blob come slowly after a fast one.
func TestAnIdleHostForgetsHowFastItWas(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(2)
		fast := &server{blob: layer(), answers: []answer{capped}}
		if _, err := copyFrom(t.Context(), host, fast, discard); err != nil {
			t.Fatal(err)
		}
		slow := &server{blob: layer()[:2*mebibyte], answers: []answer{with(func(a *answer) { a.read, a.gap = 2000, 100*time.Millisecond })}}
		if _, err := copyFrom(t.Context(), host, slow, discard); err != nil {
			t.Fatal(err)
		}
		tiles(t, slow, 4*mebibyte) // no connection was given up
	})
}

// TestATickThatComesAtOnceMeasuresNothing has ticks that were to be stopped but
// were on their way: they come right after those that count.
func TestATickThatComesAtOnceMeasuresNothing(t *testing.T) {
	virtual(t, func(t *testing.T) {
		fast := with(func(a *answer) { a.read, a.gap = 10_000, 10*time.Millisecond })
		slow := with(func(a *answer) { a.read, a.gap = 1000, 100*time.Millisecond })
		s, host := &server{blob: layer(), choose: at(fast, map[int]answer{2: slow})}, farHost(8)
		ticks := time.AfterFunc(time.Second, func() { host.Tick(); host.Tick() })
		defer ticks.Stop()
		got := newSink(len(s.blob))
		begin := time.Now()
		if _, err := copyFrom(t.Context(), host, s, got); err != nil {
			t.Fatal(err)
		}
		got.holds(t, s.blob)
		if took := time.Since(begin); took > 10*time.Second { // the slow connection was found
			t.Errorf("it took %v", took)
		}
	})
}

// TestASlowConnectionThatCannotGoOnElsewhereIsKept has a server that knows no
// ranges.
func TestASlowConnectionThatCannotGoOnElsewhereIsKept(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(8)
		s := &server{blob: blob(300_000), answers: []answer{{whole: true, read: 1500, gap: 100 * time.Millisecond}}}
		got := newSink(len(s.blob))
		beside(t, host, func() {
			if _, err := copyFrom(t.Context(), host, s, got); err != nil {
				t.Fatal(err)
			}
		})
		got.holds(t, s.blob)
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
		}
	})
}

// TestWhatTheSinkSaysToAHelperEndsTheCopy has the first stream wait for bytes
// meanwhile.
func TestWhatTheSinkSaysToAHelperEndsTheCopy(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer(), choose: at(capped, map[int]answer{0: with(func(a *answer) { a.length, a.stall = 1000, true })})}, farHost(8)
		full := errors.New("disk full")
		begin := time.Now()
		w := sinkFunc(func(_ []byte, offset int64) error {
			if offset > 32*mebibyte {
				return full
			}
			return nil
		})
		_, err := copyFrom(t.Context(), host, s, w)
		exactly(t, err, full)
		left(t, host)
		closedOnce(t, s)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestMoreBytesThanTheSizeAreAnErrorFromAHelperToo(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer()}, farHost(8)
		s.choose = func(_ int, r transfer.Request) answer {
			return with(func(a *answer) {
				if r.Length == 0 {
					a.extra = "more"
				}
			})
		}
		_, err := copyFrom(t.Context(), host, s, discard)
		if !errors.Is(err, content.ErrSize) {
			t.Errorf("got %v, want %v", err, content.ErrSize)
		}
		left(t, host)
	})
}

// TestAPanicOfTheSourceOrTheSinkIsThatOfTheCaller has each of the goroutines of
// a copy panic, while the first stream reads, waits or has ended.
func TestAPanicOfTheSourceOrTheSinkIsThatOfTheCaller(t *testing.T) {
	t.Parallel()
	const cry = "this is a bug"
	stalls := with(func(a *answer) { a.length, a.stall = 1000, true })
	crashes := with(func(a *answer) { a.crash = cry })
	crashesRead := with(func(a *answer) { a.length, a.crashRead = 1000, cry })
	crashesLater := with(func(a *answer) { a.length, a.crashRead = 3*mebibyte, cry })
	sinks := func(from int64) sinkFunc {
		return func(_ []byte, offset int64) error {
			if offset >= from {
				panic(cry)
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		choose  func(int, transfer.Request) answer
		sink    transfer.Sink
		streams int
	}{
		"Open of the first stream":            {at(capped, map[int]answer{0: crashes}), discard, 0},
		"Open of the only stream":             {at(crashes, nil), discard, 1},
		"Open of a helper":                    {at(capped, map[int]answer{3: crashes}), discard, 0},
		"Open of a helper, and nothing comes": {at(capped, map[int]answer{0: stalls, 3: crashes}), discard, 0},
		"Open of all helpers":                 {at(crashes, map[int]answer{0: capped}), discard, 0},
		"Read of the first stream":            {at(capped, map[int]answer{0: crashesRead}), discard, 0},
		"Read of the only stream":             {at(crashesRead, nil), discard, 1},
		"a later Read of the only stream":     {at(crashesLater, nil), discard, 1},
		"Read of a helper":                    {at(capped, map[int]answer{3: crashesRead}), discard, 0},
		"a later Read of a helper":            {at(capped, map[int]answer{3: crashesLater}), discard, 0},
		"Put of the first stream":             {at(capped, nil), sinks(0), 0},
		"Put of the only stream":              {at(capped, nil), sinks(0), 1},
		"a later Put of the only stream":      {at(capped, nil), sinks(20 * mebibyte), 1},
		"the last Put of the only stream":     {at(capped, nil), sinks(63 * mebibyte), 1},
		"Put of a helper":                     {at(capped, map[int]answer{0: stalls}), sinks(20 * mebibyte), 0},
		"the last Put of a helper":            {at(capped, nil), sinks(63*mebibyte + mebibyte/2), 0},
	} {
		for _, far := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", of a far host", false: ", of a near host"}[far], func(t *testing.T) {
				virtual(t, func(t *testing.T) {
					s, host := &server{blob: layer(), choose: test.choose}, farHost(8)
					if !far {
						host = transfer.NewHost(8)
						host.SetTarget(8)
						s.choose = func(connection int, r transfer.Request) answer {
							a := test.choose(connection, r)
							a.roundTrip = 0
							return a
						}
					}
					turn, err := host.Group(8).Turn(t.Context(), int64(len(s.blob)))
					if err != nil {
						t.Fatal(err)
					}
					begin := time.Now()
					func() {
						defer turn.End()
						defer func() {
							if cried := fmt.Sprint(recover()); !strings.Contains(cried, cry) {
								t.Errorf("the panic is %q, want one with %q", cried, cry)
							}
						}()
						_, err := turn.Copy(t.Context(), s, test.sink, transfer.Options{Size: int64(len(s.blob)), Stall: stall, Streams: test.streams})
						t.Errorf("it returned %v", err)
					}()
					left(t, host)
					closedOnce(t, s)
					if took := time.Since(begin); took > 10*time.Second {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

func TestAPanicOfProgressIsThatOfTheCaller(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s, host := &server{blob: layer(), answers: []answer{capped}}, farHost(8)
		turn, err := host.Group(8).Turn(t.Context(), int64(len(s.blob)))
		if err != nil {
			t.Fatal(err)
		}
		defer left(t, host)
		defer turn.End()
		defer func() {
			if recover() == nil {
				t.Error("there was no panic")
			}
		}()
		_, _ = turn.Copy(t.Context(), s, discard, transfer.Options{
			Size: int64(len(s.blob)), Stall: stall,
			Progress: func(_ int64, attempt int) {
				if attempt > 3 {
					panic("this is a bug")
				}
			},
		})
	})
}

// TestTheEndOfTheContextEndsAllStreamsAtOnce ends it in every seventh millisecond
// of the first half second of a copy, some of whose connections break, stall and
// are refused.
func TestTheEndOfTheContextEndsAllStreamsAtOnce(t *testing.T) {
	t.Parallel()
	choose := at(capped, map[int]answer{
		1: with(func(a *answer) { a.length, a.end = 200_000, errReset }),
		2: with(func(a *answer) { a.length, a.stall = 200_000, true }),
		3: with(func(a *answer) { a.validator = "two" }),
		4: with(func(a *answer) { a.wait = time.Second }),
		5: {refuse: errors.New("denied"), wait: 70 * time.Millisecond},
		9: with(func(a *answer) { a.length, a.end = nothing, errReset }),
	})
	for after := time.Duration(0); after < 500*time.Millisecond; after += 7 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			s, host := &server{blob: layer()[:12*mebibyte], choose: choose}, farHost(8)
			const takes = time.Millisecond
			slow := sinkFunc(func([]byte, int64) error {
				time.Sleep(takes)
				return nil
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(after, cancel)
			begin := time.Now()
			_, err := copyFrom(ctx, host, s, slow)
			took := time.Since(begin)
			left(t, host)
			closedOnce(t, s)
			exactly(t, err, context.Canceled)
			if took > after+2*takes { // what was read is written
				t.Errorf("it returned after %v, but the context ended after %v", took, after)
			}
		})
	}
}

func TestProgressOfAllStreamsTogetherIsTheSize(t *testing.T) {
	virtual(t, func(t *testing.T) {
		s := &server{blob: layer()[:32*mebibyte], choose: func(connection int, _ transfer.Request) answer {
			return with(func(a *answer) {
				if connection%3 == 1 {
					a.length, a.end = 2*mebibyte, errReset
				}
			})
		}}
		turn, err := farHost(8).Group(8).Turn(t.Context(), int64(len(s.blob)))
		if err != nil {
			t.Fatal(err)
		}
		defer turn.End()
		var arrived, attempts atomic.Int64
		_, err = turn.Copy(t.Context(), s, discard, transfer.Options{
			Size: int64(len(s.blob)), Stall: stall,
			Progress: func(more int64, attempt int) {
				if more <= 0 {
					t.Errorf("%d more bytes", more)
				}
				arrived.Add(more)
				attempts.Store(max(attempts.Load(), int64(attempt)))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if arrived.Load() != int64(len(s.blob)) || attempts.Load() != int64(len(s.asked)) {
			t.Errorf("%d bytes and %d attempts were reported, want %d and %d", arrived.Load(), attempts.Load(), len(s.blob), len(s.asked))
		}
	})
}

// TestTheBlobsOfAHostShareItsStreams has four blobs of different sizes at once.
func TestTheBlobsOfAHostShareItsStreams(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(8)
		group := host.Group(8)
		var copies sync.WaitGroup
		most, open := 0, 0
		var mu sync.Mutex
		for _, size := range []int{3 * mebibyte, 1000, 40 * mebibyte, 20 * mebibyte} {
			s, got := &server{blob: layer()[:size], answers: []answer{capped}}, newSink(size)
			counted := sourceFunc(func(ctx context.Context, r transfer.Request) (transfer.Content, error) {
				mu.Lock()
				open++
				most = max(most, open)
				mu.Unlock()
				c, err := s.Open(ctx, r)
				c.ReadCloser = closing{c.ReadCloser.(*body), func() { mu.Lock(); open--; mu.Unlock() }}
				return c, err
			})
			copies.Go(func() {
				turn, err := group.Turn(t.Context(), int64(size))
				if err != nil {
					t.Error(err)
					return
				}
				defer turn.End()
				if _, err := turn.Copy(t.Context(), counted, got, transfer.Options{Size: int64(size), Stall: stall}); err != nil {
					t.Error(err)
				}
				got.holds(t, s.blob)
			})
		}
		copies.Wait()
		left(t, host)
		if most != 8 {
			t.Errorf("there were %d connections at once, want 8", most)
		}
	})
}

// TestBlobsThatHaveOneStreamEachComeInLargeParts has as many large blobs as there
// are streams: each part costs a round trip, but what a stream that is done takes
// over is then not on its way already.
func TestBlobsThatHaveOneStreamEachComeInLargeParts(t *testing.T) {
	virtual(t, func(t *testing.T) {
		host := farHost(8)
		var copies sync.WaitGroup
		servers := make([]*server, 8)
		begin := time.Now()
		for i := range servers {
			servers[i] = &server{blob: layer()[:24*mebibyte], answers: []answer{capped}}
			copies.Go(func() {
				if _, err := copyFrom(t.Context(), host, servers[i], discard); err != nil {
					t.Error(err)
				}
			})
		}
		copies.Wait()
		left(t, host)
		for _, s := range servers {
			if n := len(s.asked); n < 6 || n > 14 {
				t.Errorf("a blob was asked for %d times, want 6 or a few more", n)
			}
		}
		// 24 MiB at 12.5 MB/s take 2.01 s.
		if took := time.Since(begin); took > 2600*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// closing tells when a body is closed.
type closing struct {
	*body
	told func()
}

func (c closing) Close() error {
	c.told()
	return c.body.Close()
}

// FuzzParts has the connections of many streams end wherever the input says:
// each byte that was written is right and was written once, and all of them were
// if the copy succeeded.
func FuzzParts(f *testing.F) {
	f.Add(uint8(8), []byte{})
	f.Add(uint8(8), []byte{0, 0, 1, 10, 2, 50, 3, 0, 4, 200, 5, 3, 6, 9, 7, 1})
	f.Add(uint8(4), []byte{0, 0, 8, 9, 16, 0, 32, 9, 64, 9, 128, 9})
	f.Add(uint8(200), []byte{4, 0, 9, 7, 10, 3, 12, 0, 40, 9, 70, 1})
	f.Add(uint8(3), []byte{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 128, 3, 128, 3, 128, 3, 128, 3})
	f.Fuzz(func(t *testing.T, streams uint8, script []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{blob: layer()[:9*mebibyte]}
			s.choose = func(connection int, _ transfer.Request) answer {
				if 2*connection+1 >= len(script) {
					return capped
				}
				kind, length := script[2*connection], int(script[2*connection+1])<<14
				return with(func(a *answer) {
					a.length, a.validator = length, "one"
					a.whole, a.stall, a.throttled = kind&1 != 0, kind&2 != 0, kind&4 != 0
					if kind&8 != 0 {
						a.end = errReset
					}
					if kind&16 != 0 {
						a.refuse = errors.New("denied")
					}
					if kind&32 != 0 {
						a.validator = "two"
					}
					if kind&64 != 0 {
						a.read, a.gap = 1000, time.Second
					}
					if kind&128 != 0 {
						a.ahead = -7
					}
				})
			}
			host := transfer.NewHost(max(1, int(streams%16)))
			if streams >= 16 {
				host.RoundTrip(40 * time.Millisecond)
			}
			got := newSink(len(s.blob))
			_, err := copyFrom(t.Context(), host, s, got)
			left(t, host)
			closedOnce(t, s)
			if err == nil {
				got.holds(t, s.blob)
				return
			}
			for _, w := range got.writes {
				if !slices.Equal(got.bytes[w[0]:w[1]], s.blob[w[0]:w[1]]) {
					t.Errorf("bytes %d to %d are wrong", w[0], w[1])
				}
			}
		})
	})
}
