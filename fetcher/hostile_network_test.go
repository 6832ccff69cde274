package fetcher_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// rogue is a registry whose answers are any bytes whatever, in virtual time and
// without sockets: what nobody reads stays with the writer.
type rogue struct {
	testing.TB
	layer    []byte
	manifest []byte
	private  bool // it wants a token, of auth.example
	// attack writes the answers to the endpoint that is attacked: manifest, blob or token.
	at     string
	attack func(w io.Writer, r *http.Request)

	noted func(*http.Request) // of each request; may be nil

	taken atomic.Int64 // bytes that were read of the attack's
	asked atomic.Int64 // requests
}

func newRogue(tb testing.TB) *rogue {
	r := &rogue{TB: tb, layer: []byte("a layer")}
	config := `{"os":"linux","architecture":"amd64"}`
	r.manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`+
		`"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":%q,"size":%d}]}`,
		digest.FromString(config), len(config), digest.FromBytes(r.layer), len(r.layer))
	return r
}

const rogueConfig = `{"os":"linux","architecture":"amd64"}`

func (r *rogue) transport() *http.Transport {
	t := registry.NewTransport(nil)
	t.Proxy, t.DisableKeepAlives = nil, true
	t.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); !strings.HasSuffix(host, ".example") {
			return nil, fmt.Errorf("%s was asked", address)
		}
		near, far := net.Pipe()
		go r.serve(far)
		return distant{near}, nil
	}
	return t
}

func (r *rogue) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		r.asked.Add(1)
		if r.noted != nil {
			r.noted(req)
		}
		if endpoint := endpointOf(req); endpoint == r.at && (!r.private || endpoint == "token" || req.Header.Get("Authorization") != "") {
			r.attack(counted{conn, &r.taken}, req)
			return
		}
		r.answer(conn, req)
	}
}

func endpointOf(req *http.Request) string {
	switch {
	case strings.Contains(req.URL.Path, "/manifests/"):
		return "manifest"
	case strings.Contains(req.URL.Path, "/blobs/"):
		return "blob"
	case req.URL.Path == "/token":
		return "token"
	}
	return "root"
}

// answer is a right one.
func (r *rogue) answer(w io.Writer, req *http.Request) {
	status, body, more := "200 OK", []byte(nil), ""
	switch endpoint := endpointOf(req); {
	case endpoint == "token":
		body = []byte(`{"token":"granted"}`)
	case r.private && req.Header.Get("Authorization") == "":
		status, more = "401 Unauthorized", "Www-Authenticate: Bearer realm=\"http://auth.example/token\"\r\n"
	case endpoint == "manifest":
		body = r.manifest
	case endpoint == "blob" && strings.HasSuffix(req.URL.Path, digest.FromBytes(r.layer).String()):
		body = r.layer
	case endpoint == "blob":
		body = []byte(rogueConfig)
	}
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, more, len(body), body)
}

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// fetch fetches from it, and holds the outcome to what every fetch promises.
func (r *rogue) fetch() error {
	r.Helper()
	dir, begin := r.TempDir(), time.Now()
	ref := mustParse(r, "docker://registry.example/team/app?latest#http")
	f := newFetcher(r, fetcher.Config{Transport: r.transport()})
	_, err := f.Fetch(r.Context(), fetcher.Request{URI: ref, Directory: dir})
	if took := time.Since(begin); took > 30*time.Second {
		r.Errorf("it took %v", took)
	}
	pause(time.Minute, nil) // what was under way ends
	if n := r.taken.Load(); n > 28<<20 {
		r.Errorf("%d bytes of it were read", n)
	}
	if err != nil {
		plainText(r, err.Error())
		var e *fetcher.Error
		if !errors.As(err, &e) || e.Is(fetcher.ErrInternal) {
			r.Errorf("got %v", err)
		}
	}
	for name, right := range map[string][]byte{digest.FromBytes(r.layer).String(): r.layer, "manifest": r.manifest} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err == nil && !bytes.Equal(got, right) {
			r.Errorf("%s has other bytes: %.100q", name, got)
		}
	}
	return err
}

// plainText fails the test unless text is a line that a terminal shows as it is.
func plainText(tb testing.TB, text string) {
	tb.Helper()
	odd := strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	if odd || !utf8.ValidString(text) || strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") || len(text) > 8<<10 {
		tb.Errorf("not for a terminal: %.1000q", text)
	}
}

// endless writes head, and then body over and over until nobody reads.
func endless(head, body string) func(io.Writer, *http.Request) {
	body = strings.Repeat(body, max(1, 4096/len(body)))
	return func(w io.Writer, _ *http.Request) {
		_, err := io.WriteString(w, head)
		for err == nil {
			_, err = io.WriteString(w, body)
		}
	}
}

// once writes an answer.
func once(answer string) func(io.Writer, *http.Request) {
	return func(w io.Writer, _ *http.Request) { _, _ = io.WriteString(w, answer) }
}

// drop writes a byte of answer each interval.
func drop(answer string, interval time.Duration) func(io.Writer, *http.Request) {
	return func(w io.Writer, _ *http.Request) {
		for i := range len(answer) {
			if _, err := io.WriteString(w, answer[i:i+1]); err != nil {
				return
			}
			time.Sleep(interval)
		}
	}
}

// bomb is 64 MiB of spaces in 64 KiB: members that follow one another (RFC 1952
// section 2.2), as to compress all takes seconds.
func bomb() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	_ = z.Close()
	return strings.Repeat(b.String(), 64)
}

func zipped(status string) string {
	body := bomb()
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

const (
	chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
	oddText     = "\x1b[31mred\x07\u202eevil\u200f\u2028\xff\x9b\x00fake: line"
)

// attacks are what an endpoint may answer. None may take long, much memory or the
// process, get anything visible that is wrong, or be told in other words than
// a terminal's.
var attacks = map[string]func(io.Writer, *http.Request){
	"endless fields":                 endless("HTTP/1.1 200 OK\r\n", "X-Field: value\r\n"),
	"one endless field":              endless("HTTP/1.1 200 OK\r\nX-Field: ", "x"),
	"an endless status line":         endless("HTTP/1.1 200 ", "x"),
	"endless informational answers":  endless("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
	"endless continues":              endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
	"an endless line that continues": endless("HTTP/1.1 200 OK\r\nX-Field: x\r\n", "\tx\r\n"),
	"an endless body":                endless("HTTP/1.1 200 OK\r\n\r\n", " "),
	"an endless body in chunks":      endless(chunkedHead, "1\r\n \r\n"),
	"an endless chunk extension":     endless(chunkedHead+"1;", "x"),
	"endless trailers":               endless(chunkedHead+"2\r\n{}\r\n0\r\n", "X: value\r\n"),
	"an endless refusal":             endless("HTTP/1.1 403 Forbidden\r\n\r\n", "no "),
	"an endless 401":                 endless("HTTP/1.1 401 Unauthorized\r\n\r\n", "no "),
	"an endless failure":             endless("HTTP/1.1 500 Internal Server Error\r\n\r\n", "no "),
	"an endless redirect":            endless("HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/elsewhere\r\n\r\n", "no "),
	"an endless JSON string":         endless("HTTP/1.1 200 OK\r\n\r\n{\"token\":\"", "x"),
	"endless nesting":                endless("HTTP/1.1 200 OK\r\n\r\n", "["),
	"a length beyond all bounds":     endless("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", " "),
	"a negative length":              once("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
	"two lengths":                    once("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\na layer"),
	"a length that overflows":        once("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
	"a chunk that overflows":         once(chunkedHead + "ffffffffffffffffff\r\n"),
	"a gzip bomb":                    once(zipped("200 OK")),
	"a gzip bomb as a refusal":       once(zipped("403 Forbidden")),
	"fields one byte a second":       drop("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", time.Second),
	"a body one byte a second": func(w io.Writer, r *http.Request) {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n")
		drop(strings.Repeat(" ", 1000), time.Second)(w, r)
	},
	"a refusal one byte a second": func(w io.Writer, r *http.Request) {
		_, _ = io.WriteString(w, "HTTP/1.1 403 Forbidden\r\n\r\n")
		drop(strings.Repeat(" ", 1000), time.Second)(w, r)
	},
	"no HTTP":                     once("SSH-2.0-OpenSSH_9.9\r\n" + oddText),
	"another HTTP":                once("HTTP/9.9 200 OK\r\n\r\n{}"),
	"a status that is none":       once("HTTP/1.1 " + oddText + "\r\n\r\n"),
	"a status below 100":          once("HTTP/1.1 007 OK\r\nContent-Length: 2\r\n\r\n{}"),
	"a status above all":          once("HTTP/1.1 999 " + oddText + "\r\nContent-Length: 2\r\n\r\n{}"),
	"a switch of protocols":       once("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}"),
	"a 204":                       once("HTTP/1.1 204 No Content\r\n\r\n"),
	"a 304":                       once("HTTP/1.1 304 Not Modified\r\n\r\n"),
	"a 206 that nobody asked for": once("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-6/99\r\nContent-Length: 2\r\n\r\n{}"),
	"a field without a name":      once("HTTP/1.1 200 OK\r\n: x\r\n\r\n{}"),
	"odd text as a refusal":       once("HTTP/1.1 403 Forbidden\r\n\r\n" + oddText),
	"odd text in JSON":            once("HTTP/1.1 403 Forbidden\r\n\r\n" + `{"errors":[{"code":"\u001b[2J","message":"\u202e\u0000` + "\x9b\xff" + `"}],"details":"\u001b"}`),
	"odd text as a challenge":     once("HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer error_description=\"" + oddText[:30] + "\"\r\n\r\n"),
	"odd text as a realm":         once("HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"http://auth.example/\x1b[31m\u202e\"\r\n\r\n"),
	"odd text as a scope":         once("HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"http://auth.example/token\",scope=\"\x1b[31m\u202e\"\r\n\r\n"),
	"odd text as a media type":    once("HTTP/1.1 200 OK\r\nContent-Type: \x1b[31m\u202e\r\nContent-Encoding: \x1b[31m\u202e\r\n\r\n{}"),
	"odd text as a digest":        once("HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:\x1b[31m\u202e\r\n\r\n{\"\x1b\u202e"),
	"odd text to wait for":        once("HTTP/1.1 429 Slow\r\nRetry-After: \x1b[31m\u202e\r\n\r\n"),
	"10,000 challenges":           once("HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: " + strings.Repeat(`Bearer realm="/t",`, 10_000) + "x\r\n\r\n"),
	"10,000 realms":               once("HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: " + manyRealms() + "\r\n\r\n"),
	"a challenge of 200 KiB":      once("HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"http://auth.example/token?" + strings.Repeat("x", 200<<10) + "\"\r\n\r\n"),
	"a redirect to itself": func(w io.Writer, r *http.Request) {
		_, _ = fmt.Fprintf(w, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://%s%s\r\n\r\n", r.Host, r.URL)
	},
	"a token with a new line": once("HTTP/1.1 200 OK\r\n\r\n" + `{"token":"a\r\nX-Injected: yes"}`),
	"a token in Unicode":      once("HTTP/1.1 200 OK\r\n\r\n" + `{"token":"` + "\u202e" + `"}`),
	"a token of 100 KiB":      once("HTTP/1.1 200 OK\r\n\r\n" + `{"token":"` + strings.Repeat("x", 100<<10) + `"}`),
	"nothing":                 once(""),
}

func manyRealms() string {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `Bearer realm="http://auth.example/%d",`, i)
	}
	return b.String() + "x"
}

func TestAnyAnswerWhateverIsReportedInTimeInFewBytesAndInPlainText(t *testing.T) {
	t.Parallel()
	for title, attack := range attacks {
		for _, at := range []string{"manifest", "blob", "token"} {
			t.Run(at+"/"+title, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := newRogue(t)
					r.private, r.at, r.attack = at == "token", at, attack
					err := r.fetch()
					if err == nil {
						t.Error("it was fetched")
					}
					if n := r.asked.Load(); n > 40 { // 20 for each of two blobs
						t.Errorf("%d requests", n)
					}
				})
			})
		}
	}
}

func mustParse(tb testing.TB, text string) scheme.URI {
	tb.Helper()
	ref, err := scheme.Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	return ref.URI()
}

// An answer that nobody asked for may come behind one that somebody did, on a
// connection that serves again.
func TestAnAnswerBehindAnotherIsNotTakenForThatToTheNextRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRogue(t)
		r.at = "manifest"
		r.attack = func(w io.Writer, req *http.Request) {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.manifest), r.manifest)
			_, _ = io.WriteString(w, strings.Repeat("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nA LAYER", 10))
		}
		if err := r.fetch(); err != nil {
			t.Error(err)
		}
	})
}

func TestARegistryLeadsNowhereButToPublicHostsByHTTP(t *testing.T) {
	t.Parallel()
	const internal = "a public registry leads to an internal address, which is refused"
	for target, words := range map[string]struct{ redirect, realm string }{
		"file:///etc/passwd":                      {`redirect to a "file" URL refused`, "is not an http or https URL"},
		"gopher://content.example/":               {`redirect to a "gopher" URL refused`, "is not an http or https URL"},
		"javascript:alert(1)":                     {`redirect to a "javascript" URL refused`, "is not an http or https URL"},
		"http:///nowhere":                         {`redirect to a "http" URL refused`, "is not an http or https URL"},
		"http://me:secret@content.example/":       {"redirect to a URL with a user name refused", "realm holds a user name, which is refused"},
		"http://169.254.169.254/latest/meta-data": {internal, internal},
		"//127.0.0.1/":                            {internal, internal},
		"http://[::1]:80/":                        {internal, internal},
		"http://[fe80::1%25eth0]/":                {internal, internal},
		"http://[::ffff:10.0.0.1]/":               {internal, internal},
		"http://[::ffff:a9fe:a9fe]/":              {internal, internal},
		"http://[64:ff9b::7f00:1]/":               {internal, internal},
		"http://2130706433/":                      {internal, internal},
		"http://0x7f000001/":                      {internal, internal},
		"http://0177.0.0.1/":                      {internal, internal},
		"http://127.1/":                           {internal, internal},
		"http://127.0.0.1./":                      {internal, internal},
		"http://LOCALHOST/":                       {internal, internal},
		"http://a.localhost./":                    {internal, internal},
		"http://content.example:99999999/":        {"", ""},
		"http://[::1/":                            {"without a usable Location", "is not a URL"},
		"http://content.example/%zz":              {"without a usable Location", "is not a URL"},
		"http://content.example\\@127.0.0.1/":     {"without a usable Location", "is not a URL"},
		"http://127.0.0.1\t.example/":             {"without a usable Location", "is not a URL"},
	} {
		for _, by := range []string{"manifest", "blob", "realm"} {
			t.Run(by+"/"+target, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := newRogue(t)
					r.at, r.attack = by, func(w io.Writer, _ *http.Request) {
						_, _ = fmt.Fprintf(w, "HTTP/1.1 307 Temporary Redirect\r\nLocation: %s\r\n\r\n", target)
					}
					want := words.redirect
					if by == "realm" {
						r.at, want = "manifest", words.realm
						r.attack = func(w io.Writer, _ *http.Request) {
							_, _ = fmt.Fprintf(w, "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"%s\"\r\n\r\n", strings.ReplaceAll(target, `\`, `\\`))
						}
					}
					err := r.fetch()
					if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "was asked") || strings.Contains(err.Error(), "secret") {
						t.Errorf("got %v; want %s", err, want)
					}
				})
			})
		}
	}
}

// A header that a peer splits by CR and LF is two headers of its own answer, and
// none of our next request.
func TestWhatIsInALocationOrAChallengeNeverSplitsARequest(t *testing.T) {
	t.Parallel()
	for title, answer := range map[string]string{
		"a Location": "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/x%0d%0aX-Injected:%20yes\r\n\r\n",
		"a realm":    "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"http://auth.example/token?a=%0d%0aX-Injected:%20yes\"\r\n\r\n",
		"a scope":    "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer realm=\"http://auth.example/token\",scope=\"%0d%0aX-Injected:%20yes\"\r\n\r\n",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRogue(t)
				r.noted = func(req *http.Request) {
					if req.Header.Get("X-Injected") != "" {
						t.Errorf("%s has it", req.URL)
					}
				}
				r.at, r.attack = "manifest", once(answer)
				if err := r.fetch(); err == nil {
					t.Error("it was fetched")
				}
			})
		})
	}
}
