package fetcher

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/docker-fetcher/docker-fetcher"

// floors is the map of ARCHITECTURE.md. A package may import those of lower
// floors only, so that there is no cycle and every room can be read alone.
var floors = map[string]int{
	"protocol/dockerfetcher/v1":   0,
	"scheme":                      0,
	"fetcher/internal/credential": 0,
	"fetcher/internal/manifest":   0,
	"fetcher/internal/content":    0,
	"fetcher/internal/auth":       1,
	"fetcher/internal/transfer":   1,
	"fetcher/internal/registry":   2,
	"fetcher":                     3,
	"plugin":                      4,
	"cmd/docker-fetcher":          5,
}

// testOnly may be imported by tests alone, and imports the standard library alone.
const testOnly = "fetcher/fetchertest"

func TestImportsGoToALowerFloor(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "integration" || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".git")):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		relative, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		from := path.Dir(filepath.ToSlash(relative))
		seen[from] = true
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if problem := forbidden(from, imported); problem != "" {
				t.Errorf("%s: %s", relative, problem)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for from := range floors {
		if !seen[from] {
			t.Errorf("%s is on the map, but there is no such package", from)
		}
	}
}

// forbidden says why a package may not import another, "" where it may.
func forbidden(from, imported string) string {
	to, ours := strings.CutPrefix(imported, module+"/")
	if from == testOnly {
		if ours || strings.Contains(strings.Split(imported, "/")[0], ".") {
			return "fetchertest imports " + imported + "; it is for the standard library alone"
		}
		return ""
	}
	floor, known := floors[from]
	below, exists := floors[to]
	switch {
	case !known:
		return from + " has no floor; give it one here and in ARCHITECTURE.md"
	case !ours:
		return ""
	case !exists:
		return "imports " + to + ", which has no floor"
	case below >= floor:
		return "imports " + to + ", which is not on a lower floor"
	}
	return ""
}

func TestForbiddenImports(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"scheme", module + "/protocol/dockerfetcher/v1"},
		{"fetcher/internal/auth", module + "/fetcher/internal/registry"},
		{"fetcher", module + "/plugin"},
		{"fetcher", module + "/" + testOnly},
		{"fetcher/util", "fmt"},
		{testOnly, "github.com/opencontainers/go-digest"},
		{testOnly, module + "/scheme"},
	} {
		if forbidden(pair[0], pair[1]) == "" {
			t.Errorf("%s may import %s", pair[0], pair[1])
		}
	}
	if problem := forbidden("plugin", module+"/fetcher"); problem != "" {
		t.Error(problem)
	}
}
