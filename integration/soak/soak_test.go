package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

func TestSomeSecondsOfFaultsLeaveNothingWrong(t *testing.T) {
	t.Parallel()
	var report record
	counts, err := run(t.Context(), config{
		Seed: 7, Time: 4 * time.Second, Fetchers: 4, Doors: 2, Images: 3,
		Longest: 400 * time.Millisecond, Report: time.Second, Out: io.MultiWriter(&report, t.Output()),
	})
	if err != nil {
		t.Fatal(err)
	}
	if failures := counts.failures(); failures != "" {
		t.Error(failures)
	}
	if counts.well == 0 || sum(counts.faults) == 0 || counts.bytes == 0 {
		t.Errorf("a soak in which nothing happens shows nothing: %v", counts)
	}
	if !strings.Contains(report.String(), "seed 7") {
		t.Errorf("the report does not tell the seed: %s", &report)
	}
}

func TestTheSeedDecidesWhatIsDrawn(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64, number int) (drawn []string) {
		door, fetcher := source(seed, "door", number), source(seed, "fetcher", number)
		for range 10 {
			drawn = append(drawn, fmt.Sprintf("%+v %+v", drawFault(door, time.Second), drawErrand(fetcher, 5, 3)))
		}
		return drawn
	}
	if diff := cmp.Diff(draw(1, 2), draw(1, 2)); diff != "" {
		t.Errorf("one seed draws this and that: %s", diff)
	}
	if cmp.Equal(draw(1, 2), draw(2, 2)) || cmp.Equal(draw(1, 2), draw(1, 3)) {
		t.Error("two seeds, or two numbers, draw the same")
	}
}

func TestAllThatCanBeDrawnIsDrawn(t *testing.T) {
	t.Parallel()
	const longest = 25 * time.Second
	r := source(1, "test", 0)
	drawn := map[string]bool{}
	for range 2000 {
		f := drawFault(r, longest)
		if f.Lasts <= 0 || f.Lasts > longest || f.Rest <= 0 || f.Kind != down && f.Toxicity == 0 {
			t.Errorf("fault %+v", f)
		}
		e := drawErrand(r, 5, 3)
		if e.Ending == killed && !e.process() {
			t.Errorf("%+v kills the plugin that all share", e)
		}
		for _, what := range []any{f.Kind, f.Stream, e.Caller, e.Ending, e.Image, e.Door, e.Cached, e.Redirected} {
			drawn[fmt.Sprintf("%T %v", what, what)] = true
		}
	}
	// 8 faults, 3 directions with none, 4 callers, 3 endings, 5 images of which
	// the first numbers are doors too, 2 for each of two flags of one type.
	if want := 8 + 3 + 4 + 3 + 5 + 2; len(drawn) != want {
		t.Errorf("drew %d things, want %d: %v", len(drawn), want, drawn)
	}
}

func TestOnlyTheNetworkIsAReasonToFail(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"REGISTRY_UNREACHABLE", "STALLED", "REGISTRY_5XX", "exit code 6"} {
		if err := judge(errand{Ending: undisturbed, Unhindered: true}, outcome{reason: reason}); err == nil {
			t.Errorf("%s without a fault is judged as right", reason)
		}
	}
	for _, test := range []struct {
		ending ending
		reason string
		wrong  bool
	}{
		{undisturbed, "", false},
		{killed, "", false}, // it was done before
		{killed, "killed", false},
		{killed, "cancelled", true},
		{cancelled, "cancelled", false},
		{cancelled, "killed", true},
		{undisturbed, "cancelled", true},
		{undisturbed, "killed", true},
		{undisturbed, "REGISTRY_UNREACHABLE", false},
		{cancelled, "STALLED", false},
		{undisturbed, "REGISTRY_5XX", false},
		{undisturbed, "exit code 6", false},
		{undisturbed, "DIGEST_MISMATCH", true},
		{undisturbed, "AUTH_FAILED", true},
		{undisturbed, "PANIC", true},
		{cancelled, "BUG", true},
		{undisturbed, "stuck", true},
		{undisturbed, "no reason", true},
	} {
		t.Run(string(test.ending)+" "+test.reason, func(t *testing.T) {
			t.Parallel()
			if err := judge(errand{Ending: test.ending}, outcome{reason: test.reason}); (err != nil) != test.wrong {
				t.Errorf("judged as %v", err)
			}
		})
	}
}

