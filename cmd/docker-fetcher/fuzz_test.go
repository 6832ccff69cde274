package main

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func FuzzAPlatformIsReadAsItIsPrinted(f *testing.F) {
	for _, text := range []string{"linux/amd64", "linux/arm/v7", "linux/aarch64", "windows", "linux/arm64/v8/more", "", "/", "*", "linux(1.2)/amd64", "amd64"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p, again platform
		if err := p.Set(text); err != nil {
			if p.Platform != nil {
				t.Errorf("%q is refused and is %v", text, p.Platform)
			}
			return
		}
		if path.Clean(text) != text {
			return // a part that is . or .., which containerd takes for a name, and drops as it prints
		}
		if err := again.Set(p.String()); err != nil || !platforms.Only(*p.Platform).Match(*again.Platform) {
			t.Errorf("%q prints as %s, which reads as %v, %v", text, p.String(), again.Platform, err)
		}
	})
}

// The URI of a task is one of the three kinds, or an error without its password.
func FuzzATaskIsOfAKindOrRefusedWithoutItsPassword(f *testing.F) {
	for _, uri := range []string{"docker://r.example/a?1", "docker-blob://r.example/a?sha256:" + strings.Repeat("a", 64), "hdfs://namenode/x", "alpine", "docker://", "docker://r/a", "s3://", "docker:///a?1"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		const canary = "s3cr3tCanary"
		kind, rest, _ := strings.Cut(uri, "://")
		for _, u := range []string{uri, kind + "://u:" + canary + "@" + rest} {
			ref, err := parseTask(u)
			switch {
			case err != nil && strings.Contains(err.Error(), canary):
				t.Errorf("%v", err)
			case err == nil && ref.Kind != scheme.Image && ref.Kind != scheme.Manifest && ref.Kind != scheme.Blob:
				t.Errorf("%q is a %q", u, ref.Kind)
			case err == nil && ref.Host() == "":
				t.Errorf("%q has no host", u)
			}
		}
	})
}

// What mesos-fetcher may say to hadoop, save a URI, is answered without a request:
// with help, a version or an error of usage.
func FuzzHadoopKnowsItsWordsAndRefusesOthers(f *testing.F) {
	for _, words := range []string{"version", "fs", "fs -help", "fs -du", "fs -copyToLocal a", "fs -copyToLocal a b c", "fs -copyToLocal a ", "fs -rm -r /", "--help fs", "fs -du -h", "--docker-config x"} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, words string) {
		if strings.Contains(words, "://") {
			return
		}
		var stdout, stderr bytes.Buffer
		cmd := newCommand(true)
		cmd.SetArgs(arguments(append([]string{"/opt/bin/hadoop"}, strings.Split(words, " ")...)))
		cmd.SetOut(&stdout)
		cmd.SetErr(&stderr)
		cmd.SetIn(new(bytes.Buffer))
		err := cmd.ExecuteContext(t.Context())
		if err == nil && stdout.Len() == 0 || err != nil && stdout.Len() != 0 {
			t.Errorf("%q: %v, and %d bytes", words, err, stdout.Len())
		}
	})
}

// Whatever is in the directory where a manifest was: an error, or a layout whose
// names stay in it, in a tar of the size that was told.
func FuzzALayoutHasOnlyItsOwnNames(f *testing.F) {
	sum := "sha256:" + strings.Repeat("a", 64)
	for _, text := range []string{
		`{"config":{"digest":"` + sum + `","size":1},"layers":[{"digest":"` + sum + `","size":1},{"digest":"sha512:` + strings.Repeat("b", 128) + `","size":0}]}`,
		`{"config":{"digest":"../../etc/passwd"},"layers":null}`, `{}`, `null`, `[`, `{"layers":[{"digest":"x"}]}`,
		`{"config":{"digest":"` + sum + `","size":-1}}`, `{"config":{"digest":"` + sum + `","size":9223372036854775807}}`,
	} {
		f.Add([]byte(text))
	}
	ref, err := scheme.ParseFamiliar("docker://r.example/team/app?1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		if err := dir.WriteFile("manifest", text, 0o600); err != nil {
			t.Fatal(err)
		}
		manifest := fetcher.Descriptor{MediaType: mediaTypeDockerManifest, Digest: digest.FromBytes(text), Size: int64(len(text))}
		image, err := fetched(dir, fetcher.Result{Manifest: manifest})
		if err != nil {
			return
		}
		entries, err := layout(ref, image)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range entries {
			blob, isBlob := strings.CutPrefix(e.name, "blobs/")
			if seen[e.name] || !filepath.IsLocal(e.name) || path.Clean(e.name) != e.name || isBlob && strings.Count(blob, "/") != 1 || !isBlob && strings.Contains(e.name, "/") {
				t.Errorf("%q", e.name)
			}
			seen[e.name] = true
		}
		if size, err := tarSize(entries); err == nil && size < tarTrailer {
			t.Errorf("%d bytes", size)
		}
	})
}
