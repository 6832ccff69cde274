package credential

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, config string) *Set {
	t.Helper()
	s, err := Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// The configs of docker_spec_tests.cpp, ParseDockerConfig and ParseDockercfg.
func TestParseReadsTheConfigsOfTheOriginalsTests(t *testing.T) {
	t.Parallel()
	const configJSON = `{
		"auths": {
			"https://index.docker.io/v1/": {"auth": "bWVzb3M6dGVzdA==", "email": "user@example.com"},
			"localhost:5000": {"auth": "dW5pZmllZDpjb250YWluZXJpemVy", "email": "user@example.com"}
		},
		"HttpHeaders": {"User-Agent": "Docker-Client/1.12.0 (linux)"}
	}`
	const dockercfg = `{
		"quay.io": {"auth": "cXVheTp0ZXN0", "email": "user@example.com"},
		"https://index.docker.io/v1/": {"auth": "cHJpdmF0ZTpyZWdpc3RyeQ==", "email": "user@example.com"},
		"https://192.168.0.1:5050": {"auth": "aXA6YWRkcmVzcw==", "email": "user@example.com"}
	}`
	for _, tt := range []struct{ name, config, registry, key, username, password string }{
		{"docker hub in config.json", configJSON, "docker.io", "https://index.docker.io/v1/", "mesos", "test"},
		{"a local registry in config.json", configJSON, "localhost:5000", "localhost:5000", "unified", "containerizer"},
		{"quay.io in .dockercfg", dockercfg, "quay.io", "quay.io", "quay", "test"},
		{"docker hub in .dockercfg", dockercfg, "docker.io", "https://index.docker.io/v1/", "private", "registry"},
		{"an address with a port in .dockercfg", dockercfg, "192.168.0.1:5050", "https://192.168.0.1:5050", "ip", "address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := parse(t, tt.config)
			got, ok, err := s.Lookup(tt.registry, "library/busybox")
			want := Match{Credential: Credential{Username: tt.username, Password: tt.password}, Key: tt.key}
			if err != nil || !ok || got != want {
				t.Errorf("got key %q, right credential: %v, ok %v, err %v", got.Key, got.Credential == want.Credential, ok, err)
			}
			if texts := warnings(t, tt.registry, "library/busybox", s); texts != nil {
				t.Errorf("warnings %q", texts)
			}
		})
	}
}

