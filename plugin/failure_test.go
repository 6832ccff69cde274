package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// failure is one bad request, or one bad registry.
type failure struct {
	config  fetchertest.Config
	fault   fetchertest.Fault
	change  func(*testing.T, *fetcher.Request) // of a request for the image
	reason  fetcher.Reason
	kind    error
	phase   fetcher.Phase
	text    string // is in the message
	partial bool   // the manifest is left, as it is complete
}

func ptr[T any](v T) *T { return &v }

var failures = map[string]failure{
	"unknown scheme": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Scheme = "ftp" },
		reason: fetcher.URISchemeUnsupported, kind: fetcher.ErrInvalid, phase: fetcher.Prepare,
		text: "Docker fetcher plugin does not support 'ftp' URI scheme",
	},
	"no host": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Host = nil },
		reason: fetcher.URIHostMissing, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "Registry host (uri.host) is not specified",
	},
	"no tag or digest": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Query = nil },
		reason: fetcher.URIQueryMissing, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "Image tag/digest (uri.query) is not specified",
	},
	"port out of range": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Port = ptr[int32](70000) },
		reason: fetcher.URIInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "uri.port",
	},
	"a password in the URI": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.User, r.URI.Password = ptr("u"), ptr(canary) },
		reason: fetcher.URIInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "docker config",
	},
	"a digest of the wrong length": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Query = ptr("sha256:abc") },
		reason: fetcher.DigestInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "uri.query",
	},
	"a repository that leads out": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Path = "../../etc" },
		reason: fetcher.URIInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "uri.path",
	},
	"no directory": {
		change: func(_ *testing.T, r *fetcher.Request) { r.Directory = "" },
		reason: fetcher.DirectoryInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "directory is not specified",
	},
	"a directory that is a file": {
		change: func(t *testing.T, r *fetcher.Request) {
			r.Directory = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(r.Directory, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		reason: fetcher.DirectoryInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "not a directory",
	},
	"a file name for a whole image": {
		change: func(_ *testing.T, r *fetcher.Request) { r.OutputFileName = "x" },
		reason: fetcher.OutputNameInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "single files",
	},
	"a file name that leads out": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Scheme, r.OutputFileName = "docker-manifest", "../x" },
		reason: fetcher.OutputNameInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "plain file name",
	},
	"a negative stall timeout": {
		change: func(_ *testing.T, r *fetcher.Request) { r.StallTimeout = -time.Second },
		reason: fetcher.OptionInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "negative",
	},
	"a request ID without end": {
		change: func(_ *testing.T, r *fetcher.Request) { r.RequestID = strings.Repeat("x", 1000) },
		reason: fetcher.OptionInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "longer than 128 bytes",
	},
	"negative parallelism": {
		change: func(_ *testing.T, r *fetcher.Request) { r.MaxParallel = -1 },
		reason: fetcher.OptionInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "negative",
	},
	"a config that is not JSON": {
		change: func(_ *testing.T, r *fetcher.Request) { r.Config.JSON = []byte("auths: " + canary) },
		reason: fetcher.ConfigInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "Failed to parse docker config",
	},
	"an empty config": {
		change: func(_ *testing.T, r *fetcher.Request) { r.Config.JSON = []byte{} },
		reason: fetcher.ConfigInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "Failed to parse docker config",
	},
	"a config with bad base64 for this registry": {
		change: func(_ *testing.T, r *fetcher.Request) {
			r.Config.JSON = []byte(`{"auths":{"127.0.0.1:` + port(r) + `":{"auth":"` + canary + `%%"}}}`)
		},
		reason: fetcher.ConfigInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: `"127.0.0.1:`,
	},
	"a config in two forms": {
		change: func(_ *testing.T, r *fetcher.Request) {
			r.Config = fetcher.DockerConfig{JSON: []byte("{}"), MesosSecret: []byte(canary)}
		},
		reason: fetcher.ConfigInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "more than one form",
	},
	"a secret that crashes others (crafted length)": {
		change: func(_ *testing.T, r *fetcher.Request) {
			r.Config.MesosSecret = []byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x01}
		},
		reason: fetcher.SecretInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "secret",
	},
	"a secret by reference": {
		change: func(_ *testing.T, r *fetcher.Request) {
			r.Config.MesosSecretJSON = []byte(`{"type":"REFERENCE","reference":{"name":"vault/key"}}`)
		},
		reason: fetcher.SecretReferenceUnresolved, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "REFERENCE",
	},
	"a platform without architecture": {
		change: func(_ *testing.T, r *fetcher.Request) { r.Platform = &fetcher.Platform{OS: "linux"} },
		reason: fetcher.OptionInvalid, kind: fetcher.ErrInvalid, phase: fetcher.Prepare, text: "linux/arm64",
	},
	"no credential": {
		config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: "p"}},
		reason: fetcher.AuthRequired, kind: fetcher.ErrUnauthorized, phase: fetcher.Resolve, text: "add a credential",
	},
	"a wrong password": {
		config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: "p"}},
		change: func(_ *testing.T, r *fetcher.Request) { r.Config.JSON = login("127.0.0.1:"+port(r), "u", canary) },
		reason: fetcher.AuthFailed, kind: fetcher.ErrUnauthorized, phase: fetcher.Resolve, text: "renew the credential of key",
	},
	"a registry that says no": {
		fault: fetchertest.Fault{Status: 403}, reason: fetcher.RegistryDenied, kind: fetcher.ErrDenied, phase: fetcher.Resolve, text: "403 Forbidden",
	},
	"an unknown tag": {
		change: func(_ *testing.T, r *fetcher.Request) { r.URI.Query = ptr("nope") },
		reason: fetcher.ManifestNotFound, kind: fetcher.ErrNotFound, phase: fetcher.Resolve, text: "404 Not Found: MANIFEST_UNKNOWN",
	},
	"a missing blob": {
		fault:  fetchertest.Fault{Status: 404, Match: fetchertest.Match{Endpoint: fetchertest.Blob}},
		reason: fetcher.BlobNotFound, kind: fetcher.ErrNotFound, phase: fetcher.Transfer, text: "404 Not Found", partial: true,
	},
	"a platform that the index lacks": {
		change: func(_ *testing.T, r *fetcher.Request) {
			r.URI.Query, r.Platform = ptr("index"), &fetcher.Platform{OS: "plan9", Architecture: "mips"}
		},
		reason: fetcher.PlatformNotFound, kind: fetcher.ErrNotFound, phase: fetcher.Resolve, text: "linux/amd64",
	},
	"a manifest of an unknown type": {
		fault: fetchertest.Fault{
			Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Body: []byte(`{"schemaVersion":2,"mediaType":"application/x-unknown"}`),
			Header: map[string][]string{"Content-Type": {"application/x-unknown"}, "Docker-Content-Digest": nil},
		},
		reason: fetcher.MediaTypeUnsupported, kind: fetcher.ErrUnsupported, phase: fetcher.Resolve, text: "application/x-unknown",
	},
	"a manifest that is HTML": {
		fault:  fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Body: []byte("<html>\x1b[31m"), Header: map[string][]string{"Docker-Content-Digest": nil}},
		reason: fetcher.ManifestInvalid, kind: fetcher.ErrUnsupported, phase: fetcher.Resolve, text: "not a JSON object",
	},
	"a manifest with another digest": {
		change: func(t *testing.T, r *fetcher.Request) {
			r.URI.Query = ptr("sha256:" + strings.Repeat("0", 64))
		},
		fault: fetchertest.Fault{
			Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Status: 200, Body: []byte(`{"schemaVersion":2}`),
		},
		reason: fetcher.DigestMismatch, kind: fetcher.ErrIntegrity, phase: fetcher.Resolve, text: "changed the bytes",
	},
	"a manifest by tag that was changed on its way": {
		fault:  fetchertest.Fault{Corrupt: true, Match: fetchertest.Match{Endpoint: fetchertest.Manifest}},
		reason: fetcher.DigestMismatch, kind: fetcher.ErrIntegrity, phase: fetcher.Resolve, text: "changed the bytes",
	},
	"a blob with another byte": {
		fault:  fetchertest.Fault{Corrupt: true, Match: fetchertest.Match{Endpoint: fetchertest.Blob}},
		reason: fetcher.DigestMismatch, kind: fetcher.ErrIntegrity, phase: fetcher.Transfer, text: "wrong digest", partial: true,
	},
	"a blob that is too long": {
		fault:  fetchertest.Fault{Extra: 10, Match: fetchertest.Match{Endpoint: fetchertest.Blob}},
		reason: fetcher.SizeMismatch, kind: fetcher.ErrIntegrity, phase: fetcher.Transfer, text: "wrong size", partial: true,
	},
	"a registry that asks to wait for a day": {
		fault:  fetchertest.Fault{Status: 429, Header: map[string][]string{"Retry-After": {"86400"}}},
		reason: fetcher.RateLimited, kind: fetcher.ErrExhausted, phase: fetcher.Resolve, text: "429 Too Many Requests",
	},
	"a registry that is broken": {
		fault:  fetchertest.Fault{Status: 503, Header: map[string][]string{"Retry-After": {"86400"}}},
		reason: fetcher.Registry5xx, kind: fetcher.ErrUnavailable, phase: fetcher.Resolve, text: "503 Service Unavailable",
	},
	"a certificate of an unknown authority": {
		config: fetchertest.Config{TLS: true},
		reason: fetcher.TLSFailed, kind: fetcher.ErrUnavailable, phase: fetcher.Resolve, text: "SSL_CERT_FILE",
	},
	"a stalled blob": {
		fault:  fetchertest.Fault{StallAt: 10, Match: fetchertest.Match{Endpoint: fetchertest.Blob}},
		change: func(_ *testing.T, r *fetcher.Request) { r.StallTimeout = 10 * time.Millisecond },
		reason: fetcher.Stalled, kind: fetcher.ErrUnavailable, phase: fetcher.Transfer, text: "no byte for 10ms", partial: true,
	},
}

