package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes files below a new directory; a file without content is left out.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if content == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const certificate = `-----BEGIN CERTIFICATE-----
MIIBejCCASGgAwIBAgIUIUC/8hDJ3mDk9BRnR5zoYgRBbP4wCgYIKoZIzj0EAwIw
-----END CERTIFICATE-----
`

func TestDescribe(t *testing.T) {
	t.Parallel()
	const osRelease = "ID=demo\nPRETTY_NAME=\"Demo 1\"\n"
	for _, test := range []struct {
		name                                   string
		motd, osRelease, certificates, nologin string
		want, err                              string
	}{
		{"a whole tree", "Hi.\n", osRelease, "# none\n", "", "Hi.\nsystem: Demo 1\nCA certificates: 0\narguments: -a b\nenvironment: A=1 B=2\n", ""},
		{"no greeting", "", osRelease, "# none\n", "", "", "etc/motd: no such file"},
		{"no os-release", "Hi.\n", "", "# none\n", "", "", "etc/os-release: no such file"},
		{"os-release without a name", "Hi.\n", "ID=demo\n", "# none\n", "", "", "etc/os-release: no PRETTY_NAME"},
		{"no certificates", "Hi.\n", osRelease, "", "", "", "etc/ssl/cert.pem: no such file"},
		{"a certificate cut short", "Hi.\n", osRelease, certificate, "", "", "etc/ssl/cert.pem: certificate 1: x509: malformed"},
		{"a file that should have been removed", "Hi.\n", osRelease, "# none\n", "left", "", "etc/nologin: a file that the image removed is there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, map[string]string{
				"etc/motd": test.motd, "etc/os-release": test.osRelease,
				"etc/ssl/cert.pem": test.certificates, "etc/nologin": test.nologin,
			})
			got, err := describe(root, []string{"-a", "b"}, []string{"B=2", "A=1"})
			if got != test.want {
				t.Errorf("output %q, want %q", got, test.want)
			}
			if (err != nil || test.err != "") && (err == nil || test.err == "" || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}
