package fetcher_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// What a fetch makes of each fault at each thing that it asks for. What is
// special to ranges and parts of blobs is in transfer_test.go.

// place is something that a fetch asks for, at which a fault strikes.
type place struct {
	name     string
	endpoint fetchertest.Endpoint
	tag      bool // of manifests: by the tag, which is an index's; else the image's by digest
}

var (
	byTag, byDigest = place{"manifest by tag", fetchertest.Manifest, true}, place{"manifest by digest", fetchertest.Manifest, false}
	tokenServer     = place{"token", fetchertest.Token, false}
	blobPlace       = place{"blob", fetchertest.Blob, false}
	contentHost     = place{"content host", fetchertest.CDN, false}

	documents = []place{byTag, byDigest, tokenServer} // what comes whole or not at all
	blobs     = []place{blobPlace, contentHost}       // what is continued
	places    = append(append([]place{}, documents...), blobs...)
)

// trial is a fetch that meets a fault: of an image of one layer, by an index.
type trial struct {
	testing.TB
	place
	registry *fetchertest.Registry
	index    fetchertest.PushedIndex
	layer    []byte
	link     *link
	fetcher  *fetcher.Fetcher
	dir      string
}

// newTrial has a registry that redirects and asks for tokens where the place
// needs it. The fetcher is made by ready.
func newTrial(tb testing.TB, p place, config fetchertest.Config) *trial {
	tb.Helper()
	return newSized(tb, p, config, 20_000)
}

// newSized is newTrial with a layer of this size.
func newSized(tb testing.TB, p place, config fetchertest.Config, size int) *trial {
	tb.Helper()
	if p == tokenServer {
		config.Auth.Scheme = fetchertest.Bearer
	}
	config.Redirect = p == contentHost
	s := &trial{TB: tb, place: p, registry: fetchertest.New(tb, config), layer: fetchertest.RandomLayer(7, size), link: &link{}}
	s.index = s.registry.PutIndex("team/app", "latest", true, fetchertest.PlatformImage{
		Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: fetchertest.Image{Layers: [][]byte{s.layer}},
	})
	return s
}

// ready makes the fetcher; virtual time has to begin before.
func (s *trial) ready(tb testing.TB, config fetcher.Config) {
	tb.Helper()
	s.TB, s.dir = tb, tb.TempDir()
	if config.Transport == nil {
		config.Transport = s.link.transport()
	}
	config.MaxConcurrentBlobs = 1 // so that each request is known
	s.fetcher = newFetcher(tb, config)
}

// match is for requests at the place.
func (s *trial) match() fetchertest.Match {
	m := fetchertest.Match{Endpoint: s.endpoint, Identifier: s.index.Images[0].LayerDigests[0]}
	switch {
	case s.tag:
		m.Identifier = "latest"
	case s.endpoint == fetchertest.Manifest:
		m.Identifier = s.index.Images[0].ManifestDigest
	case s.endpoint == fetchertest.Token:
		m.Identifier = ""
	}
	return m
}

func (s *trial) inject(faults ...fetchertest.Fault) {
	for _, f := range faults {
		f.Match = s.match()
		s.registry.Inject(f)
	}
}

func (s *trial) fetch() error {
	s.Helper()
	secure := "#http"
	if strings.HasPrefix(s.registry.URL(), "https:") {
		secure = "#https"
	}
	return s.take(s.registry.Host() + "/team/app?latest" + secure)
}

func (s *trial) take(uri string) error {
	s.Helper()
	ref, err := scheme.Parse("docker://" + uri)
	if err != nil {
		s.Fatal(err)
	}
	_, err = s.fetcher.Fetch(s.Context(), fetcher.Request{
		URI: ref.URI(), Directory: s.dir, Platform: &fetcher.Platform{OS: "linux", Architecture: "amd64"}, StallTimeout: 5 * time.Second,
	})
	return err
}

// files are those of the whole image.
func (s *trial) files() map[string][]byte {
	image := s.index.Images[0]
	return map[string][]byte{
		"manifest": image.Manifest, "index": s.index.Index, image.ConfigDigest: image.Config, image.LayerDigests[0]: s.layer,
	}
}

// fetched fetches, and every byte must be there and nothing else.
func (s *trial) fetched() {
	s.Helper()
	if err := s.fetch(); err != nil {
		s.Fatalf("%v\n%s", err, s.asked())
	}
	holds(s, s.dir, s.files())
}

