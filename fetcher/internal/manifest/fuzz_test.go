package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

var documents = []string{
	"docker-manifest.json", "docker-manifest-list.json", "oci-manifest.json", "oci-index.json", "schema1.json", "schema1-signed.json",
}

func FuzzParse(f *testing.F) {
	for _, name := range documents {
		f.Add("", golden(f, name), "linux", "arm64", "v8")
		f.Add("application/json; charset=utf-8", golden(f, name), "linux", "amd64", "")
	}
	f.Add(MediaTypeDockerManifest, []byte(`{"schemaVersion":2,"manifests":null,"layers":[]}`), "", "", "")
	f.Add("text/html", []byte("<html>"), "linux", "arm", "v6")
	f.Fuzz(func(t *testing.T, contentType string, body []byte, os, architecture, variant string) {
		d, err := Parse(contentType, body)
		if err != nil {
			if errors.Is(err, ErrInvalid) == errors.Is(err, ErrUnsupported) || len(err.Error()) > 1000 || !reflect.ValueOf(d).IsZero() {
				t.Fatalf("%+v, %v", d, err)
			}
			return
		}
		if shapes[d.MediaType] == noShape || (d.Manifest == nil) == (d.Index == nil) || (d.Index != nil) != (shapes[d.MediaType] == indexShape) {
			t.Fatalf("%+v", d)
		}
		var all []Descriptor
		if d.Manifest != nil {
			all = append(d.Manifest.Blobs(), d.Manifest.Layers...)
		} else {
			all = d.Index.Manifests
			p := at(os + "/" + architecture + "/" + variant)
			if chosen, err := d.Index.Select(p); (err == nil) != (chosen.Digest != "") || err != nil && (!errors.Is(err, ErrNoPlatform) || len(err.Error()) > 8000) {
				t.Fatalf("%v, %v", chosen, err)
			}
		}
		for _, d := range all {
			if err := checkDigest(whole, "x", d.Digest); err != nil || d.Size < -1 {
				t.Fatalf("%+v: %v", d, err)
			}
		}
	})
}

func FuzzPayload(f *testing.F) {
	for _, name := range documents {
		f.Add(golden(f, name))
	}
	f.Add([]byte(`{"a":1,"signatures":[` + protect(6, "}") + `]}`))
	f.Add([]byte(`{"a":1,"signatures":[` + protect(-1, "}") + `]}`))
	f.Add([]byte(`{"a":1,"signatures":[` + protect(1, `"a":1}`) + `]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		payload, err := Payload(MediaTypeDockerSchema1Signed, body)
		if err != nil {
			if payload != nil || !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q, %v", payload, err)
			}
			return
		}
		// What was signed is the body but for the signatures.
		var whole, signed map[string]json.RawMessage
		if json.Unmarshal(body, &whole) != nil || json.Unmarshal(payload, &signed) != nil {
			t.Fatalf("not JSON: %q", payload)
		}
		delete(whole, "signatures")
		if !reflect.DeepEqual(whole, signed) {
			t.Fatalf("%q of %q", payload, body)
		}
		if !bytes.HasPrefix(body, bytes.TrimRight(payload, " \t\r\n}")) {
			t.Fatalf("%q is no beginning of %q", payload, body)
		}
	})
}
