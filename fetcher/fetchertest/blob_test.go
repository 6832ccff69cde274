package fetchertest_test

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// got is what a client that asked for a range makes of the answer.
type got struct {
	Status       int
	ContentRange string
	ETag         string
	Body         string
}

func TestFaultsOfRangesAndValidators(t *testing.T) {
	t.Parallel()
	const blob, other = "0123456789", "\xcf\xce\xcd\xcc\xcb\xca\xc9\xc8\xc7\xc6"
	etag := `"` + sha256Of(blob) + `"`
	weak := http.Header{"ETag": {`W/"w"`}}
	changed := http.Header{"ETag": {`"changed"`}}
	tests := map[string]struct {
		fault   fetchertest.Fault
		ranged  string
		ifRange string
		want    got
	}{
		"another entity-tag, the same bytes":           {fetchertest.Fault{Header: changed}, "bytes=2-4", "", got{206, "bytes 2-4/10", `"changed"`, "234"}},
		"If-Range of the entity-tag there was":         {fetchertest.Fault{Header: changed}, "bytes=2-4", etag, got{200, "", `"changed"`, blob}},
		"If-Range of the entity-tag there is":          {fetchertest.Fault{Header: changed}, "bytes=2-4", `"changed"`, got{206, "bytes 2-4/10", `"changed"`, "234"}},
		"If-Range ignored, another entity-tag":         {fetchertest.Fault{Header: changed, IgnoreIfRange: true}, "bytes=2-4", etag, got{206, "bytes 2-4/10", `"changed"`, "234"}},
		"a weak entity-tag":                            {fetchertest.Fault{Header: weak}, "bytes=2-4", "", got{206, "bytes 2-4/10", `W/"w"`, "234"}},
		"a weak entity-tag is no If-Range":             {fetchertest.Fault{Header: weak}, "bytes=2-4", `W/"w"`, got{200, "", `W/"w"`, blob}},
		"no entity-tag":                                {fetchertest.Fault{Header: http.Header{"ETag": nil}}, "bytes=2-4", "", got{206, "bytes 2-4/10", "", "234"}},
		"no entity-tag, so no If-Range holds":          {fetchertest.Fault{Header: http.Header{"ETag": nil}}, "bytes=2-4", etag, got{200, "", "", blob}},
		"another blob":                                 {fetchertest.Fault{Replaced: true}, "", "", got{200, "", `"another"`, other}},
		"a range of another blob":                      {fetchertest.Fault{Replaced: true}, "bytes=2-4", "", got{206, "bytes 2-4/10", `"another"`, other[2:5]}},
		"another blob, by If-Range":                    {fetchertest.Fault{Replaced: true}, "bytes=2-4", etag, got{200, "", `"another"`, other}},
		"another blob, If-Range ignored":               {fetchertest.Fault{Replaced: true, IgnoreIfRange: true}, "bytes=2-4", etag, got{206, "bytes 2-4/10", `"another"`, other[2:5]}},
		"another blob under the old entity-tag":        {fetchertest.Fault{Replaced: true, Header: http.Header{"ETag": {etag}}}, "bytes=2-4", etag, got{206, "bytes 2-4/10", etag, other[2:5]}},
		"no Content-Range":                             {fetchertest.Fault{Header: http.Header{"Content-Range": nil}}, "bytes=2-4", "", got{206, "", etag, "234"}},
		"a Content-Range without a size":               {fetchertest.Fault{ContentRange: "bytes {first}-{last}/*"}, "bytes=2-4", "", got{206, "bytes 2-4/*", etag, "234"}},
		"a Content-Range of another size":              {fetchertest.Fault{ContentRange: "bytes {first}-{last}/1{size}"}, "bytes=2-4", "", got{206, "bytes 2-4/110", etag, "234"}},
		"a Content-Range of another first byte":        {fetchertest.Fault{ContentRange: "bytes 1{first}-1{last}/{size}"}, "bytes=2-4", "", got{206, "bytes 12-14/10", etag, "234"}},
		"no Content-Range is of use to a 200":          {fetchertest.Fault{ContentRange: "bytes {first}-{last}/{size}"}, "", "", got{200, "", etag, blob}},
		"a range that begins later":                    {fetchertest.Fault{MoveFirst: 1}, "bytes=2-4", "", got{206, "bytes 3-4/10", etag, "34"}},
		"a range that begins earlier":                  {fetchertest.Fault{MoveFirst: -1}, "bytes=2-4", "", got{206, "bytes 1-4/10", etag, "1234"}},
		"a range that begins earlier than the blob":    {fetchertest.Fault{MoveFirst: -5}, "bytes=2-4", "", got{206, "bytes 0-4/10", etag, "01234"}},
		"a range beyond the end that was asked":        {fetchertest.Fault{MoveLast: 2}, "bytes=2-4", "", got{206, "bytes 2-6/10", etag, "23456"}},
		"a range beyond the end ends there":            {fetchertest.Fault{MoveLast: 20}, "bytes=2-4", "", got{206, "bytes 2-9/10", etag, "23456789"}},
		"a range that ends earlier":                    {fetchertest.Fault{MoveLast: -1}, "bytes=2-4", "", got{206, "bytes 2-3/10", etag, "23"}},
		"a range of one byte at least":                 {fetchertest.Fault{MoveLast: -20}, "bytes=2-4", "", got{206, "bytes 2-2/10", etag, "2"}},
		"one beyond the end begins in the blob":        {fetchertest.Fault{MoveFirst: 20}, "bytes=2-4", "", got{206, "bytes 9-9/10", etag, "9"}},
		"another range under the one that was asked":   {fetchertest.Fault{MoveFirst: 3, MoveLast: 3, ContentRange: "bytes 2-4/10"}, "bytes=2-4", "", got{206, "bytes 2-4/10", etag, "567"}},
		"fewer bytes than the Content-Range says":      {fetchertest.Fault{Truncate: 1}, "bytes=2-4", "", got{206, "bytes 2-4/10", etag, "23"}},
		"a whole blob isn't moved":                     {fetchertest.Fault{MoveFirst: 3, MoveLast: -3}, "", "", got{200, "", etag, blob}},
		"a range is ignored, whatever becomes of it":   {fetchertest.Fault{IgnoreRange: true, MoveFirst: 3, Multipart: true}, "bytes=2-4", etag, got{200, "", etag, blob}},
		"a whole blob isn't wrapped":                   {fetchertest.Fault{Multipart: true}, "", "", got{200, "", etag, blob}},
		"a slow answer is the same answer":             {fetchertest.Fault{Rate: 1000}, "bytes=2-4", "", got{206, "bytes 2-4/10", etag, "234"}},
		"a 416 though there are bytes":                 {fetchertest.Fault{Match: fetchertest.Match{Ranged: true}, Status: 416, Header: http.Header{"Content-Range": {"bytes */10"}}, Body: []byte{}}, "bytes=2-4", "", got{416, "bytes */10", "", ""}},
		"a 400 to each range":                          {fetchertest.Fault{Match: fetchertest.Match{Ranged: true}, Status: 400, Body: []byte{}}, "bytes=0-", "", got{400, "", "", ""}},
		"a 501 to each range and not to what has none": {fetchertest.Fault{Match: fetchertest.Match{Ranged: true}, Status: 501}, "", "", got{200, "", etag, blob}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, redirect := range []bool{false, true} {
				r := fetchertest.New(t, fetchertest.Config{Redirect: redirect, TLS: redirect})
				c := newClient(t, r)
				address := r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte(blob))
				if redirect {
					address = c.get(address).header.Get("Location")
				}
				r.Inject(test.fault)
				var header []string
				if test.ranged != "" {
					header = append(header, "Range", test.ranged)
				}
				if test.ifRange != "" {
					header = append(header, "If-Range", test.ifRange)
				}
				a := c.get(address, header...)
				if diff := cmp.Diff(test.want, got{a.status, a.header.Get("Content-Range"), a.header.Get("ETag"), a.body}); diff != "" {
					t.Errorf("redirect %v (-want +got):\n%s", redirect, diff)
				}
				if _, there := a.header["Content-Range"]; there != (test.want.ContentRange != "") {
					t.Errorf("redirect %v: an empty Content-Range", redirect)
				}
			}
		})
	}
}

