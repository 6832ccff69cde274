//go:build unix

package credential

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// operator is the source of a config that may name helpers.
func operator(t *testing.T, config string) Source {
	t.Helper()
	return Source{Set: parse(t, config), Helpers: &Helpers{}}
}

func TestLookupAsksPartEntryThenHelperThenEntryThenStore(t *testing.T) {
	t.Parallel()
	const (
		inline = `"auths":{"ghcr.io":{"username":"inline","password":"p"}}`
		part   = `"auths":{"ghcr.io":{"username":"inline","password":"p"},"ghcr.io/o":{"username":"part","password":"p"}}`
	)
	for _, tt := range []struct {
		name, registry, config string
		username, key, helper  string
	}{
		{"an entry for a part of the registry before its helper", "ghcr.io", `{` + part + `,"credHelpers":{"ghcr.io":"found"},"credsStore":"store"}`, "part", "ghcr.io/o", ""},
		{"the registry's helper before its entry", "ghcr.io", `{` + inline + `,"credHelpers":{"ghcr.io":"found"},"credsStore":"store"}`, "found", "ghcr.io", "found"},
		{"the entry where the helper finds nothing", "ghcr.io", `{` + inline + `,"credHelpers":{"ghcr.io":"none"},"credsStore":"store"}`, "inline", "ghcr.io", ""},
		{"the entry before the store", "ghcr.io", `{` + inline + `,"credsStore":"store"}`, "inline", "ghcr.io", ""},
		{"the store where the helper finds nothing", "ghcr.io", `{"credHelpers":{"ghcr.io":"none"},"credsStore":"store"}`, "store", "ghcr.io", "store"},
		{"the store beside an empty entry", "ghcr.io", `{"auths":{"ghcr.io":{}},"credsStore":"store"}`, "store", "ghcr.io", "store"},
		{"the store without a trace of the registry", "ghcr.io", `{"auths":{},"credsStore":"store"}`, "store", "ghcr.io", "store"},
		{"the store of a config without auths", "ghcr.io", `{"credsStore":"store"}`, "store", "ghcr.io", "store"},
		{"the store, not the helper of another registry", "ghcr.io", `{"credHelpers":{"quay.io":"found"},"credsStore":"store"}`, "store", "ghcr.io", "store"},
		{"no store where the helper's name is empty", "ghcr.io", `{"credHelpers":{"ghcr.io":""},"credsStore":"store"}`, "", "", ""},
		{"an entry where the helper's name is empty", "ghcr.io", `{` + inline + `,"credHelpers":{"ghcr.io":""},"credsStore":"store"}`, "inline", "ghcr.io", ""},
		{"nothing anywhere", "ghcr.io", `{"credHelpers":{"ghcr.io":"none"},"credsStore":"nothing"}`, "", "", ""},
		{"a helper under another spelling", "ghcr.io", `{"credHelpers":{"https://GHCR.io:443/v2/":"found"}}`, "found", "ghcr.io", "found"},
		{"another spelling of the registry", "GHCR.io:443", `{"credHelpers":{"ghcr.io":"found"}}`, "found", "ghcr.io", "found"},
		{"a port", "host:5000", `{"credHelpers":{"host:5000":"found"}}`, "found", "host:5000", "found"},
		{"docker hub by docker's key", "docker.io", `{"credHelpers":{"https://index.docker.io/v1/":"found"}}`, "found", "https://index.docker.io/v1/", "found"},
		{"docker hub by another name", "registry-1.docker.io", `{"auths":{"docker.io":{}},"credHelpers":{"docker.io":"found"}}`, "found", "https://index.docker.io/v1/", "found"},
		{"docker hub in the store", "docker.io", `{"credsStore":"store"}`, "store", "https://index.docker.io/v1/", "store"},
		{"the key of the login", "ghcr.io", `{"auths":{"ghcr.io:443":{}},"credsStore":"store"}`, "store", "ghcr.io:443", "store"},
		{"the plain key of two logins", "quay.io", `{"auths":{"https://quay.io/v1/":{},"quay.io":{}},"credsStore":"store"}`, "store", "quay.io", "store"},
		{"no key for a part of a registry", "quay.io", `{"auths":{"quay.io/o":{}},"credsStore":"store"}`, "store", "quay.io", "store"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, texts, err := Lookup(t.Context(), tt.registry, "o/r", operator(t, tt.config))
			if err != nil || texts != nil {
				t.Fatalf("warnings %q, err %v", texts, err)
			}
			if tt.helper != "" {
				tt.helper = prefix + tt.helper
			}
			want := []string{tt.username, tt.key, tt.helper}
			if diff := cmp.Diff(want, []string{m.Credential.Username, m.Key, m.Helper}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLookupGoesOnToTheNextSourceWhereHelpersFindNothing(t *testing.T) {
	t.Parallel()
	first := operator(t, `{"credHelpers":{"ghcr.io":"none"},"credsStore":"nothing"}`)
	m, texts, err := Lookup(t.Context(), "ghcr.io", "o/r", first, operator(t, `{"credHelpers":{"ghcr.io":"found"}}`))
	if err != nil || texts != nil || m.Credential.Username != "found" {
		t.Errorf("key %q, warnings %q, err %v", m.Key, texts, err)
	}
}

func TestLookupFailsOnAHelperThatTheRegistryNeeds(t *testing.T) {
	t.Parallel()
	next := oneKey(t, "ghcr.io")
	for _, tt := range []struct{ name, config, want string }{
		{"the registry's helper", `{"credHelpers":{"ghcr.io":"crash"}}`,
			`docker config: the credential of "ghcr.io" is with docker-credential-crash, which failed (exit status 3); to see why: echo "ghcr.io" | docker-credential-crash get`},
		{"the registry's helper beside an entry", `{"credHelpers":{"ghcr.io":"ecr-login"},"auths":{"ghcr.io":{"username":"u","password":"p"}}}`,
			`docker config: the credential of "ghcr.io" is with docker-credential-ecr-login, which is not on PATH`},
		{"a store with a login", `{"credsStore":"desktop","auths":{"https://ghcr.io":{}}}`,
			`docker config: the credential of "https://ghcr.io" is with docker-credential-desktop, which is not on PATH`},
		{"a name that is none", `{"credHelpers":{"ghcr.io":"../found"}}`,
			`Failed to parse docker config: entry "ghcr.io": "../found" is not the name of a credential helper: lower-case letters, digits, dots, dashes and underscores`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, texts, err := Lookup(t.Context(), "ghcr.io", "o/r", operator(t, tt.config), Source{Set: next})
			if m != (Match{}) || texts != nil || !errors.Is(err, ErrConfig) || err.Error() != tt.want {
				t.Errorf("key %q, warnings %q, err %v", m.Key, texts, err)
			}
		})
	}
}

func TestLookupGoesOnWithoutAStoreThatTheRegistryNeedNotBeIn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ store, want string }{
		{"desktop", `docker config: the credential of "ghcr.io" is with docker-credential-desktop, which is not on PATH; went on without it`},
		{"garbage", `docker config: the credential of "ghcr.io" is with docker-credential-garbage, which answered with something else than the JSON of a credential; went on without it`},
	} {
		source := operator(t, `{"auths":{"quay.io":{}},"credsStore":"`+tt.store+`"}`)
		m, texts, err := Lookup(t.Context(), "ghcr.io", "o/r", source, Source{Set: oneKey(t, "ghcr.io")})
		if err != nil || m.Credential.Username != "u" {
			t.Errorf("key %q, err %v", m.Key, err)
		}
		if diff := cmp.Diff([]string{tt.want}, texts); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLookupEndsWithTheContextInsteadOfGoingOnWithoutTheStore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	m, texts, err := Lookup(ctx, "ghcr.io", "o/r", operator(t, `{"credsStore":"stuck"}`), Source{Set: oneKey(t, "ghcr.io")})
	if m != (Match{}) || texts != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("key %q, warnings %q, err %v", m.Key, texts, err)
	}
}

func TestLookupNeverRunsTheHelperOfAStranger(t *testing.T) {
	t.Parallel()
	key := unused()
	config := func(text string) *Set { return parse(t, strings.ReplaceAll(text, "KEY", key)) }
	notRun := func(program string) []string {
		return []string{`docker config: "` + program + `" is not run for "` + key +
			`": only the default config may name credential helpers; put the credential itself into this one`}
	}
	operators := Source{Set: config(`{"auths":{"KEY":{"username":"operator","password":"p"}}}`), Helpers: &Helpers{}}
	for _, tt := range []struct {
		name, config string
		want         []string
	}{
		{"a helper", `{"credHelpers":{"KEY":"found"}}`, notRun("docker-credential-found")},
		{"a store", `{"credsStore":"found"}`, notRun("docker-credential-found")},
		{"a store with a login", `{"credsStore":"found","auths":{"KEY":{}}}`, notRun("docker-credential-found")},
		{"a path", `{"credHelpers":{"KEY":"/bin/sh"}}`, notRun("docker-credential-/bin/sh")},
		{"the helper of another registry", `{"credHelpers":{"quay.io":"found"}}`, nil},
		{"no name", `{"credHelpers":{"KEY":""},"credsStore":""}`, nil},
	} {
		m, texts, err := Lookup(t.Context(), key, "o/r", Source{Set: config(tt.config)}, operators)
		if err != nil || m.Credential.Username != "operator" {
			t.Errorf("%s: key %q, err %v", tt.name, m.Key, err)
		}
		if diff := cmp.Diff(tt.want, texts); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	own := Source{Set: config(`{"credsStore":"found","auths":{"KEY":{"username":"own","password":"p"}}}`)}
	if m, texts, err := Lookup(t.Context(), key, "o/r", own, operators); err != nil || texts != nil || m.Credential.Username != "own" {
		t.Errorf("an entry that serves before the store: key %q, warnings %q, err %v", m.Key, texts, err)
	}
	if n := len(calls(t, "found", key)); n != 0 {
		t.Errorf("it was run %d times", n)
	}
}

func TestHelpersRunAHelperOnceForManyLookups(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"found", "none"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var helpers Helpers
			h := Helper{name, unused()}
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					if _, ok, err := helpers.Get(t.Context(), h); ok != (name == "found") || err != nil {
						t.Errorf("ok %v, err %v", ok, err)
					}
				})
			}
			all.Wait()
			if _, ok, err := helpers.Get(t.Context(), h); ok != (name == "found") || err != nil {
				t.Errorf("ok %v, err %v", ok, err)
			}
			if n := len(calls(t, name, h.Key)); n != 1 {
				t.Errorf("it was run %d times", n)
			}
		})
	}
}

