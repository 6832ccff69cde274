package fetchertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// seen is what a client makes of a spoiled answer.
type seen struct {
	Status        int
	Length        int64 // the Content-Length; -1: none
	ContentRange  string
	Body          string
	Whole         bool // the body ended as it should
	NoAnswer      bool
	BytesRecorded int64
}

func TestFaultsSpoilAnswersTheSameOverHTTP1AndHTTP2(t *testing.T) {
	t.Parallel()
	const blob = "0123456789"
	tests := map[string]struct {
		fault  fetchertest.Fault
		ranged string
		want   seen
	}{
		"nothing":                          {fetchertest.Fault{}, "", seen{Status: 200, Length: 10, Body: blob, Whole: true, BytesRecorded: 10}},
		"a status":                         {fetchertest.Fault{Status: 503, Body: []byte("down")}, "", seen{Status: 503, Length: 4, Body: "down", Whole: true, BytesRecorded: 4}},
		"a status with an empty body":      {fetchertest.Fault{Status: 503, Body: []byte{}}, "", seen{Status: 503, Body: "", Whole: true}},
		"another body":                     {fetchertest.Fault{Body: []byte("else")}, "", seen{Status: 200, Length: 4, Body: "else", Whole: true, BytesRecorded: 4}},
		"a range is ignored":               {fetchertest.Fault{IgnoreRange: true}, "bytes=2-4", seen{Status: 200, Length: 10, Body: blob, Whole: true, BytesRecorded: 10}},
		"a range isn't ignored":            {fetchertest.Fault{}, "bytes=2-4", seen{206, 3, "bytes 2-4/10", "234", true, false, 3}},
		"the middle byte is changed":       {fetchertest.Fault{Corrupt: true}, "", seen{Status: 200, Length: 10, Body: "01234\xca6789", Whole: true, BytesRecorded: 10}},
		"the middle of a range is changed": {fetchertest.Fault{Corrupt: true}, "bytes=2-4", seen{206, 3, "bytes 2-4/10", "2\xcc4", true, false, 3}},
		"the end is missing":               {fetchertest.Fault{Truncate: 3}, "", seen{Status: 200, Length: 7, Body: "0123456", Whole: true, BytesRecorded: 7}},
		"more is missing than there is":    {fetchertest.Fault{Truncate: 30}, "", seen{Status: 200, Body: "", Whole: true}},
		"the end of a range is missing":    {fetchertest.Fault{Truncate: 1}, "bytes=2-4", seen{206, 2, "bytes 2-4/10", "23", true, false, 2}},
		"something follows":                {fetchertest.Fault{Extra: 3}, "", seen{Status: 200, Length: 13, Body: blob + "xxx", Whole: true, BytesRecorded: 13}},
		"something follows a range":        {fetchertest.Fault{Extra: 3}, "bytes=2-4", seen{206, 6, "bytes 2-4/10", "234xxx", true, false, 6}},
		"something follows, unannounced":   {fetchertest.Fault{Extra: 3, Chunked: true}, "", seen{Status: 200, Length: -1, Body: blob + "xxx", Whole: true, BytesRecorded: 13}},
		"no Content-Length":                {fetchertest.Fault{Chunked: true}, "", seen{Status: 200, Length: -1, Body: blob, Whole: true, BytesRecorded: 10}},
		"too early an end":                 {fetchertest.Fault{ShortAt: 4}, "", seen{Status: 200, Length: -1, Body: "0123", Whole: true, BytesRecorded: 4}},
		"an end at once":                   {fetchertest.Fault{ShortAt: fetchertest.AtOnce}, "", seen{Status: 200, Length: -1, Body: "", Whole: true}},
		"an end behind the end":            {fetchertest.Fault{ShortAt: 40}, "", seen{Status: 200, Length: -1, Body: blob, Whole: true, BytesRecorded: 10}},
		"a cut":                            {fetchertest.Fault{CutAt: 4}, "", seen{Status: 200, Length: 10, Body: "0123", BytesRecorded: 4}},
		"a cut in a range":                 {fetchertest.Fault{CutAt: 1}, "bytes=2-4", seen{206, 3, "bytes 2-4/10", "2", false, false, 1}},
		"a cut at once":                    {fetchertest.Fault{CutAt: fetchertest.AtOnce}, "", seen{Status: 200, Length: 10, Body: ""}},
		"a cut behind the end":             {fetchertest.Fault{CutAt: 11}, "", seen{Status: 200, Length: 10, Body: blob, Whole: true, BytesRecorded: 10}},
		"a cut at an unannounced end":      {fetchertest.Fault{CutAt: 10, Chunked: true}, "", seen{Status: 200, Length: -1, Body: blob, BytesRecorded: 10}},
		"a changed byte and a cut":         {fetchertest.Fault{Corrupt: true, CutAt: 6}, "", seen{Status: 200, Length: 10, Body: "01234\xca", BytesRecorded: 6}},
		"a stall that ends, and a cut":     {fetchertest.Fault{StallAt: 3, Hold: closed(), CutAt: 6}, "", seen{Status: 200, Length: 10, Body: "012345", BytesRecorded: 6}},
		"a stall that ends":                {fetchertest.Fault{StallAt: 3, Hold: closed()}, "", seen{Status: 200, Length: 10, Body: blob, Whole: true, BytesRecorded: 10}},
		"no answer":                        {fetchertest.Fault{Drop: true}, "", seen{NoAnswer: true}},
		"a reset instead of an answer":     {fetchertest.Fault{Drop: true, Reset: true}, "", seen{NoAnswer: true}},
	}
	for name, test := range tests {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, tls), func(t *testing.T) {
				t.Parallel()
				r := fetchertest.New(t, fetchertest.Config{TLS: tls})
				address := r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte(blob))
				r.Inject(test.fault)
				header := []string{}
				if test.ranged != "" {
					header = []string{"Range", test.ranged}
				}
				a, err := newClient(t, r).send("GET", address, "", header...)
				got := seen{a.status, a.length, a.header.Get("Content-Range"), a.body, err == nil && a.err == nil, err != nil, r.Requests()[0].BodyBytes}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s\n%v", diff, a.err)
				}
			})
		}
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestACutIsAnUnexpectedEndAndAResetIsAReset(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	address := r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte("0123456789"))
	r.Inject(fetchertest.Fault{CutAt: 4, Times: 1}, fetchertest.Fault{CutAt: 4, Reset: true})
	c := newClient(t, r)
	if got, _ := c.send("GET", address, ""); !errors.Is(got.err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", got.err)
	}
	if got, err := c.send("GET", address, ""); !errors.Is(errors.Join(got.err, err), syscall.ECONNRESET) {
		t.Errorf("reset: %v, %v", got.err, err)
	}
}

