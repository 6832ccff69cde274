package fetcher_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// What a fetch makes of registries, networks and machines that misbehave, in
// bytes, requests and time. How the parts are planned and the streams shared,
// package transfer specifies.

// ranged are the requests for a range.
var ranged = fetchertest.Match{Ranged: true}

func TestTheFirstAnswerToARangeDecidesHowTheLayerIsFetched(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		redirect bool
		fault    fetchertest.Fault
		wants    []string
		reason   fetcher.Reason // "": every byte is right
		words    string
	}{
		{
			name:  "a 200 is the whole, and taken as that",
			fault: fetchertest.Fault{IgnoreRange: true},
			wants: []string{"from 0: 200"},
		},
		{
			name:  "a 400 is followed by a request without a range",
			fault: fetchertest.Fault{Match: ranged, Status: http.StatusBadRequest},
			wants: []string{"from 0: 400", "whole: 200"},
		},
		{
			name:  "a 416 is followed by a request without a range",
			fault: fetchertest.Fault{Match: ranged, Status: http.StatusRequestedRangeNotSatisfiable},
			wants: []string{"from 0: 416", "whole: 200"},
		},
		{
			name:  "a 501 is followed by a request without a range",
			fault: fetchertest.Fault{Match: ranged, Status: http.StatusNotImplemented},
			wants: []string{"from 0: 501", "whole: 200"},
		},
		{
			name:     "the content host's 400 is followed by a request without a range",
			redirect: true,
			fault:    fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN, Ranged: true}, Status: http.StatusBadRequest},
			wants:    []string{"from 0: 307", "content host, from 0: 400", "whole: 307", "content host, whole: 200"},
		},
		{
			name:     "the content host's 200 is the whole",
			redirect: true,
			fault:    fetchertest.Fault{IgnoreRange: true},
			wants:    []string{"from 0: 307", "content host, from 0: 200"},
		},
		{
			name:  "multipart/byteranges is followed by a request without a range",
			fault: fetchertest.Fault{Multipart: true},
			wants: []string{"from 0: 206", "whole: 200"},
		},
		{
			name:  "a 206 without Content-Range is followed by a request without a range",
			fault: fetchertest.Fault{Header: http.Header{"Content-Range": nil}},
			wants: []string{"from 0: 206", "whole: 200"},
		},
		{
			name:  "a 206 whose Content-Range says nothing is followed by a request without a range",
			fault: fetchertest.Fault{ContentRange: "bytes */{size}"},
			wants: []string{"from 0: 206", "whole: 200"},
		},
		{
			name:  "a 206 that begins a byte later is followed by a request without a range",
			fault: fetchertest.Fault{MoveFirst: 1},
			wants: []string{"from 0: 206", "whole: 200"},
		},
		{
			name:   "a 206 of another blob, by its size, is refused",
			fault:  fetchertest.Fault{ContentRange: "bytes {first}-{last}/999999999"},
			wants:  []string{"from 0: 206"},
			reason: fetcher.SizeMismatch, words: "the server has 999999999 bytes, expected were 8388608",
		},
		{
			name:   "a 206 with fewer bytes than its Content-Range says, and the whole has, is refused",
			fault:  fetchertest.Fault{Truncate: 100},
			wants:  []string{"from 0: 206", "whole: 200"},
			reason: fetcher.SizeMismatch, words: "the server has 8388508 bytes, expected were 8388608",
		},
		{
			name:   "a 206 with more bytes than its Content-Range says, and the whole has, is refused",
			fault:  fetchertest.Fault{Extra: 100},
			wants:  []string{"from 0: 206", "whole: 200"},
			reason: fetcher.SizeMismatch, words: "the server has 8388708 bytes, expected were 8388608",
		},
	} {
		for way, link := range map[string]*link{"near": nil, "far": far()} {
			t.Run(test.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				p := newPull(t, setting{registry: fetchertest.Config{Redirect: test.redirect}, link: link})
				p.inject(test.fault)
				if test.reason == "" {
					p.fetchedOnce()
				} else {
					p.failed(test.reason, test.words)
				}
				p.wants(test.wants...)
			})
		}
	}
}

