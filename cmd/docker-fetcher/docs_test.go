//go:build unix

package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

const top = "../../"

// pages are README.md and what is in docs, by the path from the top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found, err := filepath.Glob(top + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, path := range append(found, top+"README.md") {
		texts[strings.TrimPrefix(path, top)] = read(t, path)
	}
	return texts
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// block is a piece of a page that is shown as it is.
type block struct{ language, text string }

// blocks are those between fences, and those that four spaces indent.
func blocks(page string) (all []block) {
	var b *block
	fenced, indented, blank := false, false, true
	for line := range strings.Lines(page) {
		trimmed := strings.TrimSpace(line)
		switch fence, opens := strings.CutPrefix(trimmed, "```"); {
		case opens && fenced:
			fenced = false
		case opens:
			fenced, indented = true, false
			all = append(all, block{language: fence})
			b = &all[len(all)-1]
		case fenced:
			b.text += line
		case strings.HasPrefix(line, "    ") && (indented || blank):
			if !indented {
				all = append(all, block{language: "indented"})
				b = &all[len(all)-1]
			}
			indented = true
			b.text += line
		default:
			indented = false
		}
		blank = trimmed == ""
	}
	return all
}

// noCommands are the languages of blocks that nobody types into a shell. Go is
// compiled by integration/readme_test.go.
var noCommands = []string{"go", "toml", "yaml", "json", "cpp"}

// commands are the lines of a block that a reader would type; of a console's
// block those after the prompt.
func (b block) commands() (lines []string) {
	text := strings.ReplaceAll(b.text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if b.language == "console" {
			var typed bool
			if line, typed = strings.CutPrefix(line, "$ "); !typed {
				continue
			}
		}
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// shown are lines that look like commands and are none.
var shown = []string{
	"error: GET https://registry.example.com/", // an error
	"DIR/",                         // the directory of --hosts-dir
	"1|1|unix|",                    // the handshake
	"OTEL_EXPORTER_OTLP_ENDPOINT=", // variables of the plugin
	"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=",
}

// elsewhere are commands that are not run here, by how they begin, and why.
var elsewhere = map[string]string{
	"/usr/bin/python3 integration/python/host.py ":                        "integration/python_test.go runs it",
	"HADOOP_HOME=/opt/docker-fetcher mesos-agent ":                        "cmd/docker-fetcher/hadoop_test.go does what a Mesos agent does",
	"curl --silent --unix-socket /run/agent/docker-fetcher-metrics.sock ": "metrics_serve_test.go reads the socket",
	`docker-fetcher completion zsh >"${fpath[1]}/_docker-fetcher"`:        "fpath is zsh's; testdata/script/completion.txtar has the command",
	"docker load -i ": "there need not be a docker; ocitar_test.go holds the file to what docker reads",
	"skopeo copy ":    "there need not be a skopeo; ocitar_test.go holds the file to what skopeo reads",
	"dpkg -i ":        "installs; .ci/run does it",
	"apt-get ":        "installs",
}

// notRun are targets of the Makefile that .ci/run does not call, and why.
var notRun = map[string]string{
	"build":  "the tests build the executable by themselves",
	"bench":  "takes long, and measures nothing on a machine that has other work",
	"fleet":  "needs gcc, nginx and root, and takes minutes",
	"python": "makes what is committed; needs Debian's protobuf-compiler-grpc",
}

func TestEveryCommandInTheDocsWorks(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	for _, page := range slices.Sorted(maps.Keys(texts)) {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			someone := newNewcomer(t, texts["docs/hosts.md"])
			for _, b := range blocks(texts[page]) {
				someone.try(b)
			}
		})
	}
	t.Run("help", func(t *testing.T) {
		t.Parallel()
		someone := newNewcomer(t, texts["docs/hosts.md"])
		walk(newCommand(false), func(cmd *cobra.Command) { someone.try(block{"sh", cmd.Example}) })
	})
}

// newcomer is somebody who types what a page says, in a directory with what it
// speaks of, where the registries are that it names. What is under / in a page is
// in that directory.
type newcomer struct {
	t           *testing.T
	dir         string
	environment []string
}