// canary stands where a secret stands. It must not come out anywhere.
const canary = "c4n4ry"

func port(r *fetcher.Request) string {
	ref, err := scheme.FromURI(r.URI)
	if err != nil {
		panic(err)
	}
	_, port, _ := strings.Cut(ref.Host(), ":")
	return port
}

func TestEveryFailureIsOneClearErrorAndLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for title, test := range failures {
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				r := fetchertest.New(t, test.config)
				r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
				r.PutIndex(name, "index", true, fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}})
				if test.fault.Status != 0 || test.fault.Match != (fetchertest.Match{}) {
					r.Inject(test.fault)
				}
				dir := t.TempDir()
				request := fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: dir, RequestID: "r-1"}
				if test.change != nil {
					test.change(t, &request)
				}
				result, err := f.Fetch(t.Context(), request)
				test.check(t, err)
				if len(result.Files) > 0 {
					t.Errorf("the result has files: %v", result.Files)
				}
				left := files(t, dir)
				if !test.partial && len(left) > 0 || len(left) > 1 || len(left) == 1 && left["manifest"] == "" {
					t.Errorf("left behind: %v", left)
				}
				if errors.Is(test.kind, fetcher.ErrInvalid) && r.Count(fetchertest.Any) > 0 {
					t.Error("a request was sent")
				}
			})
		}
	})
}