// failed fetches, which must fail for that reason and in these words, and leave
// whole files only.
func (s *trial) failed(reason fetcher.Reason, words string) *fetcher.Error {
	s.Helper()
	err := s.fetch()
	var failure *fetcher.Error
	if !errors.As(err, &failure) || failure.Reason != reason || !strings.Contains(failure.Text, words) {
		s.Fatalf("got %v; want %s: %s\n%s", err, reason, words, s.asked())
	}
	if strings.ContainsAny(failure.Text, "\n\x00\x1b") {
		s.Errorf("%q is not one line", failure.Text)
	}
	s.wholeOnly()
	return failure
}

// wholeOnly fails the test where the directory has anything but files of the image.
func (s *trial) wholeOnly() {
	s.Helper()
	want := s.files()
	for name := range want {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); err != nil {
			delete(want, name)
		}
	}
	holds(s, s.dir, want)
}

// asked are the statuses of what was answered at the place, 0 where nothing was.
func (s *trial) asked() string {
	var statuses []string
	m := s.match()
	for _, q := range s.registry.Requests() {
		if q.Endpoint == m.Endpoint && (m.Identifier == "" || m.Identifier == q.Identifier) {
			statuses = append(statuses, fmt.Sprint(q.Status))
		}
	}
	return strings.Join(statuses, " ")
}

func (s *trial) wants(statuses string) {
	s.Helper()
	if got := s.asked(); got != statuses {
		s.Errorf("%s: asked %s, want %s", s.name, got, statuses)
	}
}

// size is that of what is asked for at the place.
func (s *trial) size() int64 {
	switch s.place {
	case byTag:
		return int64(len(s.index.Index))
	case byDigest:
		return int64(len(s.index.Images[0].Manifest))
	case tokenServer: // as the answer to a request of our own
		resp, err := http.Get(s.registry.TokenURL() + "?scope=repository:team/app:pull")
		if err != nil {
			s.Fatal(err)
		}
		defer resp.Body.Close()
		defer s.registry.Reset()
		return resp.ContentLength
	}
	return int64(len(s.layer))
}

// each runs a test at places, in virtual time.
func each(t *testing.T, at []place, name string, test func(s *trial)) {
	t.Helper()
	for _, p := range at {
		t.Run(name+"/"+p.name, func(t *testing.T) {
			t.Parallel()
			s := newTrial(t, p, fetchertest.Config{})
			virtual(t, s.link, func(t *testing.T) {
				s.ready(t, fetcher.Config{})
				test(s)
			})
		})
	}
}

// TestAPassingFaultIsAskedAgain has faults that pass. What counts is how often
// was asked, and that no whole file is wrong.
func TestAPassingFaultIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name             string
		fault            fetchertest.Fault
		documents, blobs string // the statuses of the answers
	}{
		{"after a 408", fetchertest.Fault{Status: 408, Times: 2}, "408 408 200", "408 408 200"},
		{"after a 429", fetchertest.Fault{Status: 429, Times: 2}, "429 429 200", "429 429 200"},
		{"after a 500", fetchertest.Fault{Status: 500, Times: 2}, "500 500 200", "500 500 200"},
		{"after a 502", fetchertest.Fault{Status: 502, Times: 2}, "502 502 200", "502 502 200"},
		{"after a 503", fetchertest.Fault{Status: 503, Times: 2}, "503 503 200", "503 503 200"},
		{"after a 504", fetchertest.Fault{Status: 504, Times: 2}, "504 504 200", "504 504 200"},
		{"after four 503", fetchertest.Fault{Status: 503, Times: 4}, "503 503 503 503 200", "503 503 503 503 200"},
		{"after no answer", fetchertest.Fault{Drop: true, Times: 3}, "0 0 0 200", "0 0 0 200"},
		{"after a reset in place of an answer", fetchertest.Fault{Drop: true, Reset: true, Times: 3}, "0 0 0 200", "0 0 0 200"},
		{"after a cut before the first byte", fetchertest.Fault{CutAt: fetchertest.AtOnce, Times: 3}, "200 200 200 200", "200 200 200 200"},
		{"after a cut behind the first byte", fetchertest.Fault{CutAt: 1, Times: 1}, "200 200", "200 206"},
		{"after three cuts behind the first byte", fetchertest.Fault{CutAt: 1, Times: 3}, "200 200 200 200", "200 206 206 206"},
		{"after a cut without a Content-Length", fetchertest.Fault{CutAt: 100, Chunked: true, Times: 1}, "200 200", "200 206"},
	} {
		each(t, documents, test.name, func(s *trial) {
			s.inject(test.fault)
			s.fetched()
			s.wants(test.documents)
		})
		each(t, blobs, test.name, func(s *trial) {
			s.inject(test.fault)
			s.fetched()
			s.wants(test.blobs)
		})
	}
}

