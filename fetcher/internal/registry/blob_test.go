package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// read opens a source and says what came: the bytes, their offset, the total,
// and whether ranges were proved.
func read(t *testing.T, s transfer.Source, r transfer.Request) (string, error) {
	t.Helper()
	content, err := s.Open(t.Context(), r)
	if err != nil {
		return "", err
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d %v", data, content.Offset, content.Total, content.Ranged), nil
}

// ranges says in one line each where a blob was asked for, and for which range.
func ranges(r *fetchertest.Registry) []string {
	var lines []string
	for _, q := range r.Requests() {
		lines = append(lines, strings.TrimSpace(string(q.Endpoint)+" "+q.Range))
	}
	return lines
}

func TestABlobIsReadInParts(t *testing.T) {
	t.Parallel()
	const blob = "0123456789"
	header := func(name string, values ...string) map[string][]string { return map[string][]string{name: values} }
	part := transfer.Request{Offset: 2, Length: 3}
	for title, test := range map[string]struct {
		fault fetchertest.Fault
		asked transfer.Request
		field string // Range
		want  string // as read has it; or the error
	}{
		"the whole": {fetchertest.Fault{}, transfer.Request{}, "", "0123456789 0 10 false"},
		"the whole, by a range": {
			fetchertest.Fault{}, transfer.Request{Ranged: true}, "bytes=0-", "0123456789 0 10 true",
		},
		"from the middle to the end": {fetchertest.Fault{}, transfer.Request{Offset: 4}, "bytes=4-", "456789 4 10 true"},
		"a part":                     {fetchertest.Fault{}, part, "bytes=2-4", "234 2 10 true"},
		"the first part":             {fetchertest.Fault{}, transfer.Request{Length: 3}, "bytes=0-2", "012 0 10 true"},
		"the last part, cut by the end": {
			fetchertest.Fault{}, transfer.Request{Offset: 8, Length: 3}, "bytes=8-10", "89 8 10 true",
		},
		"all of it where ranges are ignored": {fetchertest.Fault{IgnoreRange: true}, part, "bytes=2-4", "0123456789 0 10 false"},
		"of unknown size":                    {fetchertest.Fault{Chunked: true}, transfer.Request{}, "", "0123456789 0 -1 false"},
		"a part of a blob of unknown size": {
			fetchertest.Fault{Header: header("Content-Range", "bytes 2-4/*")}, part, "bytes=2-4", "234 2 -1 true",
		},
		"less than the part": {
			fetchertest.Fault{Header: header("Content-Range", "bytes 2-3/10"), Body: []byte("23")}, part, "bytes=2-4", "23 2 10 true",
		},
		"a part of unknown length":                 {fetchertest.Fault{Chunked: true}, part, "bytes=2-4", "234 2 10 true"},
		"a part that goes on is cut where it ends": {fetchertest.Fault{Chunked: true, Extra: 5}, part, "bytes=2-4", "234 2 10 true"},
		"not where it was compressed between": {
			fetchertest.Fault{Header: header("Content-Encoding", "gzip")}, transfer.Request{}, "", "identity was asked for",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			d := r.PutBlob(name, []byte(blob))
			r.Inject(test.fault)
			got, err := read(t, open(t, r, credential.Match{}).Blob(digest.Digest(d)), test.asked)
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Reason != "REGISTRY_UNREACHABLE" || !strings.Contains(err.Error(), test.want)) ||
				err == nil && got != test.want {
				t.Errorf("got %q, %v, want %s", got, err, test.want)
			}
			if diff := cmp.Diff([]string{strings.TrimSpace("blob " + test.field)}, ranges(r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnAnswerThatCannotBeTheRangeIsFollowedByARequestForTheWhole(t *testing.T) {
	t.Parallel()
	header := func(name string, values ...string) http.Header { return http.Header{name: values} }
	for title, fault := range map[string]fetchertest.Fault{
		"the range is another":      {Header: header("Content-Range", "bytes 5-7/10")},
		"the range is longer":       {Header: header("Content-Range", "bytes 2-5/10"), Body: []byte("2345")},
		"the length is another":     {Body: []byte("23")},
		"the range can't be read":   {Header: header("Content-Range")},
		"there are several of them": {Header: header("Content-Type", "Multipart/Byteranges; boundary=x")},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			d := r.PutBlob(name, []byte("0123456789"))
			fault.Match = fetchertest.Match{Ranged: true}
			r.Inject(fault)
			source := open(t, r, credential.Match{}).Blob(digest.Digest(d))
			for range 2 { // it is not tried again
				if got, err := read(t, source, transfer.Request{Offset: 2, Length: 3}); err != nil || got != "0123456789 0 10 false" {
					t.Errorf("got %q, %v", got, err)
				}
			}
			if diff := cmp.Diff([]string{"blob bytes=2-4", "blob", "blob"}, ranges(r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestARangeBeyondTheEndIsTheEnd(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	d := r.PutBlob(name, []byte("blob"))
	for _, asked := range []transfer.Request{{Offset: 4}, {Offset: 5, Length: 3}} {
		got, err := read(t, open(t, r, credential.Match{}).Blob(digest.Digest(d)), asked)
		if want := fmt.Sprintf(" %d -1 false", asked.Offset); got != want || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestAnEmptyBlobIsReadThoughNoRangeOfItIs(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	d := r.PutBlob(name, nil)
	got, err := read(t, open(t, r, credential.Match{}).Blob(digest.Digest(d)), transfer.Request{Ranged: true})
	if got != " 0 0 false" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAServerThatRefusesRangesIsAskedWithoutAndNeverAgainWith(t *testing.T) {
	t.Parallel()
	for _, redirect := range []bool{false, true} {
		for _, status := range []int{400, 416, 501} {
			t.Run(fmt.Sprintf("%d, redirect %v", status, redirect), func(t *testing.T) {
				t.Parallel()
				r := fetchertest.New(t, fetchertest.Config{Redirect: redirect})
				d := r.PutBlob(name, []byte("0123456789"))
				at, want := fetchertest.Blob, []string{"blob bytes=0-", "blob", "blob"}
				if redirect {
					at, want = fetchertest.CDN, []string{"blob bytes=0-", "cdn bytes=0-", "blob", "cdn", "cdn"}
				}
				r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: at}, Status: status, Times: 1})
				source := open(t, r, credential.Match{}).Blob(digest.Digest(d))
				for _, asked := range []transfer.Request{{Ranged: true}, {Offset: 4}} {
					if got, err := read(t, source, asked); got != "0123456789 0 10 false" || err != nil {
						t.Errorf("got %q, %v", got, err)
					}
				}
				if diff := cmp.Diff(want, ranges(r)); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestARefusalThatIsNotAboutTheRangeIsReported(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		status   int
		asked    transfer.Request
		requests int
	}{
		"a missing blob":      {404, transfer.Request{Ranged: true}, 1},
		"a range in the blob": {400, transfer.Request{Offset: 4}, 1},
		"no range":            {400, transfer.Request{}, 1},
		"no range either":     {416, transfer.Request{Ranged: true}, 2},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			d := r.PutBlob(name, []byte("0123456789"))
			r.Inject(fetchertest.Fault{Status: test.status})
			_, err := read(t, open(t, r, credential.Match{}).Blob(digest.Digest(d)), test.asked)
			var e *Error
			if !errors.As(err, &e) || e.Status != test.status || r.Count(fetchertest.Any) != test.requests {
				t.Errorf("got %v in %d requests", err, r.Count(fetchertest.Any))
			}
		})
	}
}

func TestOnlyAStrongEntityTagIsAValidator(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]string{
		`"abc"`: `"abc"`, `""`: `""`, `"é"`: `"é"`,
		"": "", `W/"abc"`: "", `abc`: "", `"`: "", `"abc`: "", `"a"b"`: "", `"a b"`: "", "\"a\x7f\"": "",
	} {
		if got := strong(tag); got != want {
			t.Errorf("strong(%q) = %q", tag, got)
		}
	}
	r := fetchertest.New(t, fetchertest.Config{})
	d := r.PutBlob(name, []byte("blob"))
	for _, asked := range []transfer.Request{{}, {Offset: 1}} {
		content, err := open(t, r, credential.Match{}).Blob(digest.Digest(d)).Open(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		content.Close()
		if content.Validator != `"`+d+`"` {
			t.Errorf("the validator is %s", content.Validator)
		}
	}
}

func FuzzARangeIsHeldToWhatWasAsked(f *testing.F) {
	f.Add("bytes 2-4/10", "", int64(2), int64(3), int64(3))
	f.Add("bytes 0-9223372036854775806/*", "", int64(0), int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, field, mediaType string, length, offset, asked int64) {
		resp := &http.Response{StatusCode: 206, ContentLength: length, Body: http.NoBody, Header: http.Header{
			"Content-Range": {field}, "Content-Type": {mediaType},
		}}
		c, err := contentOf(resp, transfer.Request{Offset: offset, Length: asked})
		if err != nil {
			return
		}
		_, last, _, _ := contentRange(field)
		n := last - c.Offset + 1
		if c.Offset != offset || n < 1 || asked > 0 && n > asked || length >= 0 && n != length || c.Total >= 0 && c.Offset+n > c.Total {
			t.Errorf("%q, %d bytes, was taken for %d bytes from %d on: %+v", field, length, asked, offset, c)
		}
	})
}

func TestPartsGoWhereTheFirstWasRedirected(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true, TLS: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	d := r.PutBlob(name, []byte("0123456789"))
	source := open(t, r, credential.Match{}).Blob(digest.Digest(d))
	if got, err := read(t, source, transfer.Request{Length: 1}); got != "0 0 10 true" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	var group sync.WaitGroup
	for i := 1; i < 10; i++ {
		group.Go(func() {
			got, err := read(t, source, transfer.Request{Offset: int64(i), Length: 1})
			if want := fmt.Sprintf("%d %d 10 true", i, i); got != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
	group.Wait()
	if diff := cmp.Diff([]string{"blob", "token", "blob Bearer", "cdn"}, asked(r)[:4]); diff != "" {
		t.Error(diff)
	}
	if registry, host := r.Count(fetchertest.Blob), r.Count(fetchertest.CDN); registry != 2 || host != 10 {
		t.Errorf("%d requests to the registry, %d to the content host", registry, host)
	}
}

func TestATargetThatServesNoMoreIsForgottenAndTheRegistryAskedOnce(t *testing.T) {
	t.Parallel()
	cdn := fetchertest.Match{Endpoint: fetchertest.CDN}
	for _, status := range []int{203, 400, 401, 403, 404, 410, 416, 429, 500, 503} {
		t.Run(itoa(int64(status)), func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Redirect: true})
			d := r.PutBlob(name, []byte("0123456789"))
			source := open(t, r, login).Blob(digest.Digest(d))
			if _, err := read(t, source, transfer.Request{}); err != nil {
				t.Fatal(err)
			}
			r.Inject(fetchertest.Fault{Match: cdn, Status: status, Times: 1})
			for range 2 {
				if got, err := read(t, source, transfer.Request{Offset: 4, Length: 2}); got != "45 4 10 true" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
			}
			if diff := cmp.Diff([]string{"blob", "cdn", "cdn", "blob", "cdn", "cdn"}, asked(r)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAContentHostThatCanNotBeReachedIsForgotten(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("0123456789"))
	transport := NewTransport(nil)
	transport.DisableKeepAlives = true // net/http would repeat a request on a kept one
	source := repository(t, New(transport, "test"), r, login).Blob(digest.Digest(d))
	if _, err := read(t, source, transfer.Request{}); err != nil {
		t.Fatal(err)
	}
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Drop: true, Times: 1})
	if got, err := read(t, source, transfer.Request{Offset: 4}); got != "456789 4 10 true" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"blob", "cdn", "cdn", "blob", "cdn"}, asked(r)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestATargetIsNotForgottenWithAPartThatIsGivenUp(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("0123456789"))
	source := open(t, r, login).Blob(digest.Digest(d))
	if _, err := read(t, source, transfer.Request{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.Inject(fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Times: 1,
		Hold: make(chan struct{}), Notice: func(fetchertest.Request) { cancel() },
	})
	if _, err := source.Open(ctx, transfer.Request{Offset: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got, err := read(t, source, transfer.Request{Offset: 4}); got != "456789 4 10 true" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"blob", "cdn", "cdn", "cdn"}, asked(r)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestATargetIsJudgedEachTimeItIsUsed(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{Redirect: true})
	d := r.PutBlob(name, []byte("blob"))
	c := public(t, r, NewTransport(nil)).client
	_, port, _ := net.SplitHostPort(r.Host())
	repository := of(t, c, "intra.example:"+port)
	source := repository.Blob(digest.Digest(d))
	if _, err := read(t, source, transfer.Request{}); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	note(c.internal, repository.registry.Host, false) // its name leads to the Internet now
	c.mu.Unlock()
	resp := source.(*blob).straight(t.Context(), repository.blobRequest(http.MethodGet, digest.Digest(d)), source.(*blob).target.Load())
	if resp != nil || source.(*blob).target.Load() != nil || r.Count(fetchertest.CDN) != 1 {
		t.Errorf("the internal target was asked %d times", r.Count(fetchertest.CDN))
	}
}

// quick answers in process at once, hang does when the context ends.
func quick(req *http.Request, status int, header http.Header) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, ContentLength: 0, Request: req}, nil
}

func hang(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestTheWaitForAPartIsBoundedThoughItsTargetHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		hanging := false
		c := New(roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Context().Err() == nil {
				asked = append(asked, req.Method+" "+req.URL.Host)
			}
			switch {
			case req.URL.Host == "registry.example":
				return quick(req, 307, http.Header{"Location": {"https://content.example/blob"}})
			case hanging:
				return hang(req)
			}
			return quick(req, 200, http.Header{})
		}), "test")
		ref, err := scheme.Parse("docker://registry.example/" + name + "?latest")
		if err != nil {
			t.Fatal(err)
		}
		source := c.Repository(t.Context(), ref, login, nil).Blob(digest.FromString("blob"))
		for _, hanging = range []bool{false, true, false} {
			begin := time.Now()
			content, err := source.Open(t.Context(), transfer.Request{})
			if took := time.Since(begin); hanging != (took == answerBudget) || hanging != (err != nil) {
				t.Errorf("got %v after %v", err, took)
			}
			if err == nil {
				content.Close()
			}
		}
		want := []string{"GET registry.example", "GET content.example", "GET content.example", "GET registry.example", "GET content.example"}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

func TestTheWaitForAHeadIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(roundTripper(hang), "test")
		ref, err := scheme.Parse("docker://registry.example/" + name + "?latest")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = c.Repository(t.Context(), ref, login, nil).Has(t.Context(), digest.FromString("blob"))
		if took := time.Since(begin); took != answerBudget || err == nil || !strings.HasPrefix(err.Error(), "HEAD https://registry.example/") {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

func TestContentTellsThatFewerRequestsWereAskedFor(t *testing.T) {
	t.Parallel()
	busy := fetchertest.Fault{Status: 429, Times: 1, Header: map[string][]string{"Retry-After": {"0.001"}}}
	at := func(e fetchertest.Endpoint) fetchertest.Fault {
		f := busy
		f.Match.Endpoint = e
		return f
	}
	for title, test := range map[string]struct {
		fault fetchertest.Fault
		want  []bool // for one Open after another
	}{
		"by the registry":             {at(fetchertest.Blob), []bool{true, false}},
		"by the content host":         {at(fetchertest.CDN), []bool{true, false}},
		"by the content host, later":  {fetchertest.Fault{Match: at(fetchertest.CDN).Match, Status: 429, Times: 1, After: 1}, []bool{false, true, false}},
		"not by the token server":     {at(fetchertest.Token), []bool{false}},
		"not where it is unavailable": {fetchertest.Fault{Match: at(fetchertest.Blob).Match, Status: 503, Times: 1}, []bool{false}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{Redirect: true, Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
			d := r.PutBlob(name, []byte("blob"))
			r.Inject(test.fault)
			source := open(t, r, credential.Match{}).Blob(digest.Digest(d))
			var got []bool
			for range test.want {
				content, err := source.Open(t.Context(), transfer.Request{})
				if err != nil {
					t.Fatal(err)
				}
				content.Close()
				got = append(got, content.Throttled)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHasAsksForNoBytes(t *testing.T) {
	t.Parallel()
	cdn := fetchertest.Match{Endpoint: fetchertest.CDN}
	for title, test := range map[string]struct {
		config fetchertest.Config
		fault  fetchertest.Fault
		want   int64
		reason string
		asked  []string
	}{
		"a blob":                 {fetchertest.Config{}, fetchertest.Fault{}, 4, "", []string{"HEAD blob"}},
		"of no size":             {fetchertest.Config{}, fetchertest.Fault{Chunked: true}, -1, "", []string{"HEAD blob"}},
		"a redirect is followed": {fetchertest.Config{Redirect: true}, fetchertest.Fault{}, 4, "", []string{"HEAD blob", "HEAD cdn"}},
		"a redirect to nothing is a no": {
			fetchertest.Config{Redirect: true}, fetchertest.Fault{Match: cdn, Status: 404}, -1, "BLOB_NOT_FOUND", []string{"HEAD blob", "HEAD cdn"},
		},
		"a signature for GET is a no, at once": {
			fetchertest.Config{Redirect: true}, fetchertest.Fault{Match: cdn, Status: 403}, -1, "REGISTRY_UNREACHABLE", []string{"HEAD blob", "HEAD cdn"},
		},
		"a redirect within the registry is followed": {
			fetchertest.Config{}, fetchertest.Fault{Status: 308, Times: 1, Header: http.Header{"Location": {"/v2/" + name + "/blobs/" + digest.FromString("blob").String()}}},
			4, "", []string{"HEAD blob", "HEAD blob"},
		},
		"by the same ladder": {
			fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p"}}, fetchertest.Fault{},
			4, "", []string{"HEAD blob", "GET token Basic", "HEAD blob Bearer"},
		},
		"no blob":              {fetchertest.Config{}, fetchertest.Fault{Status: 404}, -1, "BLOB_NOT_FOUND", []string{"HEAD blob"}},
		"no access":            {fetchertest.Config{}, fetchertest.Fault{Status: 403}, -1, "REGISTRY_DENIED", []string{"HEAD blob"}},
		"no answer that tells": {fetchertest.Config{}, fetchertest.Fault{Status: 204}, -1, "REGISTRY_UNREACHABLE", []string{"HEAD blob"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, test.config)
			d := r.PutBlob(name, []byte("blob"))
			r.Inject(test.fault)
			got, err := open(t, r, login).Has(t.Context(), digest.Digest(d))
			var e *Error
			if got != test.want || (err == nil) != (test.reason == "") || err != nil && (!errors.As(err, &e) || e.Reason != test.reason || e.Method != http.MethodHead) {
				t.Errorf("got %d, %v, want %d %s", got, err, test.want, test.reason)
			}
			if diff := cmp.Diff(test.asked, methods(r)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// methods says in one line each what was asked, with the method.
func methods(r *fetchertest.Registry) []string {
	lines := asked(r)
	for i, q := range r.Requests() {
		lines[i] = q.Method + " " + lines[i]
	}
	return lines
}