// check holds an error to what the table says.
func (test failure) check(t *testing.T, err error) {
	t.Helper()
	var e *fetcher.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %#v, want a *fetcher.Error", err)
	}
	if e.Reason != test.reason || !errors.Is(err, test.kind) {
		t.Errorf("got reason %s (%v), want %s (%v): %s", e.Reason, e.Reason.Kind(), test.reason, test.kind, e.Text)
	}
	if e.Phase != test.phase && test.reason != fetcher.OptionInvalid {
		t.Errorf("the phase is %s, want %s", e.Phase, test.phase)
	}
	if !strings.Contains(err.Error(), test.text) {
		t.Errorf("the message misses %q:\n%s", test.text, err)
	}
	if strings.Contains(err.Error(), canary) || strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("the message shows a secret or a control character:\n%q", err)
	}
	if strings.Contains(string(test.reason), "RATE") && e.RetryAfter != 24*time.Hour {
		t.Errorf("RetryAfter is %v", e.RetryAfter)
	}
}

func TestEveryReasonCrossesTheWire(t *testing.T) {
	t.Parallel()
	for title, test := range failures {
		want := &fetcher.Error{
			Reason: test.reason, Phase: test.phase, Text: "text of " + title, RetryAfter: time.Minute,
			Metadata: map[string]string{"request_id": "r-1"},
		}
		sent := toStatus(want)
		var got *fetcher.Error
		if !errors.As(fromStatus(sent), &got) {
			t.Errorf("%s came back as %v", title, fromStatus(sent))
			continue
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(fetcher.Error{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", title, diff)
		}
		if code := status.Code(sent); code != codeOf[test.kind] || code == codes.OK {
			t.Errorf("%s has code %v", title, code)
		}
	}
}

func TestALongTextKeepsItsEndsAndFitsIntoHeaders(t *testing.T) {
	t.Parallel()
	err := toStatus(&fetcher.Error{Reason: fetcher.AuthFailed, Text: "GET x: " + strings.Repeat("é", 10_000) + "; renew it"})
	text := status.Convert(err).Message()
	if len(text) > maxStatusText+10 || !strings.HasPrefix(text, "GET x: é") || !strings.HasSuffix(text, "é; renew it") || !utf8.ValidString(text) {
		t.Errorf("got %d bytes: %.40q … %q", len(text), text, text[len(text)-40:])
	}
}

func TestARequestThatIsTooLargeIsReportedAsSuch(t *testing.T) {
	t.Parallel()
	_, err := overGRPC(t, engine(t)).Fetch(t.Context(), fetcher.Request{Directory: "/", Config: fetcher.DockerConfig{JSON: make([]byte, maxRequestBytes)}})
	var e *fetcher.Error
	if !errors.As(err, &e) || e.Reason != fetcher.RequestTooLarge || !errors.Is(err, fetcher.ErrExhausted) {
		t.Errorf("got %v", err)
	}
}

func TestErrorsThatAreNotOursAreToldApart(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]error{
		codes.Unavailable: ErrPluginGone, codes.Canceled: context.Canceled, codes.DeadlineExceeded: context.DeadlineExceeded,
	} {
		if err := fromStatus(status.Error(code, "x")); !errors.Is(err, want) {
			t.Errorf("%v became %v", code, err)
		}
	}
	for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
		if err := fromStatus(toStatus(want)); !errors.Is(err, want) {
			t.Errorf("%v came back as %v", want, err)
		}
	}
}

