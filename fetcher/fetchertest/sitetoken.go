package fetchertest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// answerToken is one of the profile's token servers. A refusal of status 200
// is a token without access.
func (s *site) answerToken(t TokenServer, req *http.Request) answer {
	form := req.URL.Query()
	if req.Method == http.MethodPost {
		form = req.PostForm
	}
	granted, refusal := s.exchange(t, req, form)
	if refusal == nil || refusal.Status == http.StatusOK {
		return s.issue(t, form.Get("service"), granted)
	}
	return refusal.answer(Request{Endpoint: Token})
}

// exchange decides a token request: the method first, then the credential, the
// service and the scope.
func (s *site) exchange(t TokenServer, req *http.Request, form url.Values) ([]access, *Refusal) {
	post := req.Method == http.MethodPost
	known, anonymous := s.profile.Credential.judge(req)
	granted, ok := s.grant(t, strings.Fields(strings.Join(form["scope"], " ")), known)
	switch {
	case post && t.Post != nil:
		return nil, t.Post
	case post && t.PostPassword != nil && form.Get("grant_type") == "password":
		return nil, t.PostPassword
	case !post && req.Method != http.MethodGet:
		return nil, &Refusal{Status: http.StatusMethodNotAllowed}
	case !known && (t.Closed || !anonymous):
		return nil, t.WrongCredential.or(http.StatusUnauthorized)
	case t.Services != nil && !slices.Contains(t.Services, strings.Join(form["service"], " ")):
		return nil, t.WrongService.or(http.StatusBadRequest)
	case !ok:
		return nil, t.WrongScope.or(http.StatusBadRequest)
	}
	return granted, nil
}

func (f Refusal) or(status int) *Refusal {
	f.Status = cmp.Or(f.Status, status)
	return &f
}

// judge says whether a token request brings the credential, or none at all.
func (c Credential) judge(req *http.Request) (known, anonymous bool) {
	authorization, form := req.Header.Get("Authorization"), req.PostForm
	switch {
	case req.Method != http.MethodPost:
		return c.admitsBasic(authorization), authorization == ""
	case form.Get("grant_type") == "refresh_token":
		return c.IdentityToken != "" && same(form.Get("refresh_token"), c.IdentityToken), false
	case form.Get("grant_type") == "password":
		return c.Username != "" && same(form.Get("username"), c.Username) && same(form.Get("password"), c.Password), false
	}
	return false, false
}

// grant returns what the scopes give to the one who asks, and false if a
// strict server refuses one of them.
func (s *site) grant(t TokenServer, scopes []string, known bool) (granted []access, ok bool) {
	granted = []access{}
	for _, scope := range scopes {
		more := s.grantOne(t, scope, known)
		if len(more) == 0 && t.Strict {
			return nil, false
		}
		granted = append(granted, more...)
	}
	return granted, len(scopes) > 0 || !t.Strict
}

func (s *site) grantOne(t TokenServer, scope string, known bool) (granted []access) {
	patterns := t.Scopes
	if patterns == nil {
		patterns = []string{"repository:{repository}:pull"}
	}
	asked, _ := grant(scope) // nothing where scope is of another kind
	for _, name := range s.registry.store.names() {
		if name == s.profile.Private.Repository && !known {
			continue
		}
		grants := slices.ContainsFunc(patterns, func(pattern string) bool {
			own := strings.ReplaceAll(pattern, "{repository}", name)
			return own == scope || !t.Strict && own != pattern && slices.ContainsFunc(asked, func(a access) bool { return a.Name == name })
		})
		if grants {
			granted = append(granted, access{"repository", name, []string{"pull"}})
		}
	}
	return granted
}

// issue answers a token.
func (s *site) issue(t TokenServer, service string, granted []access) answer {
	if granted == nil {
		granted = []access{}
	}
	token, body := s.registry.tokens.issue(Auth{Service: service, TokenTTL: time.Duration(t.Lifetime) * time.Second}, granted)
	for name, value := range t.Fields {
		if body[name] = value; value == nil {
			delete(body, name)
		}
	}
	fields := t.TokenFields
	if fields == nil {
		fields = []string{"token"}
	}
	for _, field := range fields {
		body[field] = token
	}
	return jsonAnswer(http.StatusOK, body)
}
