package plugin

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// fullRequest has every field, and its config is the canary.
var fullRequest = `{
  "uri": {"scheme": "docker", "host": "registry.example", "port": 5000, "path": "team/app", "query": "1", "fragment": "http"},
  "directory": "/srv/task",
  "config": {"json": "` + encodedCanary + `"},
  "outputFileName": "app",
  "options": {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}, "stallTimeout": "90s",
    "progressInterval": "0.5s", "maxParallel": 3, "skipDigests": ["sha256:aa"]},
  "requestId": "task-1"
}`

func TestARequestInJSONIsThatOfTheWire(t *testing.T) {
	t.Parallel()
	want := fetcher.Request{
		URI: scheme.URI{
			Scheme: "docker", Host: ptr("registry.example"), Port: ptr(int32(5000)), Path: "team/app", Query: ptr("1"), Fragment: ptr("http"),
		},
		Directory: "/srv/task", Config: fetcher.DockerConfig{JSON: []byte(canary)}, OutputFileName: "app", RequestID: "task-1",
		Platform:    &fetcher.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		MaxParallel: 3, StallTimeout: 90 * time.Second, ProgressInterval: 500 * time.Millisecond,
		SkipDigests: []digest.Digest{"sha256:aa"},
	}
	for name, text := range map[string]string{
		"by the names of JSON":          fullRequest,
		"by those of the proto file":    strings.NewReplacer("outputFileName", "output_file_name", "requestId", "request_id", "maxParallel", "max_parallel").Replace(fullRequest),
		"with white space around it":    "\n " + fullRequest + "\r\n\t",
		"with numbers as strings":       strings.NewReplacer("5000", `"5000"`, "3,", `"3",`).Replace(fullRequest),
		"with null for what is not set": strings.Replace(fullRequest, `"port": 5000`, `"port": 5000, "user": null`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadRequest(iotest.OneByteReader(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// encodedCanary is the canary as the config of a request has it.
var encodedCanary = base64.StdEncoding.EncodeToString([]byte(canary))

func TestARequestThatIsNoneIsRefusedWithThePlaceAndWithoutItsContent(t *testing.T) {
	t.Parallel()
	const config = "config has an unknown field; there are json, mesosSecret, mesosSecretJson"
	for _, c := range []struct {
		name, text, want string
	}{
		{"nothing", "", "the request is empty; it is one JSON object, a dockerfetcher.v1.FetchRequest"},
		{"white space", " \n", "the request is empty; it is one JSON object, a dockerfetcher.v1.FetchRequest"},
		{"half a request", "{\"directory\": \"/srv\",\n", "the request is not complete JSON: it ends at line 2, column 1"},
		{"a cut secret", `{"config": {"json": "` + encodedCanary, "the request is not complete JSON: it ends at line 1, column 30"},
		{"no JSON", canary, "the request is not one JSON object at line 1, column 1"},
		{"a missing comma", "{\n  \"directory\": \"/srv\"\n  \"config\": {}}", "the request is not one JSON object at line 3, column 3"},
		{"two requests", `{}{}`, "the request is not one JSON object at line 1, column 3"},
		{"a secret behind it", `{} ` + encodedCanary, "the request is not one JSON object at line 1, column 4"},
		{"a list", `[{}]`, "the request: want an object"},
		{"null", `null`, "the request: want an object"},
		{"deep nesting", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), "the request is not one JSON object at line 1, column 10001"},
		{"an unknown field", `{"uri": {}, "dir": "/srv"}`, "the request has an unknown field; there are uri, directory, config, outputFileName, options, requestId"},
		{"a secret as a field", `{"` + encodedCanary + `": 1}`, "the request has an unknown field; there are uri, directory, config, outputFileName, options, requestId"},
		{"an extension", `{"[dockerfetcher.v1.secret]": true}`, "the request has an unknown field; there are uri, directory, config, outputFileName, options, requestId"},
		{"an unknown option", `{"options": {"timeout": "1s"}}`, "options has an unknown field; there are platform, stallTimeout, progressInterval, maxParallel, skipDigests"},
		{"a docker config in place of the request", `{"auths": {"registry.example": {"auth": "` + encodedCanary + `"}}}`, "the request has an unknown field; there are uri, directory, config, outputFileName, options, requestId"},
		{"a docker config as the config", `{"config": {"auths": {"registry.example": {"auth": "` + encodedCanary + `"}}}}`, config},
		{"a docker config that is not encoded", `{"config": {"json": {"auths": {"registry.example": {"auth": "` + encodedCanary + `"}}}}}`, "config.json: want a string in base64"},
		{"a docker config as text", `{"config": {"json": "{\"auths\": \"` + canary + `\"}"}}`, "config.json: want a string in base64"},
		{"a config as a string", `{"config": "` + encodedCanary + `"}`, "config: want an object"},
		{"a Mesos secret that is not encoded", `{"config": {"mesosSecretJson": {"value": {"data": "` + encodedCanary + `"}}}}`, "config.mesosSecretJson: want a string in base64"},
		{"two configs", `{"config": {"json": "` + encodedCanary + `", "mesosSecret": "` + encodedCanary + `"}}`, "config has a field twice, or two where one excludes the other"},
		{"a field that comes twice", `{"directory": "/a", "directory": "/b"}`, "the request has a field twice, or two where one excludes the other"},
		{"a field that comes twice, by both names", `{"options": {"maxParallel": 1, "max_parallel": 2}}`, "options has a field twice, or two where one excludes the other"},
		{"a URI as text", `{"uri": "docker://registry.example/app?1"}`, "uri: want an object"},
		{"a port as a word", `{"uri": {"port": "https"}}`, "uri.port: want a number"},
		{"a port that is too large", `{"uri": {"port": 3000000000}}`, "uri.port: want a number"},
		{"a password that is no string", `{"uri": {"password": ["` + canary + `"]}}`, "uri.password: want a string"},
		{"a directory that is a number", `{"directory": 1}`, "directory: want a string"},
		{"text that is not UTF-8", "{\"directory\": \"/srv/\xff\"}", "directory: want a string"},
		{"half a surrogate pair", `{"requestId": "\ud800"}`, "requestId: want a string"},
		{"a negative number", `{"options": {"maxParallel": -1}}`, "options.maxParallel: want a number of 0 or more"},
		{"a duration of Go", `{"options": {"stallTimeout": "1m30s"}}`, `options.stallTimeout: want a duration in seconds such as "60s"`},
		{"a duration that is a number", `{"options": {"progressInterval": 1}}`, `options.progressInterval: want a duration in seconds such as "60s"`},
		{"a digest that is no string", `{"options": {"skipDigests": ["sha256:aa", 1]}}`, "options.skipDigests: want a list of strings"},
		{"one digest in place of a list", `{"options": {"skipDigests": "sha256:aa"}}`, "options.skipDigests: want a list of strings"},
		{"a platform as text", `{"options": {"platform": "linux/arm64"}}`, "options.platform: want an object"},
		{"a platform's field of another type", `{"options": {"platform": {"os": false}}}`, "options.platform.os: want a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadRequest(strings.NewReader(c.text))
			var e *fetcher.Error
			if !errors.As(err, &e) || e.Text != c.want || e.Reason != fetcher.OptionInvalid || e.Phase != fetcher.Prepare {
				t.Errorf("got %#v, want %q", err, c.want)
			}
		})
	}
}

func TestARequestIsRefusedInJSONAsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       fetcher.Reason
	}{
		{"a relative directory", `{"directory": "task"}`, fetcher.DirectoryInvalid},
		{"no uri", `{"directory": "/srv"}`, fetcher.URIInvalid},
		{"nothing at all", `{}`, fetcher.URIInvalid},
		{"an output file name that is empty", `{"directory": "/srv", "outputFileName": ""}`, fetcher.OutputNameInvalid},
		{"4 MiB and a byte", `{"directory": "/srv"` + strings.Repeat(" ", maxRequestBytes-20) + `}`, fetcher.RequestTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadRequest(strings.NewReader(c.text))
			var e *fetcher.Error
			if !errors.As(err, &e) || e.Reason != c.want {
				t.Errorf("got %v, want the reason %s", err, c.want)
			}
		})
	}
	if _, err := ReadRequest(strings.NewReader(`{"uri": {}` + strings.Repeat(" ", maxRequestBytes-11) + `}`)); err != nil {
		t.Errorf("4 MiB: %v", err)
	}
}