// broken panics, as a defect would.
type broken struct{}

func (broken) Fetch(context.Context, fetcher.Request) (fetcher.Result, error) { panic("defect") }

func (broken) Resolve(context.Context, fetcher.ResolveRequest) (fetcher.Resolution, error) {
	panic("defect")
}

func TestAPanicFailsItsOwnCallOnly(t *testing.T) {
	t.Parallel()
	c := overGRPC(t, broken{})
	for range 2 {
		_, fetched := c.Fetch(t.Context(), fetcher.Request{Directory: "/"})
		_, synced := synced{c}.Fetch(t.Context(), fetcher.Request{Directory: "/"})
		_, resolved := c.Resolve(t.Context(), fetcher.ResolveRequest{})
		for _, err := range []error{fetched, synced, resolved} {
			var e *fetcher.Error
			if !errors.As(err, &e) || e.Reason != fetcher.Panicked || strings.Contains(err.Error(), "defect") {
				t.Errorf("got %v", err)
			}
		}
	}
	if _, err := c.Info(t.Context()); err != nil {
		t.Errorf("the server did not live on: %v", err)
	}
}

func TestTheDirectoryMustBeAbsoluteOnTheWire(t *testing.T) {
	t.Parallel()
	s := newServer(ServeConfig{Fetcher: broken{}, Logger: hclog.NewNullLogger()})
	_, err := s.FetchSync(t.Context(), &pb.FetchSyncRequest{Fetch: &pb.FetchRequest{Directory: "relative"}})
	var e *fetcher.Error
	if !errors.As(fromStatus(err), &e) || e.Reason != fetcher.DirectoryInvalid {
		t.Errorf("got %v", err)
	}
}
