package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/manifest"
)

// Manifest is a manifest or index as the registry served it.
type Manifest struct {
	ContentType string
	Digest      string // Docker-Content-Digest, as it came; "" for none
	Body        []byte // at most manifest.MaxSize bytes
	URL         string // as messages may show it
}

// Manifest asks for a manifest or index by tag or digest. Its digest is the
// caller's to check: that of a signed schema 1 manifest is not taken over all bytes.
func (r *Repository) Manifest(ctx context.Context, identifier string) (Manifest, error) {
	q := r.request(http.MethodGet, "manifests/"+identifier, "MANIFEST_NOT_FOUND", http.Header{"Accept": {manifest.Accept}})
	begin := time.Now()
	for attempt := 1; ; attempt++ {
		resp, err := r.inTime(ctx, q, r.ask)
		if err != nil {
			return Manifest{}, err
		}
		if encoding := encoded(resp); encoding != "" {
			_ = resp.Body.Close()
			return Manifest{}, &Error{
				Reason: "REGISTRY_UNREACHABLE", Method: http.MethodGet, URL: redact(resp.Request.URL),
				Message: fmt.Sprintf("the manifest came with Content-Encoding %.40q, though none was asked for", encoding),
				Hint:    "is there a proxy in between that changes answers?",
			}
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxSize+1))
		_ = resp.Body.Close()
		switch {
		case len(body) > manifest.MaxSize:
			return Manifest{}, &Error{
				Reason: "MANIFEST_INVALID", Method: http.MethodGet, URL: redact(resp.Request.URL),
				Message: fmt.Sprintf("the manifest is larger than %d MiB", manifest.MaxSize>>20),
			}
		case err == nil:
			return Manifest{
				ContentType: resp.Header.Get("Content-Type"), Digest: resp.Header.Get("Docker-Content-Digest"),
				Body: body, URL: redact(resp.Request.URL),
			}, nil
		}
		err = r.failure(ctx, http.MethodGet, resp.Request.URL, err)
		pause, more := backoff(attempt, time.Since(begin), 0, rand.Float64())
		if ctx.Err() != nil || r.once || errors.Is(err, errTrickle) || !more || time.Since(begin) > answerBudget-headerTimeout {
			return Manifest{}, err
		}
		if err := sleep(ctx, pause); err != nil {
			return Manifest{}, err
		}
		q.spent = time.Since(begin)
	}
}