func TestAPartThatIsLongerThanAskedForIsFollowedByARequestForTheWhole(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far()})
	p.inject(fetchertest.Fault{MoveLast: 100})
	p.fetchedOnce()
	p.wants("from 0: 206", "whole: 200")
}

func TestAFarHostIsAskedForEachPartOnce(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fetchertest.Fault{
		"as it should be":                     {},
		"with a weak entity-tag":              {Header: http.Header{"Etag": {`W/"weak"`}}},
		"without an entity-tag":               {Header: http.Header{"Etag": nil}},
		"with an entity-tag that is none":     {Header: http.Header{"Etag": {"unquoted"}}},
		"without the size of the whole":       {ContentRange: "bytes {first}-{last}/*"},
		"without a Content-Length":            {Chunked: true},
		"whatever If-Range says":              {IgnoreIfRange: true},
		"with bytes that follow after a part": {Chunked: true, Extra: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{link: far()})
			p.inject(fault)
			p.fetchedOnce()
			if others := p.inParts(); others != nil {
				t.Errorf("more requests: %q", others)
			}
			// What follows is not read: it is the sockets' buffers that take it.
			if n := p.served(); fault.Extra == 0 && n != largeSize || n > 16*largeSize {
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
}

// TestAPartThatGoesWrongIsFetchedByAnotherStream holds up the first stream, the
// only one that tries again, so that it is another one that the fault strikes.
func TestAPartThatGoesWrongIsFetchedByAnotherStream(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fetchertest.Fault{
		"a part that begins a byte earlier":        {MoveFirst: -1},
		"a part that begins a byte later":          {MoveFirst: 1},
		"a part with another total":                {ContentRange: "bytes {first}-{last}/999999999"},
		"a part without a Content-Range":           {Header: http.Header{"Content-Range": nil}},
		"a part that is longer than asked for":     {MoveLast: 100},
		"a part that is shorter than asked for":    {MoveLast: -100},
		"a part whose bytes are missing":           {Truncate: 100},
		"a part as multipart/byteranges":           {Multipart: true},
		"a 416":                                    {Status: http.StatusRequestedRangeNotSatisfiable},
		"a 403":                                    {Status: http.StatusForbidden},
		"a 404":                                    {Status: http.StatusNotFound},
		"a 429 that asks for a day":                {Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"86400"}}},
		"another blob's entity-tag and bytes":      {Replaced: true},
		"a connection that is cut":                 {CutAt: 100_000},
		"a connection that is reset":               {CutAt: 100_000, Reset: true},
		"a connection that ends properly too soon": {ShortAt: 100_000},
		"a connection that is dropped":             {Drop: true},
		"a connection that stalls":                 {StallAt: 100_000},
		"a connection that trickles":               {Rate: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setting{link: far()}
			if fault.StallAt > 0 || fault.Rate > 0 {
				s.stall = 700 * time.Millisecond // long enough for others to begin
			}
			p := newPull(t, s)
			release := make(chan struct{})
			fault.Times, fault.Match.MinOffset = 1, 1
			fault.Notice = func(fetchertest.Request) { close(release) }
			p.inject(fault, fetchertest.Fault{StallAt: 1, Hold: release, Times: 1})
			p.fetchedOnce()
			p.atMost(largeParts + 3)
		})
	}
}

func TestRangesThatStopWorkingMidwayLeaveOneStream(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far()})
	p.inject(fetchertest.Fault{IgnoreRange: true, After: 3})
	p.fetchedOnce()
	p.atMost(3 + 2*largeParts) // each stream learns it, some of which have a part that nobody else got
}

func TestWrongBytesAreFetchedOnceMoreInOnePiece(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fetchertest.Fault{
		"a byte of a part is wrong": {Corrupt: true, After: 2},
		"a part is another one under its name": {
			MoveFirst: partSize, MoveLast: partSize, ContentRange: fmt.Sprintf("bytes 0-%d/{size}", partSize-1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{link: far()})
			fault.Times = 1
			p.inject(fault)
			p.fetched()
			if others := strings.Join(p.inParts(), "; "); others != "whole: 200" {
				t.Errorf("after the parts: %s", others)
			}
			if n := p.served(); n != 2*largeSize {
				t.Errorf("%d bytes were sent, want twice %d", n, largeSize)
			}
		})
	}
}

