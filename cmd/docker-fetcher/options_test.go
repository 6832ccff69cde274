package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Not parallel: the environment is the process'.
func TestOnlyOneShotCommandsReadDockersOwnConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", "")
	path := filepath.Join(dir, ".docker", "config.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"auths":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dockerConfig string
		oneShot            bool
		want               string
	}{
		{"a one-shot command reads that of the home directory", "", true, `{"auths":{}}`},
		{"and that of $DOCKER_CONFIG", filepath.Dir(path), true, `{"auths":{}}`},
		{"but no other, where that is set", dir, true, ""},
		{"the plugin reads none", "", false, ""},
		{"nor that of $DOCKER_CONFIG", filepath.Dir(path), false, ""},
	} {
		t.Setenv("DOCKER_CONFIG", c.dockerConfig)
		o := options{oneShot: c.oneShot}
		got, err := o.defaults()
		if err != nil || string(got) != c.want || (got == nil) != (c.want == "") {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func TestAConfigFileIsReadUpToABound(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.json")
	for size, refused := range map[int]bool{0: false, maxConfig: false, maxConfig + 1: true} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		data, err := readBounded(path)
		if (err != nil) != refused || err == nil && (data == nil || len(data) != size) {
			t.Errorf("%d bytes: got %d, %v", size, len(data), err)
		}
	}
}
