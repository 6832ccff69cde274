//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// BenchmarkLaunchToFirstCall takes the time from the launch of the executable
// by a host to its first answer. Reach: 30 ms with AutoMTLS, 10 ms without.
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
		peak = max(peak, highWater(b, c))
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

// highWater returns the plugin's peak resident memory in KiB.
func highWater(b *testing.B, c *plugin.Client) (kib int) {
	b.Helper()
	info, err := c.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", info.PID))
	if err != nil {
		b.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(line, "%d kB", &kib); err != nil {
		b.Fatal(err)
	}
	return kib
}
