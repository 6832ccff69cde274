package registry

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestRedirected(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		method, from, to string
		want             string // Authorization after it, or the error
	}{
		"the same origin keeps the header":    {"GET", "https://a.example/v2/", "https://a.example:443/x", "Bearer t"},
		"another host loses it":               {"GET", "https://a.example/", "https://b.example/", ""},
		"a sub-domain loses it":               {"GET", "https://a.example/", "https://s3.a.example/", ""},
		"another port loses it":               {"GET", "https://a.example/", "https://a.example:9000/", ""},
		"http to https loses it":              {"GET", "http://a.example/", "https://a.example/", ""},
		"https to http is refused":            {"GET", "https://a.example/", "http://a.example/", "plain http refused"},
		"a file is refused":                   {"GET", "https://a.example/", "file:///etc/passwd", `"file" URL refused`},
		"a user name is refused":              {"GET", "https://a.example/", "https://u:p@a.example/", "user name refused"},
		"a token request stays at its origin": {"POST", "https://a.example/", "https://b.example/", "token request to another host"},
		"and may move within it":              {"POST", "https://a.example/", "https://a.example/token/", "Bearer t"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequest(test.method, test.from, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			if test.method == http.MethodGet {
				req.Body, req.GetBody = nil, nil
			}
			req.Header.Set("Authorization", "Bearer t")
			req.Header.Set("X-Mirror-Key", "of the operator")
			req.Header.Set("Range", "bytes=1-")
			target, err := url.Parse(test.to)
			if err != nil {
				t.Fatal(err)
			}
			next, err := redirect(req, 307, target)
			if err != nil {
				if test.want == "" || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got error %v", err)
				}
				return
			}
			if got := next.Header.Get("Authorization"); got != test.want || next.Method != test.method {
				t.Errorf("got %s with Authorization %q, want %q", next.Method, got, test.want)
			}
			if key := next.Header.Get("X-Mirror-Key"); (key != "") != (test.want != "") || next.Header.Get("Range") == "" {
				t.Errorf("got the operator's field %q and the range %q", key, next.Header.Get("Range"))
			}
			if req.Header.Get("Authorization") != "Bearer t" {
				t.Error("the first request was changed")
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "nonsense": 0, "NaN": 0,
		"3": 3 * time.Second, "0.5": 500 * time.Millisecond, "880µs": 880 * time.Microsecond,
		"Sat, 21 Nov 2026 12:00:10 GMT": 10 * time.Second, "Sat, 21 Nov 2026 11:00:00 GMT": 0,
		"1e300": 365 * 24 * time.Hour, "+Inf": 365 * 24 * time.Hour,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfterIsBounded(f *testing.F) {
	f.Add("120")
	f.Add("Sat, 21 Nov 2026 12:00:10 GMT")
	f.Add("880µs")
	f.Fuzz(func(t *testing.T, value string) {
		if got := retryAfter(value, time.Now()); got < 0 || got > 365*24*time.Hour {
			t.Errorf("retryAfter(%q) = %v", value, got)
		}
	})
}

func TestBackoffEndsWithinItsBudget(t *testing.T) {
	t.Parallel()
	for _, chance := range []float64{0, 0.5, math.Nextafter(1, 0)} {
		elapsed, attempt := time.Duration(0), 1
		for ; ; attempt++ {
			wait, again := backoff(attempt, elapsed, 0, chance)
			if !again {
				break
			}
			if wait <= 0 {
				t.Errorf("attempt %d follows after %v", attempt+1, wait)
			}
			elapsed += wait
		}
		if attempt != maxAttempts || elapsed > retryBudget {
			t.Errorf("chance %v: %d attempts in %v", chance, attempt, elapsed)
		}
	}
	if _, again := backoff(1, 0, retryBudget+1, 0); again {
		t.Error("a wait beyond the budget is not the end")
	}
	if wait, again := backoff(1, 0, 3*time.Second, 0); !again || wait != 3*time.Second {
		t.Errorf("asked for 3 s, waits %v", wait)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Add("bytes 9-5/10")
	f.Fuzz(func(t *testing.T, field string) {
		first, last, total, err := contentRange(field)
		if err == nil && (first < 0 || last < first || last-first+1 < 1 || total != -1 && total <= last) {
			t.Errorf("contentRange(%q) = %d, %d, %d", field, first, last, total)
		}
	})
}

func TestContentRange(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"bytes 0-9/10": "0 9 10", "bytes 5-9/10": "5 9 10", "bytes 5-9/*": "5 9 -1", "bytes 0-9223372036854775806/*": "0 9223372036854775806 -1",
		"": "bad", "bytes */10": "bad", "bytes 9-5/10": "bad", "bytes 0-10/10": "bad", "bytes -1-5/10": "bad",
		"items 0-9/10": "bad", "bytes 0-9": "bad", "bytes 0-99999999999999999999/*": "bad",
		"bytes +0-9/10": "bad", "bytes 0-9/+10": "bad", "bytes 0-9223372036854775807/*": "bad",
	} {
		got := "bad"
		if first, last, total, err := contentRange(field); err == nil {
			got = itoa(first) + " " + itoa(last) + " " + itoa(total)
		}
		if got != want {
			t.Errorf("contentRange(%q) = %s, want %s", field, got, want)
		}
	}
}
