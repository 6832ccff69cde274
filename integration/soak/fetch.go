package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

const (
	// stall is the stall timeout of all fetchers.
	stall = 3 * time.Second
	// progressInterval is short, so that progress shows the attempts.
	progressInterval = 100 * time.Millisecond
	// prompt is how soon a fetch ends that is told to: it takes 100 ms, and
	// longer on a machine that has much else to do.
	prompt = 5 * time.Second
)

// do does an errand and checks what it left.
func (s *soak) do(ctx context.Context, e errand, dir string) {
	defer func() { _ = os.RemoveAll(dir) }() // a cancelled call may still write; the end removes all
	s.check(e, dir, s.fetch(ctx, e, dir))
	if e.Again && ctx.Err() == nil {
		e.Ending = undisturbed
		s.check(e, dir, s.fetch(ctx, e, dir))
	}
}

// check holds an outcome and its directory to what was promised.
func (s *soak) check(e errand, dir string, o outcome) {
	m := s.images[e.Image]
	if err := judge(e, o); err != nil {
		s.counts.violation("%+v took %v: %v", e, o.took, err)
	}
	size, err := inspect(dir, m.files, o.reason == "")
	if err != nil {
		s.counts.violation("%+v ended with %q after %v: %v", e, o.reason, o.took, err)
	}
	s.counts.fetched(e, o, size)
}

func (s *soak) fetch(ctx context.Context, e errand, dir string) outcome {
	begin := time.Now()
	var o outcome
	if e.process() {
		o = s.process(ctx, e, dir)
	} else {
		o = s.call(ctx, e, dir)
	}
	o.took = time.Since(begin)
	return o
}

// uri returns what is to be fetched.
func (s *soak) uri(e errand, kind scheme.Kind, identifier string) string {
	repository := direct
	if e.Redirected {
		repository = redirected
	}
	return fmt.Sprintf("%s://%s/%s?%s#http", kind, s.doors[e.Door].address, repository, identifier)
}

// process fetches in a process.
func (s *soak) process(ctx context.Context, e errand, dir string) outcome {
	arguments, stdin, err := s.arguments(e, dir)
	if err != nil {
		return outcome{reason: "set-up", text: err.Error()}
	}
	cmd := exec.CommandContext(ctx, s.config.Executable, arguments...)
	cmd.Env = []string{"HOME=" + s.dir}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return outcome{reason: "launch", text: err.Error()}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // the state tells
	}()
	if !s.watch(cmd.Process, e, done) {
		return outcome{reason: "stuck", text: stderr.String()}
	}
	return exited(cmd.ProcessState, e, stdout.String(), stderr.String())
}

// watch waits for the end of a process, which it brings about as the errand
// says. A process that is stuck ends with a dump of its goroutines.
func (s *soak) watch(process *os.Process, e errand, done <-chan struct{}) bool {
	limit := time.NewTimer(bound(s.images[e.Image].bytes))
	defer limit.Stop()
	var middle <-chan time.Time
	if e.Ending != undisturbed {
		middle = time.After(e.After)
	}
	sample := time.NewTicker(50 * time.Millisecond)
	defer sample.Stop()
	for {
		select {
		case <-done:
			return true
		case <-sample.C:
			if v, err := look(process.Pid); err == nil { // it may be gone
				s.counts.resident("process", v.peak)
			}
		case <-middle:
			signal := syscall.SIGTERM
			if e.Ending == killed {
				signal = syscall.SIGKILL
			}
			_ = process.Signal(signal) // it may be gone
			limit.Reset(prompt)
		case <-limit.C:
			_ = process.Signal(syscall.SIGQUIT)
			<-done
			return false
		}
	}
}

// arguments returns those of the command, and its stdin.
func (s *soak) arguments(e errand, dir string) (arguments []string, stdin []byte, err error) {
	arguments = []string{"fetch", "--stall-timeout=" + stall.String()}
	if e.Cached {
		arguments = append(arguments, "--cache-dir="+s.cacheDir)
	}
	config := tenant.DockerConfig(s.doors[e.Door].address)
	name := s.uri(e, scheme.Image, s.images[e.Image].tag)
	if e.Caller == command {
		path := filepath.Join(s.dir, fmt.Sprintf("config-%d.json", e.Door))
		return append(arguments, "--docker-config="+path, name, dir), nil, nil
	}
	reference, err := scheme.Parse(name)
	if err != nil {
		return nil, nil, err
	}
	uri := reference.URI()
	stdin, err = json.Marshal(map[string]any{
		"uri": map[string]any{
			"scheme": uri.Scheme, "host": uri.Host, "port": uri.Port, "path": uri.Path, "query": uri.Query, "fragment": uri.Fragment,
		},
		"directory": dir,
		"config":    map[string]any{"json": config},
		"options":   map[string]any{"progressInterval": fmt.Sprintf("%.1fs", progressInterval.Seconds())},
	})
	return append(arguments, "--request=-"), stdin, err
}

