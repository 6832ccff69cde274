package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	pb "github.com/docker-fetcher/docker-fetcher/protocol/dockerfetcher/v1"
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
	// DisableTLS turns off mutual TLS on the socket, which costs some 3 ms at
	// launch and adds to what the directory's permissions do.
	DisableTLS bool
	// Logger gets the plugin's log. Nil: dropped.
	Logger hclog.Logger
	// Reattach is the line that 'docker-fetcher serve --debug' prints: then that
	// process is called and none is launched, and it outlives Close. Nil: it is not.
	Reattach []byte
}

// Client is a plugin. When its process ends, the calls in flight fail with
// ErrPluginGone, and the next one launches another; where that ends soon as well,
// it waits, each time longer, 10 s at most. Safe for concurrent use.
type Client struct {
	config Config

	mu       sync.Mutex
	child    *child // nil: none is running
	born     time.Time
	failures int // processes in a row that ended soon
	relaunch *relaunch
	closed   bool
	ending   sync.WaitGroup // children on their way out
}

// relaunch is a launch that several calls wait for.
type relaunch struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when one of the following is set
	child  *child
	err    error
}

// Open launches the plugin and returns when it is ready for calls. Cancelling
// ctx stops the launch; afterwards only Close ends the plugin.
func Open(ctx context.Context, config Config) (*Client, error) {
	child, err := start(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Client{config: config, child: child, born: time.Now()}, nil
}

// running returns a process that can be called, and launches it if need be.
func (c *Client) running(ctx context.Context) (*child, error) {
	c.mu.Lock()
	child := c.child
	if child != nil && child.alive() {
		c.mu.Unlock()
		return child, nil
	}
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: it was closed", ErrPluginGone)
	}
	if child != nil {
		c.bury(child)
	}
	r := c.relaunch
	if r == nil {
		r = c.launch()
	}
	c.mu.Unlock()

	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPluginGone, r.err)
	}
	return r.child, nil
}

// launch begins to launch another process. The caller has c.mu.
func (c *Client) launch() *relaunch {
	ctx, cancel := context.WithCancel(context.Background())
	r := &relaunch{cancel: cancel, done: make(chan struct{})}
	c.relaunch = r
	pause := pause(c.failures)
	c.ending.Go(func() {
		defer cancel()
		defer close(r.done)
		var child *child
		err := sleep(ctx, pause)
		if err == nil {
			child, err = start(ctx, c.config)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.relaunch, r.child, r.err = nil, child, err
		if err != nil {
			c.failures++
			return
		}
		c.child, c.born = child, time.Now()
		if c.closed {
			c.bury(child)
		}
	})
	return r
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// longLife is how long a process lives that did not fail at once.
const longLife = 10 * time.Second

// bury takes leave of a process that can't be called any more: what goes on in
// it may end before it does. The caller has c.mu.
func (c *Client) bury(child *child) {
	if c.child != child {
		return
	}
	c.child = nil
	c.failures++
	if time.Since(c.born) > longLife {
		c.failures = 0
	}
	c.ending.Go(func() {
		child.expire()
		_ = child.close()
	})
}

// pause is how long to wait before another launch, after so many in a row that
// failed or whose process ended soon: not at all after one, then 100 ms, and
// twice as long each time, to 10 s.
func pause(failures int) time.Duration {
	const first, longest = 100 * time.Millisecond, 10 * time.Second
	if failures < 2 {
		return 0
	}
	return min(first<<min(failures-2, 10), longest)
}

// failed is the error of a call to child. A cancel that is not the caller's own
// is a connection that was closed. The call after one that was refused because
// the process shuts down is for another process.
func (c *Client) failed(ctx context.Context, child *child, err error) error {
	err = fromStatus(err)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %s", ErrPluginGone, err.Error())
	}
	var told *fetcher.Error
	if errors.Is(err, ErrPluginGone) || errors.As(err, &told) && told.Reason == fetcher.ShuttingDown {
		c.mu.Lock()
		c.bury(child)
		c.mu.Unlock()
	}
	return err
}

// Close ends the plugin, whatever state it is in, within some seconds, and
// removes its socket. Calls in flight end with ErrPluginGone, and so do later ones.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	child := c.child
	c.child = nil
	if c.relaunch != nil {
		c.relaunch.cancel()
	}
	c.mu.Unlock()
	var err error
	if child != nil {
		err = child.close()
	}
	c.ending.Wait()
	return err
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
	child, err := c.running(ctx)
	if err != nil {
		return Info{}, err
	}
	m, err := child.service.GetInfo(ctx, &pb.GetInfoRequest{})
	if err != nil {
		return Info{}, c.failed(ctx, child, err)
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
	child, err := c.running(ctx)
	if err != nil {
		return fetcher.Result{}, err
	}
	// Whatever ends this call early ends the plugin's work on it.
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := child.service.Fetch(calling, m)
	if err != nil {
		return fetcher.Result{}, c.failed(ctx, child, err)
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
			return fetcher.Result{}, c.failed(ctx, child, err)
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
	child, err := c.running(ctx)
	if err != nil {
		return fetcher.Resolution{}, err
	}
	m, err := child.service.Resolve(ctx, &pb.ResolveRequest{
		Uri: toURI(r.URI), Config: config, Platform: toPlatform(r.Platform),
	})
	if err != nil {
		return fetcher.Resolution{}, c.failed(ctx, child, err)
	}
	return fromResolution(m), nil
}