func TestALayerThatChangesIsBegunAnewInOneStream(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault fetchertest.Fault
		right bool
	}{
		"whose entity-tag alone is another":        {fetchertest.Fault{Header: http.Header{"Etag": {`"another"`}}}, true},
		"which is another from then on, all wrong": {fetchertest.Fault{Replaced: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{link: far()})
			test.fault.After = 3
			p.inject(test.fault)
			if test.right {
				p.fetched()
			} else {
				p.failed(fetcher.DigestMismatch, "wrong digest")
			}
			p.atMost(3 + 2*largeParts)
			if lines := p.asked(); !slices.Contains(lines, "whole: 200") {
				t.Errorf("never asked for the whole: %q", lines)
			}
		})
	}
}

func TestALayerThatChangesOverAndOverIsReported(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}})
	for i := range 4 {
		p.inject(fetchertest.Fault{Header: http.Header{"Etag": {fmt.Sprintf("%q", fmt.Sprint(i))}}, CutAt: mebibyte, Times: 1})
	}
	p.failed(fetcher.RegistryUnreachable, "the blob changed while it was fetched")
	p.wants("whole: 200", "from 1048576: 206", "whole: 200", "from 1048576: 206")
}

func TestBytesThatStayWrongAreVisibleNowhere(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]setting{
		"of a near host":               {},
		"of a far host":                {link: far()},
		"in one stream":                {fetcher: fetcher.Config{ChunksPerBlob: 1}},
		"of a layer that comes alone":  {alone: true},
		"of a content host":            {registry: fetchertest.Config{Redirect: true}},
		"of a far host, for the cache": {link: far(), cached: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, s)
			p.inject(fetchertest.Fault{Corrupt: true})
			p.failed(fetcher.DigestMismatch, "wrong digest")
			if s.cached {
				p.uncached()
			}
		})
	}
}

// TestAConnectionThatFailsIsContinuedFromTheByteReached has one stream, so that
// each request is known.
func TestAConnectionThatFailsIsContinuedFromTheByteReached(t *testing.T) {
	t.Parallel()
	const reached = mebibyte + 1
	for _, test := range []struct {
		name   string
		faults []fetchertest.Fault
		wants  []string
		served int64 // bytes
	}{
		{"nothing fails", nil, []string{"whole: 200"}, largeSize},
		{"without a Content-Length", []fetchertest.Fault{{Chunked: true}}, []string{"whole: 200"}, largeSize},
		{"cut", []fetchertest.Fault{{CutAt: reached, Times: 1}}, []string{"whole: 200", "from 1048577: 206"}, largeSize},
		{"cut before the first byte", []fetchertest.Fault{{CutAt: fetchertest.AtOnce, Times: 1}}, []string{"whole: 200", "whole: 200"}, largeSize},
		{"cut after the last byte", []fetchertest.Fault{{Chunked: true, CutAt: largeSize}}, []string{"whole: 200"}, largeSize},
		{"ended properly too soon", []fetchertest.Fault{{ShortAt: reached, Times: 1}}, []string{"whole: 200", "from 1048577: 206"}, largeSize},
		{"stalled", []fetchertest.Fault{{StallAt: reached, Times: 1}}, []string{"whole: 200", "from 1048577: 206"}, largeSize},
		{"dropped without an answer", []fetchertest.Fault{{Drop: true, Times: 1}}, []string{"whole: 0", "whole: 200"}, largeSize},
		{
			"cut three times",
			[]fetchertest.Fault{{CutAt: reached, Times: 3}},
			[]string{"whole: 200", "from 1048577: 206", "from 2097154: 206", "from 3145731: 206"}, largeSize,
		},
		{
			"cut, then asked for the rest in vain: all is given again and what is there is dropped",
			[]fetchertest.Fault{{CutAt: reached, Times: 1}, {IgnoreRange: true}},
			[]string{"whole: 200", "from 1048577: 200"}, reached + largeSize,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}, stall: 300 * time.Millisecond})
			p.inject(test.faults...)
			p.fetchedOnce()
			p.wants(test.wants...)
			if n := p.served(); n != test.served {
				t.Errorf("%d bytes were sent, want %d", n, test.served)
			}
		})
	}
}

