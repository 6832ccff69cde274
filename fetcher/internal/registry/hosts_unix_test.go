//go:build unix

package registry

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestAFIFOInPlaceOfAFileDoesNotHang(t *testing.T) {
	t.Parallel()
	d := hostsDir(t, map[string]string{"ca.test/hosts.toml": `ca = "fifo"`, "toml.test/x": "", "crt.test/x": ""})
	for _, path := range []string{"toml.test/hosts.toml", "ca.test/fifo", "crt.test/ca.crt"} {
		if err := syscall.Mkfifo(filepath.Join(d.path, path), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	fifo := filepath.Join(d.path, "ca.test", "fifo")
	checkRefused(t, d, "ca.test", HostsError{filepath.Join(d.path, "ca.test", "hosts.toml"), 1, `ca "` + fifo + `": not a plain file; check the path`})
	checkRefused(t, d, "toml.test", HostsError{File: filepath.Join(d.path, "toml.test", "hosts.toml"), Text: "not a plain file; without the file nobody knows who may be asked"})
	checkRefused(t, d, "crt.test", HostsError{File: filepath.Join(d.path, "crt.test", "ca.crt"), Text: "not a plain file; check the path"})
}

func TestAFileThatMayNotBeReadOpensNoRegistry(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	d := hostsDir(t, map[string]string{"r.test/hosts.toml": "capabilities = []"})
	if err := os.Chmod(filepath.Join(d.path, "r.test", "hosts.toml"), 0); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, d, "r.test", HostsError{File: filepath.Join(d.path, "r.test", "hosts.toml"), Text: "permission denied; without the file nobody knows who may be asked"})
}