// TestAConnectionThatIsResetAtAnyByteIsFollowedByAnother tells what came from what
// did not: a blob goes on, a document comes anew. A reset may overtake bytes, so
// what is asked for of a blob is not known to the byte.
func TestAConnectionThatIsResetAtAnyByteIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(size int64) int64{
		"before the first": func(int64) int64 { return fetchertest.AtOnce },
		"behind the first": func(int64) int64 { return 1 },
		"in the middle":    func(size int64) int64 { return size / 2 },
		"before the last":  func(size int64) int64 { return size - 1 },
	} {
		for _, times := range []int{1, 3} {
			for _, p := range places {
				t.Run(fmt.Sprintf("%s, %d times/%s", name, times, p.name), func(t *testing.T) {
					t.Parallel()
					s := newTrial(t, p, fetchertest.Config{})
					fault := fetchertest.Fault{CutAt: at(s.size()), Reset: true, Times: times}
					virtual(t, s.link, func(t *testing.T) {
						s.ready(t, fetcher.Config{})
						s.inject(fault)
						s.fetched()
						if n := len(strings.Fields(s.asked())); n < 2 || n > times+1 { // parts behind the middle are not cut again
							t.Errorf("asked %s", s.asked())
						}
					})
				})
			}
		}
	}
}

// TestAFaultThatDoesNotPassIsReportedInTime counts the attempts, and how long
// they took.
func TestAFaultThatDoesNotPassIsReportedInTime(t *testing.T) {
	t.Parallel()
	five := func(status string) string { return strings.TrimSpace(strings.Repeat(status+" ", 5)) }
	for _, test := range []struct {
		name   string
		fault  fetchertest.Fault
		at     []place
		reason fetcher.Reason
		words  string
		wants  string
	}{
		{"429", fetchertest.Fault{Status: 429}, places, fetcher.RateLimited, "429 Too Many Requests", five("429")},
		{"408", fetchertest.Fault{Status: 408}, places, fetcher.RegistryUnreachable, "408 Request Timeout", five("408")},
		{"500", fetchertest.Fault{Status: 500}, places, fetcher.Registry5xx, "500 Internal Server Error", five("500")},
		{"502", fetchertest.Fault{Status: 502}, places, fetcher.Registry5xx, "502 Bad Gateway", five("502")},
		{"503", fetchertest.Fault{Status: 503}, places, fetcher.Registry5xx, "503 Service Unavailable", five("503")},
		{"504", fetchertest.Fault{Status: 504}, places, fetcher.Registry5xx, "504 Gateway Timeout", five("504")},
		{"no answer", fetchertest.Fault{Drop: true}, places, fetcher.RegistryUnreachable, "EOF", five("0")},
		{"a reset in place of an answer", fetchertest.Fault{Drop: true, Reset: true}, places, fetcher.RegistryUnreachable, "connection reset by peer", five("0")},
		{"a cut", fetchertest.Fault{CutAt: 10}, documents, fetcher.RegistryUnreachable, "unexpected EOF", five("200")},
		{"a cut of a blob", fetchertest.Fault{CutAt: 10}, blobs, fetcher.RegistryUnreachable, "broke off after 50 bytes, in 5 attempts", "200 206 206 206 206"},
		{"a reset in the middle", fetchertest.Fault{CutAt: 10, Reset: true}, documents, fetcher.RegistryUnreachable, "", five("200")},
	} {
		each(t, test.at, test.name, func(s *trial) {
			s.inject(test.fault)
			begin := time.Now()
			s.failed(test.reason, test.words)
			s.wants(test.wants)
			if took := time.Since(begin); took > 12*time.Second {
				s.Errorf("it took %v", took)
			}
		})
	}
}