func TestAConnectionThatIsResetIsContinued(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}})
	p.inject(fetchertest.Fault{CutAt: mebibyte, Reset: true, Times: 1})
	p.fetchedOnce()
	if n := p.served(); n > largeSize+mebibyte { // the reset overtakes bytes
		t.Errorf("%d bytes were sent", n)
	}
	p.atMost(2)
}

func TestABlobOfUnknownSizeComesInOneStream(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  fetchertest.Fault
		chunks int // a resume knows the size, and may have help
		wants  []string
	}{
		"as it should be":          {fetchertest.Fault{}, 0, []string{"whole: 200"}},
		"without a Content-Length": {fetchertest.Fault{Chunked: true}, 0, []string{"whole: 200"}},
		"cut":                      {fetchertest.Fault{CutAt: 5 * mebibyte, Times: 1}, 1, []string{"whole: 200", "from 5242880: 206"}},
		"cut after its last byte, which nobody knew to be the last": {
			fetchertest.Fault{Chunked: true, CutAt: largeSize, Times: 1}, 0, []string{"whole: 200", "from 8388608: 416"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{alone: true, link: far(), fetcher: fetcher.Config{ChunksPerBlob: test.chunks}})
			p.inject(test.fault)
			p.fetchedOnce()
			p.wants(test.wants...)
		})
	}
}

func TestWhereAPartIsShorterThanAskedForTheRestIsAskedFor(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far()})
	p.inject(fetchertest.Fault{MoveLast: -100, Times: 3})
	p.fetchedOnce()
	p.atMost(largeParts + 2*3)
	if n := p.served(); n != largeSize {
		t.Errorf("%d bytes were sent, want %d", n, largeSize)
	}
}

func TestAMebibyteOfProgressRenewsTheAttempts(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{fetcher: fetcher.Config{ChunksPerBlob: 1}})
	p.inject(fetchertest.Fault{CutAt: mebibyte, Times: 7})
	p.fetchedOnce()
	p.atMost(8)
}

func TestFiveAttemptsWithoutProgressAreTheEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  fetchertest.Fault
		reason fetcher.Reason
		words  string
		within time.Duration
	}{
		"connections that are cut at once": {
			fetchertest.Fault{CutAt: fetchertest.AtOnce}, fetcher.RegistryUnreachable, "broke off after 0 bytes, in 5 attempts", 12 * time.Second,
		},
		"connections that bring a byte": {
			fetchertest.Fault{CutAt: 1}, fetcher.RegistryUnreachable, "broke off after 5 bytes, in 5 attempts", 12 * time.Second,
		},
		"connections that are dropped": {
			fetchertest.Fault{Drop: true}, fetcher.RegistryUnreachable, "EOF; check the host", 8 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, l := fetchertest.New(t, fetchertest.Config{}), &link{}
			virtual(t, l, func(t *testing.T) {
				p := pullFrom(t, r, setting{link: l, fetcher: fetcher.Config{ChunksPerBlob: 1}})
				p.inject(test.fault)
				begin := time.Now()
				p.failed(test.reason, test.words)
				if took := time.Since(begin); took > test.within {
					t.Errorf("it took %v", took)
				}
				if n := len(p.asked()); n != 5 {
					t.Errorf("%d requests, want 5", n)
				}
			})
		})
	}
}

func TestALayerThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	const size = 500_000
	for name, fault := range map[string]fetchertest.Fault{
		"by its Content-Length":              {Extra: 1 << 30},
		"by its bytes, of which one is read": {Extra: 1 << 30, Chunked: true},
		"by a byte":                          {Extra: 1, Chunked: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{layers: [][]byte{fetchertest.RandomLayer(3, size)}})
			p.inject(fault)
			p.failed(fetcher.SizeMismatch, "wrong size")
			p.wants("whole: 200")
			if n := p.served(); n > size+16*mebibyte { // the sockets' buffers
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
}

func TestALayerThatIsTooShortIsRefused(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{layers: [][]byte{fetchertest.RandomLayer(3, 500_000)}})
	p.inject(fetchertest.Fault{Truncate: 100})
	p.failed(fetcher.SizeMismatch, "the server has 499900 bytes, expected were 500000")
	p.wants("whole: 200")
}

