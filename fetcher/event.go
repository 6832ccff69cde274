package fetcher

import (
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
// FileDone, Warning or Entered.
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
type Warning struct{ Text string }

func (Entered) event()  {}
func (Started) event()  {}
func (Progress) event() {}
func (FileDone) event() {}
func (Warning) event()  {}