func newNewcomer(t *testing.T, hosts string) *newcomer {
	t.Helper()
	in := fetchertest.NewInternet(t)
	for profile, images := range map[string][]string{
		"Docker Hub": {"library/alpine:3.20", "library/alpine:latest"},
		"distribution with a token server of one's own": {"team/app:1.2"},
		"GitHub Container Registry":                     {"owner/image:tag"},
		"nvcr.io in 2026":                               {"nvidia/cuda:12"},
	} {
		r := in.Add(t, profileOf(t, profile))
		for _, image := range images {
			repository, tag, _ := strings.Cut(image, ":")
			r.PutIndex(repository, tag, true, forPlatform("amd64"), forPlatform("arm64"))
		}
	}
	login := profileOf(t, "distribution with a token server of one's own").Credential
	r := &newcomer{t: t, dir: shortDir(t), environment: onInternet(t, in, "registry.example.com", &login)}
	path := executable(t)
	for _, name := range []string{"docker-fetcher", "bin/docker-fetcher", "usr/libexec/docker-fetcher"} {
		r.make(filepath.Dir(name))
		if err := os.Symlink(path, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	config := strings.TrimPrefix(r.environment[2], "DOCKER_CONFIG=")
	for _, name := range []string{"config.json", "etc/agent/config.json"} {
		r.write(name, read(t, filepath.Join(config, "config.json")))
	}
	for _, name := range []string{"run/agent", "srv", "tmp", "opt/docker-fetcher/bin", "var/cache/docker-fetcher"} {
		r.make(name)
	}
	r.write("request.json", r.local(request(t, hosts)))
	r.environment = append(r.environment, "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"), "HOME="+r.dir, "TMPDIR="+filepath.Join(r.dir, "tmp"))
	return r
}

func forPlatform(architecture string) fetchertest.PlatformImage {
	return fetchertest.PlatformImage{
		Platform: fetchertest.Platform{OS: "linux", Architecture: architecture},
		Image:    fetchertest.Image{Layers: [][]byte{[]byte("a layer for " + architecture)}},
	}
}

// request is that of docs/hosts.md, the first block of JSON that has a uri.
func request(t *testing.T, page string) string {
	t.Helper()
	for _, b := range blocks(page) {
		if b.language == "json" && strings.Contains(b.text, `"uri"`) {
			return b.text
		}
	}
	t.Fatal("docs/hosts.md has no request")
	return ""
}

func (r *newcomer) make(dir string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o700); err != nil {
		r.t.Fatal(err)
	}
}

func (r *newcomer) write(name, text string) {
	r.t.Helper()
	r.make(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// rooted are the paths of a machine that a page may name.
var rooted = regexp.MustCompile(`(^|[\s"'=:])(/(?:etc|opt|run|srv|tmp|usr/libexec|var/cache)/)`)

// local has the paths of a machine in the newcomer's directory, and any free port
// in place of a certain one.
func (r *newcomer) local(line string) string {
	line = strings.ReplaceAll(line, "127.0.0.1:9464", "127.0.0.1:0")
	return rooted.ReplaceAllString(line, "${1}"+r.dir+"${2}")
}

// try types the commands of a block.
func (r *newcomer) try(b block) {
	r.t.Helper()
	switch {
	case slices.Contains(noCommands, b.language):
	case strings.HasPrefix(b.text, "#!"):
		r.write("script", r.local(b.text))
		r.run("sh script fs -copyToLocal 'docker://registry.example.com/team/app?1.2' by-script.tar")
	case b.language == "console" && aStory(r.t, b.text): // explain_test.go ran it
	case slices.Contains([]string{"sh", "console", "indented", ""}, b.language):
		for _, line := range b.commands() {
			r.command(line)
		}
	default:
		r.t.Errorf("is a block of %q something to type? say so in docs_test.go:\n%s", b.language, b.text)
	}
}

// aStory reports whether a text is one of the stories that explain tells.
func aStory(t *testing.T, text string) bool {
	t.Helper()
	found, err := filepath.Glob("testdata/explain/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(found, func(path string) bool { return read(t, path) == text })
}

func (r *newcomer) command(line string) {
	r.t.Helper()
	begins := func(with string) bool { return strings.HasPrefix(line, with) }
	words := strings.Fields(line)
	switch {
	case slices.ContainsFunc(shown, begins):
	case slices.ContainsFunc(slices.Collect(maps.Keys(elsewhere)), begins):
	case words[0] == "make":
		makes(r.t, words[1])
	case len(words) > 1 && words[0] == "docker-fetcher" && words[1] == "serve":
		r.serve(line)
	case slices.Contains([]string{"docker-fetcher", "./docker-fetcher", ".", "mkdir", "ln", "/opt/docker-fetcher/bin/hadoop", "ls", "tar"}, words[0]):
		r.run(line)
	default:
		r.t.Errorf("docs_test.go knows no way to try this command:\n%s", line)
	}
}

// run has a shell do the line, which must succeed.
func (r *newcomer) run(line string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-c", r.local(line))
	c.Dir, c.Env = r.dir, r.environment
	if output, err := c.CombinedOutput(); err != nil {
		r.t.Errorf("%s\n%v: %s", line, err, output)
	}
}

// serve does the line as a host, or as somebody with a debugger, until it says
// where it serves.
func (r *newcomer) serve(line string) {
	r.t.Helper()
	arguments := strings.Fields(r.local(line))[1:]
	environment := r.environment
	if !slices.Contains(arguments, "--debug") {
		environment = append(slices.Clone(environment), hosted(filepath.Join(r.dir, "run"))...)
	}
	p := newProcess(r.t, environment, arguments...)
	p.cmd.Dir = r.dir
	p.handshake()
	if code := p.signal(syscall.SIGTERM); code != 0 {
		r.t.Errorf("%s\nexit code %d: %s", line, code, &p.stderr)
	}
}

// makes checks that the Makefile has a target, and that CI calls it or the table
// says why not.
func makes(t *testing.T, name string) {
	t.Helper()
	makefile, ci := read(t, top+"Makefile"), read(t, top+".ci/run")
	_, excused := notRun[name]
	called := regexp.MustCompile(`(?m)^[^#\n]*\bmake ` + name + `\b`).MatchString(ci)
	if !regexp.MustCompile(`(?m)^` + name + `:`).MatchString(makefile) {
		t.Errorf("the Makefile has no target %q", name)
	} else if called == excused {
		t.Errorf("make %s: called by .ci/run is %t, excused in docs_test.go is %t", name, called, excused)
	}
}

func TestEveryTargetThatTheDocsNameIsInTheMakefile(t *testing.T) {
	t.Parallel()
	makefile := read(t, top+"Makefile")
	named := regexp.MustCompile("`make ([a-z-]+)")
	for page, text := range pages(t) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s: the Makefile has no target %q", page, m[1])
			}
		}
	}
}

