package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mostResident is what the executable may ever have in memory, whatever a
// registry sends, in bytes.
const mostResident = 64 << 20

// hostileRegistry is one registry that wants to hurt, and how a fetch of
// app:latest ends there.
type hostileRegistry struct {
	serve http.HandlerFunc
	code  int
	words string // in the error
}

// at serves the manifest by one handler and all else by another.
func at(manifest, rest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			manifest(w, r)
			return
		}
		rest(w, r)
	}
}

// body answers with this.
func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// filled answers with 4 MiB: a piece over and over, in which %d is its number.
// The bytes are made as they are sent: what the test itself has in memory would
// be counted.
func filled(before, piece, after string) http.HandlerFunc {
	head, tail, numbered := strings.Cut(piece, "%d")
	length := len(head) + len(tail) + len(",")
	if numbered {
		length += 8
	}
	n := (4<<20 - len(before) - len(after)) / length
	return func(w http.ResponseWriter, _ *http.Request) {
		b := bufio.NewWriter(w)
		defer b.Flush()
		_, _ = b.WriteString(before)
		for i := range n {
			_, _ = b.WriteString(head)
			if numbered {
				_, _ = fmt.Fprintf(b, "%08d", i)
			}
			_, _ = b.WriteString(tail)
			if i < n-1 {
				_ = b.WriteByte(',')
			}
		}
		_, _ = b.WriteString(after)
	}
}

// endless answers with a status and then for as long as somebody reads, up to 1 GB.
func endless(status int, begin, piece string) http.HandlerFunc {
	block := bytes.Repeat([]byte(piece), 1+(64<<10)/len(piece))
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, err := io.WriteString(w, begin)
		for sent := 0; sent < 1e9 && err == nil; sent += len(block) {
			_, err = w.Write(block)
		}
	}
}

// challenged answers 401 until somebody brings what the challenge asks for.
func challenged(challenge func(r *http.Request) string, token http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			token(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", challenge(r))
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func bearer(r *http.Request) string { return `Bearer realm="http://` + r.Host + `/token",service="x"` }

// manifestFor is a manifest of these layers, and a config of two bytes.
func manifestFor(layers string) http.HandlerFunc {
	config := fmt.Sprintf("%x", sha256.Sum256([]byte("{}")))
	return body(`{"schemaVersion":2,"config":{"digest":"sha256:` + config + `","size":2},"layers":[` + layers + `]}`)
}

// layersWith serves the config, and any other blob by a handler.
func layersWith(layer http.HandlerFunc) http.HandlerFunc {
	config := fmt.Sprintf("%x", sha256.Sum256([]byte("{}")))
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, config) {
			body("{}")(w, r)
			return
		}
		layer(w, r)
	}
}

func headers(n, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := range n {
			w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("a", size))
		}
	}
}

func loop(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	http.Redirect(w, r, r.URL.Path+"?n="+strconv.Itoa(n+1), http.StatusTemporaryRedirect)
}

// packed answers with 1 GB of zeros, in gzip's encoding or as if it were.
func packed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	endless(http.StatusOK, "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", "\x00")(w, r)
}

// manyLayers are 10,000 layers whose bytes are their numbers, and who serves them.
func manyLayers() http.HandlerFunc {
	blobs := map[string]string{}
	var layers []string
	for i := range 9_999 {
		text := strconv.Itoa(i)
		sum := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text)))
		blobs[sum] = text
		layers = append(layers, fmt.Sprintf(`{"digest":%q,"size":%d}`, sum, len(text)))
	}
	return at(manifestFor(strings.Join(layers, ",")), layersWith(func(w http.ResponseWriter, r *http.Request) {
		body(blobs[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]])(w, r)
	}))
}

