package fetchertest

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const defaultTokenTTL = 300 * time.Second

// access is what a token allows, as in its claim of that name.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// answerToken is the token server: GET after distribution's "Token
// Authentication Specification", POST after its "OAuth2" twin.
func (r *Registry) answerToken(req *http.Request) answer {
	auth := r.config.Auth
	post := req.Method == http.MethodPost
	query := req.URL.Query()
	form, field := query, cmp.Or(auth.TokenField, "token")
	if post {
		form, field = req.PostForm, cmp.Or(auth.TokenField, "access_token")
	} else if req.Method != http.MethodGet {
		return tokenError(http.StatusMethodNotAllowed, "only GET and POST are supported")
	}
	if missing := auth.missingRealmQuery(query); missing != "" {
		return tokenError(http.StatusBadRequest, "the realm's parameter "+missing+" is missing, changed or repeated")
	}
	if auth.Service != "" && !slices.Equal(form["service"], []string{auth.Service}) {
		return tokenError(http.StatusBadRequest, "unknown service "+strconv.Quote(strings.Join(form["service"], " ")))
	}
	if post && form.Get("client_id") == "" {
		return tokenError(http.StatusBadRequest, "client_id is missing")
	}
	scope := strings.Join(form["scope"], " ")
	granted, ok := grant(scope)
	if !ok {
		return tokenError(http.StatusBadRequest, "invalid scope "+strconv.Quote(scope))
	}
	if !auth.admits(req) {
		return tokenError(http.StatusUnauthorized, "incorrect username or password")
	}
	if auth.GrantsNothing != nil && auth.GrantsNothing(scope, form.Get("service")) {
		granted = []access{}
	}
	return r.tokens.issue(auth, field, granted)
}

// missingRealmQuery returns the name of a realm's parameter that query hasn't
// exactly as the realm had it.
func (a Auth) missingRealmQuery(query url.Values) string {
	realm, _ := url.ParseQuery(a.RealmQuery)
	for name, values := range realm {
		if name != "scope" && name != "service" && !slices.Equal(query[name], values) {
			return name
		}
	}
	return ""
}

// admits judges the credential of a token request.
func (a Auth) admits(req *http.Request) bool {
	form := req.PostForm
	switch {
	case req.Method == http.MethodGet && req.Header.Get("Authorization") == "":
		return a.admitsAnybody()
	case req.Method == http.MethodGet:
		return a.Username != "" && a.admitsBasic(req.Header.Get("Authorization"))
	case form.Get("grant_type") == "refresh_token":
		return a.IdentityToken != "" && same(form.Get("refresh_token"), a.IdentityToken)
	case form.Get("grant_type") == "password":
		return a.Username != "" && same(form.Get("username"), a.Username) && same(form.Get("password"), a.Password)
	}
	return false
}

// grant reads scopes such as repository:library/busybox:pull,push, separated
// by spaces, and grants what a registry without push can.
func grant(scopes string) (granted []access, ok bool) {
	granted = []access{}
	for _, scope := range strings.Fields(scopes) {
		// The name may hold colons (host:port), so the scope is cut at its ends.
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndexByte(rest, ':')
		if kind != "repository" || i < 1 {
			return nil, false
		}
		if slices.Contains(strings.Split(rest[i+1:], ","), "pull") {
			granted = append(granted, access{kind, rest[:i], []string{"pull"}})
		}
	}
	return granted, true
}

func tokenError(status int, details string) answer {
	return jsonAnswer(status, map[string]string{"details": details})
}

// tokens holds the tokens that were issued.
type tokens struct {
	mu     sync.Mutex
	serial int
	grants map[string]tokenGrant // by token
}

type tokenGrant struct {
	access  []access
	expires time.Time
}

// RevokeTokens makes the registry refuse all tokens issued so far, as if they
// had expired just now.
func (r *Registry) RevokeTokens() {
	r.tokens.mu.Lock()
	defer r.tokens.mu.Unlock()
	clear(r.tokens.grants)
}

// issue makes a token for granted and answers it in field. No two are equal.
func (t *tokens) issue(auth Auth, field string, granted []access) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grants == nil {
		t.grants = map[string]tokenGrant{}
	}
	t.serial++
	now, ttl := time.Now(), cmp.Or(auth.TokenTTL, defaultTokenTTL)
	token := jwt(map[string]any{
		"iss": "fetchertest", "sub": auth.Username, "aud": auth.Service, "jti": strconv.Itoa(t.serial),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(ttl).Unix(), "access": granted,
	})
	t.grants[token] = tokenGrant{granted, now.Add(ttl)}
	return jsonAnswer(http.StatusOK, map[string]any{
		field: token, "expires_in": int(ttl.Seconds()), "issued_at": now.UTC().Format(time.RFC3339),
	})
}

// judge returns what is wrong with a token for a repository, as RFC 6750
// section 3.1 calls it, or nothing. An empty repository asks for any valid token.
func (t *tokens) judge(token, repository string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	grant, ok := t.grants[token]
	if !ok || !time.Now().Before(grant.expires) {
		return "invalid_token"
	}
	if repository == "" || slices.ContainsFunc(grant.access, func(a access) bool { return a.Name == repository }) {
		return ""
	}
	return "insufficient_scope"
}

// jwt has the shape of a JWT (RFC 7519), so that clients can read its claims;
// its signature is a mere hash, for the registry knows its tokens by heart.
func jwt(claims map[string]any) string {
	part := func(v any) string {
		b, _ := json.Marshal(v) // strings, numbers and access only
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(map[string]string{"typ": "JWT", "alg": "none"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(sum[:])
}
