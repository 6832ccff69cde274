package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
)

const maxErrorBody = 64 << 10

// Error is a request that came to nothing.
type Error struct {
	// Reason is the cause under the name that the wire contract gives it.
	Reason string
	Method string
	URL    string // without query
	Status int    // 0: there was no answer
	// Message is the peer's own words, or what went wrong.
	Message string
	// Tried and Hint end the sentence: what was tried, what to do.
	Tried, Hint string
	// RetryAfter is what the registry asked for; 0: nothing.
	RetryAfter time.Duration
	// Unanswered: the host that was asked gave no answer at all.
	Unanswered bool
	Err        error
}

// Error joins the parts with semicolons.
func (e *Error) Error() string {
	s := strings.TrimPrefix(e.Method+" "+e.URL+": ", " : ") + e.told()
	for _, more := range []string{e.Tried, e.Hint} {
		if more != "" {
			s += "; " + more
		}
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Throttled reports whether the host asked for fewer requests, and not for a
// pause that is too long to wait for.
func (e *Error) Throttled() bool {
	return e.Status == http.StatusTooManyRequests && e.RetryAfter <= retryBudget
}

// refusal turns an answer that is no success into an *Error, and closes it. Its
// own error is that of the context: half a refusal tells nothing.
func (r *Repository) refusal(ctx context.Context, resp *http.Response) (*Error, error) {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	e := &Error{
		Method: resp.Request.Method, URL: r.session.Redact(redact(resp.Request.URL)), Status: resp.StatusCode,
		Message: r.session.Redact(auth.Message(body)),
	}
	e.Reason, e.Hint = r.meaning(resp)
	e.asked(resp.Header.Get("Retry-After"))
	return e, nil
}

// asked takes a Retry-After field, which is the best advice where there is one.
func (e *Error) asked(field string) {
	if e.RetryAfter = retryAfter(field, time.Now()); e.RetryAfter > 0 {
		e.Hint = fmt.Sprintf("it asks to wait %v", e.RetryAfter)
	}
}

// missingHints are for 404 and 410.
var missingHints = map[string]string{
	"BLOB_NOT_FOUND":     "check the digest, and that the blob is in this repository",
	"MANIFEST_NOT_FOUND": "check the repository's name and the tag or digest",
}

// explain adds what the challenges say of the refusal, where the body says
// nothing, and what the refused token says of itself.
func (e *Error) explain(challenges []auth.Challenge, why string) {
	for _, c := range challenges {
		if e.Message == "" {
			e.Message = cmp.Or(c.Params["error_description"], c.Params["error"])
		}
	}
	if why != "" {
		e.Message = strings.TrimPrefix(e.Message+"; "+why, "; ")
	}
}

// told is the refusal in the fewest words.
func (e *Error) told() string {
	if e.Status == 0 {
		return e.Message
	}
	return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), e.Message), ": ")
}

// meaning maps a status to the reason and to what the user can do.
func (r *Repository) meaning(resp *http.Response) (reason, hint string) {
	status := resp.StatusCode
	switch {
	case status < 404 && !sameOrigin(resp.Request.URL, r.registry):
		return "REGISTRY_UNREACHABLE", "the host that the registry redirects to refuses; try again later"
	case status == http.StatusUnauthorized && r.credential.Key == "":
		return "AUTH_REQUIRED", r.add()
	case status == http.StatusUnauthorized:
		return "AUTH_FAILED", r.renew()
	case status == http.StatusForbidden && r.credential.Key == "":
		return "REGISTRY_DENIED", fmt.Sprintf("it may need a credential for %q in the docker config", r.host())
	case status == http.StatusForbidden:
		return "REGISTRY_DENIED", fmt.Sprintf("the credential of key %q may not pull %s", r.credential.Key, r.name)
	case overloaded(status):
		return overloadMeaning(status)
	case status == http.StatusProxyAuthRequired:
		return "REGISTRY_UNREACHABLE", "give the proxy's user and password in HTTP_PROXY, as http://USER:PASSWORD@HOST:PORT"
	case status == http.StatusBadRequest && r.registry.Scheme == "http":
		return "REGISTRY_UNREACHABLE", "if the registry speaks https, leave out #http"
	}
	return "REGISTRY_UNREACHABLE", "is this a registry?"
}

func overloaded(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500
}

// overloadMeaning is the same whoever answers, the registry or a token server.
func overloadMeaning(status int) (reason, hint string) {
	switch status {
	case http.StatusRequestTimeout:
		return "REGISTRY_UNREACHABLE", "try again later"
	case http.StatusTooManyRequests:
		return "RATE_LIMITED", "wait, or pull with a credential that has a higher limit"
	}
	return "REGISTRY_5XX", "try again later"
}

func (r *Repository) add() string {
	return fmt.Sprintf("add a credential for %q to the docker config", r.host())
}

func (r *Repository) renew() string {
	if helper := r.credential.Helper; helper != "" {
		return fmt.Sprintf("renew the credential that %s keeps for %q", helper, r.credential.Key)
	}
	return fmt.Sprintf("renew the credential of key %q in the docker config", r.credential.Key)
}

// host is the registry's name as the docker config would have it.
func (r *Repository) host() string {
	if r.registry.Host == "registry-1.docker.io" {
		return "docker.io"
	}
	return r.registry.Host
}