func TestParseReadsAnEntry(t *testing.T) {
	t.Parallel()
	raw := base64.RawStdEncoding.EncodeToString
	for _, tt := range []struct {
		name, entry string
		want        Credential
	}{
		{"auth", `{"auth":"` + b64("u:p") + `"}`, Credential{Username: "u", Password: "p"}},
		{"auth without padding", `{"auth":"` + raw([]byte("us:\xff\xfe?>")) + `"}`, Credential{Username: "us", Password: "\xff\xfe?>"}},
		{"auth in the URL alphabet", `{"auth":"` + base64.URLEncoding.EncodeToString([]byte("u:\xff\xfe?>")) + `"}`, Credential{Username: "u", Password: "\xff\xfe?>"}},
		{"auth in the URL alphabet without padding", `{"auth":"` + base64.RawURLEncoding.EncodeToString([]byte("u:\xff\xfe?")) + `"}`, Credential{Username: "u", Password: "\xff\xfe?"}},
		{"a password with colons", `{"auth":"` + b64("u:p:q:") + `"}`, Credential{Username: "u", Password: "p:q:"}},
		{"a password in UTF-8", `{"auth":"` + b64("jürg:pässwörd€") + `"}`, Credential{Username: "jürg", Password: "pässwörd€"}},
		{"NUL bytes after the password", `{"auth":"` + b64("u:p\x00\x00") + `"}`, Credential{Username: "u", Password: "p"}},
		{"nvcr's user name", `{"auth":"` + b64("$oauthtoken:key") + `"}`, Credential{Username: "$oauthtoken", Password: "key"}},
		{"an empty user name", `{"auth":"` + b64(":p") + `"}`, Credential{Password: "p"}},
		{"username and password", `{"username":"u","password":"p:q"}`, Credential{Username: "u", Password: "p:q"}},
		{"auth wins over username and password", `{"username":"x","password":"y","auth":"` + b64("u:p") + `"}`, Credential{Username: "u", Password: "p"}},
		{"an empty auth leaves username and password", `{"username":"u","password":"p","auth":""}`, Credential{Username: "u", Password: "p"}},
		{"identitytoken", `{"identitytoken":"t"}`, Credential{IdentityToken: "t"}},
		{"identitytoken beside a user name", `{"auth":"` + b64("00000000-0000-0000-0000-000000000000:") + `","identitytoken":"t"}`, Credential{Username: "00000000-0000-0000-0000-000000000000", IdentityToken: "t"}},
		{"identitytoken beside an auth without colon", `{"auth":"` + b64("anything") + `","identitytoken":"t"}`, Credential{IdentityToken: "t"}},
		{"the helpers' user name for identity tokens", `{"username":"<token>","password":"t"}`, Credential{IdentityToken: "t"}},
		{"the same in auth", `{"auth":"` + b64("<token>:t") + `"}`, Credential{IdentityToken: "t"}},
		{"the same beside an identitytoken", `{"auth":"` + b64("<token>:") + `","identitytoken":"t"}`, Credential{IdentityToken: "t"}},
		{"the same beside an identitytoken, which wins", `{"username":"<token>","password":"x","identitytoken":"t"}`, Credential{IdentityToken: "t"}},
		{"registrytoken", `{"registrytoken":"r"}`, Credential{RegistryToken: "r"}},
		{"field names in another case", `{"Username":"u","PASSWORD":"p","identityToken":"t"}`, Credential{Username: "u", Password: "p", IdentityToken: "t"}},
		{"unknown fields", `{"username":"u","password":"p","email":"e","serveraddress":{"a":[1]}}`, Credential{Username: "u", Password: "p"}},
		{"null for an absent field", `{"username":"u","password":"p","auth":null}`, Credential{Username: "u", Password: "p"}},
		{"a duplicate field, of which the last counts", `{"username":"u","password":"x","password":"p"}`, Credential{Username: "u", Password: "p"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, ok, err := parse(t, `{"auths":{"ghcr.io":`+tt.entry+`}}`).Lookup("ghcr.io", "o/r")
			if err != nil || !ok {
				t.Fatalf("ok %v, err %v", ok, err)
			}
			if got := m.Credential; got != tt.want {
				t.Errorf("got %q, want %q", fields(got), fields(tt.want))
			}
		})
	}
}

// fields makes a credential printable, in tests of parsers only.
func fields(c Credential) []string {
	return []string{c.Username, c.Password, c.IdentityToken, c.RegistryToken}
}

func TestParseTakesAnEntryWithoutSecretForNone(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{`{}`, `null`, `{"email":"e"}`, `{"auth":""}`, `{"auth":"` + b64(":") + `"}`} {
		s := parse(t, `{"auths":{"ghcr.io":`+entry+`}}`)
		if m, ok, err := s.Lookup("ghcr.io", "o/r"); ok || err != nil || m != (Match{}) {
			t.Errorf("%s: ok %v, err %v", entry, ok, err)
		}
		if texts := warnings(t, "ghcr.io", "o/r", s); texts != nil {
			t.Errorf("%s: warnings %q", entry, texts)
		}
	}
}

