package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

const (
	startTimeout = 10 * time.Second
	// endTimeout is how long a process has for a clean end: go-plugin waits for the
	// answer to its goodbye without end, and a stopped process gives none.
	endTimeout = 3 * time.Second
	// maxSocketPath is what fits in sockaddr_un, less go-plugin's own file name.
	maxSocketPath = 107 - len("/plugin1234567890")
)

// child is one plugin process and the connection to it.
type child struct {
	conn    *grpc.ClientConn
	service pb.FetcherServiceClient
	process *goplugin.Client   // nil: somebody else launched it
	dir     string             // of the socket
	kill    context.CancelFunc // ends the process at once
}

// start launches the process and returns when it is ready for calls. ctx is of
// the launch, not of the process.
func start(ctx context.Context, config Config) (*child, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %v", startTimeout))
	defer cancel()
	if config.Reattach != nil {
		return attach(ctx, config.Reattach)
	}
	dir, err := socketDir(config.Dir)
	if err != nil {
		return nil, err
	}
	life, kill := context.WithCancel(context.Background())
	client, err := config.client(life, dir)
	if err != nil {
		kill()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	words := &lastWords{}
	client.Stderr = words
	c := &child{process: goplugin.NewClient(client), dir: dir, kill: kill}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		err = c.dispense(ctx)
	}()
	select {
	case <-ready:
	case <-ctx.Done():
		kill() // go-plugin itself would wait for longer
		<-ready
		err = context.Cause(ctx)
	}
	if err == nil {
		return c, nil
	}
	closed := c.close() // which waits for all that the process wrote
	if ctx.Err() == nil {
		err = words.reason(err)
	}
	return nil, errors.Join(fmt.Errorf("plugin %s: %w", config.Path, err), closed)
}

func (c *child) dispense(ctx context.Context) error {
	protocol, err := c.process.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(Name)
	if err != nil {
		return err
	}
	c.conn = raw.(*grpc.ClientConn)
	return c.connect(ctx)
}

// attach connects to a process that serves with Debug.
func attach(ctx context.Context, how []byte) (*child, error) {
	var r reattach
	if err := json.Unmarshal(how, &r); err != nil {
		return nil, fmt.Errorf("reattach: %w; want the line that 'docker-fetcher serve --debug' prints", err)
	}
	if r.Protocol != goplugin.ProtocolGRPC || r.ProtocolVersion != ProtocolVersion || r.Addr.Network != "unix" {
		return nil, fmt.Errorf("reattach: %s version %d on %q is not this plugin's protocol, %s version %d on a unix socket",
			r.Protocol, r.ProtocolVersion, r.Addr.Network, goplugin.ProtocolGRPC, ProtocolVersion)
	}
	conn, err := grpc.NewClient("unix:"+r.Addr.String, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("reattach: %w", err)
	}
	c := &child{conn: conn, kill: func() {}}
	if err := c.connect(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("reattach to process %d: %w", r.Pid, err), c.close())
	}
	return c, nil
}

// connect waits for the connection. From then on it is there while the process
// is: go-plugin's own streams keep it from going idle. One that was attached to
// may go idle, after half an hour, and is attached to again.
func (c *child) connect(ctx context.Context) error {
	c.service = pb.NewFetcherServiceClient(c.conn)
	for state := c.conn.GetState(); state != connectivity.Ready; state = c.conn.GetState() {
		if state == connectivity.TransientFailure {
			return errors.New("nobody answers on its socket")
		}
		c.conn.Connect()
		if !c.conn.WaitForStateChange(ctx, state) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// alive reports whether the connection to the process is there.
func (c *child) alive() bool { return c.conn.GetState() == connectivity.Ready }

// expire waits until the connection is gone, for endTimeout at most.
func (c *child) expire() {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	c.conn.WaitForStateChange(ctx, connectivity.Ready)
}

// close ends the process, whatever state it is in, and removes its socket.
func (c *child) close() error {
	defer c.kill()
	if c.process == nil {
		return c.conn.Close()
	}
	timer := time.AfterFunc(endTimeout, c.kill)
	defer timer.Stop()
	c.process.Kill()
	return os.RemoveAll(c.dir)
}

// socketDir makes the directory that holds the socket.
func socketDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "docker-fetcher-")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("plugin socket: %w; make the directory first, or name another in Dir", err)
	}
	if err != nil {
		return "", fmt.Errorf("plugin socket: %w", err)
	}
	if len(dir) > maxSocketPath {
		_ = os.Remove(dir)
		return "", fmt.Errorf("plugin socket: the path of %s is too long for a unix socket; choose a shorter Dir", dir)
	}
	return dir, nil
}

// client returns go-plugin's view of the config.
func (config Config) client(life context.Context, dir string) (*goplugin.ClientConfig, error) {
	cmd := exec.CommandContext(life, config.Path, config.Args...)
	cmd.Env = slices.Clone(config.Env)
	if config.Env == nil {
		cmd.Env = safeEnvironment(os.Environ())
	}
	// With a plain Cmd, go-plugin leaves it to the host to say where the socket goes.
	cmd.Env = append(cmd.Env, "PLUGIN_UNIX_SOCKET_DIR="+dir)
	logger := config.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	client := &goplugin.ClientConfig{
		HandshakeConfig: Handshake, VersionedPlugins: set(nil),
		Cmd: cmd, SkipHostEnv: true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     startTimeout, Logger: logger,
		SyncStdout: io.Discard, SyncStderr: io.Discard,
	}
	if !config.DisableTLS {
		environment, tls, err := mutualTLS()
		if err != nil {
			return nil, fmt.Errorf("plugin certificate: %w", err)
		}
		cmd.Env, client.TLSConfig = append(cmd.Env, environment), tls
	}
	if config.Checksum != nil {
		client.SecureConfig = &goplugin.SecureConfig{Checksum: config.Checksum, Hash: sha256.New()}
	}
	return client, nil
}

// safeEnvironment picks what the plugin needs from the host's environment.
func safeEnvironment(environ []string) []string {
	var picked []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		switch strings.ToUpper(name) {
		case "PATH", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR":
			picked = append(picked, pair)
		default:
			if strings.HasPrefix(name, "DOCKER_FETCHER_") && name != Handshake.MagicCookieKey {
				picked = append(picked, pair)
			}
		}
	}
	return picked
}
