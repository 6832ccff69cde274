package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
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

// OutcomeJSON returns how a fetch ended, on one line: as the last
// dockerfetcher.v1.FetchResponse of the stream, {"result":{...}}, or, with an
// error, as {"error":{...}} with the google.rpc.Status that a plugin would have
// sent, ErrorInfo and RetryInfo included.
func OutcomeJSON(r fetcher.Result, err error) ([]byte, error) {
	if err == nil {
		return line(&pb.FetchResponse{Event: &pb.FetchResponse_Result{Result: toResult(r)}})
	}
	text, err := line(status.Convert(toStatus(err)).Proto())
	return fmt.Appendf(nil, `{"error":%s}`, text), err
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

// ReadRequest reads the JSON form of one dockerfetcher.v1.FetchRequest, up to
// the end of r and 4 MiB. It refuses what a plugin refuses, and what is no such
// message, by a *fetcher.Error that says where and quotes nothing: the request
// holds a secret. Other errors are those of r.
func ReadRequest(r io.Reader) (fetcher.Request, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRequestBytes+1))
	if err != nil {
		return fetcher.Request{}, err
	}
	if len(data) > maxRequestBytes {
		return fetcher.Request{}, &fetcher.Error{
			Reason: fetcher.RequestTooLarge, Phase: fetcher.Prepare,
			Text: fmt.Sprintf("the request is larger than %d bytes", maxRequestBytes),
		}
	}
	m := &pb.FetchRequest{}
	if protojson.Unmarshal(data, m) != nil { // its errors quote what they meet
		return fetcher.Request{}, &fetcher.Error{
			Reason: fetcher.OptionInvalid, Phase: fetcher.Prepare, Text: mistake(m.ProtoReflect(), data),
		}
	}
	return requestOf(m)
}

// requestOf turns a message into a request. It refuses what only a message can
// say wrong; the rest is the fetcher's to judge.
func requestOf(m *pb.FetchRequest) (fetcher.Request, error) {
	if dir := m.GetDirectory(); dir != "" && !filepath.IsAbs(dir) {
		return fetcher.Request{}, &fetcher.Error{
			Reason: fetcher.DirectoryInvalid, Phase: fetcher.Prepare,
			Text: "the directory must be an absolute path: the plugin's working directory is not the host's",
		}
	}
	if m.OutputFileName != nil && m.GetOutputFileName() == "" {
		return fetcher.Request{}, &fetcher.Error{
			Reason: fetcher.OutputNameInvalid, Phase: fetcher.Prepare, Text: "the output file name is set but empty",
		}
	}
	if m.GetUri() == nil {
		return fetcher.Request{}, &fetcher.Error{Reason: fetcher.URIInvalid, Phase: fetcher.Prepare, Text: "uri is missing"}
	}
	return fromRequest(m), nil
}

// mistake says why protojson refuses data as a message such as m.
func mistake(m protoreflect.Message, data []byte) string {
	if len(bytes.TrimSpace(data)) == 0 {
		return "the request is empty; it is one JSON object, a dockerfetcher.v1.FetchRequest"
	}
	syntax, broken := errors.AsType[*json.SyntaxError](json.Unmarshal(data, new(json.RawMessage)))
	switch {
	case !broken:
		return misfit(m, "the request", "", data)
	case strings.HasPrefix(syntax.Error(), "unexpected end"):
		return "the request is not complete JSON: it ends at " + place(data, len(data))
	default:
		return "the request is not one JSON object at " + place(data, int(syntax.Offset)-1)
	}
}

// place names the byte at index i as an editor does.
func place(data []byte, i int) string {
	before := data[:max(i, 0)]
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n'))
}

// misfit names the field of data, which is JSON, that is none of m's or does not
// fit it: the one that protojson refuses by itself. The message is at path, and
// its fields are below prefix.
func misfit(m protoreflect.Message, path, prefix string, data []byte) string {
	values := json.NewDecoder(bytes.NewReader(data))
	if open, _ := values.Token(); open != json.Delim('{') {
		return path + ": want an object"
	}
	fields := m.Descriptor().Fields()
	for values.More() {
		name, _ := values.Token()
		var value json.RawMessage
		if err := values.Decode(&value); err != nil {
			break
		}
		field := fields.ByJSONName(name.(string))
		if field == nil {
			field = fields.ByTextName(name.(string))
		}
		switch {
		case field == nil:
			return path + " has an unknown field; there are " + names(fields)
		case fits(m, field, value):
		case composed(field):
			inner := prefix + field.JSONName()
			return misfit(m.NewField(field).Message(), inner, inner+".", value)
		default:
			return prefix + field.JSONName() + ": want " + wanted(field)
		}
	}
	return path + " has a field twice, or two where one excludes the other"
}

// fits tells whether protojson takes value for a field of a message such as m.
func fits(m protoreflect.Message, field protoreflect.FieldDescriptor, value []byte) bool {
	alone := fmt.Appendf(nil, `{%q:%s}`, field.JSONName(), value)
	return protojson.Unmarshal(alone, m.New().Interface()) == nil
}

// composed tells whether field is a message whose JSON form is an object of its fields.
func composed(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && !field.IsList() && field.Message().ParentFile().Package() != "google.protobuf"
}

func names(fields protoreflect.FieldDescriptors) string {
	var all []string
	for i := range fields.Len() {
		all = append(all, fields.Get(i).JSONName())
	}
	return strings.Join(all, ", ")
}

// wanted describes the JSON form of a field of the request.
func wanted(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList():
		return "a list of strings"
	case field.Message() != nil:
		return `a duration in seconds such as "60s"`
	case field.Kind() == protoreflect.BytesKind:
		return "a string in base64"
	case field.Kind() == protoreflect.Int32Kind:
		return "a number"
	case field.Kind() == protoreflect.Uint32Kind:
		return "a number of 0 or more"
	}
	return "a string"
}