func TestLookupFailsOnABrokenEntryOfTheRegistryAskedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, entry, problem string }{
		{"a string", `"x"`, "it is not an object"},
		{"an array", `[]`, "it is not an object"},
		{"a number for auth", `{"auth":12345}`, "auth is not a string"},
		{"an object for password", `{"username":"u","password":{}}`, "password is not a string"},
		{"a boolean for identitytoken", `{"identitytoken":true}`, "identitytoken is not a string"},
		{"an array for registrytoken", `{"registrytoken":[]}`, "registrytoken is not a string"},
		{"no base64", `{"auth":"user:password"}`, "auth is not base64"},
		{"base64 of both alphabets", `{"auth":"+_8="}`, "auth is not base64"},
		{"too much padding", `{"auth":"dTpw=="}`, "auth is not base64"},
		{"no base64 beside an identitytoken", `{"auth":"?","identitytoken":"t"}`, "auth is not base64"},
		{"no colon", `{"auth":"` + b64("userpassword") + `"}`, "auth is not the base64 of user:password, it decodes to a text without a colon"},
		{"a line break in auth", `{"auth":"` + b64("u:p") + `\n"}`, "auth holds a control character, such as a line break"},
		{"a line break in the password", `{"auth":"` + b64("u:p\n") + `"}`, "the password holds a control character, such as the line break that echo adds without -n"},
		{"a NUL in the password", `{"username":"u","password":"p\u0000q"}`, "the password holds a control character, such as the line break that echo adds without -n"},
		{"a CR in the user name", `{"username":"u\r","password":"p"}`, "the user name holds a control character, such as the line break that echo adds without -n"},
		{"a LF in identitytoken", `{"identitytoken":"a\nb"}`, "identitytoken holds a control character, such as the line break that echo adds without -n"},
		{"a DEL in registrytoken", `{"registrytoken":"a\u007f"}`, "registrytoken holds a control character, such as the line break that echo adds without -n"},
		{"a colon in the user name", `{"username":"u:v","password":"p"}`, "the user name holds a colon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := parse(t, `{"auths":{"https://ghcr.io":`+tt.entry+`,"quay.io":{"auth":"`+b64("u:p")+`"}}}`)

			_, ok, err := s.Lookup("ghcr.io", "o/r")
			want := EntryError{Key: "https://ghcr.io", Problem: tt.problem}
			if broken, is := errors.AsType[*EntryError](err); ok || !is || *broken != want || !errors.Is(err, ErrConfig) {
				t.Errorf("ok %v, err %v", ok, err)
			}
			if got, want := fmt.Sprint(err), `Failed to parse docker config: entry "https://ghcr.io": `+tt.problem; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}

			if _, ok, err := s.Lookup("quay.io", "o/r"); !ok || err != nil {
				t.Errorf("another registry: ok %v, err %v", ok, err)
			}
			texts := warnings(t, "quay.io", "o/r", s)
			if diff := cmp.Diff([]string{`docker config: entry "https://ghcr.io" ignored: ` + tt.problem}, texts); diff != "" {
				t.Error(diff)
			}
			if texts := warnings(t, "ghcr.io", "o/r", s); texts != nil {
				t.Errorf("the error was told already: %q", texts)
			}
		})
	}
}