func TestHelpersKeepAnswersApartByHelperAndKey(t *testing.T) {
	t.Parallel()
	var helpers Helpers
	for _, h := range []Helper{{"found", "one.example.com"}, {"found", "other.example.com"}, {"store", "one.example.com"}} {
		m, ok, err := helpers.Get(t.Context(), h)
		if want := (Match{Credential{Username: h.Name, Password: canary}, h.Key, prefix + h.Name}); !ok || err != nil || m != want {
			t.Errorf("%v: key %q, helper %q, err %v", h, m.Key, m.Helper, err)
		}
	}
}

func TestHelpersKeepNoFailure(t *testing.T) {
	t.Parallel()
	var helpers Helpers
	h := Helper{"crash", unused()}
	for range 2 {
		if _, ok, err := helpers.Get(t.Context(), h); ok || !errors.Is(err, ErrConfig) {
			t.Errorf("ok %v, err %v", ok, err)
		}
	}
	if n := len(calls(t, h.Name, h.Key)); n != 2 {
		t.Errorf("it was run %d times", n)
	}
}

func TestHelpersKeepAnAnswerForAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time stands still while a helper runs
		var helpers Helpers
		key, later := unused(), unused()
		for i, tt := range []struct {
			key   string
			after time.Duration
			runs  int
		}{
			{key, 0, 1},
			{key, time.Minute, 1},
			{key, time.Nanosecond, 2},
			{later, time.Hour, 1},
		} {
			time.Sleep(tt.after)
			if _, ok, err := helpers.Get(t.Context(), Helper{"found", tt.key}); !ok || err != nil {
				t.Errorf("ok %v, err %v", ok, err)
			}
			if n := len(calls(t, "found", tt.key)); n != tt.runs {
				t.Errorf("lookup %d: %d runs, want %d", i, n, tt.runs)
			}
		}
		if n := len(helpers.runs); n != 1 {
			t.Errorf("%d answers are kept, want the last one", n)
		}
	})
}

