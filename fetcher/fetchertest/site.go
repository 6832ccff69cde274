package fetchertest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// site is a registry of the internet: it plays a profile.
type site struct {
	profile  Profile
	registry *Registry
	realms   []*url.URL // of the token servers
}

func newSite(n *Internet, profile Profile) (*site, error) {
	r := &Registry{
		authority: n.authority, life: n.life, journal: n.journal,
		registry: "https://" + profile.Host,
	}
	s := &site{profile: profile, registry: r}
	for _, t := range profile.TokenServers {
		realm, err := (&url.URL{Scheme: "https", Host: profile.Host}).Parse(t.Realm)
		if err != nil {
			return nil, fmt.Errorf("bad realm: %w", err)
		}
		s.realms = append(s.realms, realm)
	}
	if len(s.realms) > 0 {
		r.realm = s.realms[0].String()
	}
	if profile.Content != "" && !profile.ContentIsRegistry {
		r.cdn = "https://" + profile.Content
	}
	r.answers = s.answer
	return s, nil
}

// hosts lists all names of the site.
func (s *site) hosts() []string {
	names := []string{s.profile.Host}
	if s.profile.Content != "" {
		names = append(names, s.profile.Content)
	}
	for _, realm := range s.realms {
		names = append(names, realm.Host)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// serve answers a request to one of the names. The journal has the name
// without a port.
func (s *site) serve(w http.ResponseWriter, req *http.Request, name string) {
	req.Host = name
	s.registry.serve(w, req, s.locate(req))
}

// locate says what an address of the site is. Only a realm may be had by http.
func (s *site) locate(req *http.Request) target {
	path := req.URL.Path
	switch {
	case s.tokenServer(req) != nil:
		return target{endpoint: Token}
	case req.TLS == nil:
		return target{endpoint: Other}
	case req.Host == s.profile.Host, s.profile.ContentIsRegistry && req.Host == s.profile.Content:
		return registryTarget(path)
	case req.Host == s.profile.Content:
		return cdnTarget(path)
	}
	return target{endpoint: Other}
}

// tokenServer returns the token endpoint at the request's address, nil if it is none.
func (s *site) tokenServer(req *http.Request) *TokenServer {
	for i, realm := range s.realms {
		if realm.Host == req.Host && realm.Path == req.URL.Path && (req.TLS != nil || realm.Scheme == "http") {
			return &s.profile.TokenServers[i]
		}
	}
	return nil
}

// answer is what the registry of the profile answers.
func (s *site) answer(q Request, req *http.Request) answer {
	switch q.Endpoint {
	case Token:
		return s.answerToken(*s.tokenServer(req), req)
	case CDN:
		return s.registry.answerCDN(q)
	case Root, Manifest, Blob:
		return s.answerRegistry(q).with("Docker-Distribution-Api-Version", "registry/2.0")
	}
	return textAnswer(http.StatusNotFound, "404 page not found\n")
}

func (s *site) answerRegistry(q Request) answer {
	if s.profile.ContentIsRegistry && q.Host == s.profile.Host {
		return textAnswer(http.StatusTemporaryRedirect, "").with("Location", "https://"+s.profile.Content+q.Path)
	}
	if refusal := s.refuse(q); refusal != nil {
		return refusal.answer(q)
	}
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		return errorOf(q.Endpoint, http.StatusMethodNotAllowed)
	}
	a := s.registry.pull(q)
	if q.Endpoint == Manifest && a.status == http.StatusOK {
		for name, values := range s.profile.Header {
			a = a.with(name, values...)
		}
	}
	return a
}

// refuse returns the refusal of a request that may not read what it names, nil
// if it may.
func (s *site) refuse(q Request) *Refusal {
	p := s.profile
	cold := p.Cold
	if q.Endpoint == Root {
		cold = p.Root
	}
	if cold == nil {
		return nil
	}
	_, isBasic := cutScheme(q.Authorization, Basic)
	token, isBearer := cutScheme(q.Authorization, Bearer)
	switch {
	case isBasic && p.Basic && p.Credential.admitsBasic(q.Authorization):
		return nil
	case isBasic && p.Basic:
		return cmp.Or(p.WrongBasic, cold)
	case !isBearer:
		return cold
	}
	switch s.registry.tokens.judge(token, q.Repository) {
	case "":
		return nil
	case "insufficient_scope":
		return cmp.Or(p.Narrow, cold)
	}
	return cmp.Or(p.Stale, cold)
}

// answer gives the refusal to a request.
func (f Refusal) answer(q Request) answer {
	text := func(s string) string { return strings.ReplaceAll(s, "{repository}", q.Repository) }
	status := cmp.Or(f.Status, http.StatusUnauthorized)
	a := errorOf(q.Endpoint, status)
	if f.Body != "" {
		a = newAnswer(status, f.MediaType, strings.NewReader(text(f.Body)))
	}
	if f.Challenge != "" {
		a = a.with("WWW-Authenticate", text(f.Challenge))
	}
	return a
}

// admitsBasic reports whether the value of an Authorization header is the
// credential. An identity token may stand in the password's place.
func (c Credential) admitsBasic(authorization string) bool {
	auth := Auth{Username: c.Username, Password: cmp.Or(c.Password, c.IdentityToken)}
	return c.Username != "" && auth.admitsBasic(authorization)
}