func TestHeadersAreReplacedOrRemoved(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutManifest("a", "1", v2Type, []byte("{}"))
	r.Inject(fetchertest.Fault{Header: http.Header{
		"docker-content-digest": {"sha256:lie"}, "Content-Type": nil, "ETag": {}, "X-More": {"1", "2"},
	}})
	for _, method := range []string{"GET", "HEAD"} {
		got := newClient(t, r).do(method, r.URL()+"/v2/a/manifests/1", "")
		got.header.Del("Date")
		want := http.Header{
			"Content-Length": {"2"}, "Docker-Content-Digest": {"sha256:lie"}, "Docker-Distribution-Api-Version": {"registry/2.0"}, "X-More": {"1", "2"},
		}
		if diff := cmp.Diff(want, got.header); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
}

func TestAStatusComesWithTheErrorOfTheSpec(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	tests := []struct {
		status  int
		path    string
		code    string
		message string
	}{
		{401, "/v2/", "UNAUTHORIZED", "authentication required"},
		{403, "/v2/a/manifests/1", "DENIED", "requested access to the resource is denied"},
		{404, "/v2/a/manifests/1", "MANIFEST_UNKNOWN", "manifest unknown"},
		{404, "/v2/a/blobs/sha256:00", "BLOB_UNKNOWN", "blob unknown to registry"},
		{429, "/v2/", "TOOMANYREQUESTS", "too many requests"},
		{502, "/v2/", "UNKNOWN", "bad gateway"},
	}
	for _, test := range tests {
		r.Inject(fetchertest.Fault{Status: test.status, Header: http.Header{"Retry-After": {"7"}}, Times: 1})
		got := c.get(r.URL() + test.path)
		want := fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, test.code, test.message)
		if got.status != test.status || got.body != want || got.header.Get("Retry-After") != "7" || got.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%d %s: %d %v %s", test.status, test.path, got.status, got.header, got.body)
		}
	}
}