// TestAStalledPartHoldsUpNothing lets a connection go on only when all but a
// part of the layer is there.
func TestAStalledPartHoldsUpNothing(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far()})
	release := make(chan struct{})
	once := sync.OnceFunc(func() { close(release) })
	p.observe = func(e fetcher.Event) {
		if progress, ok := e.(fetcher.Progress); ok && progress.BytesDone > largeSize-partSize {
			once()
		}
	}
	p.inject(fetchertest.Fault{StallAt: 1000, Hold: release, After: 1, Times: 1})
	p.fetchedOnce()
	if others := p.inParts(); others != nil {
		t.Errorf("more requests: %q", others)
	}
}

func TestTheOnlyConnectionIsStalledIfItTrickles(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	l := &link{rate: func(int) int64 { return 100 }}
	virtual(t, l, func(t *testing.T) {
		p := pullFrom(t, r, setting{link: l, alone: true, stall: 20 * time.Second})
		begin := time.Now()
		p.failed(fetcher.Stalled, "in 5 attempts: stalled: only ")
		if took := time.Since(begin); took < 100*time.Second || took > 3*time.Minute {
			t.Errorf("it took %v", took)
		}
		lines := p.asked()
		if len(lines) != 5 || lines[0] != "whole: 200" || slices.Contains(lines[1:], "whole: 200") {
			t.Errorf("requests: %q", lines)
		}
	})
}

func TestAConnectionThatOthersAreFarFasterThanIsGivenUp(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	l := far()
	l.rate = func(connection int) int64 {
		if connection == 8 {
			return 10 * kibibyte // 51 s for a part
		}
		return mebibyte
	}
	virtual(t, l, func(t *testing.T) {
		p := pullFrom(t, r, setting{link: l})
		begin := time.Now()
		p.fetchedOnce()
		if took := time.Since(begin); took < 5*time.Second || took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		p.atMost(largeParts + 1)
	})
}

// TestConnectionsThatAreCappedGetCompany is what helps against a registry that
// gives each connection a part of what the network could bring.
func TestConnectionsThatAreCappedGetCompany(t *testing.T) {
	t.Parallel()
	const size, rate = 16 * mebibyte, 2 * mebibyte // 8 s for one connection
	for name, test := range map[string]struct {
		roundTrip time.Duration
		least     int
		within    time.Duration
	}{
		"to a near host": {time.Millisecond, 8, 2 * time.Second},
		"to a far host":  {40 * time.Millisecond, 16, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			l := &link{roundTrip: test.roundTrip, rate: func(int) int64 { return rate }}
			virtual(t, l, func(t *testing.T) {
				p := pullFrom(t, r, setting{link: l, layers: [][]byte{fetchertest.RandomLayer(2, size)}})
				begin := time.Now()
				p.fetchedOnce()
				if took := time.Since(begin); took > test.within {
					t.Errorf("it took %v", took)
				}
				if n := l.atOnce(); n < test.least || n > 32 {
					t.Errorf("%d connections at once", n)
				}
			})
		})
	}
}

// TestAConnectionThatAddsNothingIsTakenBack begins with one for each processor,
// as near hosts do, and tries twice as many now and then.
func TestAConnectionThatAddsNothingIsTakenBack(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	l := &link{roundTrip: time.Millisecond, sum: 16 * mebibyte}
	virtual(t, l, func(t *testing.T) {
		p := pullFrom(t, r, setting{link: l, layers: [][]byte{fetchertest.RandomLayer(2, 24*mebibyte)}})
		p.fetchedOnce()
		if n, most := l.atOnce(), min(2*runtime.GOMAXPROCS(0), 32); n > most {
			t.Errorf("%d connections at once, want at most %d\n%s", n, most, strings.Join(p.asked(), "\n"))
		}
	})
}

