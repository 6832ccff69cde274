package credential

import (
	"errors"
	"testing"
)

// What the original does with a config: the entry whose auth it sends to a
// registry, none, or a refusal of the whole config.
const (
	none    = "none"
	refused = "refused"
)

// The original has parseAuthConfig (src/docker/spec.cpp) and, to choose an
// entry, getAuthHeaderBasic (src/uri/fetchers/docker.cpp). Its tests have one
// config in each form: TestParseReadsTheConfigsOfTheOriginalsTests and
// TestParseKeyFindsTheHostAsTheOriginalDoes are their twins. Here is what those
// functions do beyond that; a row that differs says why.
func TestAConfigServesWhomItServesInTheOriginalSaveWhereARowSaysWhy(t *testing.T) {
	t.Parallel()
	entry := func(key, user string) string { return `"` + key + `":{"auth":"` + b64(user+":p") + `"}` }
	auths := func(entries string) string { return `{"auths":{` + entries + `}}` }
	for _, tt := range []struct {
		name, config, registry string
		original, ours         string // the user whose entry serves, or none, or refused
		why                    string
	}{
		{"an entry under the host", auths(entry("quay.io", "u")), "quay.io", "u", "u", ""},
		{"an entry under a URL", auths(entry("https://quay.io/v1/", "u")), "quay.io", "u", "u", ""},
		{"an entry under an http URL", auths(entry("http://quay.io/v1/", "u")), "quay.io", "u", "u", ""},
		{"an entry under host and port", auths(entry("localhost:5000", "u")), "localhost:5000", "u", "u", ""},
		{"an entry under another port", auths(entry("localhost:5000", "u")), "localhost:5001", none, none, ""},
		{"an entry under another host", auths(entry("quay.io", "u")), "ghcr.io", none, none, ""},
		{"Docker Hub under docker's own key", auths(entry("https://index.docker.io/v1/", "u")), "registry-1.docker.io", "u", "u", ""},
		{"Docker Hub under its short name", auths(entry("docker.io", "u")), "registry-1.docker.io", "u", "u", ""},
		{"no entries", auths(""), "quay.io", none, none, ""},
		{"an entry with an email alone", auths(`"quay.io":{"email":"e"}`), "quay.io", none, none, ""},
		{"an unknown field in an entry", auths(`"quay.io":{"auth":"` + b64("u:p") + `","x":[1]}`), "quay.io", "u", "u", ""},
		{"HttpHeaders beside auths", `{"auths":{` + entry("quay.io", "u") + `},"HttpHeaders":{"X":"y"}}`, "quay.io", "u", "u", ""},
		{"a .dockercfg", `{` + entry("quay.io", "u") + `}`, "quay.io", "u", "u", ""},
		{"helpers alone, for which the original sees a registry of that name", `{"credHelpers":{"ghcr.io":"x"}}`, "quay.io", none, none, ""},
		{"no JSON", `auths: x`, "quay.io", refused, refused, ""},
		{"an array", `[]`, "quay.io", refused, refused, ""},
		{"an array for auths", `{"auths":[]}`, "quay.io", refused, refused, ""},
		{"a string for the entry asked for", auths(`"quay.io":"x"`), "quay.io", refused, refused, ""},

		{"a credential store alone", `{"credsStore":"desktop"}`, "quay.io", refused, none,
			"it is a valid config.json, whose setting the original takes for an entry of a .dockercfg"},
		{"a setting beside the entries of a .dockercfg", `{` + entry("quay.io", "u") + `,"detachKeys":"ctrl-e"}`, "quay.io", refused, "u",
			"a known setting is no entry"},
		{"a string for another entry", auths(entry("quay.io", "u") + `,"ghcr.io":"x"`), "quay.io", refused, "u",
			"one broken entry must not void the others; a warning tells of it"},
		{"an entry without auth", auths(`"quay.io":{"username":"u","password":"p"}`), "quay.io", none, "u",
			"docker reads username and password where there is no auth"},
		{"a key in capitals", auths(entry("QUAY.io", "u")), "quay.io", none, "u",
			"hosts have no case (RFC 3986, section 3.2.2)"},
		{"a key with the default port", auths(entry("quay.io:443", "u")), "quay.io", none, "u",
			"it is the same registry"},

		{"a host that begins as Docker Hub's", auths(entry("https://index.docker.io/v1/", "u")), "docker.io.evil.com", "u", none,
			"the original looks for docker.io anywhere in host and key, and so hands Docker Hub's credential to strangers"},
		{"a host that ends as Docker Hub's", auths(entry("docker.io", "u")), "notdocker.io", "u", none,
			"the same"},
		{"a key that begins as Docker Hub's", auths(entry("docker.io.evil.com", "u")), "registry-1.docker.io", "u", none,
			"the same, the other way round"},
		{"a key of another namespace", auths(entry("quay.io/theirs", "u")), "quay.io", "u", none,
			"a key with a path serves the repositories below it; the original cuts the path off"},
		{"an auth that is not base64", auths(`"quay.io":{"auth":"u:p"}`), "quay.io", "u", refused,
			"no registry takes it; the original sends it as it is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if (tt.why == "") != (tt.original == tt.ours) {
				t.Errorf("the row says %q, though the original has %s and ours %s", tt.why, tt.original, tt.ours)
			}
			if got := served(tt.config, tt.registry); got != tt.ours {
				t.Errorf("got %s, want %s", got, tt.ours)
			}
		})
	}
}

// served is the user whose entry serves the repository ours/app of the registry.
func served(config, registry string) string {
	s, err := Parse([]byte(config))
	if err == nil {
		var m Match
		var ok bool
		if m, ok, err = s.Lookup(registry, "ours/app"); err == nil && !ok {
			return none
		}
		if err == nil {
			return m.Credential.Username
		}
	}
	if !errors.Is(err, ErrConfig) {
		return err.Error()
	}
	return refused
}