// exited says how a process ended.
func exited(state *os.ProcessState, e errand, stdout, stderr string) outcome {
	o := outcome{text: firstLine(stderr)}
	if e.Caller == request {
		o = conversation(stdout)
	}
	status, _ := state.Sys().(syscall.WaitStatus)
	switch code := state.ExitCode(); {
	case status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM):
		o.reason = string(killed)
		if status.Signal() == syscall.SIGTERM { // it had not come to catch it
			o.reason = string(cancelled)
		}
	case code == 130:
		o.reason = string(cancelled)
	case code == 6 && e.Caller == command:
		o.reason = unavailable
	case code != 0 && e.Caller == command, code != 0 && code != 6, code == 0 && o.reason != "", code == 6 && o.reason == "":
		o.reason, o.text = fmt.Sprintf("%s, %s", state, o.reason), o.text+stderr
	}
	return o
}

// conversation reads the lines of fetch --request.
func conversation(stdout string) outcome {
	var o outcome
	tries := attempts{}
	for line := range strings.Lines(stdout) {
		var event struct {
			Progress struct {
				Active []struct {
					Digest  digest.Digest
					Attempt int
				}
			}
			Error *struct {
				Message string
				Details []struct{ Reason string }
			}
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			continue // cut off by a kill
		}
		for _, blob := range event.Progress.Active {
			tries.note(blob.Digest, blob.Attempt)
		}
		if failed := event.Error; failed != nil {
			o.reason, o.text = "no reason", failed.Message
			for _, detail := range failed.Details {
				if detail.Reason != "" {
					o.reason = detail.Reason
				}
			}
		}
	}
	o.attempts = tries.further()
	return o
}

// attempts are the highest ones seen, by blob.
type attempts map[digest.Digest]int

func (a attempts) note(blob digest.Digest, attempt int) { a[blob] = max(a[blob], attempt) }

// further is how many there were beyond the first ones.
func (a attempts) further() int {
	total := 0
	for _, attempt := range a {
		total += max(0, attempt-1)
	}
	return total
}

// call fetches by the long-lived plugin.
func (s *soak) call(ctx context.Context, e errand, dir string) outcome {
	limit := bound(s.images[e.Image].bytes)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errStuckCall)
	defer cancel()
	calls, stop := context.WithCancel(ctx)
	defer stop()
	if e.Ending == cancelled {
		timer := time.AfterFunc(e.After, stop)
		defer timer.Stop()
	}
	var mu sync.Mutex
	tries := attempts{}
	observe := func(event fetcher.Event) {
		mu.Lock()
		defer mu.Unlock()
		if progress, ok := event.(fetcher.Progress); ok {
			for _, blob := range progress.Active {
				tries.note(blob.Digest, blob.Attempt)
			}
		}
	}
	err := s.calls(calls, e, dir, observe)
	mu.Lock()
	defer mu.Unlock()
	o := ended(err)
	o.attempts = tries.further()
	if errors.Is(context.Cause(ctx), errStuckCall) {
		o.reason, o.text = "stuck", s.peers[e.Cached].quit()
	}
	return o
}

var errStuckCall = errors.New("the call is stuck")

// calls makes the calls of an errand.
func (s *soak) calls(ctx context.Context, e errand, dir string, observe func(fetcher.Event)) error {
	client := s.peers[e.Cached].client
	fetch := func(ctx context.Context, kind scheme.Kind, identifier string) error {
		reference, err := scheme.Parse(s.uri(e, kind, identifier))
		if err != nil {
			return err
		}
		_, err = client.Fetch(ctx, fetcher.Request{
			URI: reference.URI(), Directory: dir, ProgressInterval: progressInterval, Observe: observe,
			Config: fetcher.DockerConfig{JSON: tenant.DockerConfig(s.doors[e.Door].address)},
		})
		return err
	}
	m := s.images[e.Image]
	if e.Caller != apart {
		return fetch(ctx, scheme.Image, m.tag)
	}
	if err := fetch(ctx, scheme.Manifest, m.tag); err != nil {
		return err
	}
	var group errgroup.Group // which cancels none for another's failure, as a provisioner does
	for _, blob := range m.blobs() {
		group.Go(func() error { return fetch(ctx, scheme.Blob, blob) })
	}
	return group.Wait()
}

// ended says how a call ended.
func ended(err error) outcome {
	if err == nil {
		return outcome{}
	}
	o := outcome{reason: "no reason", text: err.Error()}
	if e, ok := errors.AsType[*fetcher.Error](err); ok {
		o.reason = string(e.Reason)
	} else if errors.Is(err, context.Canceled) {
		o.reason = string(cancelled)
	}
	return o
}
