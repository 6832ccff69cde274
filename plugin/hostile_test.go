package plugin

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// odd is what a peer may say to paint on a terminal, or to forge a line of a log
// or a field of a header.
const odd = "seen\x1b[31m\x07\r\ngrpc-status: 0\n\u202e\u200f\u2066\u2028\x00\x9b\xff"

// oddJSON is the same in JSON.
const oddJSON = `{"errors":[{"code":"\u001b[2J","message":"seen\u001b[31m\u0007\r\ngrpc-status: 0\n\u202e\u200f\u2066\u2028\u0000"}],"details":"seen\u001b\u202e"}`

// oddities are peers that say so.
var oddities = map[string]struct {
	config fetchertest.Config
	fault  fetchertest.Fault
}{
	"the registry, of a manifest": {fault: fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: 403, Body: []byte(oddJSON)}},
	"the registry, in plain text": {fault: fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: 403, Body: []byte(strings.ToValidUTF8(odd, ""))}},
	"the registry, of a blob":     {fault: fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Status: 404, Body: []byte(oddJSON)}},
	"the registry, in a manifest": {fault: fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: 200,
		Header: http.Header{"Content-Type": {"application/seen\u202e"}}, Body: []byte(`{"mediaType":"seen\u001b[31m\u202e"}`),
	}},
	"the content host": {
		config: fetchertest.Config{Redirect: true},
		fault:  fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.CDN}, Status: 404, Body: []byte(oddJSON)},
	},
	"the token server": {
		config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}},
		fault:  fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Token}, Status: 401, Body: []byte(oddJSON)},
	},
	"a challenge": {config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Challenge: func(_, proper string) []string {
		return []string{strings.Replace(proper, "scope=", `error_description="seen`+"\u202e\u2028"+`",scope=`, 1)}
	}}}},
	"a redirect": {fault: fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: 307, Header: http.Header{"Location": {"seen\u202e://x/"}},
	}},
}

func TestWhatAPeerSaysIsEscapedInTheStatusItsDetailsAndTheLog(t *testing.T) {
	t.Parallel()
	for title, test := range oddities {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := fetchertest.New(t, test.config)
			r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
			if test.fault.Status != 0 {
				r.Inject(test.fault)
			}
			var log bytes.Buffer
			f := engine(t)
			s := newServer(ServeConfig{Fetcher: f, Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log, JSONFormat: true})})
			m, err := absolute(fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.FetchSync(t.Context(), &pb.FetchSyncRequest{Fetch: m})
			told, ok := status.FromError(err)
			if !ok || !strings.Contains(told.Message(), "seen") && title != "a redirect" && title != "a challenge" {
				t.Fatalf("got %v", err)
			}
			plain(t, "the status", told.Message())
			for _, detail := range told.Details() {
				info, _ := detail.(*errdetails.ErrorInfo)
				for key, value := range info.GetMetadata() {
					plain(t, "metadata "+key, value)
				}
			}
			for line := range strings.Lines(log.String()) {
				if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "{") {
					t.Errorf("the log has a line of somebody else's: %q", line)
				}
				plain(t, "the log", line)
			}
		})
	}
}

// plain fails the test unless text is what a terminal shows as it is.
func plain(t *testing.T, where, text string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%s: %q", where, text)
	}
}

// Over a connection a status is a header: it must arrive whole.
func TestWhatAPeerSaysArrivesWhicheverWayTheFetcherIsCalled(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
	r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: 403, Body: []byte(oddJSON)})
	want := `403 Forbidden: \x1b[2J: seen\x1b[31m\a\r\ngrpc-status: 0\n\u202e\u200f\u2066\u2028\x00; `
	for title, subject := range subjects {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := subject(t).Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v; want %s", err, want)
			}
			plain(t, "the error", err.Error())
		})
	}
}
