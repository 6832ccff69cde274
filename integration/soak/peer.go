package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// peer is a long-lived plugin.
type peer struct {
	client *plugin.Client
	log    *record
	pid    int
	before vitals // when it had nothing to do, after all that it can have to do
}

// openPeer launches a plugin; cacheDir is empty for one without a cache.
func openPeer(ctx context.Context, executable, cacheDir string) (*peer, error) {
	arguments := []string{"--log-level=warn", "--stall-timeout=" + stall.String()}
	if cacheDir != "" {
		arguments = append(arguments, "--cache-dir="+cacheDir)
	}
	log := &record{}
	client, err := plugin.Open(ctx, plugin.Config{
		Path: executable, Args: arguments,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: log}),
	})
	if err != nil {
		return nil, err
	}
	info, err := client.Info(ctx)
	return &peer{client: client, log: log, pid: info.PID}, err
}

// quit ends the plugin with a dump of its goroutines, and returns its log.
func (p *peer) quit() string {
	_ = syscall.Kill(p.pid, syscall.SIGQUIT)
	deadline := time.Now().Add(prompt)
	for time.Now().Before(deadline) {
		if _, err := look(p.pid); err != nil {
			break
		}
		_ = wait(context.Background(), 10*time.Millisecond)
	}
	_ = p.client.Close() // which waits for all that the process wrote
	return p.log.String()
}

// rest waits until the plugin has as many files open as it is allowed to, and
// the number stays; it returns the vitals then, or at the end of its patience:
// a connection to a proxy that was left behind ends when it was idle for long.
func (p *peer) rest(ctx context.Context, allowed int) (vitals, error) {
	const tick, quiet, limit = 50 * time.Millisecond, 5, 2 * time.Minute
	deadline := time.Now().Add(limit)
	var last vitals
	for same := 0; ; same++ {
		now, err := look(p.pid)
		if err != nil {
			return now, err
		}
		if now.files != last.files || now.files > allowed {
			same = 0
		}
		last = now
		if same == quiet || time.Now().After(deadline) {
			return now, nil
		}
		if err := wait(ctx, tick); err != nil {
			return now, err
		}
	}
}

// Of memory, what the garbage collector has not yet given back is no leak. Of
// goroutines, some come and go.
const (
	spareFiles      = 2
	spareGoroutines = 8
	spareMemory     = 24 << 20
)

// leaks says what the plugin has more of than before; it ends the plugin.
// reference is how many goroutines one has that has nothing to do.
func (p *peer) leaks(ctx context.Context, reference int) (text string, found []string) {
	info, err := p.client.Info(ctx)
	if err != nil || info.PID != p.pid {
		return "", []string{fmt.Sprintf("the plugin is process %d and was %d: %v", info.PID, p.pid, err)}
	}
	after, err := p.rest(ctx, p.before.files)
	if err != nil {
		return "", []string{err.Error()}
	}
	if log := p.log.String(); strings.Contains(log, "panic") {
		found = append(found, "the plugin's log has a panic: "+log)
	}
	dump := p.quit()
	count := goroutines(dump)
	if after.files > p.before.files+spareFiles {
		found = append(found, fmt.Sprintf("the plugin has %d files open, and had %d", after.files, p.before.files))
	}
	if after.rss > p.before.rss+spareMemory {
		found = append(found, fmt.Sprintf("the plugin's RSS is %d KiB, and was %d", after.rss>>10, p.before.rss>>10))
	}
	if count == 0 || count > reference+spareGoroutines {
		found = append(found, fmt.Sprintf("the plugin has %d goroutines; one that did nothing wrong has %d: %s", count, reference, dump))
	}
	text = fmt.Sprintf("%d files open (%d before), %d goroutines (%d), RSS %.1f MiB (%.1f, at most %.1f)",
		after.files, p.before.files, count, reference,
		float64(after.rss)/(1<<20), float64(p.before.rss)/(1<<20), float64(after.peak)/(1<<20))
	return text, found
}