func TestAFaultStrikesTheRequestsItMatches(t *testing.T) {
	t.Parallel()
	digest := sha256Of("0123456789")
	tests := map[string]struct {
		match fetchertest.Match
		want  []string
	}{
		"any":           {fetchertest.Match{}, []string{"root", "manifest", "HEAD", "blob", "cdn", "cdn, middle", "cdn, suffix", "token"}},
		"an endpoint":   {fetchertest.Match{Endpoint: fetchertest.Manifest}, []string{"manifest", "HEAD"}},
		"a method":      {fetchertest.Match{Method: "HEAD"}, []string{"HEAD"}},
		"a repository":  {fetchertest.Match{Repository: "a"}, []string{"manifest", "HEAD", "blob", "cdn", "cdn, middle", "cdn, suffix"}},
		"another one":   {fetchertest.Match{Repository: "b"}, nil},
		"an identifier": {fetchertest.Match{Identifier: digest}, []string{"blob", "cdn", "cdn, middle", "cdn, suffix"}},
		"a tag":         {fetchertest.Match{Identifier: "1"}, []string{"manifest", "HEAD"}},
		"a range":       {fetchertest.Match{Ranged: true}, []string{"cdn, middle", "cdn, suffix"}},
		"an offset":     {fetchertest.Match{MinOffset: 5}, []string{"cdn, middle"}},
		"a further one": {fetchertest.Match{MinOffset: 6}, nil},
		"the token":     {fetchertest.Match{Endpoint: fetchertest.Token}, []string{"token"}},
		"all at once": {fetchertest.Match{
			Endpoint: fetchertest.CDN, Method: "GET", Repository: "a", Identifier: digest, MinOffset: 1,
		}, []string{"cdn, middle"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
			r.PutManifest("a", "1", v2Type, []byte("{}"))
			r.PutBlob("a", []byte("0123456789"))
			c := newClient(t, r)
			token, _ := tokenIn(t, c.get(r.TokenURL()+"?scope=repository:a:pull"), "token")
			bearer := []string{"Authorization", "Bearer " + token}
			location := c.get(r.URL()+"/v2/a/blobs/"+digest, bearer...).header.Get("Location")
			r.Inject(fetchertest.Fault{Match: test.match, Status: 418})
			for request, got := range map[string]answer{
				"root":        c.get(r.URL()+"/v2/", bearer...),
				"manifest":    c.get(r.URL()+"/v2/a/manifests/1", bearer...),
				"HEAD":        c.do("HEAD", r.URL()+"/v2/a/manifests/1", "", bearer...),
				"blob":        c.get(r.URL()+"/v2/a/blobs/"+digest, bearer...),
				"cdn":         c.get(location),
				"cdn, middle": c.get(location, "Range", "bytes=5-"),
				"cdn, suffix": c.get(location, "Range", "bytes=-2"),
				"token":       c.get(r.TokenURL() + "?scope=repository:a:pull"),
			} {
				if struck := got.status == 418; struck != slices.Contains(test.want, request) {
					t.Errorf("%s: struck: %v, status %d", request, struck, got.status)
				}
			}
		})
	}
}