// TestARetryAfterIsObeyedIfItIsSoonElseReportedAtOnce: bubbles begin at
// midnight of 1 January 2000.
func TestARetryAfterIsObeyedIfItIsSoonElseReportedAtOnce(t *testing.T) {
	t.Parallel()
	const own = 300 * time.Millisecond // the longest wait of our own before the second attempt
	for _, status := range []int{429, 503} {
		for value, test := range map[string]struct {
			least, most time.Duration // most: 0 for at once
			says        time.Duration
		}{
			"2":                             {least: 2 * time.Second, most: 2 * time.Second},
			"0.5":                           {least: 500 * time.Millisecond, most: 500 * time.Millisecond},
			"1.5s":                          {least: 1500 * time.Millisecond, most: 1500 * time.Millisecond},
			"880µs":                         {least: own / 3, most: own},
			"Sat, 01 Jan 2000 00:00:03 GMT": {least: 3 * time.Second, most: 3 * time.Second},
			"Fri, 31 Dec 1999 23:00:00 GMT": {least: own / 3, most: own},
			"":                              {least: own / 3, most: own},
			"-5":                            {least: own / 3, most: own},
			"NaN":                           {least: own / 3, most: own},
			"later":                         {least: own / 3, most: own},
			"9":                             {says: 9 * time.Second},
			"86400":                         {says: 24 * time.Hour},
			"1e300":                         {says: 365 * 24 * time.Hour},
			"Sat, 01 Jan 2000 01:00:00 GMT": {says: time.Hour},
		} {
			each(t, places, fmt.Sprintf("%d with Retry-After %q", status, value), func(s *trial) {
				s.inject(fetchertest.Fault{Status: status, Header: http.Header{"Retry-After": {value}}, Times: 1})
				begin := time.Now()
				if test.most > 0 {
					s.fetched()
					s.wants(fmt.Sprintf("%d 200", status))
				} else {
					reason := map[int]fetcher.Reason{429: fetcher.RateLimited, 503: fetcher.Registry5xx}[status]
					failure := s.failed(reason, fmt.Sprintf("it asks to wait %v", test.says))
					if failure.RetryAfter != test.says {
						s.Errorf("RetryAfter is %v, want %v", failure.RetryAfter, test.says)
					}
					s.wants(fmt.Sprint(status))
				}
				if took := time.Since(begin); took < test.least || took > test.most {
					s.Errorf("it took %v, want %v to %v", took, test.least, test.most)
				}
			})
		}
	}
}

// TestAHostThatIsDownIsAskedUntilItIsUp shuts the host of the place, and opens
// it when so many connections were refused.
func TestAHostThatIsDownIsAskedUntilItIsUp(t *testing.T) {
	t.Parallel()
	for _, p := range []place{byTag, tokenServer, contentHost} {
		for _, refusals := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, after %d refusals", p.name, refusals), func(t *testing.T) {
				t.Parallel()
				s := newTrial(t, p, fetchertest.Config{})
				host := s.host()
				virtual(t, s.link, func(t *testing.T) {
					s.ready(t, fetcher.Config{})
					s.registry.Shut(t, host)
					refused := 0
					s.link.refused = func() {
						if refused++; refused == refusals {
							s.registry.Reopen(t, host)
						}
					}
					s.fetched()
					s.wants("200")
				})
			})
		}
	}
}

func TestAHostThatStaysDownIsReportedAfterFiveAttempts(t *testing.T) {
	t.Parallel()
	for _, p := range []place{byTag, tokenServer, contentHost} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newTrial(t, p, fetchertest.Config{})
			host := s.host()
			virtual(t, s.link, func(t *testing.T) {
				s.ready(t, fetcher.Config{})
				s.registry.Shut(t, host)
				refused := 0
				s.link.refused = func() { refused++ }
				begin := time.Now()
				s.failed(fetcher.RegistryUnreachable, "connection refused")
				if took := time.Since(begin); refused != 5 || took > 8*time.Second {
					t.Errorf("%d attempts in %v", refused, took)
				}
			})
		})
	}
}

// host is the one that serves the place.
func (s *trial) host() string {
	switch s.place {
	case tokenServer:
		_, rest, _ := strings.Cut(s.registry.TokenURL(), "://")
		host, _, _ := strings.Cut(rest, "/")
		return host
	case contentHost:
		return s.registry.CDNHost()
	}
	return s.registry.Host()
}

