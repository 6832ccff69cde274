package fetcher

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Phase is where a fetch is. The phases follow each other in this order; a
// fetch of one manifest ends with Store, that of one blob goes from Prepare to
// Transfer. ARCHITECTURE.md maps them to the methods of the C++ original.
type Phase string

// The phases.
const (
	Prepare  Phase = "prepare"  // validate, decode the secret, open the directory
	Resolve  Phase = "resolve"  // ask for the manifest, choose the platform
	Store    Phase = "store"    // write the manifest
	Transfer Phase = "transfer" // fetch the blobs
)

// Event is something that happened during a fetch: Started, Progress,
// FileDone, Warning or Entered; where the request asks for a trace also
// Chosen, Decided, Asked, Granted, Refused, Waiting and Skipped.
type Event interface{ event() }

// Entered says that a phase began.
type Entered struct{ Phase Phase }

// Started says what will be fetched. It comes once, as soon as the manifest is known.
type Started struct {
	Manifest   Descriptor // zero for a docker-blob URI
	TotalBytes int64      // -1: unknown
	TotalFiles int
}

// Progress is a picture of the transfer, at most one each ProgressInterval.
type Progress struct {
	BytesDone  int64
	TotalBytes int64 // -1: unknown
	FilesDone  int
	TotalFiles int
	Active     []BlobProgress
}

// BlobProgress is the state of one blob that is being transferred.
type BlobProgress struct {
	Digest  digest.Digest
	Offset  int64 // bytes that arrived
	Size    int64 // -1: unknown
	Attempt int   // 1 for the first
}

// FileDone says that a file is complete and verified under its final name.
type FileDone struct{ File File }

// Warning is something the operator should know though the fetch goes on.
type Warning struct {
	Text string `json:"text"`
}

// Chosen says which credential goes to a host.
type Chosen struct {
	Host   string `json:"host,omitempty"`
	Key    string `json:"key,omitempty"`    // of the docker config; "": there is no credential for the host
	Helper string `json:"helper,omitempty"` // the program that has it; "": the config itself
}

// Decided is what is done next to get an answer, and why: one step of the
// ladder (ARCHITECTURE.md).
type Decided struct {
	Repository string   `json:"repository,omitempty"`
	Action     string   `json:"action,omitempty"` // plain, kept, given, basic, token, exchange, probe, give up
	Step       string   `json:"step,omitempty"`   // what the rung of the ladder is about
	When       string   `json:"when,omitempty"`   // what has to be the case
	Notes      []string `json:"notes,omitempty"`
	// Of a token request: whom it goes to, and what for.
	Realm   string `json:"realm,omitempty"`
	Service string `json:"service,omitempty"`
	Scope   string `json:"scope,omitempty"`
	Method  string `json:"method,omitempty"` // GET or POST; "": no token request
	Key     string `json:"key,omitempty"`    // of the credential that is shown; "": none is
}

// Asked is one HTTP request, each redirect by itself, and the answer. It holds
// no secret.
type Asked struct {
	Method string `json:"method,omitempty"`
	// URL has neither query nor user; of where the registry redirected to it is
	// scheme and host alone.
	URL           string        `json:"url,omitempty"`
	Token         bool          `json:"token,omitempty"`         // it asked for a token
	Redirected    bool          `json:"redirected,omitempty"`    // the registry redirected here
	Authorization string        `json:"authorization,omitempty"` // how it was authorized: Basic, Bearer; "": it was not
	Range         string        `json:"range,omitempty"`         // the Range field; "": none
	Status        int           `json:"status,omitempty"`        // 0: there was no answer
	Challenges    []string      `json:"challenges,omitempty"`    // the WWW-Authenticate fields as they came
	Location      string        `json:"location,omitempty"`      // where it redirects to: scheme and host; "": nowhere
	RetryAfter    string        `json:"retryAfter,omitempty"`    // the field as it came
	Err           string        `json:"err,omitempty"`           // why there was no answer
	Elapsed       time.Duration `json:"elapsedNs,omitempty"`     // until the answer's header was there
}

// Granted is a token, new or one that was there.
type Granted struct {
	Realm  string        `json:"realm,omitempty"`
	Scope  string        `json:"scope,omitempty"`
	Lasts  time.Duration `json:"lastsNs,omitempty"`
	Access []string      `json:"access,omitempty"` // what the token says it is good for; nil: it does not say
}

// Refused is what a registry or a token server said with its no.
type Refused struct {
	Message string `json:"message,omitempty"`
}

// Waiting is the pause before a request is repeated.
type Waiting struct {
	Host string        `json:"host,omitempty"`
	For  time.Duration `json:"forNs,omitempty"`
}

// Skipped is a mirror that is left alone, and why.
type Skipped struct {
	Host string `json:"host,omitempty"`
	Why  string `json:"why,omitempty"`
}

func (Chosen) event()  {}
func (Decided) event() {}
func (Asked) event()   {}
func (Granted) event() {}
func (Refused) event() {}
func (Waiting) event() {}
func (Skipped) event() {}

func (Entered) event()  {}
func (Started) event()  {}
func (Progress) event() {}
func (FileDone) event() {}
func (Warning) event()  {}
