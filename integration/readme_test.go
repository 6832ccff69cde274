package integration_test

import (
	"bytes"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

// TestTheProgramOfTheREADMEFetchesAnImage compiles what an agent's author copies,
// and has it fetch from a registry that asks for a token.
func TestTheProgramOfTheREADMEFetchesAnImage(t *testing.T) {
	t.Parallel()
	source := goBlock(t, "README.md")
	if _, body, found := strings.Cut(source, "\nfunc main"); !found || strings.Count("func main"+body, "\n") != 15 {
		t.Errorf("its main has not the fifteen lines that were promised")
	}
	agent := compile(t, source)
	s := start(t, registry.Config{Auth: registry.Token}, "oci-index")
	files, manifest := served(t, s, "oci-index")

	uri, dir := "docker://"+s.Host+"/"+repository+"?oci-index#http", filepath.Join(t.TempDir(), "image")
	c := exec.CommandContext(t.Context(), agent, executable, uri, dir)
	c.Stdin = bytes.NewReader(tenant.DockerConfig(s.Host))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdout, err := c.Output()
	if err != nil || string(stdout) != manifest.String()+"\n" {
		t.Fatalf("%v, %q, want %s: %s", err, stdout, manifest, &stderr)
	}
	compare(t, dir, files)
	runImage(t, dir)

	c = exec.CommandContext(t.Context(), agent, executable, uri, filepath.Join(t.TempDir(), "none"))
	c.Stdin = strings.NewReader("{}")
	if output, err := c.CombinedOutput(); err == nil || !strings.Contains(string(output), "add a credential for") {
		t.Errorf("without the secret: %v: %s", err, output)
	}
}

func TestTheGoOfTheDocsCompiles(t *testing.T) {
	t.Parallel()
	compile(t, "package host\n\n"+goBlock(t, "docs/hosts.md"))
}

// goBlock is the one block of Go in a page.
func goBlock(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", page))
	check(t, err)
	pieces := strings.Split(string(text), "```go\n")
	if len(pieces) != 2 {
		t.Fatalf("%s has %d blocks of Go, want 1", page, len(pieces)-1)
	}
	block, _, _ := strings.Cut(pieces[1], "```")
	return block
}

// compile compiles a file of Go against this checkout, and returns the program, if
// it is one. In a folder of the module, no requirement has to be looked up.
func compile(t *testing.T, source string) string {
	t.Helper()
	dir, err := os.MkdirTemp(".", "readme-")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))
	program := filepath.Join(t.TempDir(), "agent")
	if formatted, err := format.Source([]byte(source)); err != nil || string(formatted) != source {
		t.Errorf("not as gofmt has it (%v):\n%s", err, formatted)
	}
	for _, arguments := range [][]string{{"vet", "./" + dir}, {"build", "-buildvcs=false", "-o", program, "./" + dir}} {
		if output, err := exec.CommandContext(t.Context(), "go", arguments...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v: %s", strings.Join(arguments, " "), err, output)
		}
	}
	return program
}
