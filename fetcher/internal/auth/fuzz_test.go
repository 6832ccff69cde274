package auth

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
)

func FuzzAMessageIsBoundedAndNoMarkup(f *testing.F) {
	for _, body := range []string{
		`{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[{"Type":"repository"}]}]}`,
		`{"errors":[{"code":404,"message":"Not Found"},{"message":["x"]}]}`, `{"details":"incorrect username or password"}`,
		"<html><body>502 Bad Gateway</body></html>", "Your Authorization Token has expired. Please run 'aws ecr'.\nmore", "\x1b[2J\x00", "null", `"text"`, "[1,2]",
		`{"message":"` + strings.Repeat("é", 300) + `"}`, strings.Repeat("…", 400),
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		message := Message(body)
		switch plain := strings.TrimSpace(string(body)); {
		case len(message) > maxMessage+len("…") || !utf8.ValidString(message):
			t.Errorf("%d bytes: %q", len(message), message)
		case strings.HasPrefix(plain, "<") && message != "":
			t.Errorf("%q from markup", message)
		}
	})
}

// Wherever a challenge leads: the secret goes to the realm's own host, by https
// from an https registry, and never into a URL.
func FuzzARealmGetsNoMoreThanItShould(f *testing.F) {
	for _, realm := range []string{
		"https://auth.docker.io/token", "https://nvcr.io/proxy_auth?scope=repository:nvidia/tensorflow:pull,push", "/zot/auth/token", "http://harbor.test/service/token",
		"//auth.example/t", "file:///etc/passwd", "https://u:p@auth.example/", "Artifactory Realm", "https://[fe80::1%25eth0]/t", "http:opaque", "?x=1#f", "\x00", "https://a/%zz",
	} {
		f.Add(realm, "registry.docker.io", "repository:library/alpine:pull")
	}
	registry := &url.URL{Scheme: "https", Host: "registry.example"}
	const canary = "s3cr3tCanary"
	f.Fuzz(func(t *testing.T, realm, service, scope string) {
		u, err := realmURL(realm, registry)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q is asked at %s", realm, u)
		}
		if again, err := realmURL(u.String(), registry); err != nil || again.Host != u.Host || again.RawQuery != u.RawQuery {
			t.Errorf("%s, read again, is %v, %v", u, again, err)
		}
		for _, c := range []credential.Credential{{Username: "u", Password: canary}, {IdentityToken: canary}} {
			for _, post := range []bool{false, true} {
				req, err := tokenRequest(t.Context(), u, Step{Grant: Grant{Realm: realm, Service: service, Scope: scope}, Post: post}, c)
				if err != nil {
					continue
				}
				if req.URL.Host != u.Host || req.URL.Scheme != "https" || strings.Contains(req.URL.String(), canary) != strings.Contains(realm+service+scope, canary) {
					t.Errorf("%q is asked at %s", realm, req.URL)
				}
			}
		}
	})
}
