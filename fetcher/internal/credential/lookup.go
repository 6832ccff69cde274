package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Match is a credential and the key that it stands under in the config or with
// a helper. The key is safe to show. The zero value is none.
type Match struct {
	Credential Credential
	Key        string
	Helper     string // the program that has it, such as docker-credential-pass; empty: the config itself
}

// Source is a config and what runs the credential helpers that it names.
type Source struct {
	Set *Set
	// Helpers runs them. Nil for the config of a stranger, such as the secret
	// of a call: it must not choose programs that run with our rights. What it
	// names is not run, and a warning says so.
	Helpers *Helpers
}

// Lookup finds the credential that the config itself has for a repository of a
// registry, such as "docker.io", "ghcr.io", "host:5000" or "[::1]:5000"; ok is
// false where it has no entry for it.
//
// Hosts are compared without case, the scheme, the path of an API root and
// port 443; docker.io, index.docker.io and registry-1.docker.io are one
// registry, and nothing else is. A key with a path serves the repositories at
// or below that path, and the longest one wins. Of several keys that mean the
// same, the registry's own spelling wins, then the first in byte order.
//
// The error is an *EntryError: the entry that would serve is broken. A try
// without it would only hide that.
func (s *Set) Lookup(registry, repository string) (m Match, ok bool, err error) {
	if e := s.find(registry, repository); e != nil {
		return e.match()
	}
	return Match{}, false, nil
}

func (e *entry) match() (Match, bool, error) {
	if e.problem != "" {
		return Match{}, false, &EntryError{Key: e.key, Problem: e.problem}
	}
	return Match{Credential: e.credential, Key: e.key}, true, nil
}

// Lookup asks the sources in order for the credential for a repository; the
// zero Match is none. The first one that has it serves, in any spelling of its
// key: so the secret of a call goes before the default config.
//
// The error is an *EntryError or *HelperError (both ErrConfig) of the entry or
// helper that would serve, or wraps the context's. A try without it would only
// hide that. The warnings tell what else is wrong with the sources: broken
// entries, ignored values, helpers that were not run, a store that failed for a
// registry that it need not know. Each is a sentence that names the key and never a value; there are
// at most 20 for each source.
func Lookup(ctx context.Context, registry, repository string, sources ...Source) (m Match, warnings []string, err error) {
	for _, s := range sources {
		var texts []string
		if m == (Match{}) {
			if m, texts, err = s.lookup(ctx, registry, repository); err != nil {
				return Match{}, nil, err
			}
		}
		warnings = append(warnings, atMost(maxWarnings, append(texts, s.Set.broken()...))...)
	}
	return m, warnings, nil
}

func (s Source) lookup(ctx context.Context, registry, repository string) (Match, []string, error) {
	var warnings []string
	for _, c := range s.Set.candidates(registry, repository) {
		m, ok, err := s.try(ctx, c)
		switch {
		case ok:
			return m, warnings, nil
		case err == nil:
		case errors.Is(err, errStranger):
			warnings = append(warnings, err.Error())
		case c.optional && ctx.Err() == nil:
			warnings = append(warnings, err.Error()+"; went on without it")
		default:
			return Match{}, nil, err
		}
	}
	return Match{}, warnings, nil
}

func (s Source) try(ctx context.Context, c candidate) (Match, bool, error) {
	switch {
	case c.entry != nil:
		return c.entry.match()
	case s.Helpers == nil:
		return Match{}, false, fmt.Errorf("docker config: %q is not run for %q: %w", shown(c.helper.program()), shown(c.helper.Key), errStranger)
	}
	return s.Helpers.Get(ctx, c.helper)
}

var errStranger = errors.New("only the default config may name credential helpers; put the credential itself into this one")

// candidate is where a config may have the credential: an entry, else a helper.
type candidate struct {
	entry  *entry
	helper Helper
	// optional says that a failure need not matter: a store is asked about all
	// registries, most of them are public, and no login has left a trace of
	// this one.
	optional bool
}

// candidates lists where the credential for a repository may be, the first
// one first: an entry for a part of the registry, the helper of the registry,
// its entry, the store of all registries. It ends with the entry, which serves
// or is broken.
func (s *Set) candidates(registry, repository string) []candidate {
	host, valid := normalize(registry)
	if s == nil || !valid {
		return nil
	}
	e := s.find(registry, repository)
	if e != nil && e.path != "" {
		return []candidate{{entry: e}}
	}
	var all []candidate
	name, named := s.helpers[host]
	if name != "" {
		all = append(all, candidate{helper: Helper{name, s.serverURL(host)}})
	}
	switch {
	case e != nil:
		all = append(all, candidate{entry: e})
	case s.store != "" && (!named || name != ""): // an empty name is docker's way to say: no store for this registry
		all = append(all, candidate{helper: Helper{s.store, s.serverURL(host)}, optional: s.bare[host] == ""})
	}
	return all
}

// serverURL is what a helper knows a registry by: the key that docker's login
// has left, else what it would have been.
func (s *Set) serverURL(host string) string {
	if host == "docker.io" {
		return "https://index.docker.io/v1/"
	}
	return cmp.Or(s.bare[host], host)
}

// find returns the entry that serves a repository, nil if there is none.
func (s *Set) find(registry, repository string) *entry {
	host, valid := normalize(registry)
	if s == nil || !valid {
		return nil
	}
	var best *entry
	for i := range s.entries { // in byte order of the keys
		e := &s.entries[i]
		if !e.serves(host, repository) {
			continue
		}
		if best == nil || len(e.path) > len(best.path) || len(e.path) == len(best.path) && e.key == spelling(registry, e.path) {
			best = e
		}
	}
	return best
}

func spelling(registry, path string) string {
	if path == "" {
		return registry
	}
	return registry + "/" + path
}

// broken tells of all broken entries and ignored values.
func (s *Set) broken() []string {
	if s == nil {
		return nil
	}
	var texts []string
	for _, e := range s.entries {
		if e.problem != "" {
			texts = append(texts, fmt.Sprintf("docker config: entry %q ignored: %s", e.key, e.problem))
		}
	}
	return append(texts, s.warnings...)
}

func atMost(n int, texts []string) []string {
	if more := len(texts) - n; more > 0 {
		return append(texts[:n-1], fmt.Sprintf("docker config: %d more warnings", more+1))
	}
	return texts
}