// TestABodyThatEndsTooSoonIsNeverTaken has bodies that end as if they were
// complete: by their Content-Length, by their last chunk, or with the
// connection, as HTTP/1.0 has it.
func TestABodyThatEndsTooSoonIsNeverTaken(t *testing.T) {
	t.Parallel()
	closing := http.Header{"Transfer-Encoding": {"identity"}}
	for _, test := range []struct {
		name   string
		fault  fetchertest.Fault
		at     []place
		reason fetcher.Reason
		words  string
		wants  string
	}{
		{"a manifest by tag that is 10 bytes too short is refused", fetchertest.Fault{Truncate: 10}, documents[:1], fetcher.DigestMismatch, "changed the bytes", "200"},
		{"a manifest by tag whose chunks end is refused", fetchertest.Fault{ShortAt: 50}, documents[:1], fetcher.DigestMismatch, "changed the bytes", "200"},
		{"a manifest by tag that ends with its connection is refused", fetchertest.Fault{ShortAt: 50, Header: closing}, documents[:1], fetcher.DigestMismatch, "changed the bytes", "200"},
		{"a manifest by tag without a byte is refused", fetchertest.Fault{Body: []byte{}}, documents[:1], fetcher.DigestMismatch, "changed the bytes", "200"},
		{"a manifest by digest that is 10 bytes too short is refused", fetchertest.Fault{Truncate: 10}, documents[1:2], fetcher.SizeMismatch, "wrong size: got ", "200"},
		{"a manifest by digest whose chunks end is refused", fetchertest.Fault{ShortAt: 50}, documents[1:2], fetcher.SizeMismatch, "wrong size: got 50 bytes", "200"},
		{"a manifest by digest that ends with its connection is refused", fetchertest.Fault{ShortAt: 50, Header: closing}, documents[1:2], fetcher.SizeMismatch, "wrong size: got 50 bytes", "200"},
		{"a manifest by digest without a byte is refused", fetchertest.Fault{Body: []byte{}}, documents[1:2], fetcher.SizeMismatch, "wrong size: got 0 bytes", "200"},
		{
			"half a manifest of which nobody knows the digest is no JSON",
			fetchertest.Fault{ShortAt: 50, Header: http.Header{"Docker-Content-Digest": nil}}, documents[:1], fetcher.ManifestInvalid, "", "200",
		},
		{"a token that is 10 bytes too short is refused", fetchertest.Fault{Truncate: 10}, documents[2:], fetcher.TokenServerRefused, "not the JSON of a token", ""},
		{"a token whose chunks end is refused", fetchertest.Fault{ShortAt: 50}, documents[2:], fetcher.TokenServerRefused, "not the JSON of a token", ""},
		{"a token that ends with its connection is refused", fetchertest.Fault{ShortAt: 50, Header: closing}, documents[2:], fetcher.TokenServerRefused, "not the JSON of a token", ""},
		{"a token without a byte is refused", fetchertest.Fault{Body: []byte{}}, documents[2:], fetcher.TokenServerRefused, "not the JSON of a token", ""},
		{"a blob that is 10 bytes too short is refused", fetchertest.Fault{Truncate: 10}, blobs, fetcher.SizeMismatch, "the server has 19990 bytes, expected were 20000", "200"},
		{"a blob whose chunks end is continued", fetchertest.Fault{ShortAt: 10_000, Times: 1}, blobs, "", "", "200 206"},
		{"a blob that ends with its connection is continued", fetchertest.Fault{ShortAt: 10_000, Times: 1, Header: closing}, blobs, "", "", "200 206"},
		{"a blob without a byte is refused", fetchertest.Fault{Body: []byte{}}, blobs, fetcher.SizeMismatch, "the server has 0 bytes", "200"},
	} {
		each(t, test.at, test.name, func(s *trial) {
			s.inject(test.fault)
			if test.reason == "" {
				s.fetched()
			} else {
				s.failed(test.reason, test.words)
			}
			if test.wants != "" {
				s.wants(test.wants)
			}
		})
	}
}

// TestNothingPartialIsThereWhileAFaultIsMet looks into the directory when the
// connection breaks.
func TestNothingPartialIsThereWhileAFaultIsMet(t *testing.T) {
	t.Parallel()
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newTrial(t, p, fetchertest.Config{})
			s.ready(t, fetcher.Config{})
			looked := false
			s.inject(fetchertest.Fault{CutAt: 100, Times: 1}, fetchertest.Fault{Times: 1, Notice: func(fetchertest.Request) {
				looked = true
				for name, want := range s.files() {
					if data, err := os.ReadFile(filepath.Join(s.dir, name)); err == nil && !bytes.Equal(data, want) {
						t.Errorf("%d bytes of %s are there", len(data), name)
					}
				}
			}})
			s.fetched()
			if !looked {
				t.Error("the second request was not seen")
			}
		})
	}
}
