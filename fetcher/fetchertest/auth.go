package fetchertest

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The values of Auth.Scheme beside the empty one.
const (
	Basic  = "basic"
	Bearer = "bearer"
)

// Auth says what the registry asks for, and what its token server grants. The
// zero value asks for nothing and ignores what comes.
type Auth struct {
	// Scheme is empty, Basic or Bearer.
	Scheme string

	// Username and Password may come in: with Basic at the registry, with
	// Bearer at the token server (GET with Basic, POST with grant_type
	// password). With Bearer, if no Username and no token below is set,
	// anybody gets a token, except who brings a credential: that one is wrong.
	Username, Password string
	// IdentityToken may come in at the token server by POST with grant_type
	// refresh_token.
	IdentityToken string
	// RegistryToken is accepted by the registry itself, as a bearer for all repositories.
	RegistryToken string

	// Service is what the challenge says and the token server insists on.
	// Empty: the challenge has no service, and the token server takes any.
	Service string
	// OpenRoot makes GET /v2/ answer 200 to anybody, though the repositories ask.
	OpenRoot bool
	// Challenge replaces the WWW-Authenticate lines in the 401s of
	// repositories; proper is the right challenge. Nil: proper as it is.
	Challenge func(repository, proper string) []string

	// RealmQuery is appended to the realm as its own query, such as
	// "account=x". The token server insists on finding each parameter of it
	// in the address, once, whatever the method; scope and service are judged
	// by their own rules only.
	RealmQuery string
	// TokenField is the answer's field with the token; empty: token for a GET
	// and access_token for a POST, as the token specifications have it.
	TokenField string
	// TokenTTL is a token's lifetime; 0: 300 s. See also [Registry.RevokeTokens].
	TokenTTL time.Duration
	// GrantsNothing makes the token server answer 200 with a token whose
	// access list is empty, which the registry then refuses. The scopes asked
	// for come joined by spaces. Nil: never.
	GrantsNothing func(scope, service string) bool
}

func (a Auth) check() error {
	switch a.Scheme {
	case "", Basic, Bearer:
	default:
		return fmt.Errorf("unknown Auth.Scheme %q: use Basic, Bearer or nothing", a.Scheme)
	}
	if _, err := url.ParseQuery(a.RealmQuery); err != nil {
		return fmt.Errorf("bad Auth.RealmQuery: %w", err)
	}
	return nil
}

// admitsAnybody reports whether anonymous tokens are granted.
func (a Auth) admitsAnybody() bool {
	return a.Username == "" && a.IdentityToken == "" && a.RegistryToken == ""
}

// admitsBasic reports whether the value of an Authorization header is the
// right Basic credential (RFC 7617).
func (a Auth) admitsBasic(authorization string) bool {
	encoded, ok := cutScheme(authorization, Basic)
	userPass, err := base64.StdEncoding.DecodeString(encoded)
	return ok && err == nil && same(string(userPass), a.Username+":"+a.Password)
}

// refuse returns the 401 to a request that may not read what it names.
func (r *Registry) refuse(q Request) (a answer, refused bool) {
	auth := r.config.Auth
	if auth.Scheme == "" || q.Endpoint == Root && auth.OpenRoot {
		return answer{}, false
	}
	wrong := "" // the error of RFC 6750 section 3.1
	if auth.Scheme == Basic && auth.admitsBasic(q.Authorization) {
		return answer{}, false
	}
	if token, ok := cutScheme(q.Authorization, Bearer); ok && auth.Scheme == Bearer {
		if same(token, auth.RegistryToken) {
			return answer{}, false
		}
		if wrong = r.tokens.judge(token, q.Repository); wrong == "" {
			return answer{}, false
		}
	}
	lines := []string{r.challenge(q.Repository, wrong)}
	if q.Repository != "" && auth.Challenge != nil {
		lines = auth.Challenge(q.Repository, lines[0])
	}
	return errorOf(q.Endpoint, http.StatusUnauthorized).with("WWW-Authenticate", lines...), true
}

// challenge is the right one (RFC 9110 section 11.6.1, distribution's token
// specification): with a scope where a repository was asked for.
func (r *Registry) challenge(repository, wrong string) string {
	auth := r.config.Auth
	realm := "fetchertest"
	if auth.Scheme == Bearer {
		realm = r.TokenURL()
		if auth.RealmQuery != "" {
			realm += "?" + auth.RealmQuery
		}
	}
	challenge := strings.ToUpper(auth.Scheme[:1]) + auth.Scheme[1:] + " realm=" + quote(realm)
	if auth.Service != "" {
		challenge += ",service=" + quote(auth.Service)
	}
	if auth.Scheme == Bearer && repository != "" {
		challenge += ",scope=" + quote("repository:"+repository+":pull")
	}
	if wrong != "" {
		challenge += ",error=" + quote(wrong)
	}
	return challenge
}

// quote makes a quoted-string (RFC 9110 section 5.6.4).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// cutScheme returns what follows the auth-scheme, and false if that is nothing.
func cutScheme(authorization, scheme string) (string, bool) {
	found, rest, _ := strings.Cut(authorization, " ")
	rest = strings.TrimLeft(rest, " ")
	return rest, rest != "" && strings.EqualFold(found, scheme)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
