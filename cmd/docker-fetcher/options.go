package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// maxConfig is the size of a docker config that the fetcher takes.
const maxConfig = 1 << 20

// options are the flags of all commands.
type options struct {
	dockerConfig  string // of the call
	defaultConfig string // of the process
	platform      platform
	blobs         count
	chunks        count // 0: not said
	cacheDir      string
	hostsDir      string
	stall         duration
	output        choice
	progress      choice
	logLevel      choice
	orphan        choice
	metrics       metricsAddress
	oneShot       bool     // a person's call, which looks where docker keeps its config
	files         []string // docker configs that were read
	missing       string   // the config of $DOCKER_CONFIG, if it is not there
}

// callFlags are those of one-shot commands that speak to a registry.
func (o *options) callFlags(flags *pflag.FlagSet) {
	o.oneShot = true
	flags.StringVar(&o.dockerConfig, "docker-config", "",
		"docker config.json (or legacy .dockercfg) `FILE` with the credentials of this call")
	o.outputFlag(flags)
}

func (o *options) outputFlag(flags *pflag.FlagSet) {
	o.output = choice{"text", []string{"text", "json"}}
	flags.VarP(&o.output, "output", "o", "result on stdout: text or json")
}

// registryFlags are those of every command that speaks to a registry.
func (o *options) registryFlags(flags *pflag.FlagSet) {
	otherwise := ""
	if o.oneShot {
		otherwise = " (default: docker's own)"
	}
	flags.StringVar(&o.defaultConfig, "default-docker-config", "",
		"docker config.json `FILE` for registries that the call's config does not know"+otherwise)
	flags.StringVar(&o.hostsDir, "hosts-dir", "",
		"`DIR` with mirrors and certificates of registries, in containerd's form: DIR/HOST/hosts.toml")
	flags.Var(&o.platform, "platform", "`OS/ARCH[/VARIANT]` to choose from an index (default: this machine's)")
}

// transferFlags are those of the commands that fetch.
func (o *options) transferFlags(flags *pflag.FlagSet) {
	o.blobs, o.stall = fetcher.DefaultMaxConcurrentBlobs, duration(fetcher.DefaultStallTimeout)
	o.logLevel = choice{"info", []string{"trace", "debug", "info", "warn", "error"}}
	flags.Var(&o.blobs, "max-concurrent-blobs", "blobs of one image that are transferred at once, at most")
	flags.Var(&o.chunks, "chunks-per-blob", "parts of one blob that are transferred at once (default: as many as make it faster)")
	flags.StringVar(&o.cacheDir, "cache-dir", "", "`DIR` of a cache that all fetchers of this machine may share (default: no cache)")
	flags.Var(&o.stall, "stall-timeout", "the longest time without a byte of a blob, such as 60s or 1mins; then it is continued, five times")
	flags.Var(&o.logLevel, "log-level", "what to log on stderr: trace, debug, info, warn or error")
}

// serveFlags are those of the plugin.
func (o *options) serveFlags(flags *pflag.FlagSet) {
	o.registryFlags(flags)
	o.transferFlags(flags)
	o.orphan = choice{"exit", []string{"exit", "stay"}}
	flags.Var(&o.orphan, "orphan", "what to do when the host is gone: exit, or stay for a host that attaches again")
	flags.Var(&o.metrics, "metrics", "`ADDRESS` to serve Prometheus metrics at: unix:/path/to.sock or 127.0.0.1:9464 (default: none)")
}

func (o *options) progressFlag(flags *pflag.FlagSet) {
	o.progress = choice{"auto", []string{"auto", "plain", "json", "none"}}
	flags.Var(&o.progress, "progress", "progress on stderr: plain, json, none or auto (bars on a terminal, else a line each 10 s)")
}

// open returns the fetcher that the flags describe and the config of the call.
func (o *options) open() (*fetcher.Fetcher, fetcher.DockerConfig, error) {
	var none fetcher.DockerConfig
	config := fetcher.Config{
		Platform: o.platform.Platform, MaxConcurrentBlobs: int(o.blobs), StallTimeout: time.Duration(o.stall),
		ChunksPerBlob: int(o.chunks), CacheDir: o.cacheDir, HostsDir: o.hostsDir,
		UserAgent: "docker-fetcher/" + version,
	}
	var err error
	if config.DefaultDockerConfig, err = o.defaults(); err != nil {
		return nil, none, err
	}
	f, err := fetcher.New(config)
	if err != nil {
		return nil, none, o.located(err)
	}
	call, err := o.read("--docker-config", o.dockerConfig)
	return f, fetcher.DockerConfig{JSON: call}, err
}

// openOnce is open for a one-shot command. docker says nothing of a directory in
// $DOCKER_CONFIG that has no config; here it is a warning, as it may be mistyped.
func (o *options) openOnce(observe func(fetcher.Event)) (*fetcher.Fetcher, fetcher.DockerConfig, error) {
	f, config, err := o.open()
	if o.missing != "" && o.dockerConfig == "" {
		observe(fetcher.Warning{Text: "no " + o.missing + " (DOCKER_CONFIG); going on without credentials"})
	}
	return f, config, err
}

// defaults reads the default config: the flag's file or, for a one-shot
// command, the one that docker uses, if there is one.
func (o *options) defaults() ([]byte, error) {
	if o.defaultConfig != "" || !o.oneShot {
		return o.read("--default-docker-config", o.defaultConfig)
	}
	dir := os.Getenv("DOCKER_CONFIG")
	named := dir != ""
	if !named {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil //nolint:nilerr // without a home there is no config in it
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	data, err := o.read("docker's own config", path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if named {
		o.missing = path
	}
	return nil, nil
}

// read returns a docker config; nil for no path.
func (o *options) read(what, path string) ([]byte, error) {
	path = strings.TrimPrefix(path, "file://") // the original takes a file URL as well
	switch {
	case path == "":
		return nil, nil
	case strings.ContainsAny(path, `{["`): // the original takes a config; it must not be shown
		return nil, usageError{errors.New(what + " wants a file, not the config itself: " +
			"all users of this machine can read a command line")}
	}
	data, err := readBounded(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", what, err)}
	}
	o.files = append(o.files, path)
	return data, nil
}

// configTimeout is how long a config may take that comes through a pipe.
const configTimeout = 10 * time.Second

// readBounded reads a file, or what a shell's <(...) writes; a FIFO that nobody
// writes to does not hold it up.
func readBounded(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(configTimeout)) // plain files have none and need none
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s is larger than %d bytes, too large for a docker config", path, maxConfig)
	}
	return data, err
}

// located adds to an error about a docker config the files that it may be in.
func (o *options) located(err error) error {
	var e *fetcher.Error
	if errors.As(err, &e) && e.Reason == fetcher.ConfigInvalid && len(o.files) > 0 {
		return fmt.Errorf("%w (in %s)", err, strings.Join(o.files, " or "))
	}
	return err
}

// print writes a command's one result to stdout.
func (o *options) print(cmd *cobra.Command, text string, marshal func() ([]byte, error)) error {
	line := []byte(text)
	if o.output.value == "json" {
		var err error
		if line, err = marshal(); err != nil {
			return err
		}
	}
	_, err := cmd.OutOrStdout().Write(append(line, '\n'))
	return err
}

// newLogger writes JSON lines, as go-plugin's hosts expect them.
func newLogger(w io.Writer, level string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "docker-fetcher", Level: hclog.LevelFromString(level), JSONFormat: true, Output: w,
	})
}
