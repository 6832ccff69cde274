package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// own are the bounds of the command itself.
var own = []fetcher.Limit{
	{Name: "the wait for a docker config that comes through a pipe", Value: int64(configTimeout), Unit: fetcher.Nanoseconds, Beyond: "an error"},
	{Name: "lines of log that wait for a reader", Value: maxBacklog, Beyond: "dropped and counted"},
	{Name: "one line of log", Value: maxLine, Unit: fetcher.Bytes, Beyond: "the rest is cut off"},
}

const securityPage = "../../docs/security.md"

func TestTheTableOfLimitsIsThatOfTheCode(t *testing.T) {
	t.Parallel()
	page := readPage(t, securityPage)
	want := []string{"| what | bound | beyond it | reason of the error |", "|---|---|---|---|"}
	for _, l := range slices.Concat(fetcher.Limits(), plugin.Limits(), own) {
		reason := ""
		if l.Reason != "" {
			reason = "`" + string(l.Reason) + "`"
		}
		want = append(want, strings.Replace(fmt.Sprintf("| %s | %s | %s | %s |", l.Name, l.Amount(), l.Beyond, reason), "|  |", "| |", 1))
	}
	var got []string
	for line := range strings.Lines(page[strings.Index(page, want[0]):]) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nthe right table:\n%s", securityPage, diff, strings.Join(want, "\n"))
	}
}

func TestEveryLimitIsABoundAndSaysWhatIsBeyondIt(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, l := range slices.Concat(fetcher.Limits(), plugin.Limits(), own) {
		if l.Value <= 0 || l.Beyond == "" || names[l.Name] || strings.ContainsAny(l.Name+l.Beyond, "|\n") {
			t.Errorf("%+v", l)
		}
		names[l.Name] = true
		if l.Reason != "" && l.Reason.Kind() == fetcher.ErrInternal { //nolint:errorlint // Kind returns one of the kinds itself
			t.Errorf("%s: %s is no reason", l.Name, l.Reason)
		}
	}
}

func TestAmountsAreForPeople(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]fetcher.Limit{
		"4 MiB": {Value: 4 << 20, Unit: fetcher.Bytes}, "64 GiB": {Value: 64 << 30, Unit: fetcher.Bytes}, "500 bytes": {Value: 500, Unit: fetcher.Bytes},
		"1,025 KiB": {Value: 1025 << 10, Unit: fetcher.Bytes}, "10,000": {Value: 10_000}, "100,000": {Value: 100_000}, "999": {Value: 999},
		"1.5 s": {Value: 15e8, Unit: fetcher.Nanoseconds}, "1 min": {Value: 60e9, Unit: fetcher.Nanoseconds}, "1 h": {Value: 3600e9, Unit: fetcher.Nanoseconds},
		"18 s": {Value: 18e9, Unit: fetcher.Nanoseconds}, "90 s": {Value: 90e9, Unit: fetcher.Nanoseconds},
	} {
		if got := l.Amount(); got != want {
			t.Errorf("%d %s: got %q, want %q", l.Value, l.Unit, got, want)
		}
	}
}

// A promise of the page is held by the tests that it names, as `package.TestName`.
func TestThePageOfSecurityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	const root = "../.."
	named := regexp.MustCompile("`([a-z/-]+)\\.((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(readPage(t, securityPage), -1)
	if len(named) < 50 {
		t.Errorf("the page names %d tests", len(named))
	}
	known := map[string]map[string]bool{}
	for _, n := range named {
		dir := n[1]
		if known[dir] == nil {
			known[dir] = testsIn(t, filepath.Join(root, dir))
		}
		if !known[dir][n[2]] {
			t.Errorf("%s has no %s", dir, n[2])
		}
	}
}

// A corpus is what a target has met; without one it begins at nothing each time.
func TestEveryFuzzTargetHasASmallCorpus(t *testing.T) {
	t.Parallel()
	const mostFiles, mostBytes = 20, 4 << 10
	for _, module := range []string{"../..", "../../integration"} {
		for dir, targets := range fuzzTargets(t, module) {
			for _, target := range targets {
				seeds, _ := os.ReadDir(filepath.Join(dir, "testdata", "fuzz", target))
				if len(seeds) == 0 || len(seeds) > mostFiles {
					t.Errorf("%s: testdata/fuzz/%s has %d files, want 1 to %d", dir, target, len(seeds), mostFiles)
				}
				for _, seed := range seeds {
					if info, err := seed.Info(); err != nil || info.Size() > mostBytes {
						t.Errorf("%s: %s/%s: %v, or more than %d bytes", dir, target, seed.Name(), err, mostBytes)
					}
				}
			}
		}
	}
}

// fuzzTargets are those of a module by directory.
func fuzzTargets(t *testing.T, module string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(module, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); path != module && err == nil || entry.Name() == ".git" || entry.Name() == "testdata" {
			return filepath.SkipDir
		}
		for name := range testsIn(t, path) {
			if strings.HasPrefix(name, "Fuzz") {
				found[path] = append(found[path], name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// testsIn are the tests and fuzz targets in a directory, on whatever system.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
