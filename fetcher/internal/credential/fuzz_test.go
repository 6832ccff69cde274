package credential

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker-credential-helpers/credentials"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

func FuzzParse(f *testing.F) {
	for _, config := range []string{
		aConfig, "\ufeff" + aConfig, `{}`, `null`, `[]`, `{"auths":null}`, `{"auths":[]}`, `{"a`,
		`{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"quay.io/ns":{"identitytoken":"t"},"u:p@ghcr.io":5}}`,
		`{"quay.io":{"auth":"dTpw"},"x":1,"credsStore":"s","credHelpers":{"ghcr.io":"h"}}`,
	} {
		f.Add([]byte(config), "ghcr.io", "ns/img")
		f.Add([]byte(config), "docker.io", "library/busybox")
		f.Add([]byte(config), "[::1]:5000", "ns")
	}
	f.Fuzz(func(t *testing.T, config []byte, registry, repository string) {
		s, err := Parse(config)
		if (err == nil) != (s != nil) || err != nil && !errors.Is(err, ErrConfig) {
			t.Fatalf("set %v, err %v", s, err)
		}
		m, texts, err := Lookup(t.Context(), registry, repository, Source{Set: s})
		ok := m != Match{}
		if ok != !m.Credential.IsZero() || ok && err != nil || err != nil && !errors.Is(err, ErrConfig) {
			t.Fatalf("ok %v, err %v", ok, err)
		}
		if ok && (hasControl(m.Credential.Username+m.Credential.Password+m.Credential.IdentityToken+m.Credential.RegistryToken) || len(m.Key) > 600) {
			t.Fatalf("a credential that can't be sent, of %q", m.Key)
		}
		if len(texts) > maxWarnings {
			t.Fatalf("%d warnings", len(texts))
		}
	})
}

func FuzzHelperAnswer(f *testing.F) {
	f.Add("u", "p")
	f.Add("<token>", "t")
	f.Add("<token>", "")
	f.Add("", "")
	f.Add("u:v", "p\n")
	h := Helper{Name: "pass", Key: "ghcr.io"}
	f.Fuzz(func(t *testing.T, username, secret string) {
		m, ok, err := h.match(&credentials.Credentials{Username: username, Secret: secret})
		c := m.Credential
		if ok == c.IsZero() || ok && err != nil || err != nil && !errors.Is(err, ErrConfig) {
			t.Fatalf("ok %v, err %v", ok, err)
		}
		if hasControl(c.Username+c.Password+c.IdentityToken) || strings.Contains(c.Username, ":") || c.Username == "<token>" {
			t.Fatal("a credential that can't be sent")
		}
		const text = `docker config: the credential of "ghcr.io" is with docker-credential-pass, which gave a broken credential: `
		const control = " holds a control character, such as the line break that echo adds without -n"
		if err != nil && !slices.Contains([]string{
			text + "the user name" + control, text + "the password" + control, text + "identitytoken" + control,
			text + "the user name holds a colon",
		}, err.Error()) {
			t.Fatalf("another text: %v", err)
		}
	})
}

func FuzzDecodeSecret(f *testing.F) {
	for _, seed := range []string{"1a ffffffffffffffff7f 01", "12 ffffffffffffffff7f", "1a 0a 0a ffffffffffffffff7f", "08 02 1a 03 0a 01 41", "1b 1c"} {
		f.Add(unhex(f, seed))
	}
	for _, secret := range []*mesos.Secret{
		{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: []byte(aConfig)}},
		{Type: mesos.Secret_REFERENCE, Reference: &mesos.Secret_Reference{Name: "n"}},
	} {
		data, err := secret.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeSecret(data)
		decodedOrRefused(t, got, err)
		if secretSchema.walk(data) != nil {
			return
		}
		if _, err := unmarshal(data); err != nil && err.Error() == "it can't be decoded" {
			t.Fatal("the walk let bytes through that make mesos-go panic")
		}
	})
}

func FuzzDecodeSecretJSON(f *testing.F) {
	f.Add([]byte(`{"type":"VALUE","value":{"data":"eA=="}}`))
	f.Add([]byte(`{"type":1,"reference":{"name":"n","key":"k"}}`))
	f.Add([]byte(`{"type":null,"value":{"data":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeSecretJSON(data)
		decodedOrRefused(t, got, err)
		if err == nil && !json.Valid(data) && len(data) > 0 && data[0] != 0xef {
			t.Fatal("took what is not JSON")
		}
	})
}

func decodedOrRefused(t *testing.T, got []byte, err error) {
	t.Helper()
	if refused := errors.Is(err, ErrSecret) != errors.Is(err, ErrReference); (err == nil) != (len(got) > 0) || err != nil && !refused {
		t.Fatalf("%d bytes, err %v", len(got), err)
	}
}
