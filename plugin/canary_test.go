package plugin

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// trace collects all that could show a secret.
type trace struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *trace) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// clean reports where the canary shows, in any form it may take.
func (t *trace) clean() error {
	text := t.String()
	for _, form := range []string{
		canary, hex.EncodeToString([]byte(canary)), strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]"),
		// base64, as it may begin at any byte of a group of three
		base64.StdEncoding.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte("u:" + canary))[4:11],
		base64.StdEncoding.EncodeToString([]byte(":" + canary))[2:9],
	} {
		if i := strings.Index(text, form); i >= 0 {
			return fmt.Errorf("a credential shows, as %q:\n%s", form, text[max(0, i-300):min(len(text), i+100)])
		}
	}
	return nil
}

func (t *trace) note(values ...any) {
	for _, v := range values {
		_, _ = fmt.Fprintf(t, "%v\n%+v\n%#v\n", v, v, v)
	}
}

// echo repeats the credential in every place that a peer's words come from.
func echo(endpoint fetchertest.Endpoint, status int, password string) fetchertest.Fault {
	pair := base64.StdEncoding.EncodeToString([]byte("u:" + password))
	words := "login u/" + password + " Basic " + pair
	return fetchertest.Fault{
		Match: fetchertest.Match{Endpoint: endpoint}, Status: status,
		Body: fmt.Appendf(nil, `{"errors":[{"code":"DENIED","message":%q}],"details":%q}`, words, words),
		Header: http.Header{
			"Www-Authenticate": {fmt.Sprintf(`Bearer realm="/token",error="invalid_token",error_description=%q`, words)},
			"Location":         {"ftp://u:" + password + "@registry.example/"},
		},
	}
}

func TestTheSearchFindsTheCanaryInEveryForm(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"x" + canary + "y", fmt.Sprintf("%d", []byte("u:"+canary)), fmt.Sprintf("%x", canary+"-right"),
		base64.StdEncoding.EncodeToString([]byte("u:" + canary + "-right")), base64.StdEncoding.EncodeToString([]byte("us:" + canary)),
		base64.StdEncoding.EncodeToString([]byte("use:" + canary)), base64.StdEncoding.EncodeToString([]byte("user:" + canary + ":ä")),
	} {
		var seen trace
		seen.note(text)
		if seen.clean() == nil {
			t.Errorf("%s went unnoticed", text)
		}
	}
}

// A credential with a mark goes through success and every kind of refusal, in
// every form; then logs at the finest level, errors, events, results, files, and
// the plugin's arguments and environment are searched for it.
func TestACredentialShowsNowhere(t *testing.T) {
	t.Parallel()
	var seen trace
	dir := short(t)
	c := launch(t, Config{
		Path: built(t), Args: []string{"serve", "--log-level", "trace"}, Dir: dir,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &seen}),
	})
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const right = canary + "-right"
	bearer := fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: right}
	for title, test := range map[string]struct {
		config   fetchertest.Config
		password string
		fault    fetchertest.Fault
	}{
		"granted by a token":           {config: fetchertest.Config{Auth: bearer}, password: right},
		"granted after redirect":       {config: fetchertest.Config{Auth: bearer, Redirect: true}, password: right},
		"granted by Basic":             {config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: right}}, password: right},
		"refused by a token":           {config: fetchertest.Config{Auth: bearer}, password: canary},
		"refused by Basic":             {config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Basic, Username: "u", Password: right}}, password: canary},
		"refused, then public":         {config: fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}}, password: canary},
		"a token server that echoes":   {config: fetchertest.Config{Auth: bearer}, password: canary, fault: echo(fetchertest.Token, 401, canary)},
		"a registry that echoes":       {config: fetchertest.Config{Auth: bearer}, password: right, fault: echo(fetchertest.Manifest, 403, right)},
		"a content host that echoes":   {config: fetchertest.Config{Auth: bearer, Redirect: true}, password: right, fault: echo(fetchertest.CDN, 404, right)},
		"a registry that leads astray": {config: fetchertest.Config{Auth: bearer}, password: right, fault: echo(fetchertest.Blob, 307, right)},
		"a broken blob": {
			config: fetchertest.Config{Auth: bearer}, password: right,
			fault: fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Blob}, Corrupt: true},
		},
	} {
		r := fetchertest.New(t, test.config)
		r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
		if test.fault.Match != (fetchertest.Match{}) {
			r.Inject(test.fault)
		}
		config := login(r.Host(), "u", test.password)
		secret := mesos.Secret{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: config}}
		binary, err := secret.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []fetcher.DockerConfig{{JSON: config}, {MesosSecret: binary}, {JSON: config[:len(config)-1]}, {MesosSecret: binary[1:]}} {
			request := fetcher.Request{
				URI: uri(t, scheme.Image, r, "latest"), Directory: filepath.Join(dir, title), Config: form,
				Observe: func(e fetcher.Event) { seen.note(e) },
			}
			result, err := c.Fetch(t.Context(), request)
			seen.note(title, request, result, err)
			resolution, err := c.Resolve(t.Context(), fetcher.ResolveRequest{URI: request.URI, Config: form})
			seen.note(resolution, err)
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(info.PID), file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another system has no /proc
			t.Fatal(err)
		}
		_, _ = seen.Write(data)
	}
	for name, data := range filesBelow(t, dir) {
		_, _ = seen.Write([]byte(name + "\n" + data))
	}
	text := seen.String()
	for _, wanted := range []string{"renew the credential", "anonymously", "wrong digest", "sha256:", "login u/[redacted]"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("the search missed its ground: there is no %q", wanted)
		}
	}
	if err := seen.clean(); err != nil {
		t.Error(err)
	}
}

// filesBelow is files for a tree with sockets and directories in it.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		found[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