// tokenRefusal turns a failed exchange into the error of the request for u
// that needed the token, and into the verdict for the ladder.
func (r *Repository) tokenRefusal(method string, u *url.URL, err error) (auth.Verdict, *Error) {
	e := &Error{Method: method, URL: redact(u), Message: r.session.Redact(err.Error()), Err: err}
	var token *auth.TokenError
	if !errors.As(err, &token) {
		e.Reason = "TOKEN_SERVER_REFUSED"
		return auth.Unanswered, e
	}
	switch {
	case token.Refused() && r.credential.Key == "":
		e.Reason, e.Hint = "AUTH_REQUIRED", r.add()
	case token.Refused():
		e.Reason, e.Hint = "AUTH_FAILED", r.renew()
	case overloaded(token.Status):
		e.Reason, e.Hint = overloadMeaning(token.Status)
	case token.Unreachable():
		e.Reason, e.Hint = transportMeaning(token.Err, r.File)
		e.Unanswered = true
	default:
		e.Reason, e.Hint = "TOKEN_SERVER_REFUSED", "ask the registry's operator: its token server does not do what its challenge says"
	}
	e.asked(token.RetryAfter)
	return token.Verdict(), e
}

// failure turns a transport's error into ours. That the caller's context ended
// stays what it is; a timeout of the transport, which also calls itself
// context.DeadlineExceeded, does not.
func (r *Repository) failure(ctx context.Context, method string, u *url.URL, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{Method: method, URL: redact(u), Message: r.session.Redact(err.Error()), Err: err}
	e.Reason, e.Hint = transportMeaning(err, r.File)
	e.Unanswered = !errors.As(err, new(*targetError)) && !errors.As(err, new(*redirectError)) && !errors.Is(err, ErrInternalAddress)
	return e
}

// transportMeaning is that of an error of a transport; file is Repository.File.
func transportMeaning(err error, file string) (reason, hint string) {
	var redirect *redirectError
	var proxy *proxyError
	var op *net.OpError
	switch {
	case errors.As(err, new(*panicError)):
		return "PANIC", "please report it with the log"
	case errors.As(err, new(*proxySettingError)):
		return "OPTION_INVALID", "write it as http://USER:PASSWORD@HOST:PORT, with %25 for a % in user or password, %40 for an @"
	case errors.Is(err, ErrInsecureRedirect):
		return "INSECURE_REGISTRY_REFUSED", ""
	case errors.As(err, &redirect):
		return "REGISTRY_UNREACHABLE", "the redirect is wrong; tell the registry's operator"
	case errors.Is(err, ErrInternalAddress):
		return "INSECURE_REGISTRY_REFUSED", "a registry on the Internet has no business there; tell its operator, or allow it by private_redirects in hosts.toml"
	case errors.As(err, &proxy):
		return "REGISTRY_UNREACHABLE", proxy.hint()
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "REGISTRY_UNREACHABLE", "check the proxy that HTTPS_PROXY or HTTP_PROXY names, or put the registry into NO_PROXY"
	}
	if hint := tlsHint(err, file); hint != "" {
		return "TLS_FAILED", hint
	}
	return "REGISTRY_UNREACHABLE", "check the host, the port and the network"
}

// tlsHint says what to do about an error of TLS; "": it is none.
func tlsHint(err error, file string) string {
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var certificate *tls.CertificateVerificationError
	var target *targetError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "the registry speaks plain http: say so with #http at the end of the URI, or by http:// in hosts.toml"
	case errors.As(err, &unknown) && errors.As(err, &target):
		return "add the CA to the file that SSL_CERT_FILE names; ca in hosts.toml does not hold where a registry redirects to"
	case errors.As(err, &unknown):
		return "add the CA as " + hostsKey(file, "ca", "*.crt") + ", or to the file that SSL_CERT_FILE names"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet; renew it, or set this machine's clock"
	case errors.As(err, &name):
		return "the certificate is for other names; ask the registry by one of them"
	case errors.As(err, &certificate):
		return "the registry's certificate does not hold; tell its operator"
	case tooOld(err):
		return "it must speak TLS 1.2 or later; tell its operator"
	case strings.Contains(err.Error(), "tls: no application protocol"): // RFC 7301, an alert without a type
		return "it speaks no HTTP/1.1, which this client needs; tell its operator"
	case refusesTLS(err) && errors.As(err, &target):
		return "it may want a client certificate, and gets none where a registry redirects to; tell the registry's operator"
	case refusesTLS(err):
		return "it may want a client certificate: name one as " + hostsKey(file, "client", "*.cert and *.key")
	}
	return ""
}

// hostsKey says where files of TLS go: under a key of a hosts.toml, or in a
// directory in docker's form, by their suffix.
func hostsKey(file, key, suffix string) string {
	if file == "" || filepath.Base(file) == hostsFile {
		return key + " in " + cmp.Or(file, hostsFile)
	}
	return suffix + " in " + file
}

// refusesTLS reports whether the peer or we will not speak TLS as things are,
// however often it is tried. An alert that the peer sent has a type of
// crypto/tls's own: tls.AlertError, of the same text, is for QUIC.
func refusesTLS(err error) bool {
	const internal = tls.AlertError(80) // RFC 8446 section 6.2
	var op *net.OpError
	return tooOld(err) || errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() != internal.Error()
}

// tooOld reports whether there is no version of TLS that both sides speak: the
// peer says so by an alert, or chose one that we don't have, an error without a type.
func tooOld(err error) bool {
	text := err.Error()
	return strings.Contains(text, "tls: ") && strings.Contains(text, "protocol version")
}

// proxyError is a proxy that does not connect to where it was asked to.
type proxyError struct {
	proxy  string // host and port
	status int
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s answers %d %s to CONNECT", e.proxy, e.status, http.StatusText(e.status))
}

func (e *proxyError) hint() string {
	if e.status == http.StatusProxyAuthRequired {
		return "give the proxy's user and password in HTTPS_PROXY, as http://USER:PASSWORD@HOST:PORT"
	}
	return "the proxy may not connect there; ask its operator, or put the registry into NO_PROXY"
}

// connected is an http.Transport's OnProxyConnectResponse.
func connected(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{proxy.Host, resp.StatusCode}
}
