// Package fleet runs a Kraken fleet, the peer-to-peer registry of Uber, as real
// processes on loopback, in front of a plain registry:
//
//	upstream ◄── front ◄── origin, build-index ◄── agents ⇄ agents
//	                       tracker (redis)     ◄──┘
//
// An agent is a read-only registry for the fetchers of its machine. What it does
// not have it gets in pieces from the other agents and from the origin, which
// takes each blob from the upstream once.
//
// Kraken runs an nginx (Debian's nginx-light) for each component as root. Here
// those serve nothing: the components listen themselves.
package fleet

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // Kraken's names of peers
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Config says what fleet to start.
type Config struct {
	Binary   string // the executable made from ./kraken
	Dir      string // where the processes write; absolute, there already
	Upstream string // HOST:PORT of a registry that speaks plain HTTP
	Agents   int
	// OriginRate bounds what the origin gives to agents, in bytes a second, as a
	// network does that is no loopback. 0: it is not bounded.
	OriginRate int
}

// Fleet is a fleet that runs.
type Fleet struct {
	Agents []*Agent

	config Config
	ports  []int
	group  []*process // in the order of their start
}

// Agent is one agent of a fleet.
type Agent struct {
	Host string // 127.0.0.1:PORT of its registry

	events string // path of what it does, a JSON object a line
	origin string // the origin's name in there
	*process
}

// Start starts a fleet and waits until all of it answers. The caller closes it.
// It ends, too, when ctx or this process does.
func Start(ctx context.Context, config Config) (_ *Fleet, err error) {
	f := &Fleet{config: config}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.ports, err = freePorts(ctx, firstAgent+portsOfAgent*config.Agents); err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/var/log/nginx", 0o755); err != nil { // compiled into nginx
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(config.Dir, "no-site"), []byte("# no site\n"), 0o600); err != nil {
		return nil, err
	}
	if err := f.startCenter(ctx); err != nil {
		return nil, err
	}
	for i := range config.Agents {
		if err := f.startAgent(ctx, i); err != nil {
			return nil, err
		}
	}
	for i, agent := range f.Agents {
		health := fmt.Sprintf("http://127.0.0.1:%d/health", f.agentPort(i, agentHealth))
		if err := errors.Join(agent.answers(ctx, health), agent.answers(ctx, "http://"+agent.Host+"/v2/")); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Close ends every process of the fleet.
func (f *Fleet) Close() error {
	errs := make([]error, len(f.group))
	var group sync.WaitGroup
	for i, p := range f.group {
		group.Go(func() { errs[i] = p.stop() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// Kill ends an agent as a power failure does.
func (a *Agent) Kill() error { return a.kill() }

// Pieces returns how many pieces the agent got from the origin and from other
// agents so far.
func (a *Agent) Pieces() (fromOrigin, fromPeers int, err error) {
	file, err := os.Open(a.events)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var event struct{ Event, Peer string }
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Event != "receive_piece" {
			continue // the last line may not be complete
		}
		if event.Peer == a.origin {
			fromOrigin++
		} else {
			fromPeers++
		}
	}
	return fromOrigin, fromPeers, nil
}

// peerID is what Kraken calls the peer that listens at a port.
func peerID(port int) string {
	sum := sha1.Sum([]byte("127.0.0.1:" + strconv.Itoa(port))) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// run starts a component with its configuration.
func (f *Fleet) run(ctx context.Context, name string, args ...string) (*process, error) {
	p, err := startProcess(ctx, f.config.Binary, f.config.Dir, name, args...)
	if err != nil {
		return nil, err
	}
	f.group = append(f.group, p)
	return p, nil
}

// configure writes the configuration of a component, JSON being YAML too, and
// returns the path.
func (f *Fleet) configure(name string, own settings) (string, error) {
	data, err := json.MarshalIndent(f.common(name, own), "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(f.config.Dir, name+".yaml")
	if err := os.MkdirAll(filepath.Join(f.config.Dir, name), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, data, 0o600)
}