func TestParseRefusesABrokenDocument(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, config, want string }{
		{"nil", "", "it is empty"},
		{"blanks", " \n\t", "it is empty"},
		{"a byte order mark alone", "\ufeff", "it is empty"},
		{"no JSON", "user:password", "it is not valid JSON at line 1, column 1"},
		{"YAML", "auths:\n  ghcr.io: x", "it is not valid JSON at line 1, column 1"},
		{"a missing comma", "{\n  \"auths\": {}\n  \"x\": 1}", "it is not valid JSON at line 3, column 3"},
		{"a trailing comma", `{"auths":{},}`, "it is not valid JSON at line 1, column 13"},
		{"a cut document", "{\"auths\":\n{", "it is not complete JSON: it ends at line 2, column 2"},
		{"data after it", `{"auths":{}} {}`, "it is not valid JSON at line 1, column 14"},
		{"an array", `[{"auths":{}}]`, "it is not a JSON object"},
		{"a string", `"auths"`, "it is not a JSON object"},
		{"null", `null`, "it is not a JSON object"},
		{"an array for auths", `{"auths":[]}`, "auths is not an object"},
		{"a string for auths", `{"auths":"x"}`, "auths is not an object"},
		{"a number for auths", `{"auths":7}`, "auths is not an object"},
		{"Latin-1", "{\n\"auths\":{\"x\":{\"password\":\"p\xe4ss\"}}}", "it is not UTF-8 at line 2, column 28"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "it is not UTF-8 at line 1, column 1"},
		{"deep nesting", strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), "it nests too deep at line 1, column 50001"},
		{"more than a mebibyte", `{"auths":{}}` + strings.Repeat(" ", 1<<20), "it has 1048588 bytes, more than 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse([]byte(tt.config))
			if s != nil || !errors.Is(err, ErrConfig) {
				t.Fatalf("set %v, err %v", s, err)
			}
			if got, want := err.Error(), "Failed to parse docker config: "+tt.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestParseSkipsAByteOrderMark(t *testing.T) {
	t.Parallel()
	s := parse(t, "\ufeff"+`{"auths":{"ghcr.io":{"username":"u","password":"p"}}}`)
	if _, ok, err := s.Lookup("ghcr.io", "o/r"); !ok || err != nil {
		t.Errorf("ok %v, err %v", ok, err)
	}
}

func TestParseTakesAConfigWithoutInlineEntriesForEmpty(t *testing.T) {
	t.Parallel()
	for _, config := range []string{
		`{}`,
		`{"auths":{}}`,
		`{"auths":null}`,
		`{"credsStore":""}`,
		`{"credHelpers":{"ghcr.io":"x"},"HttpHeaders":{"X":"y"},"psFormat":"table","plugins":{"a":{"b":"c"}},
		  "proxies":{"default":{"httpProxy":"http://p"}},"currentContext":"c","detachKeys":"ctrl-e","experimental":"enabled"}`,
	} {
		s := parse(t, config)
		if _, ok, err := s.Lookup("docker.io", "library/busybox"); ok || err != nil {
			t.Errorf("%s: ok %v, err %v", config, ok, err)
		}
		if texts := warnings(t, "docker.io", "library/busybox", s); texts != nil {
			t.Errorf("%s: warnings %q", config, texts)
		}
	}
}

func TestParseOfADockercfgIgnoresWhatIsNoEntry(t *testing.T) {
	t.Parallel()
	s := parse(t, `{"psFormat":"x","future":{"a":1},"number":5,"hub":{},"ghcr.io":{"auth":"`+b64("u:p")+`"},"harbor":{"username":"u","password":"p"}}`)
	for _, registry := range []string{"ghcr.io", "harbor"} {
		if _, ok, err := s.Lookup(registry, "o/r"); !ok || err != nil {
			t.Errorf("%s: ok %v, err %v", registry, ok, err)
		}
	}
	want := []string{
		`docker config: "future" at the top level is neither a registry's entry nor a known setting; ignored`,
		`docker config: "number" at the top level is neither a registry's entry nor a known setting; ignored`,
	}
	if diff := cmp.Diff(want, warnings(t, "ghcr.io", "o/r", s)); diff != "" {
		t.Error(diff)
	}
}

func TestLookupFailsOnARegistryOfADockercfgThatHasNoObject(t *testing.T) {
	t.Parallel()
	for _, registry := range []string{"quay.io", "host:5000", "localhost"} {
		_, ok, err := parse(t, `{"`+registry+`":"`+b64("u:p")+`"}`).Lookup(registry, "o/r")
		if broken, is := errors.AsType[*EntryError](err); ok || !is || broken.Problem != "it is not an object" {
			t.Errorf("%s: ok %v, err %v", registry, ok, err)
		}
	}
}

func TestParseIgnoresCredentialHelpersOfTheWrongType(t *testing.T) {
	t.Parallel()
	want := []string{
		"docker config: credsStore is not a string; ignored",
		"docker config: credHelpers is not an object of strings; ignored",
	}
	s := parse(t, `{"credsStore":{},"credHelpers":{"ghcr.io":5},"auths":{"ghcr.io":{}}}`)
	if diff := cmp.Diff(want, warnings(t, "ghcr.io", "o/r", s)); diff != "" {
		t.Error(diff)
	}
}

func TestParseIgnoresACredentialHelperThatIsForNoRegistry(t *testing.T) {
	t.Parallel()
	want := []string{
		`docker config: credHelpers: "" ignored: the key is not a registry's host`,
		`docker config: credHelpers: "ghcr.io/o" ignored: a helper is for a whole registry`,
		`docker config: credHelpers: "[redacted]@quay.io" ignored: the key holds user information`,
	}
	s := parse(t, `{"credHelpers":{"":"found","https://u:hunter2@quay.io":"found","ghcr.io/o":"found"}}`)
	for _, registry := range []string{"ghcr.io", "quay.io"} {
		if diff := cmp.Diff(want, warnings(t, registry, "o/r", s)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWarningsAreBounded(t *testing.T) {
	t.Parallel()
	var entries []string
	for i := range 30 {
		entries = append(entries, fmt.Sprintf(`"h%02d.example.com":5`, i))
	}
	texts := warnings(t, "ghcr.io", "o/r", parse(t, `{"auths":{`+strings.Join(entries, ",")+`}}`))
	if len(texts) != 20 || texts[19] != "docker config: 11 more warnings" {
		t.Errorf("%d texts: %q", len(texts), texts)
	}
}
