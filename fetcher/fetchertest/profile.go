package fetchertest

import "net/http"

// Profile is how one registry behaves, as a value that [Internet.Add] plays.
type Profile struct {
	Name string
	// Host serves the registry, such as registry-1.docker.io.
	Host string
	// Public may be pulled by anybody and Private with the Credential; the
	// zero value where the registry has no such content.
	Public, Private Place
	// Key is where docker's config.json has the credential.
	Key        string
	Credential Credential

	// Root answers GET /v2/ without a good token; nil: 200.
	Root *Refusal
	// Cold answers a request for content without a good credential; nil: there
	// is no need of one.
	Cold *Refusal
	// Stale answers a token that the registry doesn't know (any more), and
	// Narrow one that doesn't cover the repository; nil: Cold does.
	Stale, Narrow *Refusal
	// Basic makes the registry itself take the credential; WrongBasic answers
	// a wrong one, nil: Cold does.
	Basic      bool
	WrongBasic *Refusal

	TokenServers []TokenServer

	// Content is the host that blobs are redirected to; empty: none. It is a
	// store as that of [Config.Redirect]; with ContentIsRegistry, all requests
	// are redirected to it, and it answers them as a registry without auth.
	Content           string
	ContentIsRegistry bool
	// Header replaces fields of the answer with a manifest; a field without
	// values is removed.
	Header http.Header
}

// Place is an image as users name it and where the registry has it.
type Place struct {
	URI        string // docker://docker.io/alpine?3.20
	Repository string // library/alpine
	Tag        string // 3.20
}

// Credential is what may come in for private content.
type Credential struct {
	Username, Password string
	// IdentityToken may come in instead of the password.
	IdentityToken string
}

// Refusal is a no. In its texts, {repository} stands for the repository's name.
type Refusal struct {
	Status    int    // 0: the usual one, 401 where nothing else is said
	Challenge string // the WWW-Authenticate line; empty: none
	MediaType string // of the Body
	Body      string // empty: the distribution-spec's error
}

// TokenServer is one token endpoint of a registry. A Refusal of status 200 in
// it is a token that grants nothing.
type TokenServer struct {
	// Realm is its address, without a query. One with http is served by https
	// as well, as by a proxy that adds TLS; one without a host is at the registry.
	Realm string
	// Services are the accepted values, "" for none; nil: it doesn't look.
	Services     []string
	WrongService Refusal // usually 400
	// Scopes are those it grants, {repository} being any that the client may
	// read; one without it, such as aws, grants all of these. Nil:
	// repository:{repository}:pull.
	Scopes []string
	// Strict refuses a request in which another scope, or a further action, is
	// asked for. Otherwise these are left out of the grant.
	Strict     bool
	WrongScope Refusal // usually 400

	// Closed makes it refuse who brings no credential.
	Closed          bool
	WrongCredential Refusal // usually 401
	// Post answers any POST, and PostPassword one with grant_type password;
	// nil: it is understood, as distribution's OAuth2 specification has it.
	Post, PostPassword *Refusal

	// TokenFields are the answer's fields with the token; nil: token.
	TokenFields []string
	// Fields replaces further fields of the answer; nil as a value removes one.
	Fields map[string]any
	// Lifetime of the tokens in seconds; 0: 300.
	Lifetime int
}