func TestAValidatorCanChangeWithAnOffsetOrAfterSomeRequests(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault fetchertest.Fault
		want  []string // of ranges that begin at 0, 5, 0, 5
	}{
		"from an offset on":     {fetchertest.Fault{Match: fetchertest.Match{MinOffset: 5}, Replaced: true}, []string{"0", "\xca", "0", "\xca"}},
		"after two requests":    {fetchertest.Fault{After: 2, Replaced: true}, []string{"0", "5", "\xcf", "\xca"}},
		"once, and back it was": {fetchertest.Fault{After: 1, Times: 1, Replaced: true}, []string{"0", "\xca", "0", "5"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			c := newClient(t, r)
			digest := r.PutBlob("a", []byte("0123456789"))
			r.Inject(test.fault)
			for i, want := range test.want {
				a := c.get(r.URL()+"/v2/a/blobs/"+digest, "Range", []string{"bytes=0-0", "bytes=5-5"}[i%2])
				etag := map[bool]string{true: `"` + digest + `"`, false: `"another"`}[want[0] < 0x80]
				if a.body != want || a.header.Get("ETag") != etag {
					t.Errorf("request %d: %q with %s", i, a.body, a.header.Get("ETag"))
				}
			}
		})
	}
}

func TestAMultipartAnswerHasTheRangeAsItsPart(t *testing.T) {
	t.Parallel()
	const size = 300_000
	layer := string(fetchertest.RandomLayer(1, size))
	tests := map[string]struct {
		fault              fetchertest.Fault
		ranged             string
		contentRange, body string
	}{
		"the range":                    {fetchertest.Fault{Multipart: true}, "bytes=5-250000", "bytes 5-250000/300000", layer[5:250001]},
		"one byte":                     {fetchertest.Fault{Multipart: true}, "bytes=5-5", "bytes 5-5/300000", layer[5:6]},
		"a Content-Range that's a lie": {fetchertest.Fault{Multipart: true, ContentRange: "bytes 0-1/2"}, "bytes=5-9", "bytes 0-1/2", layer[5:10]},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, fetchertest.Config{})
			address := r.URL() + "/v2/a/blobs/" + r.PutGeneratedBlob("a", 1, size)
			r.Inject(test.fault)
			a := newClient(t, r).get(address, "Range", test.ranged)
			mediaType, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
			if a.status != 206 || mediaType != "multipart/byteranges" || a.header["Content-Range"] != nil || a.length != int64(len(a.body)) || err != nil {
				t.Fatalf("%d %v, %v", a.status, a.header, err)
			}
			parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
			part, err := parts.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(part)
			if err != nil || string(body) != test.body || part.Header.Get("Content-Range") != test.contentRange || part.Header.Get("Content-Type") != "application/octet-stream" {
				t.Errorf("%d bytes, %v, %v", len(body), part.Header, err)
			}
			if _, err := parts.NextPart(); err != io.EOF {
				t.Errorf("another part: %v", err)
			}
		})
	}
}

