package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// lastMessage is that of the last line of log.
func lastMessage(t *testing.T, log []byte) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	var line struct {
		Message string `json:"@message"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		t.Fatalf("%q: %v", log, err)
	}
	return line.Message
}

func TestAFamilyIsWrittenAsPrometheusReadsIt(t *testing.T) {
	t.Parallel()
	counter := &family{name: "c_total", help: "Things.", kind: counterType, labels: []string{"a", "b"}}
	counter.add(1, "z", "")
	counter.add(2, `q"\`+"\nä\xff", "y")
	counter.add(0.5, "z", "")
	gauge := &family{name: "g", help: "Now.", kind: gaugeType}
	gauge.set(1e21)
	gauge.add(-2e21)
	histogram := &family{name: "h_seconds", help: "Times.", kind: histogramType, labels: []string{"k"}, bounds: []float64{.5, 1}}
	for _, n := range []float64{.25, .5, .75, 1, 4} {
		histogram.observe(n, "v")
	}
	empty := &family{name: "e_total", help: "None.", kind: counterType, labels: []string{"k"}}
	var b strings.Builder
	for _, f := range []*family{counter, gauge, histogram, empty} {
		f.write(&b)
	}
	want := `# HELP c_total Things.
# TYPE c_total counter
c_total{a="q\"\\\nä` + "\ufffd" + `",b="y"} 2
c_total{a="z",b=""} 1.5
# HELP g Now.
# TYPE g gauge
g -1e+21
# HELP h_seconds Times.
# TYPE h_seconds histogram
h_seconds_bucket{k="v",le="0.5"} 2
h_seconds_bucket{k="v",le="1"} 4
h_seconds_bucket{k="v",le="+Inf"} 5
h_seconds_sum{k="v"} 6.5
h_seconds_count{k="v"} 5
# HELP e_total None.
# TYPE e_total counter
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEachMetricIsNamedByTheConventions(t *testing.T) {
	t.Parallel()
	for _, f := range newMeter().all {
		if !regexp.MustCompile(`^(docker_fetcher|process|go)_[a-z_]+$`).MatchString(f.name) || !strings.HasSuffix(f.help, ".") || strings.Contains(f.help, "\n") {
			t.Errorf("%s: %q", f.name, f.help)
		}
		if (f.kind == counterType) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s is a %s", f.name, f.kind)
		}
		if f.kind == histogramType && (!strings.HasSuffix(f.name, "_seconds") || !slices.IsSorted(f.bounds) || len(f.bounds) == 0) {
			t.Errorf("%s: %v", f.name, f.bounds)
		}
	}
}

// acted is a Fetcher that tells some events.
type acted struct {
	events []fetcher.Event
	err    error
}

func (a acted) Fetch(_ context.Context, r fetcher.Request) (fetcher.Result, error) {
	for _, e := range a.events {
		if r.Trace || !tracing(e) {
			r.Observe(e)
		}
	}
	return fetcher.Result{}, a.err
}

func (a acted) Resolve(_ context.Context, r fetcher.ResolveRequest) (fetcher.Resolution, error) {
	_, err := a.Fetch(context.Background(), fetcher.Request{Observe: r.Observe, Trace: r.Trace})
	return fetcher.Resolution{}, err
}

// everything is one event of each type.
var everything = []fetcher.Event{
	fetcher.Entered{Phase: fetcher.Transfer}, fetcher.Started{}, fetcher.Progress{}, fetcher.FileDone{}, fetcher.Warning{},
	fetcher.Chosen{}, fetcher.Decided{}, fetcher.Asked{}, fetcher.Granted{}, fetcher.Refused{}, fetcher.Waiting{}, fetcher.Skipped{},
}

func TestTheCallersObserverIsToldWhatItAskedFor(t *testing.T) {
	t.Parallel()
	c := counted{acted{events: everything}, newMeter()}
	for trace, want := range map[bool]int{true: len(everything), false: 5} {
		told := 0
		observe := func(fetcher.Event) { told++ }
		if _, err := c.Fetch(t.Context(), fetcher.Request{Observe: observe, Trace: trace}); err != nil || told != want {
			t.Errorf("with Trace %v: a fetch told of %d events, want %d: %v", trace, told, want, err)
		}
		told = 0
		if _, err := c.Resolve(t.Context(), fetcher.ResolveRequest{Observe: observe, Trace: trace}); err != nil || told != want {
			t.Errorf("with Trace %v: a resolve told of %d events, want %d: %v", trace, told, want, err)
		}
	}
	if _, err := c.Fetch(t.Context(), fetcher.Request{}); err != nil { // nobody observes
		t.Error(err)
	}
}

func TestTheLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMeter()
	for i := range 1000 {
		c := counted{acted{events: []fetcher.Event{
			fetcher.Asked{Method: fmt.Sprint(i), Status: i, URL: fmt.Sprint(i), Authorization: fmt.Sprint(i)}, fetcher.Waiting{Host: fmt.Sprint(i)},
		}, err: &fetcher.Error{Reason: fetcher.Reason(fmt.Sprint(i))}}, m}
		u := scheme.URI{Scheme: fmt.Sprintf("x%d", i)}
		if i%2 == 0 {
			ref, err := scheme.NewImage("app", "1", fmt.Sprintf("r%d.example", i), "https", 0)
			if err != nil {
				t.Fatal(err)
			}
			u = ref.URI()
		}
		_, _ = c.Fetch(t.Context(), fetcher.Request{URI: u})
		_, _ = c.Resolve(t.Context(), fetcher.ResolveRequest{URI: u})
	}
	values := map[string]map[string]bool{}
	for _, f := range m.all {
		for _, s := range f.series {
			for i, label := range f.labels {
				if values[label] == nil {
					values[label] = map[string]bool{}
				}
				values[label][s.values[i]] = true
			}
		}
	}
	for label, most := range map[string]int{"registry": maxRegistries + 1, "kind": 2, "outcome": 5, "class": 1, "to": 1, "step": 2, "code": 70} {
		if n := len(values[label]); n == 0 || n > most {
			t.Errorf("label %s has %d values, want at most %d: %v", label, n, most, slices.Collect(maps.Keys(values[label])))
		}
	}
}

func TestARegistryHasALabelOnceItHasAnswered(t *testing.T) {
	t.Parallel()
	m := newMeter()
	fetch := func(host string, events ...fetcher.Event) {
		ref, err := scheme.NewImage("app", "1", host, "https", 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = counted{acted{events: events}, m}.Fetch(t.Context(), fetcher.Request{URI: ref.URI()})
		_, _ = counted{acted{events: events}, m}.Resolve(t.Context(), fetcher.ResolveRequest{URI: ref.URI()})
	}
	for i := range 2 * maxRegistries {
		fetch(fmt.Sprintf("made-up-%d.example", i), fetcher.Asked{}, fetcher.Waiting{}, fetcher.Asked{})
	}
	fetch("real.example", fetcher.Asked{}, fetcher.Waiting{}, fetcher.Asked{Status: 401})
	text := string(m.text())
	if strings.Contains(text, "made-up") {
		t.Errorf("who never answered has a label: %s", text)
	}
	for _, want := range []string{
		`docker_fetcher_fetches_total{registry="real.example",kind="docker",outcome="OK"} 1`,
		`docker_fetcher_resolves_total{registry="real.example",outcome="OK"} 1`,
		`docker_fetcher_requests_total{registry="real.example",to="registry",code="401"} 2`,
		`docker_fetcher_fetches_total{registry="other",kind="docker",outcome="OK"} 200`,
		`docker_fetcher_retries_total{registry="other"} 401`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("got %s\nwant %s", text, want)
		}
	}
}

func TestWhatAnAnswerMeansForWhoWantsToBeLetIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		asked fetcher.Asked
		want  string // "": nothing
	}{
		{"a token", fetcher.Asked{Token: true, Status: 200}, "accepted"},
		{"a token server that calls the request bad", fetcher.Asked{Token: true, Status: 400}, "refused"},
		{"a token server that is not there", fetcher.Asked{Token: true, Status: 404}, "refused"},
		{"a token server without the method", fetcher.Asked{Token: true, Status: 405}, "refused"},
		{"a token server that denies", fetcher.Asked{Token: true, Status: 403}, "refused"},
		{"a token server that is asked too often", fetcher.Asked{Token: true, Status: 429}, "unavailable"},
		{"a token server that fails", fetcher.Asked{Token: true, Status: 503}, "unavailable"},
		{"a token server that redirects", fetcher.Asked{Token: true, Status: 307, Location: "https://b.example"}, ""},
		{"where it redirects to", fetcher.Asked{Token: true, Redirected: true, Status: 200}, "accepted"},
		{"a registry without the manifest", fetcher.Asked{Status: 404}, "accepted"},
		{"a registry that redirects", fetcher.Asked{Status: 307, Location: "https://b.example"}, "accepted"},
		{"where that redirects to", fetcher.Asked{Redirected: true, Status: 403}, ""},
		{"no answer", fetcher.Asked{}, "unavailable"},
	} {
		m := newMeter()
		m.event("r.example", c.asked)
		got := ""
		for _, s := range m.authentications.series {
			got += s.values[2]
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// piped is a listener of pipes.
type piped struct {
	offered chan net.Conn
	closed  chan struct{}
	taken   atomic.Int64
}

func (p *piped) Accept() (net.Conn, error) {
	select {
	case conn := <-p.offered:
		p.taken.Add(1)
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error   { close(p.closed); return nil }
func (p *piped) Addr() net.Addr { return &net.UnixAddr{} }

func TestReadersAreFewAtOnceAndEachIsSoonGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &piped{offered: make(chan net.Conn, 50), closed: make(chan struct{})}
		ours := make([]net.Conn, 50)
		for i := range ours {
			var theirs net.Conn
			ours[i], theirs = net.Pipe()
			p.offered <- theirs
			defer theirs.Close()
		}
		end := newMeter().serve(p)
		synctest.Wait()
		if n := p.taken.Load(); n != maxReaders {
			t.Errorf("%d connections were taken at once, want %d", n, maxReaders)
		}
		begin := time.Now()
		last := ours[maxReaders] // those before it say nothing
		go func() { _, _ = last.Write([]byte("GET /metrics HTTP/1.1\r\nHost: plugin\r\n\r\n")) }()
		resp, err := http.ReadResponse(bufio.NewReader(last), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 || !resp.Close {
			t.Errorf("got %s, close %v, %v", resp.Status, resp.Close, err)
		}
		if waited := time.Since(begin); waited > 5*time.Second {
			t.Errorf("it waited %v", waited)
		}
		end() // while more wait than there are slots
		for _, conn := range ours {
			_ = conn.Close()
		}
	})
}

func TestAnOutcomeIsAReasonOfTheTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		err            error
		outcome, class string
	}{
		{"success", nil, "OK", "ok"},
		{"a reason", &fetcher.Error{Reason: fetcher.TLSFailed}, "TLS_FAILED", "unavailable"},
		{"a panic", &fetcher.Error{Reason: fetcher.Panicked}, "PANIC", "internal"},
		{"a word of somebody", &fetcher.Error{Reason: "canary"}, "BUG", "internal"},
		{"an error of another type", errors.New("canary"), "BUG", "internal"},
		{"a cancel", fmt.Errorf("transfer: %w", context.Canceled), "CANCELED", "canceled"},
		{"a deadline", fmt.Errorf("transfer: %w", context.DeadlineExceeded), "DEADLINE_EXCEEDED", "canceled"},
	} {
		if got := outcome(c.err); got != c.outcome {
			t.Errorf("%s: got %s, want %s", c.name, got, c.outcome)
		}
		if got := className(c.err); got != c.class {
			t.Errorf("%s: got %s, want %s", c.name, got, c.class)
		}
	}
}

// panicking is a defect.
type panicking struct{ acted }

func (panicking) Fetch(context.Context, fetcher.Request) (fetcher.Result, error) { panic("defect") }

func TestAPanicIsCountedAndGoesOn(t *testing.T) {
	t.Parallel()
	m := newMeter()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = counted{panicking{}, m}.Fetch(t.Context(), fetcher.Request{})
	}()
	for _, want := range []string{
		`docker_fetcher_fetches_total{registry="other",kind="other",outcome="PANIC"} 1`, "docker_fetcher_in_flight 0",
	} {
		if !strings.Contains(string(m.text()), want+"\n") {
			t.Errorf("got %s\nwant %s", m.text(), want)
		}
	}
}

func TestMetricsAddressesAreASocketOrLoopback(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"unix:/run/agent/m.sock": "unix:/run/agent/m.sock", "unix:/run//m.sock": "unix:/run/m.sock",
		"127.0.0.1:9464": "127.0.0.1:9464", "[::1]:0": "[::1]:0", "127.8.8.8:1": "127.8.8.8:1",
		"unix:m.sock": "", "unix:": "", "unix:@abstract": "", "m.sock": "", ":9464": "", "9464": "", "0.0.0.0:1": "", "[::]:1": "",
		"10.0.0.1:1": "", "localhost:1": "", "127.0.0.1": "", "127.0.0.1:x": "", "127.0.0.1:70000": "",
	} {
		var a metricsAddress
		if err := a.Set(text); (err == nil) != (want != "") || a.String() != want {
			t.Errorf("%q: got %q, %v, want %q", text, &a, err, want)
		}
	}
}

func TestStatOfAProcessIsReadAsTheKernelWritesIt(t *testing.T) {
	t.Parallel()
	const line = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 8 0 99 1000000 256 18446744073709551615 1 1"
	if cpu, pages, ok := parseStat(line); cpu != 42 || pages != 256 || !ok {
		t.Errorf("got %d, %d, %v", cpu, pages, ok)
	}
	for _, line := range []string{"", "7 (a)", strings.Replace(line, " 30 ", " x ", 1)} {
		if _, _, ok := parseStat(line); ok {
			t.Errorf("%q was taken", line)
		}
	}
}

// Whatever it is given, it ends without a panic.
func FuzzStat(f *testing.F) {
	f.Add("7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 8 0 99 1000000 256 1")
	f.Fuzz(func(_ *testing.T, text string) { parseStat(text) })
}

func FuzzMetricsAddress(f *testing.F) {
	f.Add("127.0.0.1:1")
	f.Add("unix:/a")
	f.Fuzz(func(t *testing.T, text string) {
		var a, again metricsAddress
		if a.Set(text) == nil && (again.Set(a.String()) != nil || again != a) {
			t.Errorf("%q became %q, and that %q", text, &a, &again)
		}
	})
}

func TestOnlyTheMetricsAreServed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := newMeter().serve(l)
	defer end()
	for request, want := range map[string]int{
		"GET /metrics": 200, "HEAD /metrics": 200, "POST /metrics": 405, "GET /": 404, "GET /debug/pprof/": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %s, want %d", request, resp.Status, want)
		}
	}
}

// documented are the names of metrics in a page: those of our own and those
// that all programs share.
var documented = regexp.MustCompile(`\b(docker_fetcher|process|go)_[a-z_]+\b`)

// base is the family that a series of an expression belongs to.
func base(name string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if of, ok := strings.CutSuffix(name, suffix); ok && strings.HasSuffix(of, "_seconds") {
			return of
		}
	}
	return name
}

func registered() map[string]bool {
	names := map[string]bool{}
	for _, f := range newMeter().all {
		names[f.name] = true
	}
	return names
}

func TestTheDashboardAsksForMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	known, shown, ids := registered(), map[string]bool{}, map[int]bool{}
	exprs := []string{}
	for _, v := range board.Templating.List {
		exprs = append(exprs, v.Query)
	}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 || p.Title == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 || ids[p.ID] {
			t.Errorf("panel %d %q is not whole", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || !documented.MatchString(target.Expr) {
				t.Errorf("%s is no expression", target.Expr)
			}
		}
	}
	for _, expr := range exprs {
		for _, name := range documented.FindAllString(expr, -1) {
			if shown[base(name)] = true; !known[base(name)] {
				t.Errorf("%s: there is no %s", expr, name)
			}
		}
	}
	for name := range known {
		if strings.HasPrefix(name, "docker_fetcher_") && !shown[name] {
			t.Errorf("nothing shows %s", name)
		}
	}
}

func TestTheDocumentationTellsOfEachMetricAndOfNoOther(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{} // labels
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 6 && documented.MatchString(cells[1]) {
			table[documented.FindString(cells[1])] = strings.NewReplacer("`", "", " ", "").Replace(cells[3])
		}
	}
	want := map[string]string{}
	for _, f := range newMeter().all {
		want[f.name] = strings.Join(f.labels, ",")
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("the table, (-want +got):\n%s", diff)
	}
	for _, name := range documented.FindAllString(string(text), -1) {
		if _, ok := want[base(name)]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
}
