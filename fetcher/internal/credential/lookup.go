package credential

import (
	"fmt"
)

// Match is a credential and the key that it stands under in the config. The
// key is safe to show.
type Match struct {
	Credential Credential
	Key        string
}

// Lookup finds the credential for a repository of a registry, such as
// "docker.io", "ghcr.io", "host:5000" or "[::1]:5000"; ok is false where the
// config has no entry for it.
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
	e := s.find(registry, repository)
	switch {
	case e == nil:
		return Match{}, false, nil
	case e.problem != "":
		return Match{}, false, &EntryError{Key: e.key, Problem: e.problem}
	}
	return Match{Credential: e.credential, Key: e.key}, true, nil
}

// Lookup asks the sets in order; the first one with an entry for the
// repository serves, even with a broken one. So the secret of a call goes
// before the default config whatever the spelling of their keys. Nil sets are
// skipped.
func Lookup(registry, repository string, sets ...*Set) (Match, bool, error) {
	for _, s := range sets {
		if m, ok, err := s.Lookup(registry, repository); ok || err != nil {
			return m, ok, err
		}
	}
	return Match{}, false, nil
}

// Warnings tells what is wrong with the sets apart from the entry that Lookup
// finds: broken entries, ignored values, a credential helper that would have
// been asked for this repository. Each is a sentence that names the key and
// never a value; there are at most 20 for each set.
func Warnings(registry, repository string, sets ...*Set) []string {
	var all []string
	var chosen *entry
	for _, s := range sets {
		if chosen == nil {
			chosen = s.find(registry, repository)
		}
	}
	for _, s := range sets {
		if s == nil {
			continue
		}
		texts := s.brokenBut(chosen)
		if note := s.helper(registry); note != "" && chosen == nil {
			texts = append([]string{note}, texts...)
		}
		if more := len(texts) - maxWarnings; more > 0 {
			texts = append(texts[:maxWarnings-1], fmt.Sprintf("docker config: %d more warnings", more+1))
		}
		all = append(all, texts...)
	}
	return all
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

func (s *Set) brokenBut(chosen *entry) []string {
	var texts []string
	for i := range s.entries {
		if e := &s.entries[i]; e.problem != "" && e != chosen {
			texts = append(texts, fmt.Sprintf("docker config: entry %q ignored: %s", e.key, e.problem))
		}
	}
	return append(texts, s.warnings...)
}

// helper says which credential helper docker would ask for the registry. A
// store counts only where docker left an empty entry: it serves all registries,
// and nobody wants to read about it at each anonymous fetch.
func (s *Set) helper(registry string) string {
	const instead = "credential helpers are not run: put the credential itself into the config"
	host, _ := normalize(registry)
	if name, named := s.helpers[host]; named {
		return fmt.Sprintf("docker config: credHelpers names %q for %q; %s", shown(name), registry, instead)
	}
	if s.store != "" && s.bare[host] {
		return fmt.Sprintf("docker config: the credential for %q is in credsStore %q; %s", registry, shown(s.store), instead)
	}
	return ""
}
