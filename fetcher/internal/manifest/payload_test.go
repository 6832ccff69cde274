package manifest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPayloadOfASignedManifestIsWhatWasSigned(t *testing.T) {
	t.Parallel()
	for _, mediaType := range []string{MediaTypeDockerSchema1Signed, MediaTypeDockerSchema1Signed + "; charset=utf-8"} {
		got, err := Payload(mediaType, golden(t, "schema1-signed.json"))
		if err != nil || !bytes.Equal(got, golden(t, "schema1.json")) {
			t.Errorf("%v\n%s", err, got)
		}
		const want = digest.Digest("sha256:4f0828042033bd2a6d83ef297fe2974cc157cddc46d0358b0421446ebe6f9ee1")
		if digest.FromBytes(got) != want {
			t.Errorf("digest %s", digest.FromBytes(got))
		}
	}
}

func TestPayloadOfAnythingElseIsTheBody(t *testing.T) {
	t.Parallel()
	for _, mediaType := range []string{MediaTypeDockerSchema1, MediaTypeDockerManifest, ocispec.MediaTypeImageIndex, "", "text/html"} {
		body := golden(t, "schema1-signed.json")
		if got, err := Payload(mediaType, body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%q: %v", mediaType, err)
		}
	}
}

func url64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// protect is a signature whose protected header has these two members.
func protect(length any, tail string) string {
	return fmt.Sprintf(`{"protected":"%s"}`, url64(fmt.Sprintf(`{"formatLength":%v,"formatTail":"%s"}`, length, url64(tail))))
}

