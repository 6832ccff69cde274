package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts = 5
	// retryBudget is how long after the first attempt another one may begin. What
	// it adds up to with the other bounds is the answerBudget's to limit.
	retryBudget = 8 * time.Second
	firstWait   = 200 * time.Millisecond
)

// retry sends req until the answer is more than a passing failure, or the
// budget is spent. The last answer or error is returned as it is.
func retry(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	begin := time.Now()
	for attempt := 1; ; attempt++ {
		resp, err := send(req)
		if !passing(req, resp, err) || req.Context().Err() != nil {
			return resp, err
		}
		asked := time.Duration(0)
		if err == nil {
			asked = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		}
		wait, ok := backoff(attempt, time.Since(begin), asked, rand.Float64())
		if !ok {
			return resp, err
		}
		if err == nil {
			discard(resp)
		}
		if tell := traced(req.Context()); tell != nil {
			tell(Waiting{Host: req.URL.Host, For: wait})
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
		if req, err = again(req); err != nil {
			return nil, err
		}
	}
}

// passing reports whether the same request may fare better a little later.
func passing(req *http.Request, resp *http.Response, err error) bool {
	if err != nil {
		return !permanent(err)
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return !sameOrigin(resp.Request.URL, req.URL) && expired(req, resp.StatusCode)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// expired reports whether a content host means, by refusing, that the signature of
// the address has expired: the registry will sign another. Else it may refuse
// the range, or HEAD where it was signed for GET.
func expired(req *http.Request, status int) bool {
	return req.Method == http.MethodGet && (status != http.StatusBadRequest || !fromStart(req.Header))
}

// permanent reports whether a transport error will come again.
func permanent(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var redirect *redirectError
	var proxy *proxyError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrInternalAddress), errors.As(err, &redirect):
		return true
	case errors.As(err, new(*panicError)), errors.Is(err, errNoConnection), errors.As(err, new(*proxySettingError)):
		return true
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &unknown), refusesTLS(err), errors.Is(err, http.ErrSchemeMismatch):
		return true
	case errors.As(err, &dns):
		return dns.IsNotFound
	case errors.As(err, &proxy):
		return proxy.status < 500
	}
	return false
}

// backoff says how long to wait after the attempt of this number (1 is the
// first) failed, and whether to try again at all. chance in [0,1) spreads many
// clients; asked is the server's own wish, which is honoured or, where it does
// not fit in the budget, means the end.
func backoff(attempt int, elapsed, asked time.Duration, chance float64) (time.Duration, bool) {
	wait := firstWait << (attempt - 1)
	wait = wait/2 + time.Duration(chance*float64(wait))
	wait = max(wait, asked)
	return wait, attempt < maxAttempts && elapsed+wait <= retryBudget
}

// retryAfter reads a Retry-After field (RFC 9110 section 10.2.3): seconds, also
// with a fraction, or a date; and durations such as 880µs, which some servers
// send. 0: there was none that could be read.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		return bounded(seconds)
	}
	if d, err := time.ParseDuration(value); err == nil {
		return bounded(d.Seconds())
	}
	if date, err := http.ParseTime(value); err == nil {
		return bounded(date.Sub(now).Seconds())
	}
	return 0
}

// bounded turns seconds into a duration of 0 to 365 days.
func bounded(seconds float64) time.Duration {
	const year = 365 * 24 * time.Hour
	if !(seconds > 0) { // also NaN
		return 0
	}
	return time.Duration(min(seconds, year.Seconds()) * float64(time.Second))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// again returns req with a fresh body.
func again(req *http.Request) (*http.Request, error) {
	if req.Body == nil {
		return req, nil
	}
	next := req.Clone(req.Context())
	body, err := req.GetBody()
	next.Body = body
	return next, err
}
