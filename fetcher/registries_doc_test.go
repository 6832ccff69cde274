package fetcher

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

var update = flag.Bool("update", false, "write the tables of docs/registries.md anew")

// TestTheTablesOfRegistriesAreThoseOfTheProfiles fetches from each registry, and
// holds docs/registries.md to what that took.
func TestTheTablesOfRegistriesAreThoseOfTheProfiles(t *testing.T) {
	t.Parallel()
	page := filepath.Join("..", "docs", "registries.md")
	there, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(there)
	logins := []string{"| registry | host | key in config.json | user name |", "|---|---|---|---|"}
	ways := []string{"| registry | challenge for a manifest | what is done | public | private |", "|---|---|---|---|---|"}
	for _, p := range fetchertest.Profiles {
		if row := loginRow(p); p.Key != "" && !slices.Contains(logins, row) {
			logins = append(logins, row)
		}
		ways = append(ways, wayRow(t, p))
	}
	text = between(t, text, "logins", strings.Join(logins, "\n"))
	text = between(t, text, "ways", strings.Join(ways, "\n"))
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(text, string(there)); diff != "" {
		t.Errorf("%s (-want +got; go test ./fetcher -run Tables -update writes it anew):\n%s", page, diff)
	}
}

// between puts a table between its marks.
func between(t *testing.T, text, name, table string) string {
	t.Helper()
	begin, end := "<!-- "+name+": made by fetcher/registries_doc_test.go -->\n", "<!-- end -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("the page has no %q with its %q", begin, end)
	}
	return before + begin + "\n" + table + "\n\n" + end + after
}

// loginRow is the same for all that a registry was in the course of years.
func loginRow(p fetchertest.Profile) string {
	user := code(p.Credential.Username)
	switch {
	case p.Credential.IdentityToken != "":
		user += ", with an `identitytoken`"
	case p.Credential.Username == "jo":
		user = "the user's own"
	}
	name := p.Name
	for _, of := range []string{" in 20", " without challenges", " behind a", " with Basic", " with a password"} {
		name, _, _ = strings.Cut(name, of)
	}
	return fmt.Sprintf("| %s | %s | %s | %s |", name, code(p.Host), code(p.Key), user)
}

func wayRow(t *testing.T, p fetchertest.Profile) string {
	t.Helper()
	sent := "none"
	if p.Cold != nil {
		sent = cmp.Or(code(short(p, p.Cold.Challenge)), "a bare 401")
	}
	var done []string
	public := requestsFor(t, p, p.Public, DockerConfig{}, &done)
	private := requestsFor(t, p, p.Private, dockerConfig(t, p, p.Credential), &done)
	if values, replaced := p.Header["Docker-Content-Digest"]; replaced && values == nil {
		done = append(done, "a manifest comes without `Docker-Content-Digest`")
	}
	if done == nil {
		done = []string{"nothing"}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", p.Name, sent, strings.Join(done, "; "), public, private)
}

// requestsFor fetches cold and warm, and returns how many requests that took. What
// was done to be let in is added to done.
func requestsFor(t *testing.T, p fetchertest.Profile, place fetchertest.Place, config DockerConfig, done *[]string) string {
	t.Helper()
	if place.URI == "" {
		return "–"
	}
	w := newWorld(t, p)
	w.trace = true
	w.put(place)
	var counts []string
	for _, state := range []string{"cold", "warm"} {
		if _, err := w.fetch(place, config); err != nil {
			t.Fatalf("%s, %s: %v", p.Name, state, err)
		}
		counts = append(counts, fmt.Sprint(len(w.internet.Requests())))
		for _, text := range ways(p, w.events) {
			if !slices.Contains(*done, text) {
				*done = append(*done, text)
			}
		}
	}
	return strings.Join(counts, ", ")
}

// ways are what a trace says of how a registry let its client in.
func ways(p fetchertest.Profile, events []Event) (texts []string) {
	for _, e := range events {
		switch e := e.(type) {
		case Decided:
			texts = append(texts, way(p, e)...)
		case Asked:
			if e.Redirected {
				texts = append(texts, map[bool]string{true: "all of it", false: "blobs"}[p.ContentIsRegistry]+" from "+code(p.Content))
			}
			if e.Token && strings.HasPrefix(e.URL, "https:") && strings.HasPrefix(realm(p), "http:") {
				texts = append(texts, "the http realm is asked over https")
			}
		}
	}
	return texts
}

// way is one decision, in the words of a table.
func way(p fetchertest.Profile, e Decided) (texts []string) {
	switch e.Action {
	case "basic":
		return []string{"Basic"}
	case "probe":
		return []string{"`GET /v2/` for realm and service"}
	case "exchange":
	default:
		return nil
	}
	if strings.HasPrefix(realm(p), "/") {
		texts = append(texts, "the realm is relative")
	}
	token := "a token"
	if e.Method == http.MethodPost {
		token += " by POST, with the identity token"
	}
	if !strings.HasPrefix(e.Scope, "repository:") {
		token += " for the scope " + code(e.Scope)
	}
	texts = append(texts, token)
	for _, note := range e.Notes {
		texts = append(texts, abridged(note))
	}
	return texts
}

func realm(p fetchertest.Profile) string {
	if len(p.TokenServers) == 0 {
		return ""
	}
	return p.TokenServers[0].Realm
}

// abridged is a note of the ladder for a table.
func abridged(note string) string {
	switch {
	case strings.Contains(note, "names no service"):
		return "no service is sent"
	case strings.Contains(note, "names no scope"), strings.Contains(note, "is not this repository's"):
		return "the scope is composed"
	case strings.Contains(note, "is reduced to pull"):
		return "the scope is reduced to pull"
	}
	return note
}

// short is a challenge without the registry's own name, and REPOSITORY in place of
// one.
func short(p fetchertest.Profile, challenge string) string {
	challenge = strings.ReplaceAll(challenge, "{repository}", "REPOSITORY")
	if len(p.Host) > 40 { // an ECR's
		challenge = strings.ReplaceAll(challenge, p.Host, "HOST")
	}
	return challenge
}

// code is text as code in a table; "" stays "".
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}
