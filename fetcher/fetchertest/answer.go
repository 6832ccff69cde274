package fetchertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// answer is what a request gets, before a fault spoils it and a reply writes it.
type answer struct {
	status   int
	header   http.Header
	content  content
	from, to int64 // the part of content that is the body
	chunked  bool  // no Content-Length is given
}

// content is what a blob, a manifest or a message consists of.
type content interface {
	io.ReaderAt
	Size() int64
}

func newAnswer(status int, mediaType string, c content) answer {
	return answer{status: status, header: http.Header{"Content-Type": {mediaType}}, content: c, to: c.Size()}
}

func jsonAnswer(status int, value any) answer {
	body, err := json.Marshal(value)
	if err != nil {
		return textAnswer(http.StatusInternalServerError, err.Error())
	}
	return newAnswer(status, "application/json", bytes.NewReader(body))
}

func textAnswer(status int, text string) answer {
	return newAnswer(status, "text/plain; charset=utf-8", strings.NewReader(text))
}

// with adds a header to the answer.
func (a answer) with(name string, values ...string) answer {
	a.header[http.CanonicalHeaderKey(name)] = values
	return a
}

// withAll adds headers; one without values is removed.
func (a answer) withAll(header http.Header) answer {
	for name, values := range header {
		a = a.with(name, values...)
	}
	return a
}

// tooMany answers a request beyond the limit.
func (l Limits) tooMany(e Endpoint) answer {
	a := errorOf(e, http.StatusTooManyRequests)
	if l.RetryAfter != "" {
		a = a.with("Retry-After", l.RetryAfter)
	}
	return a
}

func (a answer) length() int64 { return a.to - a.from }

func (a answer) body() io.Reader { return io.NewSectionReader(a.content, a.from, a.length()) }

// hasContent reports whether a delivers what was asked for, rather than a
// challenge, a redirect or an error.
func (a answer) hasContent() bool {
	return a.status == http.StatusOK || a.status == http.StatusPartialContent
}

// specError is an error as the distribution-spec has it, section "Error Codes".
func specError(status int, code, message string, detail any) answer {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	return jsonAnswer(status, map[string][]entry{"errors": {{code, message, detail}}})
}

// errorOf is the error that a registry gives with status where nobody says more.
func errorOf(endpoint Endpoint, status int) answer {
	code, message := "UNKNOWN", strings.ToLower(http.StatusText(status))
	switch {
	case status == http.StatusUnauthorized:
		code, message = "UNAUTHORIZED", "authentication required"
	case status == http.StatusForbidden:
		code, message = "DENIED", "requested access to the resource is denied"
	case status == http.StatusMethodNotAllowed:
		code, message = "UNSUPPORTED", "the operation is unsupported"
	case status == http.StatusTooManyRequests:
		code = "TOOMANYREQUESTS"
	case status == http.StatusNotFound && endpoint == Manifest:
		code, message = "MANIFEST_UNKNOWN", "manifest unknown"
	case status == http.StatusNotFound && endpoint == Blob:
		code, message = "BLOB_UNKNOWN", "blob unknown to registry"
	}
	return specError(status, code, message, nil)
}
