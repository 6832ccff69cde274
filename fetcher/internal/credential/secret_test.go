package credential

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"google.golang.org/protobuf/encoding/protowire"
)

const aConfig = `{"auths":{"ghcr.io":{"username":"u","password":"p"}}}`

func serialize(t *testing.T, s *mesos.Secret) []byte {
	t.Helper()
	data, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeSecretReturnsTheData(t *testing.T) {
	t.Parallel()
	// Field 3 (value) with field 1 (data), as any protobuf library writes it.
	bare := protowire.AppendTag(nil, 3, protowire.BytesType)
	bare = protowire.AppendBytes(bare, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(aConfig)))
	unknown := protowire.AppendString(protowire.AppendTag(slices.Clip(bare), 99, protowire.BytesType), "from a later version")
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"of type VALUE", serialize(t, &mesos.Secret{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: []byte(aConfig)}})},
		{"of type UNKNOWN", serialize(t, &mesos.Secret{Value: &mesos.Secret_Value{Data: []byte(aConfig)}})},
		{"without a type", bare},
		{"with an unknown field", unknown},
	} {
		if got, err := DecodeSecret(tt.data); err != nil || string(got) != aConfig {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func TestDecodeSecretJSONReturnsTheData(t *testing.T) {
	t.Parallel()
	value := `"value":{"data":"` + b64(aConfig) + `"}`
	for _, tt := range []struct{ name, json string }{
		{"of type VALUE", `{"type":"VALUE",` + value + `}`},
		{"of type VALUE by number", `{"type":2,` + value + `}`},
		{"of type UNKNOWN", `{"type":"UNKNOWN",` + value + `}`},
		{"of type UNKNOWN by number", `{"type":0,` + value + `}`},
		{"without a type", `{` + value + `}`},
		{"with nulls", `{"type":null,"reference":null,` + value + `}`},
		{"with unknown fields", `{"type":"VALUE","x":[{}],` + value + `}`},
		{"without padding", `{"value":{"data":"` + strings.TrimRight(b64(aConfig), "=") + `"}}`},
		{"after a byte order mark", "\ufeff{" + value + "}"},
	} {
		if got, err := DecodeSecretJSON([]byte(tt.json)); err != nil || string(got) != aConfig {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func TestDecodeSecretRefusesAReference(t *testing.T) {
	t.Parallel()
	key := "k"
	reference := &mesos.Secret_Reference{Name: "/team/registry", Key: &key}
	const named = `secret is of type REFERENCE (name "/team/registry"): only the agent can resolve it; pass the resolved value`
	const nameless = `secret is of type REFERENCE (name ""): only the agent can resolve it; pass the resolved value`
	for _, tt := range []struct {
		name   string
		secret *mesos.Secret
		json   string
		want   string
	}{
		{"of type REFERENCE", &mesos.Secret{Type: mesos.Secret_REFERENCE, Reference: reference}, `{"type":"REFERENCE","reference":{"name":"/team/registry","key":"k"}}`, named},
		{"without a type", &mesos.Secret{Reference: reference}, `{"reference":{"name":"/team/registry"}}`, named},
		{"of type VALUE", &mesos.Secret{Type: mesos.Secret_VALUE, Reference: reference}, `{"type":2,"reference":{"name":"/team/registry"}}`, named},
		{"by type alone", &mesos.Secret{Type: mesos.Secret_REFERENCE}, `{"type":1}`, nameless},
		{"by type, though there is a value", &mesos.Secret{Type: mesos.Secret_REFERENCE, Value: &mesos.Secret_Value{Data: []byte("x")}}, `{"type":"REFERENCE","value":{"data":"eA=="}}`, nameless},
	} {
		_, err := DecodeSecret(serialize(t, tt.secret))
		if !errors.Is(err, ErrReference) || errors.Is(err, ErrSecret) || err.Error() != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		_, err = DecodeSecretJSON([]byte(tt.json))
		if !errors.Is(err, ErrReference) || errors.Is(err, ErrSecret) || err.Error() != tt.want {
			t.Errorf("%s as JSON: %v", tt.name, err)
		}
	}
}

func TestDecodeSecretRefusesWhatIsNoSecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, data string // hex
		want       string
	}{
		{"nothing", "", "it is empty"},
		{"a value whose length overflows", "1a ffffffffffffffff7f 01", "it is not a serialized mesos.v1.Secret: field 3 is cut off or garbled"},
		{"a reference whose length overflows", "12 ffffffffffffffff7f", "it is not a serialized mesos.v1.Secret: field 2 is cut off or garbled"},
		{"data whose length overflows", "1a 0a 0a ffffffffffffffff7f", "it is not a serialized mesos.v1.Secret: field 1 is cut off or garbled"},
		{"an unknown field whose length overflows", "22 ffffffffffffffff7f", "it is not a serialized mesos.v1.Secret: field 4 is cut off or garbled"},
		{"a length of eleven bytes", "1a ffffffffffffffffffff01", "it is not a serialized mesos.v1.Secret: field 3 is cut off or garbled"},
		{"a cut value", "1a 05 0a", "it is not a serialized mesos.v1.Secret: field 3 is cut off or garbled"},
		{"field number 0", "02 00", "it is not a serialized mesos.v1.Secret: the tag of a field is cut off or garbled"},
		{"a group", "1b 1c", "it is not a serialized mesos.v1.Secret: field 3 is a group"},
		{"the end of a group", "24", "it is not a serialized mesos.v1.Secret: field 4 is a group"},
		{"a number for the value", "18 01", "value has wire type 0, not 2"},
		{"text for the type", "0a 01 41", "type has wire type 2, not 0"},
		{"a number for the data", "1a 02 08 01", "value.data has wire type 0, not 2"},
		{"a number for the reference's name", "12 02 08 01", "reference.name has wire type 0, not 2"},
		{"a value without data", "08 02 1a 00", `proto: required field "data" not set`},
		{"empty data", "08 02 1a 02 0a 00", "its value has no data"},
		{"no value", "08 02", "it has no value"},
		{"an unknown type", "08 09 1a 03 0a 01 41", "its type 9 is unknown"},
		{"both a reference and a value", "12 03 0a 01 41 1a 03 0a 01 41", "it has both a reference and a value"},
		{"a config.json as it is", hex.EncodeToString([]byte(aConfig)), "it is JSON, not a serialized mesos.v1.Secret: pass it as what it is"},
	} {
		got, err := DecodeSecret(unhex(t, tt.data))
		if got != nil || !errors.Is(err, ErrSecret) || errors.Is(err, ErrReference) || err.Error() != "invalid mesos secret: "+tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	if _, err := DecodeSecret(make([]byte, 2<<20+1)); err == nil || err.Error() != "invalid mesos secret: it has 2097153 bytes, more than 2097152" {
		t.Errorf("too large: %v", err)
	}
}

func TestDecodeSecretJSONRefusesWhatIsNoSecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, json, want string }{
		{"nothing", "", "it is empty"},
		{"blanks", " ", "it is empty"},
		{"no JSON", "VALUE", "it is not valid JSON at line 1, column 1"},
		{"an array", "[]", "it is not a JSON object"},
		{"null", "null", "it has no value"},
		{"nothing in it", "{}", "it has no value"},
		{"an unknown type", `{"type":"SECRET"}`, "type is none of VALUE, REFERENCE and UNKNOWN"},
		{"an unknown type by number", `{"type":3}`, "type is none of VALUE, REFERENCE and UNKNOWN"},
		{"an object for the type", `{"type":{}}`, "type is none of VALUE, REFERENCE and UNKNOWN"},
		{"a string for the value", `{"type":"VALUE","value":"x"}`, "value has the wrong type"},
		{"a number for the data", `{"value":{"data":123}}`, "value.data has the wrong type"},
		{"a config for the data", `{"value":{"data":{"auths":{}}}}`, "value.data has the wrong type"},
		{"a string for the reference", `{"reference":"x"}`, "reference has the wrong type"},
		{"a number for the reference's name", `{"reference":{"name":1}}`, "reference.name has the wrong type"},
		{"no base64", `{"value":{"data":"{\"auths\":{}}"}}`, "value.data is not base64"},
		{"no data", `{"type":"VALUE","value":{}}`, "its value has no data"},
		{"empty data", `{"type":"VALUE","value":{"data":""}}`, "its value has no data"},
		{"both a reference and a value", `{"reference":{"name":"n"},"value":{"data":"eA=="}}`, "it has both a reference and a value"},
		{"a config.json as it is", aConfig, "it has no value"},
	} {
		got, err := DecodeSecretJSON([]byte(tt.json))
		if got != nil || !errors.Is(err, ErrSecret) || errors.Is(err, ErrReference) || err.Error() != "invalid mesos secret: "+tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	if _, err := DecodeSecretJSON(make([]byte, 2<<20+1)); err == nil || err.Error() != "invalid mesos secret: it has 2097153 bytes, more than 2097152" {
		t.Errorf("too large: %v", err)
	}
}

// The walk keeps such bytes away from mesos-go; here nothing does.
func TestAPanicOfTheDecoderIsAnError(t *testing.T) {
	t.Parallel()
	for _, crasher := range []string{"1a ffffffffffffffff7f 01", "12 ffffffffffffffff7f"} {
		secret, err := unmarshal(unhex(t, crasher))
		if secret != nil || err == nil || err.Error() != "it can't be decoded" {
			t.Errorf("%s: %v", crasher, err)
		}
	}
}
