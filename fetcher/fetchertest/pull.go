package fetchertest

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

// answer is what a well-behaved registry, token server or content host answers.
func (r *Registry) answer(q Request, req *http.Request) answer {
	reads := q.Method == http.MethodGet || q.Method == http.MethodHead
	switch q.Endpoint {
	case Token:
		return r.answerToken(req)
	case CDN:
		return r.answerCDN(q)
	case Root, Manifest, Blob:
		a, refused := r.refuse(q)
		if !refused && reads {
			a = r.pull(q)
		} else if !refused {
			a = errorOf(q.Endpoint, http.StatusMethodNotAllowed)
		}
		return a.with("Docker-Distribution-Api-Version", "registry/2.0")
	}
	return textAnswer(http.StatusNotFound, "404 page not found\n")
}

// pull answers those who may read (distribution-spec, section "Pull").
func (r *Registry) pull(q Request) answer {
	switch {
	case q.Endpoint == Root:
		return jsonAnswer(http.StatusOK, struct{}{})
	case !r.store.has(q.Repository):
		return specError(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry", map[string]string{"name": q.Repository})
	case q.Endpoint == Manifest:
		return r.pullManifest(q)
	}
	return r.pullBlob(q)
}

func (r *Registry) pullManifest(q Request) answer {
	m, ok := r.store.manifest(q.Repository, q.Identifier)
	if !ok {
		return specError(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown", map[string]string{"reference": q.Identifier})
	}
	return newAnswer(http.StatusOK, m.mediaType, bytes.NewReader(m.body)).
		with("Docker-Content-Digest", m.digest).
		with("ETag", `"`+m.digest+`"`)
}

func (r *Registry) pullBlob(q Request) answer {
	c, ok := r.store.blob(q.Repository, q.Identifier)
	if !ok {
		return specError(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry", map[string]string{"digest": q.Identifier})
	}
	if r.cdn != "" {
		path := "/" + q.Repository + "/" + q.Identifier
		return textAnswer(http.StatusTemporaryRedirect, "").
			with("Location", r.cdn+path+"?"+r.targets.sign(path)).
			with("Docker-Content-Digest", q.Identifier)
	}
	return blobAnswer(q, c).with("Docker-Content-Digest", q.Identifier)
}

// answerCDN is the content host: no registry any more, but a store like S3.
func (r *Registry) answerCDN(q Request) answer {
	path, err := url.PathUnescape(q.Path)
	target := forged
	if err == nil && q.Authorization == "" {
		target = r.targets.judge(path, q.Query, r.config.TargetUses)
	}
	switch {
	case q.Authorization != "":
		return storeError(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed; only the X-Amz-Algorithm "+
			"query parameter, Signature query string parameter or the Authorization header should be specified")
	case target == forged:
		return storeError(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	case target == expired:
		return r.config.expiredTarget()
	case q.Method != http.MethodGet && q.Method != http.MethodHead:
		return storeError(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	case !r.store.has(q.Repository):
		return storeError(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist.")
	}
	c, ok := r.store.blob(q.Repository, q.Identifier)
	if !ok {
		return storeError(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	return blobAnswer(q, c)
}

func blobAnswer(q Request, c content) answer {
	return newAnswer(http.StatusOK, "application/octet-stream", c).
		with("Accept-Ranges", "bytes").
		with("ETag", `"`+q.Identifier+`"`).
		ranged(q)
}

func storeError(status int, code, message string) answer {
	body := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
	return newAnswer(status, "application/xml", strings.NewReader(body))
}
