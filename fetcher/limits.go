package fetcher

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/auth"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/manifest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
)

// Unit is what the value of a Limit counts.
type Unit string

// The units.
const (
	Count       Unit = ""
	Bytes       Unit = "bytes"
	Nanoseconds Unit = "nanoseconds"
)

// Limit is one bound that holds whatever a peer or a caller sends.
type Limit struct {
	Name   string // what is bounded
	Value  int64
	Unit   Unit
	Reason Reason // of the error of a call that meets it; "": no call fails by it
	Beyond string // what happens there
}

// Amount is the value with its unit, for people: 4 MiB, 1.5 s, 10,000.
func (l Limit) Amount() string {
	switch l.Unit {
	case Bytes:
		return size(l.Value)
	case Nanoseconds:
		return span(time.Duration(l.Value))
	}
	return grouped(l.Value)
}

func size(n int64) string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if scale := int64(1) << (30 - 10*i); n >= scale && n%scale == 0 {
			return grouped(n/scale) + " " + unit
		}
	}
	return grouped(n) + " bytes"
}

func span(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= unit.of && d%unit.of == 0 {
			return fmt.Sprintf("%d %s", d/unit.of, unit.name)
		}
	}
	return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) + " s"
}

// grouped writes n with a comma before each three digits.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, digit := range s {
		if i > 0 && s[i-1] != '-' && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// Limits returns the bounds of a Fetcher, made of the constants that keep them.
// docs/security.md shows them.
func Limits() []Limit {
	const (
		rest   = "the rest is not read"
		cut    = "the rest is cut off"
		forgot = "all are forgotten, and cost a request again"
	)
	return []Limit{
		// What a peer sends.
		{"a manifest or index", manifest.MaxSize, Bytes, ManifestInvalid, "refused; at most a byte more is read"},
		{"distinct digests in one document", manifest.MaxDescriptors, Count, ManifestInvalid, "refused before a blob is asked for"},
		{"indexes between a reference and a manifest", maxIndexDepth, Count, ManifestInvalid, "refused"},
		{"a blob whose size nobody said", content.MaxUnknownSize, Bytes, BlobTooLarge, "refused; one of a known size ends at that size"},
		{"the answer of a token server", auth.MaxTokenAnswer, Bytes, TokenServerRefused, "refused; at most a byte more is read"},
		{"a token", auth.MaxToken, Bytes, TokenServerRefused, "refused: it would be a header field"},
		{"the body of a refusal", registry.MaxErrorBody, Bytes, "", rest},
		{"a peer's own words in an error", auth.MaxMessage, Bytes, "", cut},
		{"the header of one answer", registry.MaxHeaderBytes, Bytes, RegistryUnreachable, "the connection is closed"},
		{"redirects of one request", registry.MaxRedirects, Count, RegistryUnreachable, "no further one is followed"},
		{"URLs of a foreign layer", registry.MaxForeign, Count, "", "the others are not asked"},
		{"token requests for one request", auth.MaxExchanges, Count, "", "the refusal so far is the error"},
		{"requests for one, with those for its authorization; retries and redirects aside", auth.MaxRequests, Count, "", "the refusal so far is the error"},

		// Time, and what is done again.
		{"a dial", int64(registry.MaxDialTime), Nanoseconds, RegistryUnreachable, "tried again"},
		{"a TLS handshake", int64(registry.MaxHandshakeTime), Nanoseconds, RegistryUnreachable, "tried again"},
		{"the wait for an answer's first byte", int64(registry.MaxHeaderTime), Nanoseconds, RegistryUnreachable, "tried again"},
		{"the answer to one request, its authorization, retries and redirects included", int64(registry.MaxAnswerTime), Nanoseconds, RegistryUnreachable, "given up"},
		{"the first byte of a blob from a mirror, where hosts.toml does not say", int64(registry.MaxMirrorTime), Nanoseconds, "", "the next host is asked"},
		{"a small body (manifest, token, refusal), and a second more for each " + size(registry.MinBodyRate), int64(registry.MaxBodyGrace), Nanoseconds, RegistryUnreachable, "closed as a trickle"},
		{"less than " + size(transfer.MinRate) + " a second of a blob, by default", int64(DefaultStallTimeout), Nanoseconds, Stalled, "continued on another connection, in the end given up"},
		{"attempts of one request", registry.MaxAttempts, Count, "", "the last answer is the error"},
		{"the last attempt begins after, and a Retry-After may ask for", int64(registry.MaxRetryTime), Nanoseconds, RateLimited, "reported at once, with the time that was asked for"},
		{"broken connections of a blob in a row, without " + size(transfer.EnoughProgress) + " in between", transfer.MaxFailures, Count, RegistryUnreachable, "given up"},
		{"broken connections of all blobs of a host in a row", transfer.MaxHostFailures, Count, RegistryUnreachable, "given up"},
		{"how long a mirror that failed is left alone", int64(registry.MaxMirrorRest), Nanoseconds, "", "one caller finds out whether it answers"},
		{"a process that holds a blob of the cache and makes no progress", int64(content.MaxPatience), Nanoseconds, "", "others fetch without the cache"},

		// What a caller and the operator give.
		{"a docker config", credential.MaxConfig, Bytes, ConfigInvalid, "refused"},
		{"a Secret", credential.MaxSecret, Bytes, SecretInvalid, "refused"},
		{"warnings of one docker config", credential.MaxWarnings, Count, "", cut},
		{"a run of a credential helper", int64(credential.MaxHelperTime), Nanoseconds, ConfigInvalid, "it is ended, with all that it started"},
		{"the answer of a credential helper", credential.MaxHelperAnswer, Bytes, ConfigInvalid, "refused"},
		{"an output file name", content.MaxName, Bytes, OutputNameInvalid, "refused"},
		{"a request ID", maxRequestID, Bytes, OptionInvalid, "refused"},
		{"a hosts.toml", registry.MaxHostsFile, Bytes, HostsInvalid, "refused, and nothing is asked"},
		{"hosts in a hosts.toml", registry.MaxMirrors, Count, HostsInvalid, "refused, and nothing is asked"},
		{"a file of certificates", registry.MaxCertFile, Bytes, HostsInvalid, "refused, and nothing is asked"},
		{"all files of one registry's hosts directory", registry.MaxHostsBytes, Bytes, HostsInvalid, "refused, and nothing is asked"},

		// What a long life adds up to.
		{"streams to one host", DefaultMaxConcurrentBlobs, Count, "", "blobs wait for their turn"},
		{"connections made ahead", aheadConnections, Count, "", "none is made"},
		{"how long one of them waits unused", int64(registry.MaxReadyTime), Nanoseconds, "", "closed"},
		{"tokens that a session keeps", auth.MaxKept, Count, "", forgot},
		{"sessions, one for each registry and credential", registry.MaxSessions, Count, "", forgot},
		{"how long an unused session keeps its credential", int64(registry.MaxIdleSession), Nanoseconds, "", "forgotten"},
		{"hosts whose streams and pace are known", maxHosts, Count, "", "those without a transfer are forgotten"},
		{"blobs of which is known who may have them", maxGrants, Count, "", forgot},
	}
}
