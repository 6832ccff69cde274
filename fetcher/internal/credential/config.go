package credential

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// maxConfig bounds a docker config. Real ones have a few KiB.
const maxConfig = 1 << 20

// maxWarnings bounds what a config full of nonsense can put into a log.
const maxWarnings = 20

// ErrConfig is what errors.Is finds in every error about a docker config,
// *EntryError and *HelperError included.
var ErrConfig = errors.New("Failed to parse docker config") //nolint:staticcheck // ST1005: the original's wording

// EntryError says that the entry of the registry asked for is broken. It
// never holds anything of the entry's value.
type EntryError struct {
	Key     string // the config's key; user information in it is replaced
	Problem string
}

// Error implements error.
func (e *EntryError) Error() string {
	return fmt.Sprintf("%v: entry %q: %s", ErrConfig, e.Key, e.Problem)
}

// Is makes errors.Is(err, ErrConfig) hold.
func (e *EntryError) Is(target error) bool { return target == ErrConfig }

// Set is one decoded docker config. It is immutable and safe for concurrent
// use. A nil *Set is an empty one.
type Set struct {
	entries  []entry           // sorted by key
	bare     map[string]string // the keys of empty entries, by host
	store    string            // credsStore
	helpers  map[string]string // credHelpers, by host
	warnings []string          // about values that are no entries
}

// Format implements fmt.Formatter, so that no verb shows the secrets.
func (Set) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// settings are the top-level keys of a config.json that are no registries
// (docker/cli, cli/config/configfile).
var settings = map[string]bool{
	"HttpHeaders": true, "aliases": true, "cliPluginsExtraDirs": true, "configFormat": true,
	"credHelpers": true, "credsStore": true, "currentContext": true, "detachKeys": true,
	"experimental": true, "features": true, "imagesFormat": true, "kubernetes": true,
	"networksFormat": true, "nodesFormat": true, "plugins": true, "pluginsFormat": true,
	"proxies": true, "pruneFilters": true, "psFormat": true, "secretFormat": true,
	"serviceInspectFormat": true, "servicesFormat": true, "stackOrchestrator": true,
	"statsFormat": true, "tasksFormat": true, "volumesFormat": true,
}

// Parse decodes a docker config.json, or a legacy .dockercfg, whose entries
// are at the top level (no "auths" key). Of duplicate keys the last one
// counts. A broken document is an error (ErrConfig) with the place of the
// defect; a broken entry is one only for who asks for its registry (Lookup).
//
// The original takes any document without "auths" for a .dockercfg and
// refuses it at the first top-level value that is no object, so a config.json
// with nothing but a credsStore fails there. Such a config is valid, and one
// odd value must not void the rest: here the known settings are skipped and
// the unknown ones ignored with a warning.
func Parse(config []byte) (*Set, error) {
	if len(config) > maxConfig {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", ErrConfig, len(config), maxConfig)
	}
	var top map[string]json.RawMessage
	if err := decode(config, &top); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if top == nil { // the document is null
		return nil, fmt.Errorf("%w: %w", ErrConfig, errNoObject)
	}
	s := &Set{bare: map[string]string{}, helpers: map[string]string{}}
	s.addHelpers(top)
	auths, found := top["auths"]
	if !found {
		s.addLegacy(top)
		return s, nil
	}
	var entries map[string]json.RawMessage // nil where auths is null: Go programs write a nil map so
	if err := json.Unmarshal(auths, &entries); err != nil {
		return nil, fmt.Errorf("%w: auths is not an object", ErrConfig)
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		s.add(key, entries[key])
	}
	return s, nil
}

// addLegacy adds the entries of a .dockercfg. A value that is no entry makes
// one all the same (a broken one) under a key that can only be a registry:
// whoever asks for that registry must not end up anonymous.
func (s *Set) addLegacy(top map[string]json.RawMessage) {
	for _, key := range slices.Sorted(maps.Keys(top)) {
		switch {
		case settings[key]:
		case looksLikeEntry(top[key]), strings.ContainsAny(key, ".:"), key == "localhost":
			s.add(key, top[key])
		default:
			s.warn("docker config: %q at the top level is neither a registry's entry nor a known setting; ignored", shown(key))
		}
	}
}

func (s *Set) add(key string, value json.RawMessage) {
	at, problem := parseKey(key)
	c, fault := parseEntry(value)
	if problem == "" {
		problem = fault
	}
	if problem == "" && c.IsZero() {
		// What docker's login leaves behind where a helper holds the secret.
		if _, taken := s.bare[at.host]; at.path == "" && (!taken || key == at.host) {
			s.bare[at.host] = key
		}
		return
	}
	if problem != "" {
		c = Credential{}
	}
	s.entries = append(s.entries, entry{key: shown(key), location: at, credential: c, problem: problem})
}

// addHelpers notes which helpers hold the credentials of which registries.
func (s *Set) addHelpers(top map[string]json.RawMessage) {
	if raw, found := top["credsStore"]; found && json.Unmarshal(raw, &s.store) != nil {
		s.store = ""
		s.warn("docker config: credsStore is not a string; ignored")
	}
	var helpers map[string]string
	if raw, found := top["credHelpers"]; found && json.Unmarshal(raw, &helpers) != nil {
		s.warn("docker config: credHelpers is not an object of strings; ignored")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(helpers)) {
		at, problem := parseKey(key)
		if problem == "" && at.path != "" {
			problem = "a helper is for a whole registry"
		}
		if problem != "" {
			s.warn("docker config: credHelpers: %q ignored: %s", shown(key), problem)
		} else if _, taken := s.helpers[at.host]; !taken {
			s.helpers[at.host] = helpers[key]
		}
	}
}

func (s *Set) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}
