package registry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Service is the name of the registry in challenges and tokens.
const Service = "integration-registry"

const (
	issuer   = "integration-token-server"
	lifetime = 5 * time.Minute
)

// tokens is a token server as the distribution project specifies it (Token
// Authentication Specification, "Requesting a Token"): a token grants the
// intersection of the scopes asked for and what the user may do, which can be
// nothing at all.
type tokens struct {
	users  []User
	public Grants
	signer jose.Signer
	keys   jose.JSONWebKeySet // public
}

func newTokens(config Config) (*tokens, error) {
	private, algorithm, err := newKey(config.Algorithm)
	if err != nil {
		return nil, err
	}
	id := token.GetJWKThumbprint(private.Public())
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: algorithm,
		Key:       jose.JSONWebKey{Key: private, KeyID: id},
	}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("make the signer of tokens: %w", err)
	}
	public := jose.JSONWebKey{Key: private.Public(), KeyID: id, Algorithm: string(algorithm), Use: "sig"}
	return &tokens{
		users:  config.Users,
		public: config.Public,
		signer: signer,
		keys:   jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}},
	}, nil
}

// newKey makes a key for the JWS algorithm of that name (RFC 7518 section 3.1).
func newKey(algorithm string) (crypto.Signer, jose.SignatureAlgorithm, error) {
	switch algorithm {
	case "", "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return key, jose.ES256, err
	case "RS256":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		return key, jose.RS256, err
	}
	return nil, "", fmt.Errorf("unknown signature algorithm %q: use ES256 or RS256", algorithm)
}

// ServeHTTP answers GET ?service=SERVICE&scope=SCOPE...
func (t *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch user, known := t.authenticate(r); {
	case r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "only GET is supported")
	case !known:
		w.Header().Set("WWW-Authenticate", `Basic realm="tokens"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
	case query.Get("service") != Service:
		refuse(w, http.StatusBadRequest, "DENIED", fmt.Sprintf("unknown service %q", query.Get("service")))
	default:
		t.grant(w, user, query)
	}
}

// authenticate returns who asks: nobody, the zero user, without a credential;
// known is false for a wrong one.
func (t *tokens) authenticate(r *http.Request) (user User, known bool) {
	sent := r.Header.Get("Authorization")
	if sent == "" {
		return User{}, true
	}
	for _, user := range t.users {
		if subtle.ConstantTimeCompare([]byte(sent), []byte(user.authorization())) == 1 {
			return user, true
		}
	}
	return User{}, false
}

// grant answers with a token for the scopes in query, as far as user may have them.
func (t *tokens) grant(w http.ResponseWriter, user User, query url.Values) {
	var access []*token.ResourceActions
	for scope := range strings.FieldsSeq(strings.Join(query["scope"], " ")) {
		asked, err := parseScope(scope)
		if err != nil {
			refuse(w, http.StatusBadRequest, "UNSUPPORTED", err.Error())
			return
		}
		if granted := t.limit(asked, user); len(granted.Actions) > 0 {
			access = append(access, granted)
		}
	}
	now := time.Now()
	signed, err := t.sign(user.Name, access, now)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"token":        signed,
		"access_token": signed,
		"expires_in":   int(lifetime.Seconds()),
		"issued_at":    now.UTC().Format(time.RFC3339),
	})
}

// limit returns what user may do of what is asked.
func (t *tokens) limit(asked *token.ResourceActions, user User) *token.ResourceActions {
	granted := *asked
	granted.Actions = slices.DeleteFunc(slices.Clone(asked.Actions), func(action string) bool {
		return asked.Type != "repository" ||
			!user.Grants.allows(asked.Name, action) && !t.public.allows(asked.Name, action)
	})
	return &granted
}

func (t *tokens) sign(subject string, access []*token.ResourceActions, now time.Time) (string, error) {
	return jwt.Signed(t.signer).Claims(token.ClaimSet{
		Issuer:     issuer,
		Subject:    subject,
		Audience:   token.AudienceList{Service},
		Expiration: now.Add(lifetime).Unix(),
		NotBefore:  now.Unix(),
		IssuedAt:   now.Unix(),
		JWTID:      rand.Text(),
		Access:     access,
	}).Serialize()
}

// parseScope parses one scope of the Token Scope Documentation:
//
//	scope = type ":" name ":" action *( "," action )
//
// The name may hold colons itself, those of HOST:PORT.
func parseScope(scope string) (*token.ResourceActions, error) {
	kind, rest, _ := strings.Cut(scope, ":")
	colon := strings.LastIndexByte(rest, ':')
	if kind == "" || colon <= 0 || colon == len(rest)-1 {
		return nil, fmt.Errorf("invalid scope %q: it is not TYPE:NAME:ACTIONS", scope)
	}
	actions := strings.Split(rest[colon+1:], ",")
	if slices.Contains(actions, "") {
		return nil, fmt.Errorf("invalid scope %q: an action is empty", scope)
	}
	return &token.ResourceActions{Type: kind, Name: rest[:colon], Actions: actions}, nil
}

// refuse answers in the form of the distribution-spec ("Error Codes").
func refuse(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{
		"errors": []map[string]string{{"code": code, "message": message}},
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client is gone
}
