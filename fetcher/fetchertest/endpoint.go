package fetchertest

import "strings"

// Endpoint is one thing that can be asked for.
type Endpoint string

// The endpoints.
const (
	Any      Endpoint = ""         // in a Match and for Count: all of them
	Root     Endpoint = "root"     // GET /v2/ of the registry
	Manifest Endpoint = "manifest" // /v2/<name>/manifests/<reference>
	Blob     Endpoint = "blob"     // /v2/<name>/blobs/<digest>
	Token    Endpoint = "token"    // the token server's one address
	CDN      Endpoint = "cdn"      // a blob on the content host
	Other    Endpoint = "other"    // an address that no registry has
)

const tokenPath = "/token"

// target is what a path names.
type target struct {
	endpoint   Endpoint
	repository string // manifests and blobs only
	identifier string // a tag or digest
}

// registryTarget reads a path of the distribution-spec. A repository's name
// may have components called manifests or blobs, so the path is read from its end.
func registryTarget(path string) target {
	if path == "/v2/" {
		return target{endpoint: Root}
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return target{endpoint: Other}
	}
	rest, identifier := cutLast(rest)
	repository, kind := cutLast(rest)
	switch {
	case repository == "" || identifier == "":
		return target{endpoint: Other}
	case kind == "manifests":
		return target{Manifest, repository, identifier}
	case kind == "blobs":
		return target{Blob, repository, identifier}
	}
	return target{endpoint: Other}
}

func tokenTarget(path string) target {
	if path == tokenPath {
		return target{endpoint: Token}
	}
	return target{endpoint: Other}
}

// cdnTarget reads /<repository>/<digest>.
func cdnTarget(path string) target {
	repository, identifier := cutLast(strings.TrimPrefix(path, "/"))
	if repository == "" {
		return target{endpoint: Other}
	}
	return target{CDN, repository, identifier}
}

// cutLast cuts s around its last slash; before is empty where there is none.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}
