package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

const canary = "hunter2-canary"

func TestNothingPrintsACredential(t *testing.T) {
	t.Parallel()
	c := Credential{canary, canary, canary, canary}
	s := parse(t, `{"auths":{"ghcr.io":{"username":"`+canary+`","password":"`+canary+`"}}}`)
	m, _, err := s.Lookup("ghcr.io", "o/r")
	if err != nil || m.Credential.IsZero() || !(Credential{}).IsZero() {
		t.Fatal(err)
	}
	for _, v := range []any{c, &c, s, *s, m, &m, []Credential{c}, map[string]Credential{"c": c}, struct{ C *Set }{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			noCanary(t, fmt.Sprintf(verb, v))
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		noCanary(t, string(data))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		noCanary(t, log.String())
	}
	if got := fmt.Sprintf("%v %d %+v", c, &c, s); got != "[redacted] [redacted] [redacted]" {
		t.Error(got)
	}
	if got, err := json.Marshal(m); err != nil || string(got) != `{"Credential":"[redacted]","Key":"ghcr.io","Helper":""}` {
		t.Errorf("%s, %v", got, err)
	}
}

// noCanary looks for the secret as it is, in hex, in base64 and as decimal bytes.
func noCanary(t *testing.T, text string) {
	t.Helper()
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), "aHVudGVyM", "104 117 110", "104, 117, 110"} {
		if strings.Contains(text, form) {
			t.Errorf("shows the secret: %s", text)
		}
	}
}

func TestNoErrorAndNoWarningShowsAValue(t *testing.T) {
	t.Parallel()
	quoted, auth := `"`+canary+`"`, `"`+b64(canary+":"+canary)+`"`
	entries := []string{
		quoted, `[` + quoted + `]`, `{"auth":` + quoted + `}`, `{"auth":` + b64(canary) + `}`,
		`{"auth":"` + b64(canary) + `"}`, `{"auth":[` + auth + `]}`, `{"auth":"` + b64(canary+":"+canary+"\n") + `"}`,
		`{"auth":"` + b64(canary+":"+canary) + `\n"}`, `{"password":{"p":` + quoted + `}}`, `{"username":"` + canary + `:x","password":` + quoted + `}`,
		`{"username":` + quoted + `,"password":"` + canary + `\r"}`, `{"identitytoken":"` + canary + `\n"}`, `{"registrytoken":"` + canary + `\u0000"}`,
		`{"username":` + quoted + `,"password":` + quoted + `}`, `{"auth":` + auth + `}`,
	}
	for _, entry := range entries {
		for _, config := range []string{
			`{"auths":{"ghcr.io":` + entry + `}}`,
			`{"auths":{"ghcr.io":` + entry,
			`{"auths":{"ghcr.io":` + entry + `}} ` + canary,
			`{"auths":{"ghcr.io":` + entry + `}}` + "\xff",
			`{"auths":` + entry + `}`,
			`{"auths":[` + entry + `]}`,
			`{"ghcr.io":` + entry + `,"plain":` + entry + `}`,
			`{"auths":{"https://` + canary + `:` + canary + `@ghcr.io":` + entry + `}}`,
			`{"auths":{"https://u:` + canary + `/` + canary + `@ghcr.io":` + entry + `}}`,
			`{"credHelpers":{"ghcr.io":[` + entry + `]},"credsStore":[` + entry + `]}`,
			entry, `[` + entry + `]`, canary,
		} {
			checkConfig(t, []byte(config))
			for _, format := range []string{`%s`, `{"type":%s}`, `{"value":%s}`, `{"value":{"data":%s}}`, `{"type":%q,"value":{"data":%[1]q}}`, `{"reference":[%s]}`, `{"reference":{"name":[%s]}}`} {
				_, err := DecodeSecretJSON(fmt.Appendf(nil, format, config))
				noCanary(t, fmt.Sprintf("%v %+v %#v", err, err, err))
			}
		}
	}
}

func checkConfig(t *testing.T, config []byte) {
	t.Helper()
	s, err := Parse(config)
	noCanary(t, fmt.Sprintf("%v %+v %#v %+v", err, err, err, s))
	for _, registry := range []string{"ghcr.io", "plain"} {
		m, _, err := s.Lookup(registry, "o/r")
		noCanary(t, fmt.Sprintf("%+v %#v %v %+v %#v", m, m, err, err, err))
		noCanary(t, strings.Join(warnings(t, registry, "o/r", s), "\n"))
	}
}

func TestNoErrorShowsTheDataOfABrokenSecret(t *testing.T) {
	t.Parallel()
	value := &mesos.Secret_Value{Data: []byte(`{"auths":{"ghcr.io":{"username":"u","password":"` + canary + `"}}}`)}
	for _, secret := range []*mesos.Secret{
		{Type: 7, Value: value},
		{Type: mesos.Secret_VALUE, Value: value},
		{Type: mesos.Secret_REFERENCE, Value: value},
		{Reference: &mesos.Secret_Reference{Name: "n"}, Value: value},
	} {
		data := serialize(t, secret)
		for i := range data {
			for _, part := range [][]byte{data[:i], data[i:]} {
				_, err := DecodeSecret(part)
				noCanary(t, fmt.Sprintf("%v %+v %#v", err, err, err))
			}
		}
	}
}
