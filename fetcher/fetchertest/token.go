package fetchertest

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
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

// issue makes a token for granted and returns the answer without it, to which
// the caller adds the token under a name. No two tokens are equal.
func (t *tokens) issue(auth Auth, granted []access) (token string, body map[string]any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grants == nil {
		t.grants = map[string]tokenGrant{}
	}
	t.serial++
	now, ttl := time.Now(), cmp.Or(auth.TokenTTL, defaultTokenTTL)
	token = jwt(map[string]any{
		"iss": "fetchertest", "sub": auth.Username, "aud": auth.Service, "jti": strconv.Itoa(t.serial),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(ttl).Unix(), "access": granted,
	})
	t.grants[token] = tokenGrant{granted, now.Add(ttl)}
	return token, map[string]any{"expires_in": int(ttl.Seconds()), "issued_at": now.UTC().Format(time.RFC3339)}
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
