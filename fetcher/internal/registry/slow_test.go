package registry

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// slow gives size bytes, one each interval, until it is closed.
type slow struct {
	interval time.Duration
	size     int
	closed   chan struct{}
}

func (s *slow) Read(p []byte) (int, error) {
	if s.size == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(s.interval):
		s.size--
		p[0] = 'x'
		return 1, nil
	case <-s.closed:
		return 0, errors.New("closed")
	}
}

func (s *slow) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func TestASmallBodyMustNotTrickle(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		interval time.Duration
		size     int
		err      error
		took     time.Duration
	}{
		"a byte a second":         {time.Second, 1 << 20, errTrickle, bodyGrace},
		"nothing at all":          {time.Hour, 1, errTrickle, bodyGrace},
		"slow, but fast enough":   {50 * time.Microsecond, 400_000, nil, 20 * time.Second},
		"few bytes, in good time": {time.Second, 9, nil, 9 * time.Second},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				body := hurry(&slow{test.interval, test.size, make(chan struct{})})
				_, err := io.ReadAll(body)
				if took := time.Since(begin).Round(time.Second); !errors.Is(err, test.err) || took != test.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, test.err, test.took)
				}
				if err := body.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What each part may take adds up to what the design promises.
func TestAFailingRegistryIsReportedWithin30Seconds(t *testing.T) {
	t.Parallel()
	const promise = 30 * time.Second
	if answerBudget+bodyGrace > promise || dialTimeout > answerBudget || headerTimeout > answerBudget || retryBudget > answerBudget {
		t.Errorf("%v for the answer and %v for its body", answerBudget, bodyGrace)
	}
}

func TestARegistryThatNeverAnswersIsReportedAsSuch(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage(name, "latest", fetchertest.Image{})
	r.Inject(fetchertest.Fault{Hold: make(chan struct{})})
	c := client(t, r)
	transport := NewTransport(nil)
	transport.ResponseHeaderTimeout = 20 * time.Millisecond
	c.transports = newTransports(transport)
	_, err := repository(t, c, r, credential.Match{}).Manifest(t.Context(), "latest")
	var e *Error
	if !errors.As(err, &e) || e.Reason != "REGISTRY_UNREACHABLE" || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v", err)
	}
}

// roundTripper answers in process, without sockets, for virtual time.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestTheWaitForAnAnswerIsBoundedHoweverManyRequestsItTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := New(roundTripper(func(req *http.Request) (*http.Response, error) { // each answers, but none in time to save the whole
			requests++
			select {
			case <-time.After(7 * time.Second):
				header := http.Header{"Www-Authenticate": {`Bearer realm="https://registry.example/token` + strings.Repeat("x", requests) + `"`}}
				return &http.Response{StatusCode: 401, Header: header, Body: http.NoBody, Request: req}, nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		}), "test")
		ref, err := scheme.Parse("docker://registry.example/" + name + "?latest")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = c.Repository(t.Context(), ref, login, nil).Manifest(t.Context(), "latest")
		var e *Error
		if !errors.As(err, &e) || e.Reason != "REGISTRY_UNREACHABLE" || !strings.Contains(err.Error(), "no answer within 18s") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != answerBudget {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
	})
}

// TestTheAttemptsAtAManifestShareABudget has a body that breaks off, then an
// answer that comes late and a body that never comes.
func TestTheAttemptsAtAManifestShareABudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := New(roundTripper(func(req *http.Request) (*http.Response, error) {
			requests++
			resp := &http.Response{StatusCode: 200, Request: req}
			switch requests {
			case 1:
				resp.Body = io.NopCloser(io.MultiReader(&slow{2900 * time.Millisecond, 1, nil}, iotest.ErrReader(io.ErrUnexpectedEOF)))
				return resp, nil
			case 2:
				resp.Body = &slow{time.Hour, 1, make(chan struct{})}
			}
			select {
			case <-time.After(17 * time.Second):
				return resp, nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		}), "test")
		ref, err := scheme.Parse("docker://registry.example/" + name + "?latest")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = c.Repository(t.Context(), ref, credential.Match{}, nil).Manifest(t.Context(), "latest")
		if err == nil || !strings.Contains(err.Error(), "no answer within 18s") || requests != 2 {
			t.Errorf("got %v after %d requests", err, requests)
		}
		if took := time.Since(begin); took != answerBudget {
			t.Errorf("it took %v", took)
		}
	})
}
