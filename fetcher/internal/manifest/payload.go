package manifest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// Payload returns the bytes over which a registry computes the digest of a
// document: the body, except for signed schema 1 manifests. Those carry their
// JWS within the document, and the digest is over what was signed, which the
// protected header tells: the first formatLength bytes of the body, then
// formatTail (distribution, "Image Manifest Version 2, Schema 1", Signed
// Manifests; github.com/docker/libtrust, JSON signatures).
//
// The header is no more trustworthy than the rest of the body. So a payload is
// accepted only where it is the whole body but for the member "signatures":
// else a digest that holds would say nothing about what Parse read. Everything
// else is ErrInvalid. The signatures themselves are not verified.
func Payload(mediaType string, body []byte) ([]byte, error) {
	if bare(mediaType) != MediaTypeDockerSchema1Signed {
		return body, nil
	}
	top, err := scan(body)
	if err != nil {
		return nil, err
	}
	length, tail, err := parseFormat(top["signatures"])
	if err != nil {
		return nil, err
	}
	if length < 1 || length > len(body) {
		return nil, fmt.Errorf("%w: signatures: formatLength %d is not within the body of %d bytes", ErrInvalid, length, len(body))
	}
	if strings.Trim(tail, " \t\r\n") != "}" {
		return nil, fmt.Errorf("%w: signatures: formatTail %q is not the end of an object", ErrInvalid, cut(tail))
	}
	if !onlySignatures(body[length:]) {
		return nil, fmt.Errorf("%w: signatures: what follows the %d bytes that were signed is not the signatures alone", ErrInvalid, length)
	}
	return append(bytes.Clone(body[:length]), tail...), nil
}

// maxSignatures bounds what is decoded: docker signed a manifest once.
const maxSignatures = 100

// parseFormat reads formatLength and formatTail, in which all signatures must agree.
func parseFormat(signatures json.RawMessage) (length int, tail string, err error) {
	if signatures == nil {
		return 0, "", fmt.Errorf("%w: it has no signatures", ErrInvalid)
	}
	count := 0
	err = each("signatures", signatures, func(where place, object json.RawMessage) error {
		l, t, err := parseSignature(where, object)
		if err != nil {
			return err
		}
		switch count++; {
		case count > maxSignatures:
			return fmt.Errorf("%w: there are more than %d signatures", ErrInvalid, maxSignatures)
		case count > 1 && (length != l || tail != t):
			return fmt.Errorf("%w: %s: it signs other bytes than the one before", ErrInvalid, where)
		}
		length, tail = l, t
		return nil
	})
	if err == nil && count == 0 {
		err = fmt.Errorf("%w: signatures is empty", ErrInvalid)
	}
	return length, tail, err
}

// parseSignature reads what the protected header of one signature says.
func parseSignature(where place, object json.RawMessage) (length int, tail string, err error) {
	var protected string
	err = members(where, object, []string{"protected"}, func(name string, value json.RawMessage) (err error) {
		protected, err = text(where, name, value)
		return err
	})
	if err != nil {
		return 0, "", err
	}
	header, err := decodeBase64(protected)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %s: protected is not base64", ErrInvalid, where)
	}
	var format struct {
		FormatLength int    `json:"formatLength"`
		FormatTail   string `json:"formatTail"`
	}
	if json.Unmarshal(header, &format) != nil {
		return 0, "", fmt.Errorf("%w: %s: protected is not a JWS header", ErrInvalid, where)
	}
	end, err := decodeBase64(format.FormatTail)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %s: formatTail is not base64", ErrInvalid, where)
	}
	return format.FormatLength, string(end), nil
}

// onlySignatures reports whether rest, the end of a document, ends an object
// with one more member, the signatures.
func onlySignatures(rest []byte) bool {
	rest, comma := bytes.CutPrefix(bytes.TrimLeft(rest, blanks), []byte(","))
	object := append([]byte("{"), rest...)
	if !comma || !json.Valid(object) {
		return false
	}
	count := 0
	for name := range pairs(object) {
		if count++; count > 1 || string(unescape(name)) != "signatures" {
			return false
		}
	}
	return count == 1
}

// decodeBase64 takes the URL alphabet, with or without padding.
func decodeBase64(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}
