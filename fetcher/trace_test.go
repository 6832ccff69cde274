package fetcher

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func TestATraceHasTheRequestsThatTheRegistryGot(t *testing.T) {
	t.Parallel()
	for _, p := range fetchertest.Profiles {
		place, config := p.Public, DockerConfig{}
		if p.Private.URI != "" {
			place, config = p.Private, dockerConfig(t, p, p.Credential)
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, p)
			w.put(place)
			w.trace = true
			for _, state := range []string{"cold", "warm"} {
				if _, err := w.fetch(place, config); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(received(w.internet.Requests(), p.Content), told(w.events)); diff != "" {
					t.Errorf("%s (-received +told):\n%s", state, diff)
				}
			}
		})
	}
}

// received are the requests as the registry got them, sorted: blobs come side by side.
func received(requests []fetchertest.Request, content string) (lines []string) {
	for _, q := range requests {
		kind, _, _ := strings.Cut(q.Authorization, " ")
		url := q.Scheme + "://" + q.Host
		if q.Host != content { // of that nothing but the host is told
			url += q.Path
		}
		lines = append(lines, fmt.Sprint(q.Method, " ", url, " ", kind, " ", q.Range, " ", q.Status))
	}
	slices.Sort(lines)
	return lines
}

// told are the requests of a trace, in the form of received.
func told(events []Event) (lines []string) {
	for _, e := range events {
		if a, ok := e.(Asked); ok {
			lines = append(lines, fmt.Sprint(a.Method, " ", a.URL, " ", a.Authorization, " ", a.Range, " ", a.Status))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestWithoutATraceNoRequestIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, registryNamed(t, "Docker Hub"))
	w.put(w.profile.Public)
	if _, err := w.fetch(w.profile.Public, DockerConfig{}); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.events {
		switch e.(type) {
		case Entered, Started, Progress, FileDone, Warning:
		default:
			t.Errorf("told %T", e)
		}
	}
}

func TestATraceTellsTheDecisionsTheTokenAndTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, registryNamed(t, "nvcr.io in 2020"))
	w.put(w.profile.Private)
	w.trace = true
	if _, err := w.fetch(w.profile.Private, dockerConfig(t, w.profile, w.profile.Credential)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.events {
		switch e := e.(type) {
		case Chosen:
			got = append(got, "key "+e.Key+" for "+e.Host)
		case Decided:
			if e.Action != "kept" {
				got = append(got, strings.Join(append([]string{e.Action, e.Realm, e.Scope, e.Key}, e.Notes...), "|"))
			}
		case Granted:
			got = append(got, fmt.Sprint("granted ", e.Access, " for ", e.Lasts.Round(1e9)))
		}
	}
	scope := "repository:" + w.profile.Private.Repository + ":pull"
	want := []string{
		"key nvcr.io for nvcr.io", "plain|||",
		"exchange|https://nvcr.io/proxy_auth|" + scope + "|nvcr.io|the challenge names no service, so none is sent|the challenge names no scope, so that of the repository is composed",
		"granted [" + scope + "] for 10m0s", "token|||",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestATraceTellsNoSecretThatAPeerRepeats(t *testing.T) {
	t.Parallel()
	const password = "canary-5ecret"
	pair := base64.StdEncoding.EncodeToString([]byte("tenant:" + password))
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("team/app", "1", fetchertest.Image{})
	r.Inject(fetchertest.Fault{
		Status: http.StatusUnauthorized, Body: []byte("you sent " + pair + " " + password),
		Header: http.Header{"Www-Authenticate": {`Basic realm="` + pair + `"`, `Bearer realm="` + r.URL() + `/` + password + `",scope="` + password + `"`}, "Retry-After": {password}},
	})
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	_, err = f.Fetch(t.Context(), Request{
		URI: imageURI(t, r), Directory: t.TempDir(), Trace: true, Observe: func(e Event) { events = append(events, e) },
		Config: DockerConfig{JSON: fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, r.Host(), pair)},
	})
	if err == nil {
		t.Fatal("fetched from a registry that refuses")
	}
	texts := fmt.Sprintf("%+v %v", events, err)
	if !strings.Contains(texts, "[redacted]") || strings.Contains(texts, password) || strings.Contains(texts, pair) {
		t.Errorf("%s", texts)
	}
}

func imageURI(t *testing.T, r *fetchertest.Registry) scheme.URI {
	t.Helper()
	ref, err := scheme.Parse("docker://" + r.Host() + "/team/app?1#http")
	if err != nil {
		t.Fatal(err)
	}
	return ref.URI()
}

func TestWhatIsToldAfterTheEndOfACallIsNotKept(t *testing.T) {
	t.Parallel()
	told := 0
	w := newWatch(t.Context(), func(Event) { told++ }, 0)
	w.send(Waiting{})
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		w.send(Asked{})
	}
	if told != 1 || len(w.queue) != 0 {
		t.Errorf("told %d, %d are kept", told, len(w.queue))
	}
}

func TestATraceTellsWaitsAndMirrorsThatAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := fetchertest.New(t, fetchertest.Config{})
	r.PutImage("team/app", "1", fetchertest.Image{})
	r.Inject(fetchertest.Fault{Status: http.StatusServiceUnavailable, Times: 1, Match: fetchertest.Match{Endpoint: fetchertest.Manifest}})
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, r.Host()), 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("server = %q\n[host.\"http://127.0.0.1:1\"]\n", r.URL())
	if err := os.WriteFile(filepath.Join(dir, r.Host(), "hosts.toml"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{HostsDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	for range 2 { // the second time the mirror is known to be down
		if _, err := f.Fetch(t.Context(), Request{
			URI: imageURI(t, r), Directory: t.TempDir(), Trace: true, Observe: func(e Event) { events = append(events, e) },
		}); err != nil {
			t.Fatal(err)
		}
	}
	waited, skipped := 0, 0
	for _, e := range events {
		switch e := e.(type) {
		case Waiting:
			waited++
			if e.Host != r.Host() || e.For <= 0 {
				t.Errorf("%+v", e)
			}
		case Skipped:
			skipped++
			if e.Host != "http://127.0.0.1:1" || !strings.Contains(e.Why, "connection refused") {
				t.Errorf("%+v", e)
			}
		}
	}
	if waited != 1 || skipped == 0 {
		t.Errorf("%d waits, %d mirrors left alone: %+v", waited, skipped, events)
	}
}
