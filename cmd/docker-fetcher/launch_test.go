//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// BenchmarkLaunchToFirstCall takes the time from the launch of the executable
// by a host to its first answer. Reach: 25 ms with AutoMTLS, 8 ms without.
func BenchmarkLaunchToFirstCall(b *testing.B) {
	for name, withoutTLS := range map[string]bool{"AutoMTLS": false, "NoTLS": true} {
		b.Run(name, func(b *testing.B) {
			config := plugin.Config{Path: executable(b), DisableTLS: withoutTLS}
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				c, err := plugin.Open(b.Context(), config)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Info(b.Context()); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
				b.StopTimer()
				_ = c.Close()
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "ms/launch-median")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkStart takes the CPU time of a command that does nothing, which each
// one-shot command takes as well. Reach: 8 ms.
func BenchmarkStart(b *testing.B) {
	path := executable(b)
	var took []time.Duration
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), path, "version")
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		took = append(took, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "CPU-ms/start-median")
}

// BenchmarkPeakMemory has the plugin fetch a blob of 1 GiB and reads how large
// it ever was: the kernel's VmHWM, since the rusage of a child counts its
// parent's memory of before the exec. Reach: 64 MiB. Also the size of the
// executable; reach: 30 MB.
func BenchmarkPeakMemory(b *testing.B) {
	const size = 1 << 30
	r := fetchertest.New(b, fetchertest.Config{})
	blob := r.PutGeneratedBlob("app", 1, size)
	ref, err := scheme.NewBlob("app", blob, "127.0.0.1", "http", port(b, r))
	if err != nil {
		b.Fatal(err)
	}
	file, err := os.Stat(executable(b))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	peak := 0
	for b.Loop() {
		c, err := plugin.Open(b.Context(), plugin.Config{Path: executable(b)})
		if err != nil {
			b.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "docker-fetcher-benchmark")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Fetch(b.Context(), fetcher.Request{URI: ref.URI(), Directory: dir}); err != nil {
			b.Fatal(err)
		}
		peak = max(peak, status(b, c, "VmHWM:"))
		_ = c.Close()
		_ = os.RemoveAll(dir)
	}
	b.ReportMetric(float64(peak)/1024, "MiB-peak")
	b.ReportMetric(float64(file.Size())/1e6, "MB-executable")
}

func port(b *testing.B, r *fetchertest.Registry) (port int) {
	b.Helper()
	if _, err := fmt.Sscanf(r.Host(), "127.0.0.1:%d", &port); err != nil {
		b.Fatal(err)
	}
	return port
}

// status returns a number of the plugin's /proc status; sizes are in KiB.
func status(b *testing.B, c *plugin.Client, name string) (n int) {
	b.Helper()
	info, err := c.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	all, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", info.PID))
	if err != nil {
		b.Fatal(err)
	}
	_, line, _ := strings.Cut(string(all), "\n"+name)
	if _, err := fmt.Sscanf(line, "%d", &n); err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkWarmBlobCall takes the time of one docker-blob call for a blob that the
// plugin's cache has: what an agent's second task costs for each layer. Reach:
// 2 ms.
func BenchmarkWarmBlobCall(b *testing.B) {
	r := fetchertest.New(b, fetchertest.Config{})
	image := r.PutImage("app", "latest", fetchertest.Image{OCI: true, Layers: [][]byte{fetchertest.RandomLayer(1, 10<<20)}})
	c := openPlugin(b, "--cache-dir", b.TempDir())
	fetch := func(kind scheme.Kind, identifier, dir string) {
		if _, err := c.Fetch(b.Context(), fetcher.Request{URI: imageURI(b, r, kind, identifier), Directory: dir}); err != nil {
			b.Fatal(err)
		}
	}
	fetch(scheme.Image, "latest", b.TempDir())
	dirs := b.TempDir()
	var took []time.Duration
	for b.Loop() {
		dir := filepath.Join(dirs, strconv.Itoa(len(took)))
		begin := time.Now()
		fetch(scheme.Blob, image.LayerDigests[0], dir)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "ms/call-median")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLongLife has one plugin fetch 1,000 images, 16 at once, and reads its
// resident memory, file descriptors and threads afterwards. Reach: 40 MiB.
func BenchmarkLongLife(b *testing.B) {
	const images, atOnce = 1000, 16
	r := fetchertest.New(b, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	for i := range images {
		r.PutImage("app", strconv.Itoa(i), fetchertest.Image{OCI: true, Layers: [][]byte{
			fetchertest.RandomLayer(uint64(i), 100_000), fetchertest.RandomLayer(uint64(i+images), 1000),
		}})
	}
	for b.Loop() {
		c := openPlugin(b)
		dirs := b.TempDir()
		before := countFiles(b, c)
		group, ctx := errgroup.WithContext(b.Context())
		group.SetLimit(atOnce)
		for i := range images {
			group.Go(func() error {
				tag := strconv.Itoa(i)
				_, err := c.Fetch(ctx, fetcher.Request{URI: imageURI(b, r, scheme.Image, tag), Directory: filepath.Join(dirs, tag)})
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(status(b, c, "VmRSS:"))/1024, "MiB-RSS")
		b.ReportMetric(float64(status(b, c, "VmHWM:"))/1024, "MiB-peak")
		b.ReportMetric(float64(countFiles(b, c)-before), "more-fds")
		b.ReportMetric(float64(status(b, c, "Threads:")), "threads")
		_ = c.Close()
	}
}

func openPlugin(b *testing.B, flags ...string) *plugin.Client {
	b.Helper()
	c, err := plugin.Open(b.Context(), plugin.Config{Path: executable(b), Args: append([]string{"serve"}, flags...)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func imageURI(b *testing.B, r *fetchertest.Registry, kind scheme.Kind, identifier string) scheme.URI {
	b.Helper()
	ref, err := scheme.Parse(string(kind) + "://" + r.Host() + "/app?" + identifier + "#http")
	if err != nil {
		b.Fatal(err)
	}
	return ref.URI()
}

// countFiles counts the plugin's file descriptors.
func countFiles(b *testing.B, c *plugin.Client) int {
	b.Helper()
	info, err := c.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", info.PID))
	if err != nil {
		b.Fatal(err)
	}
	return len(files)
}
