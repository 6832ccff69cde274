package plugin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
)

const (
	startTimeout = 10 * time.Second
	// maxSocketPath is what fits in sockaddr_un, less go-plugin's own file name.
	maxSocketPath = 107 - len("/plugin1234567890")
)

// Config says how a host launches the plugin.
type Config struct {
	// Path is the executable; Args follow it.
	Path string
	Args []string
	// Checksum is the executable's SHA-256, checked before it is launched. Nil: not checked.
	Checksum []byte
	// Dir is where a directory for the socket is made, readable by this user
	// only. Better under /run than under /tmp, where cleaners roam. Empty: os.TempDir().
	Dir string
	// Env is the plugin's environment. Nil: PATH, TMPDIR, the proxy variables,
	// SSL_CERT_FILE, SSL_CERT_DIR and DOCKER_FETCHER_* of this process, and
	// nothing else: a host's environment may hold secrets.
	Env []string
	// DisableTLS turns off mutual TLS on the socket, which costs some 20 ms at
	// launch and adds to what the directory's permissions do.
	DisableTLS bool
	// Logger gets the plugin's log. Nil: dropped.
	Logger hclog.Logger
}

// Client is a running plugin. Safe for concurrent use.
type Client struct {
	process *goplugin.Client
	service pb.FetcherServiceClient
	dir     string
	kill    context.CancelFunc // ends the process at once
}

// Open launches the plugin and returns when it is ready for calls. Cancelling
// ctx stops the launch; afterwards only Close ends the plugin.
func Open(ctx context.Context, config Config) (*Client, error) {
	dir, err := socketDir(config.Dir)
	if err != nil {
		return nil, err
	}
	// The process outlives ctx: it has a context of its own.
	life, kill := context.WithCancel(context.Background())
	launch, err := config.launch(life, dir)
	if err != nil {
		kill()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	words := &lastWords{}
	launch.Stderr = words
	c := &Client{process: goplugin.NewClient(launch), dir: dir, kill: kill}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		err = c.dispense()
	}()
	select {
	case <-ready:
		if err != nil {
			c.process.Kill() // which waits for all that the process wrote
			err = words.reason(err)
		}
	case <-ctx.Done():
		kill() // go-plugin's own Kill waits for the launch to time out
		<-ready
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plugin %s: %w", config.Path, err), c.Close())
	}
	return c, nil
}

func (c *Client) dispense() error {
	protocol, err := c.process.Client()
	if err != nil {
		return err
	}
	service, err := protocol.Dispense(Name)
	if err != nil {
		return err
	}
	c.service = service.(pb.FetcherServiceClient)
	return nil
}

// socketDir makes the directory that holds the socket.
func socketDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "docker-fetcher-")
	if err == nil {
		dir, err = filepath.Abs(dir)
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

// launch returns go-plugin's view of the config.
func (config Config) launch(life context.Context, dir string) (*goplugin.ClientConfig, error) {
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
	launch := &goplugin.ClientConfig{
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
		cmd.Env, launch.TLSConfig = append(cmd.Env, environment), tls
	}
	if config.Checksum != nil {
		launch.SecureConfig = &goplugin.SecureConfig{Checksum: config.Checksum, Hash: sha256.New()}
	}
	return launch, nil
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

// Info is what a plugin says of itself.
type Info struct {
	Name, Version, Commit string
	Schemes               []string
	ProtocolVersion       int
	PID                   int
}

// Info asks the plugin what it is.
func (c *Client) Info(ctx context.Context) (Info, error) {
	m, err := c.service.GetInfo(ctx, &pb.GetInfoRequest{})
	if err != nil {
		return Info{}, fromStatus(err)
	}
	return Info{
		Name: m.GetName(), Version: m.GetVersion(), Commit: m.GetCommit(), Schemes: m.GetSchemes(),
		ProtocolVersion: int(m.GetProtocolVersion()), PID: int(m.GetPid()),
	}, nil
}

// Fetch is fetcher.Fetcher.Fetch, in the plugin. A relative directory is taken
// from this process' working directory. A plugin that died is ErrPluginGone.
func (c *Client) Fetch(ctx context.Context, r fetcher.Request) (fetcher.Result, error) {
	m, err := absolute(r)
	if err != nil {
		return fetcher.Result{}, err
	}
	// Whatever ends this call early ends the plugin's work on it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.service.Fetch(ctx, m)
	if err != nil {
		return fetcher.Result{}, fromStatus(err)
	}
	var result *pb.FetchResult
	for {
		event, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && result == nil:
			return fetcher.Result{}, errors.New("plugin: the call ended without a result")
		case errors.Is(err, io.EOF):
			return fromResult(result), nil
		case err != nil:
			return fetcher.Result{}, fromStatus(err)
		}
		if event.GetResult() != nil {
			result = event.GetResult()
		} else if e := fromEvent(event); e != nil && r.Observe != nil {
			r.Observe(e)
		}
	}
}

// absolute turns a request into its message.
func absolute(r fetcher.Request) (*pb.FetchRequest, error) {
	if r.Directory != "" {
		dir, err := filepath.Abs(r.Directory)
		if err != nil {
			return nil, &fetcher.Error{Reason: fetcher.DirectoryInvalid, Phase: fetcher.Prepare, Text: err.Error()}
		}
		r.Directory = dir
	}
	return toRequest(r)
}

// Resolve is fetcher.Fetcher.Resolve, in the plugin.
func (c *Client) Resolve(ctx context.Context, r fetcher.ResolveRequest) (fetcher.Resolution, error) {
	config, err := toConfig(r.Config)
	if err != nil {
		return fetcher.Resolution{}, err
	}
	m, err := c.service.Resolve(ctx, &pb.ResolveRequest{
		Uri: toURI(r.URI), Config: config, Platform: toPlatform(r.Platform),
	})
	if err != nil {
		return fetcher.Resolution{}, fromStatus(err)
	}
	return fromResolution(m), nil
}

// Close ends the plugin and removes its socket. Calls in flight end with ErrPluginGone.
func (c *Client) Close() error {
	c.process.Kill()
	c.kill()
	return os.RemoveAll(c.dir)
}