func TestASoakInWhichNothingSucceedsOrAProcessGrowsIsWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		reason string
		peak   int64
		want   string
	}{
		{"a success", "", mostResident, ""},
		{"failures alone", string(fetcher.RegistryUnreachable), mostResident, "no fetch succeeded while there were faults"},
		{"a byte too many", "", mostResident + 1<<10, "peak RSS of a plugin: 65537 KiB, more than 65536"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCounts()
			c.fetched(errand{}, outcome{reason: test.reason}, 0)
			c.resident("plugin", test.peak)
			c.prove()
			if c.weigh(); c.failures() != test.want {
				t.Errorf("got %q, want %q", c.failures(), test.want)
			}
		})
	}
}

func TestADirectoryHasRightFilesAndNoOthers(t *testing.T) {
	t.Parallel()
	blob := digest.FromString("blob")
	want := map[string]digest.Digest{"manifest": digest.FromString("manifest"), blob.String(): blob}
	for _, test := range []struct {
		name     string
		files    map[string]string
		complete bool
		size     int64
		err      string
	}{
		{"all files", map[string]string{"manifest": "manifest", blob.String(): "blob"}, true, 12, ""},
		{"one of two", map[string]string{"manifest": "manifest"}, false, 8, ""},
		{"one of two after a success", map[string]string{"manifest": "manifest"}, true, 0, "1 files, want 2"},
		{"nothing", nil, false, 0, ""},
		{"a part", map[string]string{blob.String(): "bl"}, false, 0, "2 bytes with digest"},
		{"a wrong byte", map[string]string{"manifest": "manifesT"}, false, 0, "8 bytes with digest"},
		{"a stranger", map[string]string{".partial": ""}, false, 0, ".partial should not be there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, body := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			size, err := inspect(dir, want, test.complete)
			if size != test.size || test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("size %d and %v, want %d and %q", size, err, test.size, test.err)
			}
		})
	}
	if _, err := inspect(filepath.Join(t.TempDir(), "none"), want, true); err == nil {
		t.Error("a success without a directory was taken")
	}
}

func TestADamagedBlobInTheCacheIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "127.0.0.1:5000", "v1", "blobs")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(blobs, digest.FromString("blob").String())
	for body, right := range map[string]bool{"blob": true, "BLOB": false} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if files, err := inspectCache(dir); files != 1 || (err == nil) != right {
			t.Errorf("%s: %d files, %v", body, files, err)
		}
	}
}

func TestAConversationTellsTheReasonAndTheAttempts(t *testing.T) {
	t.Parallel()
	got := conversation(`{"started":{"totalFiles":2}}
{"progress":{"active":[{"digest":"sha256:aa","attempt":3},{"digest":"sha256:bb","attempt":1}]}}
{"progress":{"active":[{"digest":"sha256:aa","attempt":2}]}}
{"error":{"code":14,"message":"broken","details":[{"@type":"x","reason":"STALLED"},{"@type":"y","retryDelay":"1s"}]}}
{"cut of`)
	if want := (outcome{reason: "STALLED", text: "broken", attempts: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestGoroutinesOfADumpAreCounted(t *testing.T) {
	t.Parallel()
	dump := "SIGQUIT: quit\n\ngoroutine 1 [running]:\nmain.main()\n\n[DEBUG] goroutine 17 gp=0xc0 m=nil [select, 2 minutes]:\n"
	if got := goroutines(dump); got != 2 {
		t.Errorf("%d, want 2", got)
	}
}

func TestTheFrontLetsTokensAndLinksExpire(t *testing.T) {
	t.Parallel()
	var asked []string
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+" "+r.Header.Get("Authorization"))
		switch {
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"fresh","expires_in":300}`)
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer registry.Close()
	f := &front{
		registry: registry.Listener.Addr().String(), door: "door:1", content: "content:2",
		counts: newCounts(), tokens: map[string]time.Time{"old": time.Now().Add(-time.Second)},
	}
	get := func(path, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "http://door:1"+path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		f.handler().ServeHTTP(w, r)
		return w
	}
	if w := get("/v2/"+direct+"/blobs/x", "old"); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != `Bearer realm="http://door:1/token",error="invalid_token"` {
		t.Errorf("an expired token is answered with %d %v", w.Code, w.Header())
	}
	if w := get("/token", ""); !bytes.Contains(w.Body.Bytes(), []byte(`"token":"fresh"`)) {
		t.Errorf("the token is %s", w.Body)
	}
	w := get("/v2/"+redirected+"/blobs/sha256:aa", "fresh")
	if w.Code != http.StatusTemporaryRedirect || !strings.HasPrefix(w.Header().Get("Location"), "http://content:2/sha256:aa?expires=") {
		t.Errorf("the blob is answered with %d %v", w.Code, w.Header())
	}
	want := []string{"/v2/soak/direct/blobs/x ", "/token ", "/v2/soak/redirected/blobs/sha256:aa Bearer fresh"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}
