package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a component that runs, the leader of a process group which its
// nginx shares: Kraken does not end the nginx it started.
type process struct {
	name  string
	log   string // path of what it says
	cmd   *exec.Cmd
	stdin io.Closer     // closed: the group ends
	done  chan struct{} // closed: the leader has ended
}

// startProcess starts a component, which ends with ctx. What it writes goes to
// DIR/NAME.log.
func startProcess(ctx context.Context, binary, dir, name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.CommandContext(ctx, binary, args...)
	p.cmd.Cancel = func() error { return p.signal(syscall.SIGTERM) }
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its log
	}()
	return p, nil
}

// signal sends a signal to the process and all of its group.
func (p *process) signal(s syscall.Signal) error {
	err := syscall.Kill(-p.cmd.Process.Pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// kill ends the group at once.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.done
	return err
}

// grace is how long a component has to end by itself.
const grace = 3 * time.Second

// stop ends the group: asked to first, so that nginx removes its file, then
// killed, which does nothing to a group that is gone.
func (p *process) stop() error {
	err := p.signal(syscall.SIGTERM)
	_ = p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(grace):
	}
	return errors.Join(err, p.kill())
}

// answers waits until url answers 200.
func (p *process) answers(ctx context.Context, url string) error {
	return p.await(ctx, func() bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
}

// accepts waits until address takes connections.
func (p *process) accepts(ctx context.Context, address string) error {
	return p.await(ctx, func() bool {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		return err == nil && connection.Close() == nil
	})
}

// startTimeout is how long a component may take to come up.
const startTimeout = 20 * time.Second

// await waits until up says so, the process has ended, or ctx has.
func (p *process) await(ctx context.Context, up func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !up() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come up: %w\n%s", p.name, ctx.Err(), p.lastWords())
		case <-p.done:
			return fmt.Errorf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, p.lastWords())
		case <-ticker.C:
		}
	}
	return nil
}

// lastWords returns the end of the log.
func (p *process) lastWords() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// freePorts returns n ports that nobody listens on. They are below those that
// the kernel gives to outgoing connections (32768), which could take one of
// them before its component does.
func freePorts(ctx context.Context, n int) ([]int, error) {
	const first, last = 15000, 32000
	var ports []int
	for port := first + os.Getpid()%1000*10; len(ports) < n && port < last; port++ {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // all are held until all are found
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("only %d of %d free ports below %d", len(ports), n, last)
	}
	return ports, nil
}
