package plugin

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// ResultJSON returns the JSON form of the message dockerfetcher.v1.FetchResult,
// on one line.
func ResultJSON(r fetcher.Result) ([]byte, error) { return line(toResult(r)) }

// ResolutionJSON returns the JSON form of dockerfetcher.v1.ResolveResponse, on one line.
func ResolutionJSON(r fetcher.Resolution) ([]byte, error) { return line(toResolution(r)) }

// EventJSON returns the JSON form of dockerfetcher.v1.FetchResponse, on one
// line; nil for an event that is not on the wire.
func EventJSON(e fetcher.Event) ([]byte, error) {
	m := toEvent(e)
	if m == nil {
		return nil, nil
	}
	return line(m)
}

// line marshals m. protojson varies its white space on purpose; JSON compacted
// is the same each time.
func line(m proto.Message) ([]byte, error) {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
