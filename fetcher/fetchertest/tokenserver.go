package fetchertest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

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
	token, body := r.tokens.issue(auth, granted)
	body[field] = token
	return jsonAnswer(http.StatusOK, body)
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
