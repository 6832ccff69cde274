package credential

import (
	"encoding/json"
	"errors"
	"fmt"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxSecret bounds a serialized Secret: a config in base64 and something around it.
const maxSecret = 2 * maxConfig

// What errors.Is finds in the errors of DecodeSecret and DecodeSecretJSON;
// an error is of one of them.
var (
	ErrSecret    = errors.New("invalid mesos secret")
	ErrReference = errors.New("secret is of type REFERENCE")
)

// schema says which fields of a message the walk knows.
type schema map[protowire.Number]field

type field struct {
	name    string
	wire    protowire.Type
	message schema // nil: not a message
}

// secretSchema is mesos.v1.Secret (mesos.proto).
var secretSchema = schema{
	1: {name: "type", wire: protowire.VarintType},
	2: {name: "reference", wire: protowire.BytesType, message: schema{
		1: {name: "reference.name", wire: protowire.BytesType},
		2: {name: "reference.key", wire: protowire.BytesType},
	}},
	3: {name: "value", wire: protowire.BytesType, message: schema{
		1: {name: "value.data", wire: protowire.BytesType},
	}},
}

// DecodeSecret returns the data of a serialized mesos.v1.Secret of type
// VALUE: the bytes of a docker config. A REFERENCE is ErrReference, everything
// else that is not such a Secret ErrSecret.
func DecodeSecret(data []byte) ([]byte, error) {
	if err := checkSize(data); err != nil {
		return nil, err
	}
	if data[0] == '{' { // would be the tag of a group, of which the message has none
		return nil, fmt.Errorf("%w: it is JSON, not a serialized mesos.v1.Secret: pass it as what it is", ErrSecret)
	}
	if err := secretSchema.walk(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	secret, err := unmarshal(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	return value(secret)
}

// DecodeSecretJSON is DecodeSecret for the JSON form that the Mesos APIs
// take: {"type": "VALUE", "value": {"data": "<base64>"}}. Unknown fields are ignored.
func DecodeSecretJSON(data []byte) ([]byte, error) {
	if err := checkSize(data); err != nil {
		return nil, err
	}
	var document struct {
		Type      json.RawMessage
		Reference *struct{ Name string }
		Value     *struct{ Data *string }
	}
	if err := decode(data, &document); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	secret := &mesos.Secret{}
	switch string(document.Type) {
	case ``, `null`, `"UNKNOWN"`, `0`:
	case `"REFERENCE"`, `1`:
		secret.Type = mesos.Secret_REFERENCE
	case `"VALUE"`, `2`:
		secret.Type = mesos.Secret_VALUE
	default:
		return nil, fmt.Errorf("%w: type is none of VALUE, REFERENCE and UNKNOWN", ErrSecret)
	}
	if document.Reference != nil {
		secret.Reference = &mesos.Secret_Reference{Name: document.Reference.Name}
	}
	if document.Value != nil {
		secret.Value = &mesos.Secret_Value{}
		if text := document.Value.Data; text != nil {
			decoded, err := decodeBase64(*text)
			if err != nil {
				return nil, fmt.Errorf("%w: value.data is not base64", ErrSecret)
			}
			secret.Value.Data = decoded
		}
	}
	return value(secret)
}

func checkSize(data []byte) error {
	switch {
	case len(data) == 0:
		return fmt.Errorf("%w: it is empty", ErrSecret)
	case len(data) > maxSecret:
		return fmt.Errorf("%w: it has %d bytes, more than %d", ErrSecret, len(data), maxSecret)
	}
	return nil
}

// walk checks that a message is well formed, as deep as the schema goes. The
// code that mesos-go generated adds lengths of a peer without a check for
// overflow and panics on crafted ones, so it must not see any other bytes.
func (s schema) walk(message []byte) error {
	for len(message) > 0 {
		number, wire, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errors.New("it is not a serialized mesos.v1.Secret: the tag of a field is cut off or garbled")
		}
		known := s[number]
		if wire == protowire.StartGroupType || wire == protowire.EndGroupType {
			return fmt.Errorf("it is not a serialized mesos.v1.Secret: field %d is a group", number)
		}
		if known.name != "" && wire != known.wire {
			return fmt.Errorf("%s has wire type %d, not %d", known.name, wire, known.wire)
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, wire, message); n < 0 {
			return fmt.Errorf("it is not a serialized mesos.v1.Secret: field %d is cut off or garbled", number)
		}
		if known.message != nil {
			inner, _ := protowire.ConsumeBytes(message)
			if err := known.message.walk(inner); err != nil {
				return err
			}
		}
		message = message[n:]
	}
	return nil
}

// unmarshal decodes bytes that walk accepted; should it have missed
// something, the panic ends here. It drops the value, which may quote bytes.
func unmarshal(data []byte) (secret *mesos.Secret, err error) {
	defer func() {
		if recover() != nil {
			secret, err = nil, errors.New("it can't be decoded")
		}
	}()
	secret = &mesos.Secret{}
	return secret, secret.Unmarshal(data)
}

// value holds a Secret to the rules of mesos.proto that its decoders don't:
// exactly one of reference and value, and the type that goes with it.
func value(secret *mesos.Secret) ([]byte, error) {
	switch {
	case secret.Reference != nil && secret.Value != nil:
		return nil, fmt.Errorf("%w: it has both a reference and a value", ErrSecret)
	case secret.Reference != nil || secret.Type == mesos.Secret_REFERENCE:
		name := secret.GetReference().GetName()
		return nil, fmt.Errorf("%w (name %q): only the agent can resolve it; pass the resolved value", ErrReference, shown(name))
	case secret.Type != mesos.Secret_VALUE && secret.Type != mesos.Secret_UNKNOWN:
		return nil, fmt.Errorf("%w: its type %d is unknown", ErrSecret, int32(secret.Type))
	case secret.Value == nil:
		return nil, fmt.Errorf("%w: it has no value", ErrSecret)
	case len(secret.Value.Data) == 0:
		return nil, fmt.Errorf("%w: its value has no data", ErrSecret)
	}
	return secret.Value.Data, nil
}