// TestConnectionsThatTheRegistryCapsGetCompany is the same with the registry's
// own cap, in real time.
func TestConnectionsThatTheRegistryCapsGetCompany(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{
		registry: fetchertest.Config{Link: fetchertest.Link{ConnectionRate: 8 * mebibyte, Latency: 20 * time.Millisecond}},
	})
	p.fetchedOnce()
	if n := p.registry.Load(t, p.registry.Host()).ConnectionsAtOnce; n < 2 || n > 32 {
		t.Errorf("%d connections at once", n)
	}
}

// TestARegistryThatTakesFewRequestsAtOnceIsWaitedFor has more layers than the
// registry takes requests, all of which a far host is asked for at once.
func TestARegistryThatTakesFewRequestsAtOnceIsWaitedFor(t *testing.T) {
	t.Parallel()
	const layers = 12
	for name, test := range map[string]struct {
		retryAfter string
		least      time.Duration
	}{
		"if it does not say for how long":        {"", 100 * time.Millisecond},
		"if it says a fraction of a second":      {"0.25", 250 * time.Millisecond},
		"if it says a second":                    {"1", time.Second},
		"if it says more than all will wait for": {"3", 3 * time.Second},
		"if it says a date":                      {"Sat, 01 Jan 2000 00:00:03 GMT", 2 * time.Second}, // bubbles begin at midnight
		"if it says what can not be understood":  {"soon", 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{
				Link:   fetchertest.Link{Latency: 100 * time.Millisecond}, // for all to be there at once
				Limits: fetchertest.Limits{Requests: 4, RetryAfter: test.retryAfter},
			})
			l := far()
			virtual(t, l, func(t *testing.T) {
				p := pullFrom(t, r, setting{link: l, layers: randomLayers(layers, 64*kibibyte)})
				begin := time.Now()
				p.fetchedOnce()
				if took := time.Since(begin); took < test.least || took > 20*time.Second {
					t.Errorf("it took %v", took)
				}
				if n := r.Load(t, r.Host()).Refused; n == 0 || n > 4*layers {
					t.Errorf("%d requests were refused", n)
				}
			})
		})
	}
}

func TestARegistryThatAsksToWaitForADayIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far()})
	p.inject(fetchertest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"86400"}}})
	failure := p.failed(fetcher.RateLimited, "429 Too Many Requests: TOOMANYREQUESTS: too many requests; it asks to wait 24h0m0s")
	if failure.RetryAfter != 24*time.Hour {
		t.Errorf("RetryAfter is %v", failure.RetryAfter)
	}
	p.wants("from 0: 429")
}

func TestARegistryThatTakesFewConnectionsIsGivenFewer(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far(), registry: fetchertest.Config{
		Link: fetchertest.Link{Latency: 5 * time.Millisecond}, Limits: fetchertest.Limits{Connections: 3},
	}})
	p.fetchedOnce()
	if n := p.registry.Load(t, p.registry.Host()).Refused; n == 0 || n > 3*largeParts {
		t.Errorf("%d connections were refused", n)
	}
	p.atMost(2 * largeParts)
}

func TestPartsGoStraightToTheContentHost(t *testing.T) {
	t.Parallel()
	p := newPull(t, setting{link: far(), registry: fetchertest.Config{Redirect: true}})
	p.fetchedOnce()
	if others := strings.Join(p.inParts(), "; "); others != "from 0: 307" {
		t.Errorf("beside the parts: %s", others)
	}
}

func TestAnAddressThatExpiredIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusBadRequest} {
		t.Run(fmt.Sprintf("%d after three uses", status), func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{link: far(), registry: fetchertest.Config{Redirect: true, TargetUses: 3, TargetExpired: status}})
			p.fetchedOnce()
			p.expired(status)
		})
		t.Run(fmt.Sprintf("%d for all of a sudden", status), func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{link: far(), registry: fetchertest.Config{Redirect: true, TargetExpired: status}})
			p.inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, After: 5, Times: 1, Notice: func(fetchertest.Request) { p.registry.ExpireTargets() }})
			p.fetchedOnce()
			p.expired(status)
		})
		t.Run(fmt.Sprintf("%d in one stream", status), func(t *testing.T) {
			t.Parallel()
			p := newPull(t, setting{
				registry: fetchertest.Config{Redirect: true, TargetUses: 2, TargetExpired: status},
				fetcher:  fetcher.Config{ChunksPerBlob: 1},
			})
			p.inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, CutAt: mebibyte, Times: 3})
			p.fetchedOnce()
			p.wants(
				"whole: 307", "content host, whole: 200", "content host, from 1048576: 206",
				fmt.Sprintf("content host, from 2097152: %d", status),
				"from 2097152: 307", "content host, from 2097152: 206", "content host, from 3145728: 206",
			)
		})
	}
}

// expired fails the test unless the content host refused, and the registry was
// asked again then: by each stream that was, or that found no address, once.
func (p *pull) expired(status int) {
	p.Helper()
	asked, refused := 0, 0
	for _, q := range p.requests() {
		switch {
		case q.Endpoint == fetchertest.Blob:
			asked++
		case q.Status == status:
			refused++
		}
	}
	if refused == 0 || asked < 2 || asked > 1+largeParts {
		p.Errorf("the registry was asked %d times, the content host refused %d times\n%s", asked, refused, strings.Join(p.asked(), "\n"))
	}
}

// TestAHostThatGoesAwayAndComesBackIsContinued shuts the registry in the middle
// of the layer, and opens it when a connection could not be made.
func TestAHostThatGoesAwayAndComesBackIsContinued(t *testing.T) {
	t.Parallel()
	const reached = 3 * mebibyte
	l := &link{}
	p := newPull(t, setting{link: l, fetcher: fetcher.Config{ChunksPerBlob: 1}})
	l.refused = func() { p.registry.Reopen(t, p.registry.Host()) }
	shut := sync.OnceFunc(func() { p.registry.Shut(t, p.registry.Host()) })
	p.observe = func(e fetcher.Event) {
		if progress, ok := e.(fetcher.Progress); ok && progress.BytesDone > reached {
			shut()
		}
	}
	p.inject(fetchertest.Fault{StallAt: reached, Times: 1})
	p.fetchedOnce()
	p.wants("whole: 200", "from 3145728: 206")
	if n := p.served(); n != largeSize {
		t.Errorf("%d bytes were sent, want %d", n, largeSize)
	}
}

// TestACancelEndsAFetchAtOnce cancels when so many connections stand still.
func TestACancelEndsAFetchAtOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setting
		connections int64
	}{
		"of many parts":                {setting{link: far()}, 8},
		"of many parts, for the cache": {setting{link: far(), cached: true}, 8},
		"in one stream":                {setting{fetcher: fetcher.Config{ChunksPerBlob: 1}}, 1},
		"of a blob of unknown size":    {setting{alone: true}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPull(t, test.setting)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var standing atomic.Int64
			var cancelled time.Time
			fault := fetchertest.Fault{StallAt: 1000, Notice: func(fetchertest.Request) {
				if standing.Add(1) == test.connections {
					cancelled = time.Now()
					cancel()
				}
			}}
			if test.connections > 1 {
				fault.After = 1 // which proves that ranges work
			}
			p.inject(fault)
			_, err := p.fetch(ctx)
			if took := time.Since(cancelled); !errors.Is(err, context.Canceled) || took > time.Second { // 100 ms on an idle machine
				t.Errorf("%v, %v after the cancel", err, took)
			}
			p.incomplete()
		})
	}
}

func TestNoConnectionsAreMadeAheadForASingleFile(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"docker-manifest", "docker-blob"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := far()
			p := newPull(t, setting{link: l, registry: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}}})
			identifier := map[string]string{"docker-manifest": "latest", "docker-blob": p.image.ConfigDigest}[kind]
			p.must(p.fetcher.Fetch(t.Context(), fetcher.Request{URI: p.uri(kind, identifier), Directory: p.dir}))
			if n := l.atOnce(); n > 2 { // the other is to the token server
				t.Errorf("%d connections at once, want at most 2", n)
			}
		})
	}
}
