//go:build unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

var update = flag.Bool("update", false, "write the golden files of this package anew")

// stale is a credential that no registry takes, and no text may show.
var stale = fetchertest.Credential{Username: "tenant", Password: password}

// openBase is a registry whose /v2/ is open while a repository asks: what
// skopeo#2502 is about.
var openBase = fetchertest.Profile{
	Name:       "an open /v2/ with a closed repository",
	Host:       "registry.example.com",
	Private:    fetchertest.Place{URI: "docker://registry.example.com/team/app?1", Repository: "team/app", Tag: "1"},
	Key:        "registry.example.com",
	Credential: fetchertest.Credential{Username: "tenant", Password: password},
	Cold:       &fetchertest.Refusal{Challenge: `Basic realm="registry"`},
	Basic:      true,
}

// stories are what explain tells, as testdata/explain has it and README.md shows it.
var stories = []struct {
	file, profile, image string
	private              bool // the image is the private one
	credential           *fetchertest.Credential
	code                 int
}{
	{file: "nvcr.txt", profile: "nvcr.io in 2020", image: "nvcr.io/nvidia/tensorflow:20.03"},
	{file: "docker-hub.txt", profile: "Docker Hub"},
	{file: "docker-hub-stale.txt", profile: "Docker Hub", credential: &stale},
	{file: "open-base.txt", profile: openBase.Name, private: true, credential: &openBase.Credential},
	{file: "open-base-stale.txt", profile: openBase.Name, private: true, credential: &fetchertest.Credential{Username: "tenant", Password: "other-" + password}, code: exitUnauthorized},
	{file: "private-anonymous.txt", profile: "GitHub Container Registry", private: true, code: exitUnauthorized},
}

func TestExplainTellsTheStoryOfEachRegistryAndNoSecret(t *testing.T) {
	t.Parallel()
	for _, s := range stories {
		t.Run(s.file, func(t *testing.T) {
			t.Parallel()
			profile := profileOf(t, s.profile)
			place := profile.Public
			if s.private {
				place = profile.Private
			}
			in := fetchertest.NewInternet(t)
			in.Add(t, profile).PutImage(place.Repository, place.Tag, fetchertest.Image{Layers: [][]byte{[]byte("layer")}})
			image, _, _ := strings.Cut(place.URI, "#")
			environment := onInternet(t, in, profile.Key, s.credential)
			p := newProcess(t, environment, "explain", "--platform", "linux/amd64", image)
			p.start()
			if code := p.wait(); code != s.code {
				t.Errorf("exit code %d, want %d", code, s.code)
			}
			told := "$ docker-fetcher explain '" + image + "'\n" + settled(p.stdout.String()+p.stderr.String())
			golden(t, filepath.Join("testdata", "explain", s.file), told)
			secretless(t, told)

			p = newProcess(t, environment, "explain", "-o", "json", image)
			p.start()
			p.wait()
			var record struct {
				URI    string
				Events []map[string]map[string]any
				Result map[string]any
				Error  map[string]string
			}
			if err := json.Unmarshal(p.stdout.Bytes(), &record); err != nil {
				t.Fatalf("%v: %s", err, &p.stdout)
			}
			asked := 0
			for _, e := range record.Events {
				if e["asked"] != nil {
					asked++
				}
			}
			if want := len(numbered.FindAllString(told, -1)); asked != want || (record.Error != nil) != (s.code != 0) || (record.Result == nil) != (s.code != 0) {
				t.Errorf("the record has %d requests, want %d, result %v and error %v", asked, want, record.Result, record.Error)
			}
			secretless(t, p.stdout.String()+p.stderr.String())
		})
	}
}

func profileOf(t *testing.T, name string) fetchertest.Profile {
	t.Helper()
	for _, p := range append([]fetchertest.Profile{openBase}, fetchertest.Profiles...) {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no profile %q", name)
	return fetchertest.Profile{}
}

// onInternet is the environment of a process that reaches the registries of in,
// with a docker config that has the credential under key.
func onInternet(t *testing.T, in *fetchertest.Internet, key string, c *fetchertest.Credential) []string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", string(in.CA()))
	if c != nil {
		pair := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
		write("config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, pair))
	} else {
		write("config.json", `{}`)
	}
	return []string{
		"HTTPS_PROXY=" + in.Proxy().String(), "SSL_CERT_FILE=" + ca, "DOCKER_CONFIG=" + dir,
	}
}

// What differs from one run to the next.
var (
	numbered = regexp.MustCompile(`(?m)^ *\d+  [A-Z]+ https`)
	times    = regexp.MustCompile(`in \d+(\.\d+)?(µs|ms|s)\b`)
	zeroed   = regexp.MustCompile(`in 0s`)
)

func settled(text string) string {
	return zeroed.ReplaceAllString(times.ReplaceAllString(text, "in 1ms"), "in 1ms")
}

// golden holds text to a file, and writes that with -update.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

func secretless(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte("tenant:" + password))} {
		if strings.Contains(text, secret) {
			t.Errorf("the text holds a secret: %s", text)
		}
	}
}