func hostileRegistries() map[string]hostileRegistry {
	const (
		zeros  = "00000000000000000000000000000000000000000000000000000000"
		opened = `{"schemaVersion":2,"config":{"digest":"sha256:` + zeros + `00000000","size":1},"layers":[`
		layer  = `{"digest":"sha256:` + zeros + `%d","size":1}`
		layer0 = `{"digest":"sha256:` + zeros + `00000000","size":1}`
		tooBig = "the manifest is larger than 4 MiB"
		other  = "digest"
	)
	manifest := func(serve http.HandlerFunc) http.HandlerFunc { return at(serve, http.NotFound) }
	index := `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + zeros + `00000000","size":` // its size is its own
	return map[string]hostileRegistry{
		"a manifest of 1 GB":                    {manifest(endless(200, opened, layer0+",")), 1, tooBig},
		"a manifest of 1 GB of blanks":          {manifest(endless(200, "", " ")), 1, tooBig},
		"a manifest of as many layers as fit":   {manifest(filled(opened, layer, "]}")), 1, "more than 10000 distinct digests"},
		"a manifest of one layer over and over": {manifest(filled(opened, layer0, "]}")), 3, "404 Not Found"},
		"a manifest of layers of nothing":       {manifest(filled(opened, "{}", "]}")), 1, "digest is missing"},
		"a manifest of nulls":                   {manifest(filled(opened, "null", "]}")), 1, "layers[0] is not an object"},
		"a manifest of annotations":             {manifest(filled(opened+strings.TrimSuffix(layer0, "}")+`,"annotations":{`, `"%d":""`, "}}]}")), 1, "annotations"},
		"a manifest of urls":                    {manifest(filled(opened+strings.TrimSuffix(layer0, "}")+`,"urls":[`, `""`, "]}]}")), 1, "urls"},
		"a manifest of unknown fields":          {manifest(filled(strings.TrimSuffix(opened, `"layers":[`), `"%d":0`, `,"layers":[]}`)), 3, "404 Not Found"},
		"a manifest of one huge string":         {manifest(body(opened + `{"mediaType":"` + strings.Repeat(`\u00e9`, 600_000) + `","digest":5}]}`)), 1, "digest has the wrong type"},
		"a manifest of one huge number":         {manifest(body(opened + `{"size":` + strings.Repeat("9", 4_000_000) + `}]}`)), 1, "size has the wrong type or is out of range"},
		"a manifest 10,000 levels deep":         {manifest(body(`{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}")), 1, "exceeded max depth"},
		"a manifest 2,000,000 levels deep":      {manifest(body(`{"a":` + strings.Repeat("[", 2_000_000) + strings.Repeat("]", 2_000_000) + "}")), 1, "exceeded max depth"},
		"an index of as many as fit":            {manifest(filled(`{"schemaVersion":2,"manifests":[`, layer, "]}")), 1, "more than 10000 distinct digests"},
		"an index that leads to itself":         {manifest(body(index + strconv.Itoa(len(index)+len(`000}]}`)) + `}]}`)), 5, other},
		"an endless token":                      {challenged(bearer, endless(200, `{"token":"`, "a")), 4, "token"},
		"an endless refusal of a token":         {challenged(bearer, endless(403, `{"details":"`, "a")), 4, "403 Forbidden"},
		"an endless error":                      {endless(404, `{"errors":[{"code":"`, "A"), 3, "404 Not Found"},
		"an endless list of errors":             {endless(404, `{"errors":[`, `{"code":"A","message":"b"},`), 3, "404 Not Found"},
		"a challenge of 256 KiB":                {challenged(func(*http.Request) string { return `Bearer realm="` + strings.Repeat("a", 256<<10) + `"` }, http.NotFound), 6, ""},
		"a challenge of many parts":             {challenged(func(*http.Request) string { return strings.Repeat("Bearer a=b, ", 5_000) }, http.NotFound), 4, "401 Unauthorized"},
		"headers of 10 MB":                      {headers(10, 1_000_000), 6, ""},
		"100,000 headers":                       {headers(100_000, 10), 6, ""},
		"a redirect that never ends":            {loop, 6, "redirect"},
		"a manifest that gzip blew up":          {manifest(packed), 6, "Content-Encoding"},
		"a blob that gzip blew up":              {at(manifestFor(layer0), layersWith(packed)), 6, "Content-Encoding"},
		"a blob that never ends":                {at(manifestFor(`{"digest":"sha256:`+zeros+`00000000","size":100000}`), layersWith(endless(200, "", "a"))), 5, "wrong size"},
		"a blob of 2^62 bytes":                  {at(manifestFor(`{"digest":"sha256:`+zeros+`00000000","size":4611686018427387904}`), layersWith(body("a"))), 5, "size"},
		"two blobs of 2^62 bytes":               {at(manifestFor(`{"digest":"sha256:`+zeros+`00000000","size":4611686018427387904},{"digest":"sha256:`+zeros+`00000001","size":4611686018427387904}`), layersWith(body("a"))), 5, "size"},
		"10,000 blobs":                          {manyLayers(), 0, ""},
	}
}

func TestNoRegistryMakesTheExecutableLargeOrPanic(t *testing.T) {
	t.Parallel()
	for name, test := range hostileRegistries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.serve)
			t.Cleanup(server.Close)
			t.Cleanup(server.CloseClientConnections)
			p := newProcess(t, nil, "fetch", "docker://"+strings.TrimPrefix(server.URL, "http://")+"/app?latest#http", filepath.Join(t.TempDir(), "image"))
			begin := time.Now()
			peak := p.measured(t)
			code, stderr := p.cmd.ProcessState.ExitCode(), p.stderr.String()
			t.Logf("%4.1f MiB, %v, exit code %d: %.200s", float64(peak)/(1<<20), time.Since(begin).Round(time.Millisecond), code, stderr)
			if peak == 0 {
				t.Error("its memory was not measured")
			}
			if peak > mostResident {
				t.Errorf("it had %d MiB in memory", peak>>20)
			}
			if code != test.code || !strings.Contains(stderr, test.words) {
				t.Errorf("got exit code %d and %.500q; want %d and %q", code, stderr, test.code, test.words)
			}
			if all := p.stdout.String() + stderr; strings.Contains(all, "panic") || strings.Contains(all, "goroutine ") {
				t.Errorf("a panic shows: %.2000s", all)
			}
			if code != 0 && (p.stdout.Len() > 0 || !strings.HasPrefix(stderr, "error: ") || strings.Count(stderr, "\n") != 1 || len(stderr) > 4096) {
				t.Errorf("got %q and %.1000q, want one line of error", &p.stdout, stderr)
			}
		})
	}
}

// measured runs the process to its end and returns the most memory that it ever
// had, in bytes. The kernel counts what the parent had before the exec into a
// child's usage; where that was too much to tell, what /proc said last stands.
func (p *process) measured(t *testing.T) (peak int64) {
	t.Helper()
	p.start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.wait()
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		peak = max(peak, highWater(strconv.Itoa(p.cmd.Process.Pid)))
		select {
		case <-done:
			running = false
		case <-tick.C:
		}
	}
	usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if ok && highWater("self") < mostResident {
		peak = max(peak, usage.Maxrss<<10)
	}
	return peak
}

// highWater is the most memory that a process ever had, in bytes; 0: it has ended.
func highWater(pid string) (kibibytes int64) {
	all, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(all), "\nVmHWM:")
	_, _ = fmt.Sscanf(line, "%d", &kibibytes)
	return kibibytes << 10
}