func TestAFaultOfTheContentWaitsForTheContent(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p"}})
	r.PutManifest("a", "1", v2Type, []byte("0123456789"))
	c := newClient(t, r)
	var statuses []int
	send := func(authorization, reference string) {
		statuses = append(statuses, c.get(r.URL()+"/v2/a/manifests/"+reference, "Authorization", authorization).status)
	}
	r.Inject(fetchertest.Fault{Body: []byte("else"), Times: 1})
	send("", "1")
	send(basic("u:p"), "2")
	if got := c.get(r.URL()+"/v2/a/manifests/1", "Authorization", basic("u:p")).body; got != "else" {
		t.Errorf("the first content is %q", got)
	}
	r.Inject(fetchertest.Fault{Status: 500, Times: 1})
	send("", "1")
	send("", "1")
	if diff := cmp.Diff([]int{401, 404, 500, 401}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

func TestFaultsComeInOrderAndAsOftenAsTheySay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults []fetchertest.Fault
		want   []int
	}{
		"always":             {[]fetchertest.Fault{{Status: 500}}, []int{500, 500, 500, 500}},
		"once":               {[]fetchertest.Fault{{Status: 500, Times: 1}}, []int{500, 200, 200, 200}},
		"one after another":  {[]fetchertest.Fault{{Status: 500, Times: 1}, {Status: 502, Times: 2}}, []int{500, 502, 502, 200}},
		"after some":         {[]fetchertest.Fault{{Status: 500, After: 2, Times: 1}}, []int{200, 200, 500, 200}},
		"after some, always": {[]fetchertest.Fault{{Status: 500, After: 1}}, []int{200, 500, 500, 500}},
		"the first wins":     {[]fetchertest.Fault{{Status: 500}, {Status: 502}}, []int{500, 500, 500, 500}},
		"a pass counts for the next": {[]fetchertest.Fault{{Status: 500, After: 1, Times: 1}, {Status: 502, After: 1, Times: 1}},
			[]int{200, 500, 502, 200}},
		"nothing, twice, is a fault too": {[]fetchertest.Fault{{Times: 2}, {Status: 500}}, []int{200, 200, 500, 500}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			r.Inject(test.faults...)
			c := newClient(t, r)
			var got []int
			for range test.want {
				got = append(got, c.get(r.URL()+"/v2/").status)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALimitedFaultStrikesExactlySoManyConcurrentRequests(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.Inject(fetchertest.Fault{Status: 500, After: 3, Times: 5})
	c := newClient(t, r)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := c.send("GET", r.URL()+"/v2/", ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	struck := slices.DeleteFunc(r.Requests(), func(q fetchertest.Request) bool { return q.Status != 500 })
	if len(struck) != 5 || r.Count(fetchertest.Root) != 20 {
		t.Errorf("%d of %d", len(struck), r.Count(fetchertest.Root))
	}
}

func TestHoldAndNoticeLetATestActInBetween(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	digest := r.PutBlob("a", []byte("0123456789"))
	for name, fault := range map[string]fetchertest.Fault{"before the answer": {}, "in the middle": {StallAt: 4}} {
		t.Run(name, func(t *testing.T) {
			r.Reset()
			arrived, hold, done := make(chan fetchertest.Request, 1), make(chan struct{}), make(chan answer)
			fault.Times, fault.Hold, fault.Notice = 1, hold, func(q fetchertest.Request) { arrived <- q }
			r.Inject(fault)
			go func() {
				a, _ := c.send("GET", r.URL()+"/v2/a/blobs/"+digest, "")
				done <- a
			}()
			if q := <-arrived; q.Identifier != digest {
				t.Errorf("the notice is of %+v", q)
			}
			for range 20 { // time enough for an answer that doesn't wait
				c.get(r.URL() + "/v2/")
			}
			if q := r.Requests()[0]; q.BodyBytes != fault.StallAt || (q.Status == 0) != (fault.StallAt == 0) {
				t.Errorf("before its release the answer has status %d and %d bytes", q.Status, q.BodyBytes)
			}
			close(hold)
			if a := <-done; a.body != "0123456789" || a.err != nil {
				t.Errorf("%q, %v", a.body, a.err)
			}
		})
	}
}

func TestAClientGetsEverythingBeforeAStall(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		r := fetchertest.New(t, fetchertest.Config{TLS: tls})
		digest := r.PutGeneratedBlob("a", 3, 1<<20)
		r.Inject(fetchertest.Fault{StallAt: 300_000})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", r.URL()+"/v2/a/blobs/"+digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := newClient(t, r).http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 300_000)
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != string(fetchertest.RandomLayer(3, 300_000)) {
			t.Errorf("TLS %v: %v", tls, err)
		}
		cancel()
		if _, err := resp.Body.Read(got); !errors.Is(err, context.Canceled) {
			t.Errorf("TLS %v: after the stall: %v", tls, err)
		}
		_ = resp.Body.Close()
	}
}

func TestATrickleReachesTheClientAsItComes(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		r := fetchertest.New(t, fetchertest.Config{TLS: tls})
		digest := r.PutGeneratedBlob("a", 1, 1<<20) // which would take more than a minute
		r.Inject(fetchertest.Fault{Rate: 10_000})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", r.URL()+"/v2/a/blobs/"+digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := newClient(t, r).http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, first); err != nil || first[0] != fetchertest.RandomLayer(1, 1)[0] {
			t.Errorf("TLS %v: %q, %v", tls, first, err)
		}
		if sent := r.Requests()[0].BodyBytes; sent == 1<<20 {
			t.Errorf("TLS %v: the first byte came with the last", tls)
		}
		cancel()
		_ = resp.Body.Close()
	}
}

// Not parallel: it counts goroutines.
func TestTheEndOfATestEndsRequestsThatHang(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, test := range map[string]struct {
		method string
		fault  fetchertest.Fault
	}{
		"stalled":               {"GET", fetchertest.Fault{StallAt: 4}},
		"held":                  {"GET", fetchertest.Fault{Hold: make(chan struct{})}},
		"held, its body unread": {"PUT", fetchertest.Fault{Status: 500, Hold: make(chan struct{})}},
		"endless":               {"GET", fetchertest.Fault{Extra: 1 << 50, Chunked: true}},
		"endless with a size":   {"GET", fetchertest.Fault{Extra: 1 << 50}},
		"a trickle":             {"GET", fetchertest.Fault{Rate: 1}},
	} {
		for _, tls := range []bool{false, true} {
			var clients sync.WaitGroup
			ended := make(chan struct{})
			t.Run(fmt.Sprintf("%s, TLS %v", name, tls), func(t *testing.T) {
				arrived := make(chan struct{}, 3)
				test.fault.Notice = func(fetchertest.Request) { arrived <- struct{}{} }
				r := fetchertest.New(t, fetchertest.Config{TLS: tls})
				digest := r.PutBlob("a", []byte("0123456789"))
				r.Inject(test.fault)
				c := newClient(t, r)
				for range 3 {
					clients.Go(func() {
						// Neither is the body read nor the test's context used, so
						// that only the registry can end the request.
						req, err := http.NewRequestWithContext(context.Background(), test.method, r.URL()+"/v2/a/blobs/"+digest, strings.NewReader("x"))
						if err != nil {
							t.Error(err)
							return
						}
						resp, err := c.http.Do(req)
						if err != nil {
							return
						}
						<-ended
						_ = resp.Body.Close()
					})
				}
				for range 3 {
					<-arrived
				}
			})
			close(ended)
			clients.Wait()
		}
	}
	var stacks string
	for range 100 { // a request that has ended may still be leaving its functions
		if stacks = requestsRunning(before); stacks == "" {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks)
}

// requestsRunning returns all stacks if there are requests in them and more of
// them than before.
func requestsRunning(before int) string {
	if runtime.NumGoroutine() <= before {
		return ""
	}
	buffer := make([]byte, 1<<20)
	stacks := string(buffer[:runtime.Stack(buffer, true)])
	if strings.Contains(stacks, "fetchertest.(*Registry)") || strings.Contains(stacks, "fetchertest.reply") {
		return stacks
	}
	return ""
}

// TestABodyCanEndWithItsConnection has the form of HTTP/1.0, in which nothing tells
// a whole body from one that was cut.
func TestABodyCanEndWithItsConnection(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	address := r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte("0123456789"))
	r.Inject(fetchertest.Fault{ShortAt: 4, Header: http.Header{"Transfer-Encoding": {"identity"}}})
	a := newClient(t, r).get(address)
	if a.body != "0123" || a.length != -1 || a.header.Get("Transfer-Encoding") != "" {
		t.Errorf("got %q of %d bytes, %v", a.body, a.length, a.header)
	}
}
