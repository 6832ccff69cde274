// Package scheme says what a URI means: which image, manifest or blob, in
// which repository of which registry.
//
// The same thing arrives in three forms, and each becomes a Reference:
//
//   - the Mesos message, type URI: FromURI;
//   - the string form: Parse;
//   - what people type at a command line, familiar names too: ParseFamiliar.
//
// The grammar of the string form, after RFC 3986, the distribution-spec and
// the reference grammar of docker, is
//
//	uri        = kind "://" host [ ":" port ] "/" [ "/" ] repository "?" ( tag | digest ) [ "#" ( "http" / "https" ) ]
//	kind       = "docker" / "docker-manifest" / "docker-blob"
//	host       = DNS name / IPv4 address / "[" IPv6 address "]"
//	port       = 1 to 65535, decimal
//	repository = component *( "/" component )
//	component  = [a-z0-9]+ ( ( "." / "_" / "__" / "-"+ ) [a-z0-9]+ )*
//	tag        = [a-zA-Z0-9_] [a-zA-Z0-9._-]{0,127}
//	digest     = "sha256:" 64 lower-case hex digits / "sha512:" 128 lower-case hex digits
//
// Nothing is decoded or repaired: percent-encoding, userinfo, dot segments
// and whatever else the grammar has no word for is refused with an *Error.
//
// Carry the message between programs, not a string made of it by Mesos: its
// stringify runs host and path together when the path has no leading slash
// (docker://registry-1.docker.iolibrary/busybox?latest), and no parser can
// tell where the host ended. Reference.String always separates the two.
package scheme

import (
	"strconv"
	"strings"
)

// Kind is what a URI asks for; its value is the scheme of the URI.
type Kind string

// The kinds, as in the Mesos original.
const (
	Image    Kind = "docker"          // a manifest and all its blobs
	Manifest Kind = "docker-manifest" // a manifest alone
	Blob     Kind = "docker-blob"     // one blob
)

// Valid reports whether k is one of the three kinds.
func (k Kind) Valid() bool { return k == Image || k == Manifest || k == Blob }

// Part names a part of a URI.
type Part string

// The parts that an Error may blame.
const (
	PartScheme   Part = "scheme"
	PartUser     Part = "user" // user, password or both
	PartHost     Part = "host"
	PartPort     Part = "port"
	PartPath     Part = "path"
	PartQuery    Part = "query"
	PartFragment Part = "fragment"
	PartDigest   Part = "digest" // the query, where it must be a digest
)

// Error says which part of a URI is wrong. Every error of this package is an
// *Error, so that callers find it with errors.As.
type Error struct {
	Part    Part
	Missing bool // the part is needed and not there
	// Text is the whole message, what to do included. It never holds a user
	// name, a password or a control character.
	Text string
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

func invalid(part Part, text string) error { return &Error{Part: part, Text: text} }

func missing(part Part, text string) error { return &Error{Part: part, Missing: true, Text: text} }

func userRefused() error {
	return invalid(PartUser, "user and password (uri.user, uri.password, anything before an '@') are refused, "+
		"as URIs end up in logs; put credentials in the docker config")
}

// quote makes a value of the caller fit to be shown: see escape.
func quote(value string) string { return `"` + escape(value) + `"` }

// escape escapes control characters, cuts after a hundred bytes, and hides a
// value with an '@' altogether, as a password may stand before it.
func escape(value string) string {
	const most = 100
	if strings.Contains(value, "@") {
		return "[hidden]"
	}
	more := ""
	if len(value) > most {
		value, more = value[:most], "..."
	}
	quoted := strconv.Quote(value)
	return quoted[1:len(quoted)-1] + more
}