func TestPayloadTakesWhatLibtrustMayWrite(t *testing.T) {
	t.Parallel()
	const signed = `{"a":1,"b":"x"`
	for _, tt := range []struct{ name, rest, tail, want string }{
		{"without blanks", `,"signatures":[%s]}`, "}", `{"a":1,"b":"x"}`},
		{"with blanks", "\t,\r\n \"signatures\" : [%s]\n} \n", "\r\n}", "{\"a\":1,\"b\":\"x\"\r\n}"},
		{"with two signatures", `,"signatures":[%[1]s,%[1]s]}`, "\n}", "{\"a\":1,\"b\":\"x\"\n}"},
	} {
		body := signed + fmt.Sprintf(tt.rest, protect(len(signed), tt.tail))
		if got, err := Payload(MediaTypeDockerSchema1Signed, []byte(body)); err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	padded := `{"protected":"` + base64.URLEncoding.EncodeToString([]byte(`{"formatLength":14,"formatTail":"fQ=="}`)) + `"}`
	if got, err := Payload(MediaTypeDockerSchema1Signed, []byte(signed+`,"signatures":[`+padded+`]}`)); err != nil || string(got) != signed+"}" {
		t.Errorf("with padding: %q, %v", got, err)
	}
}

func TestPayloadRefusesAHeaderThatHidesPartOfTheBody(t *testing.T) {
	t.Parallel()
	// A registry that has P with the right digest must not pass off another
	// body: one whose header says that P was signed.
	honest := `{"fsLayers":[1]`
	body := func(prefix, rest, signature string) string {
		return prefix + fmt.Sprintf(rest, signature)
	}
	const rest = `,"signatures":[%s]}`
	for _, tt := range []struct{ name, body, want string }{
		{"nearly all of P in the tail", body(`{"fsLayers":[2]`, rest, protect(1, `"fsLayers":[1]}`)), `signatures: formatTail "\"fsLayers\":[1]}" is not the end of an object`},
		{"members after what was signed", body(honest, `,"x":1,"signatures":[%s]}`, protect(len(honest), "}")), "signatures: what follows the 15 bytes that were signed is not the signatures alone"},
		{"members after the signatures", body(honest, `,"signatures":[%s],"x":1}`, protect(len(honest), "}")), "signatures: what follows the 15 bytes that were signed is not the signatures alone"},
		{"the cut in a string", body(`{"a":"b,`, `c","signatures":[%s]}`, protect(8, "}")), "signatures: what follows the 8 bytes that were signed is not the signatures alone"},
		{"the cut in a number", body(`{"a":1`, `2,"signatures":[%s]}`, protect(6, "}")), "signatures: what follows the 6 bytes that were signed is not the signatures alone"},
		{"the cut in an inner object", body(`{"a":{"b":1`, `,"signatures":1},"signatures":[%s]}`, protect(11, "}")), "signatures: what follows the 11 bytes that were signed is not the signatures alone"},
		{"the signatures in an inner object", fmt.Sprintf(`{"signatures":[%s],"a":{"b":1,"signatures":1}}`, protect(100, "}")), "signatures: what follows the 100 bytes that were signed is not the signatures alone"},
		{"the signatures first", fmt.Sprintf(`{"signatures":[%s],"a":1}`, protect(1, "}")), "signatures: what follows the 1 bytes that were signed is not the signatures alone"},
		{"the header twice", body(honest, `,"signatures":[{"protected":"",%s]}`, strings.TrimPrefix(protect(len(honest), "}"), "{")), `signatures[0] has the field "protected" twice`},
		{"nothing but the signatures", fmt.Sprintf(`{"signatures":[%s]}`, protect(1, "}")), "signatures: what follows the 1 bytes that were signed is not the signatures alone"},
		{"two closing braces", body(honest, rest, protect(len(honest), "}}")), `signatures: formatTail "}}" is not the end of an object`},
		{"an empty tail", body(honest, rest, protect(len(honest), "")), `signatures: formatTail "" is not the end of an object`},
		{"the cut in an array", body(`{"a":[1`, `],"signatures":[%s]}`, protect(7, "}")), "signatures: what follows the 7 bytes that were signed is not the signatures alone"},

		{"a length of 0", body(honest, rest, protect(0, "}")), "signatures: formatLength 0 is not within the body of 96 bytes"},
		{"a negative length", body(honest, rest, protect(-5, "}")), "signatures: formatLength -5 is not within the body of 98 bytes"},
		{"a length beyond the body", body(honest, rest, protect(9999, "}")), "signatures: formatLength 9999 is not within the body of 100 bytes"},
		{"a length that overflows", body(honest, rest, protect("99999999999999999999", "}")), "signatures[0]: protected is not a JWS header"},
		{"a length that is no number", body(honest, rest, protect(`"1"`, "}")), "signatures[0]: protected is not a JWS header"},
		{"signatures that differ", body(honest, rest, protect(len(honest), "}")+","+protect(len(honest), "\n}")), "signatures[1]: it signs other bytes than the one before"},
		{"no signatures", honest + "}", "it has no signatures"},
		{"empty signatures", honest + `,"signatures":[]}`, "signatures is empty"},
		{"null signatures", honest + `,"signatures":null}`, "signatures is empty"},
		{"signatures twice", body(honest, `,"signatures":[],"signatures":[%s]}`, protect(len(honest), "}")), `it has the field "signatures" twice`},
		{"an object for signatures", honest + `,"signatures":{}}`, "signatures is not an array"},
		{"a number for a signature", honest + `,"signatures":[5]}`, "signatures[0] is not an object"},
		{"a number for the header", honest + `,"signatures":[{"protected":5}]}`, "signatures[0]: protected has the wrong type or is out of range"},
		{"no base64 for the header", honest + `,"signatures":[{"protected":"?"}]}`, "signatures[0]: protected is not base64"},
		{"no base64 for the tail", honest + `,"signatures":[{"protected":"` + url64(`{"formatLength":15,"formatTail":"?"}`) + `"}]}`, "signatures[0]: formatTail is not base64"},
		{"no header", honest + `,"signatures":[{}]}`, "signatures[0]: protected is not a JWS header"},
		{"no JSON", "<html>", `it is not a JSON object: it begins with "<html>"`},
		{"a body over the bound", strings.Repeat(" ", MaxSize+1), "it has 4194305 bytes, more than 4194304"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Payload(MediaTypeDockerSchema1Signed, []byte(tt.body))
			if got != nil || !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q, %v", got, err)
			}
			if want := "invalid manifest: " + tt.want; err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}