// untilWaiting returns when so many callers wait for the run of a helper.
func (hs *Helpers) untilWaiting(h Helper, n int) {
	for {
		hs.mu.Lock()
		r := hs.runs[h]
		there := r != nil && r.waiting == n
		hs.mu.Unlock()
		if there {
			return
		}
		runtime.Gosched()
	}
}

func TestOneCallersCancelLeavesTheRunToTheOthers(t *testing.T) {
	t.Parallel()
	var helpers Helpers
	p := listen(t)
	h := Helper{"slow", p.key()}
	ctx, cancel := context.WithCancel(t.Context())
	errs := [2]chan error{make(chan error), make(chan error)}
	for i, ctx := range []context.Context{ctx, t.Context()} {
		go func() {
			_, _, err := helpers.Get(ctx, h)
			errs[i] <- err
		}()
		helpers.untilWaiting(h, i+1)
	}
	c := p.accept()
	cancel()
	want := fmt.Sprintf("docker-credential-slow for %q: context canceled", h.Key)
	if err := <-errs[0]; !errors.Is(err, context.Canceled) || err.Error() != want {
		t.Error(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-errs[1]; err != nil {
		t.Error(err)
	}
	if n := len(calls(t, h.Name, h.Key)); n != 1 {
		t.Errorf("it was run %d times", n)
	}
}

func TestTheLastCallersCancelEndsTheRunAndTheNextCallerBeginsAnother(t *testing.T) {
	t.Parallel()
	var helpers Helpers
	p := listen(t)
	h := Helper{"slow", p.key()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	get := func(ctx context.Context) {
		_, _, err := helpers.Get(ctx, h)
		ended <- err
	}
	go get(ctx)
	first := p.accept()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	gone(t, first)
	go get(t.Context())
	if _, err := p.accept().Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
