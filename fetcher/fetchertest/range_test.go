package fetchertest_test

import (
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

func TestBlobsAnswerToRangesAsRFC9110HasIt(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	c := newClient(t, r)
	digest := r.PutBlob("a", []byte("0123456789"))
	empty := r.PutBlob("a", nil)
	tests := map[string]struct {
		digest, header, ifRange string
		status                  int
		contentRange, body      string
	}{
		"first and last":                      {digest, "bytes=2-4", "", 206, "bytes 2-4/10", "234"},
		"until the end":                       {digest, "bytes=7-", "", 206, "bytes 7-9/10", "789"},
		"the whole as a range":                {digest, "bytes=0-", "", 206, "bytes 0-9/10", "0123456789"},
		"a last beyond the end":               {digest, "bytes=8-100", "", 206, "bytes 8-9/10", "89"},
		"the last three":                      {digest, "bytes=-3", "", 206, "bytes 7-9/10", "789"},
		"more last bytes than there are":      {digest, "bytes=-30", "", 206, "bytes 0-9/10", "0123456789"},
		"If-Range that holds":                 {digest, "bytes=2-4", `"` + digest + `"`, 206, "bytes 2-4/10", "234"},
		"If-Range of something else":          {digest, "bytes=2-4", `"other"`, 200, "", "0123456789"},
		"If-Range that is weak":               {digest, "bytes=2-4", `W/"` + digest + `"`, 200, "", "0123456789"},
		"several ranges are ignored":          {digest, "bytes=0-1,4-5", "", 200, "", "0123456789"},
		"a malformed range is ignored":        {digest, "bytes=4-2", "", 200, "", "0123456789"},
		"a range behind the end":              {digest, "bytes=10-", "", 416, "bytes */10", "invalid range: failed to overlap\n"},
		"the last no bytes":                   {digest, "bytes=-0", "", 416, "bytes */10", "invalid range: failed to overlap\n"},
		"any range of an empty blob":          {empty, "bytes=0-", "", 416, "bytes */0", "invalid range: failed to overlap\n"},
		"a failed If-Range prevents the 416":  {digest, "bytes=10-", `"other"`, 200, "", "0123456789"},
		"an empty blob without a range":       {empty, "", "", 200, "", ""},
		"a last that is the content's, exact": {digest, "bytes=9-9", "", 206, "bytes 9-9/10", "9"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			header := []string{"Range", test.header}
			if test.ifRange != "" {
				header = append(header, "If-Range", test.ifRange)
			}
			got := c.get(r.URL()+"/v2/a/blobs/"+test.digest, header...)
			if got.status != test.status || got.header.Get("Content-Range") != test.contentRange || got.body != test.body || got.length != int64(len(test.body)) {
				t.Errorf("%d, Content-Range %q, Content-Length %d, body %q", got.status, got.header.Get("Content-Range"), got.length, got.body)
			}
		})
	}
	if got := c.do("HEAD", r.URL()+"/v2/a/blobs/"+digest, "", "Range", "bytes=2-4"); got.status != 200 || got.header.Get("Content-Length") != "10" {
		t.Errorf("a range means something to HEAD: %d", got.status)
	}
}