func TestEveryFileThatTheDocsLinkToIsThere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(top, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// told is where a page shows what explain tells: the name of the golden file, and
// its text.
var told = regexp.MustCompile("(?s)(<!-- testdata/explain/(\\S+) -->\n)(?:\n?```console\n.*?```\n)?")

func TestTheStoriesInTheDocsAreThoseOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for page, text := range pages(t) {
		fresh := told.ReplaceAllStringFunc(text, func(old string) string {
			m := told.FindStringSubmatch(old)
			seen[m[2]] = true
			return m[1] + "\n```console\n" + read(t, filepath.Join("testdata", "explain", m[2])) + "```\n"
		})
		if *update && fresh != text {
			if err := os.WriteFile(top+page, []byte(fresh), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if diff := cmp.Diff(fresh, text); diff != "" {
			t.Errorf("%s (-want +got; -update writes it anew):\n%s", page, diff)
		}
	}
	for _, s := range stories {
		if !seen[s.file] {
			t.Errorf("no page shows %s", s.file)
		}
	}
}

// rows are the cells of the tables of a page.
func rows(page string) (all [][]string) {
	for line := range strings.Lines(page) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "|") {
			line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
			var cells []string
			for cell := range strings.SplitSeq(line, "|") {
				cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "\x00", "|"))
			}
			all = append(all, cells)
		}
	}
	return all
}

// defaults says in a table what the flags' own defaults do not.
var defaults = map[string]string{
	"default-docker-config": "`$DOCKER_CONFIG/config.json`, `~/.docker/config.json`",
	"platform":              "this machine's",
	"hosts-dir":             "none",
	"cache-dir":             "none",
	"chunks-per-blob":       "as many as help",
	"stall-timeout":         "60s",
}

func TestTheTableOfFlagsIsThatOfFetch(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	flag := regexp.MustCompile("^`(?:-., )?--?([a-z-]+)[ `]")
	for _, cells := range rows(read(t, top+"README.md")) {
		if m := flag.FindStringSubmatch(cells[0]); m != nil {
			got[m[1]] = cells[1]
		}
	}
	want := map[string]string{}
	fetchCommand().Flags().VisitAll(func(f *pflag.Flag) {
		name := f.Name
		if name == "output" {
			name = "o"
		}
		want[name] = f.DefValue
		if text, said := defaults[name]; said {
			want[name] = text
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if timeout, err := time.ParseDuration(defaults["stall-timeout"]); err != nil || timeout.String() != fetchCommand().Flag("stall-timeout").DefValue {
		t.Errorf("%v, %v", timeout, err)
	}
}

func TestTheTableOfExitCodesIsThatOfTheCode(t *testing.T) {
	t.Parallel()
	var got []int
	for _, cells := range rows(read(t, top+"README.md")) {
		if code, err := strconv.Atoi(cells[0]); err == nil && len(cells) == 2 {
			got = append(got, code)
		}
	}
	want := []int{exitOK, exitOther, exitUsage, exitNotFound, exitUnauthorized, exitIntegrity, exitUnavailable, exitInterrupted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheJSONInTheDocsIsJSON(t *testing.T) {
	t.Parallel()
	for page, text := range pages(t) {
		for _, b := range blocks(text) {
			decoder := json.NewDecoder(strings.NewReader(b.text))
			for b.language == "json" && decoder.More() {
				var value any
				if err := decoder.Decode(&value); err != nil {
					t.Errorf("%s: %v in\n%s", page, err, b.text)
					break
				}
			}
		}
	}
}

func TestBlocksFindsWhatIsFencedAndWhatIsIndented(t *testing.T) {
	t.Parallel()
	page := "text\n\n    make demo\n    make test\n\ntext\n    of a paragraph\n```sh\na \\\n  b # c\n# d\n```\n- item\n\n      deep\n```console\n$ typed\nanswer\n```\n"
	var got [][]string
	for _, b := range blocks(page) {
		got = append(got, append([]string{b.language}, b.commands()...))
	}
	want := [][]string{{"indented", "make demo", "make test"}, {"sh", "a    b # c"}, {"indented", "deep"}, {"console", "typed"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
