package plugin

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

// go-plugin's line has six fields or seven; ours changes the sixth alone.
func FuzzAHandshakeGainsTheCertificateAndLosesNothing(f *testing.F) {
	for _, line := range []string{"1|1|unix|/tmp/plugin1|grpc||false\n", "1|1|unix|/tmp/plugin1|grpc|\n", "1|1|tcp|127.0.0.1:1|grpc|old", "\n", "|||||||||\n", "1|1"} {
		f.Add(line, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, line string, der []byte) {
		if strings.Contains(strings.TrimSuffix(line, "\n"), "\n") {
			return // it is read up to the first
		}
		before := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		after := strings.Split(strings.TrimSuffix(withCertificate(line, der), "\n"), "|")
		if len(before) > 5 {
			if got, err := base64.RawStdEncoding.DecodeString(after[5]); err != nil || string(got) != string(der) {
				t.Errorf("%q has the certificate %x, %v", after, got, err)
			}
			before[5] = after[5]
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
}

// A request means the same after the way back and forth.
func FuzzARequestOfTheWireIsTheSameAfterAnotherWay(f *testing.F) {
	for _, m := range []*pb.FetchRequest{
		{}, {Uri: &pb.Uri{Scheme: "docker", Host: ptr("r.example"), Port: ptr(int32(-1)), Query: ptr("")}, OutputFileName: ptr("")},
		{Config: &pb.DockerConfig{Source: &pb.DockerConfig_MesosSecret{}}, Options: &pb.FetchOptions{MaxParallel: 1 << 31, SkipDigests: []string{"", "\n"}}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(pb.FetchRequest)
		if proto.Unmarshal(data, m) != nil {
			return
		}
		request := fromRequest(m)
		back, err := toRequest(request)
		if err != nil {
			return // a number that no host of ours sends
		}
		if diff := cmp.Diff(request, fromRequest(back)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// What a plugin sends as an error is one of the errors that Fetch may return.
func FuzzAStatusIsAnErrorOfFetch(f *testing.F) {
	for _, err := range []error{
		&fetcher.Error{Reason: fetcher.RateLimited, Phase: fetcher.Resolve, Text: "GET https://r.example/v2/: 429", RetryAfter: time.Hour, Metadata: map[string]string{"a": "b"}},
		errors.New("x"), status.Error(14, "gone"), status.Error(1, "context canceled"),
	} {
		data, err := proto.Marshal(status.Convert(toStatus(err)).Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(spb.Status)
		if proto.Unmarshal(data, m) != nil || m.GetCode() == 0 {
			return
		}
		err := fromStatus(status.FromProto(m).Err())
		var e *fetcher.Error
		switch {
		case err == nil:
			t.Error("no error")
		case errors.As(err, &e) && e.Reason.Kind() == nil:
			t.Errorf("%+v is of no kind", e)
		}
	})
}

func FuzzAShortenedTextKeepsItsEndsAndFits(f *testing.F) {
	f.Add("short")
	f.Add(strings.Repeat("…", 400))
	f.Add(strings.Repeat("a", maxStatusText) + "\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := shortened(text)
		switch {
		case len(text) <= maxStatusText && got != text:
			t.Errorf("%q became %q", text, got)
		case len(got) > maxStatusText+len(" … ") || utf8.ValidString(text) && !utf8.ValidString(got):
			t.Errorf("%d bytes: %q", len(got), got)
		}
	})
}

// The last line of a plugin that did not launch is one line in an error.
func FuzzLastWordsAreBounded(f *testing.F) {
	for _, words := range []string{`{"@level":"error","@message":"can't serve","error":"no socket"}` + "\n", "panic: x\n\ngoroutine 1 [running]:\n", "", "\n\n", "{", `{"@level":"error"}`} {
		f.Add([]byte(words))
	}
	f.Fuzz(func(t *testing.T, words []byte) {
		l := new(lastWords)
		if n, err := l.Write(words); n != len(words) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
		if text := l.reason(errors.New("first line:\nmore")).Error(); len(text) > 2*maxLastWords || len(l.line) > maxLastWords {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	})
}