func TestTargetsExpireAfterTheirUsesOrWhenTold(t *testing.T) {
	t.Parallel()
	const expired = `<Code>AccessDenied</Code><Message>Request has expired</Message>`
	tests := map[string]struct {
		config fetchertest.Config
		told   bool
		want   []int // of the requests to one address
		body   string
	}{
		"never":                      {fetchertest.Config{}, false, []int{200, 200, 200}, "0123456789"},
		"after one":                  {fetchertest.Config{TargetUses: 1}, false, []int{200, 403, 403}, expired},
		"after two":                  {fetchertest.Config{TargetUses: 2}, false, []int{200, 200, 403}, expired},
		"when told":                  {fetchertest.Config{TargetUses: 2}, true, []int{403, 403, 403}, expired},
		"when told, without a limit": {fetchertest.Config{}, true, []int{403, 403, 403}, expired},
		"by another status":          {fetchertest.Config{TargetExpired: 400}, true, []int{400, 400, 400}, `<Code>ExpiredToken</Code><Message>The provided token has expired.</Message>`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Redirect = true
			r := fetchertest.New(t, test.config)
			c := newClient(t, r)
			address := r.URL() + "/v2/a/blobs/" + r.PutBlob("a", []byte("0123456789"))
			first, second := c.get(address).header.Get("Location"), c.get(address).header.Get("Location")
			if test.told {
				r.ExpireTargets()
			}
			var statuses []int
			var last answer
			for range test.want {
				last = c.get(first)
				statuses = append(statuses, last.status)
			}
			if diff := cmp.Diff(test.want, statuses); diff != "" || !strings.Contains(last.body, test.body) {
				t.Errorf("statuses (-want +got):\n%s\n%s", diff, last.body)
			}
			if got := c.get(second).status; got != test.want[0] {
				t.Errorf("another address of the same blob: %d", got)
			}
			if got := c.get(c.get(address).header.Get("Location")).status; got != 200 {
				t.Errorf("the address that the registry gives now: %d", got)
			}
		})
	}
}
