package integration_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/docker-fetcher/docker-fetcher/integration/registry"
)

// command runs the executable with a home of its own.
func command(t *testing.T, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	c := exec.CommandContext(t.Context(), executable, arguments...)
	c.Env = []string{"HOME=" + t.TempDir()}
	c.Stdout, c.Stderr = &out, &diagnostics
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), diagnostics.String(), c.ProcessState.ExitCode()
}

// configFile writes the docker config of user for s into a file.
func configFile(t *testing.T, user registry.User, s *registry.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	check(t, os.WriteFile(path, user.DockerConfig(s.Host), 0o600))
	return path
}

func TestFetchCommandPrintsTheDigestLast(t *testing.T) {
	t.Parallel()
	for mode, config := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := start(t, config, "oci-index")
			files, manifest := served(t, s, "oci-index")
			dir := filepath.Join(t.TempDir(), "image")
			stdout, stderr, code := command(t, "fetch", "docker://"+s.Host+"/"+repository+"?oci-index#http", dir, "--docker-config", configFile(t, tenant, s))
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
			if last := lines[len(lines)-1]; last != manifest.String() {
				t.Errorf("the last line is %q, want %s", last, manifest)
			}
			compare(t, dir, files)
			runImage(t, dir)
		})
	}
}

func TestFetchCommandWithoutTheRightCredentialExitsWith4(t *testing.T) {
	t.Parallel()
	wrong := registry.User{Name: tenant.Name, Password: "guessed-by-somebody"}
	for mode, config := range modes {
		if config.Auth == registry.Anonymous {
			continue
		}
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := start(t, config, "oci")
			for name, arguments := range map[string][]string{
				"wrong password": {"--docker-config", configFile(t, wrong, s)},
				"no config":      nil,
			} {
				dir := filepath.Join(t.TempDir(), "image")
				stdout, stderr, code := command(t, append([]string{"fetch", "docker://" + s.Host + "/" + repository + "?oci#http", dir}, arguments...)...)
				if code != 4 || stdout != "" {
					t.Errorf("%s: exit code %d and output %q, want 4 and none", name, code, stdout)
				}
				if !strings.HasPrefix(stderr, "error: ") || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, wrong.Password) {
					t.Errorf("%s: not one line of error without the password: %q", name, stderr)
				}
				compare(t, dir, tree{})
			}
		})
	}
}

func TestResolveCommandPrintsTheDigestOfTheIndex(t *testing.T) {
	t.Parallel()
	s := start(t, registry.Config{Auth: registry.Token}, "oci-index")
	artifact, err := artifacts["oci-index"]()
	check(t, err)
	want, err := artifact.(v1.ImageIndex).Digest()
	check(t, err)
	stdout, stderr, code := command(t, "resolve", "docker://"+s.Host+"/"+repository+"?oci-index#http", "--docker-config", configFile(t, tenant, s))
	if code != 0 || stdout != want.String()+"\n" {
		t.Errorf("exit code %d, output %q, want 0 and %s: %s", code, stdout, want, stderr)
	}
}