func TestARequestThatCantBeReadIsTheReadersError(t *testing.T) {
	t.Parallel()
	want := errors.New("a pipe burst")
	if _, err := ReadRequest(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(want))); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestTheOutcomeIsTheResultOrTheStatusOfTheWire(t *testing.T) {
	t.Parallel()
	result := fetcher.Result{
		Manifest: fetcher.Descriptor{MediaType: "type", Digest: "sha256:aa", Size: 7},
		Elapsed:  1500 * time.Millisecond, FinishedAt: time.Unix(0, 0), BytesTransferred: 7,
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"a result", nil, `{"result":{"manifest":{"mediaType":"type","digest":"sha256:aa","size":"7"},` +
			`"bytesTransferred":"7","elapsed":"1.500s","finishedAt":"1970-01-01T00:00:00Z"}}`},
		{"an error with all there is to say", &fetcher.Error{
			Reason: fetcher.RateLimited, Phase: fetcher.Resolve, Text: "GET https://registry.example/: 429 \"slow down\"",
			Metadata: map[string]string{"http_status": "429"}, RetryAfter: 90 * time.Second,
		}, `{"error":{"code":8,"message":"GET https://registry.example/: 429 \"slow down\"","details":[` +
			`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMITED","domain":"docker-fetcher",` +
			`"metadata":{"http_status":"429","phase":"resolve"}},` +
			`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"90s"}]}}`},
		{"an interruption", fmt.Errorf("fetch: %w", context.Canceled), `{"error":{"code":1,"message":"fetch: context canceled"}}`},
		{"a deadline", context.DeadlineExceeded, `{"error":{"code":4,"message":"context deadline exceeded"}}`},
		{"something else", errors.New("disk on fire"), `{"error":{"code":13,"message":"disk on fire"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := OutcomeJSON(result, c.err)
			if err != nil || string(got) != c.want {
				t.Errorf("got %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}

// FuzzReadRequest holds that what is read says the same when written and read
// again, and that what is refused is refused in one short line of ours: each
// word of the input that the line repeats is the name of a field.
func FuzzReadRequest(f *testing.F) {
	for _, seed := range []string{
		fullRequest, "", "{}", "null", `{"config":{"json":"` + encodedCanary + `"}}`, `{"config":{"mesosSecret":"AA"}}`,
		`{"config":{"` + encodedCanary + `":1}}`, `{"options":{"stallTimeout":"1m"}}`, `{"options":{"skipDigests":[1]}}`,
		`{"uri":{"port":1e3}}`, `{"outputFileName":""}`, `{"directory":"a"}`, "{\"directory\":\"/\xff\"}", `{"directory":"/a","directory":"/b"}`, `{"uri":{"uri":{}}}`, `{"a`, `{} {}`,
	} {
		f.Add([]byte(seed))
	}
	vocabulary := map[string]bool{}
	for _, word := range strings.FieldsFunc(`the request is empty it is one JSON object a dockerfetcher.v1.FetchRequest not complete JSON ends at line
		column has an unknown field there are twice or two where excludes other want list of strings duration in seconds such as "60s" base64 number 0 or more
		uri directory config outputFileName options requestId scheme user password host port path query fragment json mesosSecret mesosSecretJson
		platform os architecture variant stallTimeout progressInterval maxParallel skipDigests string must be absolute missing plugin's working host's output file name set but
		larger than bytes`, separates) {
		vocabulary[word] = true
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadRequest(bytes.NewReader(data))
		var e *fetcher.Error
		switch {
		case err == nil:
			m, err := toRequest(r)
			if err != nil {
				t.Fatalf("it is read and can't be written: %v", err)
			}
			text, err := protojson.Marshal(m)
			if err != nil {
				t.Skip("a duration that only JSON can't say")
			}
			again, err := ReadRequest(bytes.NewReader(text))
			if diff := cmp.Diff(r, again); err != nil || diff != "" {
				t.Errorf("read again, %v (-first +again):\n%s", err, diff)
			}
		case !errors.As(err, &e) || !errors.Is(err, fetcher.ErrInvalid):
			t.Errorf("got %v, want an error about the request", err)
		default:
			for _, word := range strings.FieldsFunc(e.Text, separates) {
				if !vocabulary[word] && strings.Trim(word, "0123456789") != "" {
					t.Errorf("%q says %q, which is not ours", e.Text, word)
				}
			}
		}
	})
}

// separates tells what stands between the words of an error.
func separates(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune(",;:", r) || r == '.'
}
