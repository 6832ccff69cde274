package registry

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
)

const maxRedirects = 10

// ErrInsecureRedirect is a redirect from https to plain http.
var ErrInsecureRedirect = errors.New("redirect from https to plain http refused")

// follow sends req, to which the registry led, and goes after redirects. A header
// set for one origin (scheme, host and port) never reaches another: net/http's
// own rule compares host names only, which leaks to another port and breaks
// object stores there ("Only one auth mechanism allowed").
func (o outgoing) follow(req *http.Request, redirected bool) (*http.Response, error) {
	for range maxRedirects {
		resp, err := o.roundTrip(req, redirected)
		if err != nil && redirected && !sameOrigin(req.URL, o.registry) {
			err = &targetError{req.URL, err}
		}
		if err != nil {
			return nil, err
		}
		target, err := location(resp)
		if err != nil || target == nil {
			return resp, err
		}
		discard(resp)
		if req, err = redirect(req, resp.StatusCode, target); err != nil {
			return nil, &redirectError{err}
		}
		redirected = true
	}
	return nil, &redirectError{fmt.Errorf("stopped after %d redirects", maxRedirects)}
}

// redirectError is a redirect that is not followed, however often it is tried.
type redirectError struct{ error }

func (e *redirectError) Unwrap() error { return e.error }

// targetError is an error of another host than the one that was asked, to which
// that redirected.
type targetError struct {
	url *url.URL
	error
}

func (e *targetError) Error() string {
	return "redirected to " + e.url.Scheme + "://" + e.url.Host + ": " + e.error.Error()
}

func (e *targetError) Unwrap() error { return e.error }

// location returns where a redirect leads to, nil for any other answer.
func location(resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	target, err := resp.Location()
	if err != nil {
		discard(resp)
		return nil, &redirectError{fmt.Errorf("%s without a usable Location", resp.Status)}
	}
	return target, nil
}

// redirect returns the request that a redirect asks for.
func redirect(req *http.Request, status int, target *url.URL) (*http.Request, error) {
	from := req.URL
	switch {
	case target.Scheme != "http" && target.Scheme != "https", target.Host == "":
		return nil, fmt.Errorf("redirect to a %q URL refused", target.Scheme)
	case from.Scheme == "https" && target.Scheme == "http":
		return nil, fmt.Errorf("%w: to host %s", ErrInsecureRedirect, target.Host)
	case target.User != nil:
		return nil, errors.New("redirect to a URL with a user name refused")
	case req.Body != nil && !sameOrigin(from, target):
		return nil, fmt.Errorf("redirect of a token request to another host (%s) refused: its body holds a credential", target.Host)
	}
	next := req.Clone(req.Context())
	next.URL, next.Host = target, ""
	if !sameOrigin(from, target) {
		next.Header = travelling(next.Header)
	}
	switch {
	case req.Body == nil:
		return next, nil
	case status == http.StatusSeeOther:
		next.Method, next.Body, next.GetBody, next.ContentLength = http.MethodGet, nil, nil, 0
		next.Header.Del("Content-Type")
		return next, nil
	}
	body, err := req.GetBody()
	next.Body = body
	return next, err
}

// travels are the fields that another origin gets too. What an operator has sent
// to a mirror may be a secret.
var travels = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Content-Type": true, "If-Range": true, "Range": true, "User-Agent": true,
}

func travelling(header http.Header) http.Header {
	header = maps.Clone(header)
	maps.DeleteFunc(header, func(name string, _ []string) bool { return !travels[name] })
	return header
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && (a.Host == b.Host || a.Hostname() == b.Hostname() && port(a) == port(b))
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}
