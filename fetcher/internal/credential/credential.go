// Package credential turns docker config or Mesos Secret bytes into the
// credential for a registry, with the help of the credential helpers that the
// operator's config names.
//
// Its parsers take bytes that a stranger may have written and that hold
// secrets: they never panic, and no error, warning or printed value of this
// package shows more of them than the registries' names.
package credential

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Credential is what a docker config holds for one registry. It prints as
// [redacted] through fmt, log/slog and encoding/json; fmt can't be kept from
// an unexported struct field, so hold it in an exported one or by pointer.
type Credential struct {
	// Username and Password are for HTTP Basic (RFC 7617).
	Username, Password string
	// IdentityToken is an OAuth2 refresh token, for the token server only.
	IdentityToken string
	// RegistryToken is a bearer token that the registry takes as it is.
	RegistryToken string
}

// IsZero reports whether c holds nothing.
func (c Credential) IsZero() bool { return c == Credential{} }

// Format implements fmt.Formatter, so that no verb shows the secret.
func (Credential) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue implements slog.LogValuer.
func (Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, so that no encoder shows the secret.
func (Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }
