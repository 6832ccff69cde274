package content

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// No name and no digest leads out of the directory, or to a file of another.
func FuzzANameStaysInTheDirectory(f *testing.F) {
	for _, name := range []string{"manifest", "..", ".", "a/b", `a\b`, "/etc/passwd", "a\x00b", "sha256:aa", strings.Repeat("a", 256), "CON", "C:x", "\n", "é"} {
		f.Add(name, "sha256:"+strings.Repeat("a", 64))
		f.Add("blob", name)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		const dir = "/srv/task"
		if err := check(name, digest.Digest(text)); err != nil {
			return
		}
		for _, n := range []string{name, digest.Digest(text).String()} {
			if at := filepath.Join(dir, n); filepath.Dir(at) != dir || filepath.Base(at) != n || strings.ContainsAny(n, "\x00\n/\\") {
				t.Errorf("%q is %s", n, at)
			}
		}
		algorithm, hex, _ := strings.Cut(text, ":")
		if algorithm+hex != strings.ToLower(algorithm+hex) || len(hex) != 64 && len(hex) != 128 {
			t.Errorf("digest %q", text)
		}
	})
}

// The file of a cache's key is whole, or made anew; all who open it have the same.
func FuzzAKeyIsWholeAndTheSameForAll(f *testing.F) {
	for _, data := range [][]byte{nil, make([]byte, keySize), bytes.Repeat([]byte{1}, keySize-1), bytes.Repeat([]byte{1}, keySize), bytes.Repeat([]byte{2}, keySize+1)} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		one, err := openKey(path)
		two, again := openKey(path)
		switch {
		case err != nil || again != nil || len(one) != keySize || !bytes.Equal(one, two) || bytes.Equal(one, make([]byte, keySize)):
			t.Errorf("%x, %v, then %x, %v", one, err, two, again)
		case len(data) >= keySize && !bytes.Equal(data[:keySize], make([]byte, keySize)) && !bytes.Equal(one, data[:keySize]):
			t.Errorf("the key %x became %x", data, one)
		}
	})
}
