package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// newCommand returns the whole command tree. hosted says that a host launched
// this process: then it serves, unless it is given a command.
func newCommand(hosted bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "docker-fetcher",
		Short: "Fetches container images: a plugin for container agents, and a command",
		Long: `docker-fetcher puts an image's manifest and blobs into a directory, verified.

A container agent launches it and calls it through go-plugin; then it takes no
command. By hand it takes one of those below. Each flag may come from the
environment as well: --stall-timeout as DOCKER_FETCHER_STALL_TIMEOUT. Mesos'
names --docker_config and --docker_stall_timeout are understood.

Exit codes: 0 done, 1 other failure, 2 usage, URI or config, 3 not found,
4 unauthorized or denied, 5 wrong digest or size, 6 unavailable, 130 interrupted.`,
		Example: `  docker-fetcher fetch alpine:3.20 ./alpine
  docker-fetcher fetch 'docker://registry.example.com/team/app?1.2' /tmp/app --docker-config ./config.json
  docker-fetcher resolve ghcr.io/owner/image:tag`,
		Args:          noCommand,
		Version:       version,
		SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			err := fromEnvironment(cmd.Flags())
			warnMisspelt(cmd, hosted, cmd.ErrOrStderr())
			return err
		},
	}
	root.SetVersionTemplate("docker-fetcher {{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	root.SetFlagErrorFunc(misuse)
	var o options
	if hosted {
		o.serveFlags(root.Flags())
		root.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), o, nil) }
	} else {
		root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	root.SetHelpFunc(help)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(fetchCommand(), resolveCommand(), explainCommand(), cacheCommand(), serveCommand(hosted), hadoopCommand(),
		completionCommand(), versionCommand())
	walk(root, func(cmd *cobra.Command) {
		cmd.Flags().SetNormalizeFunc(originalNames)
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		completeFlags(cmd)
	})
	return root
}

// exactly wants one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return misuse(cmd, fmt.Errorf("missing %s: %s", strings.Join(names[len(args):], " and "), cmd.UseLine()))
		case len(args) > len(names):
			return misuse(cmd, fmt.Errorf("too many arguments (%d): %s", len(args), cmd.UseLine()))
		}
		return nil
	}
}

func fetchCommand() *cobra.Command {
	var o options
	var request string
	cmd := &cobra.Command{
		Use:   "fetch [flags] URI DIR",
		Short: "Fetch an image, a manifest or a blob into a directory",
		Long: `Fetch what URI names into DIR, which is made if missing: the manifest as
"manifest" (the index it was chosen from as "index"), each blob under its digest.
Every file is verified before it gets its name; what is there already is kept.

URI is SCHEME://HOST[:PORT]/REPOSITORY?REFERENCE[#http|https], with the scheme
docker, docker-manifest or docker-blob and a tag or digest as the reference; or
a name as docker knows it: alpine, ghcr.io/owner/image:tag, NAME@DIGEST. What
follows a scheme is such a name too if it has no "?": docker://alpine:3.20.

The credential comes from --docker-config; else from --default-docker-config or,
without that flag, from $DOCKER_CONFIG/config.json or ~/.docker/config.json.

The last line on stdout is the digest of the manifest, or of the docker-blob.

--request is for programs: the request is a dockerfetcher.v1.FetchRequest in its
JSON form, which has the URI, the directory and the config in it. stdout then has
a line of JSON for each event, and {"result":...} or {"error":...} as the last.
Credentials are those of the request and of --default-docker-config alone.`,
		Example: `  docker-fetcher fetch alpine:3.20 ./alpine
  docker-fetcher fetch 'docker-manifest://registry-1.docker.io/library/alpine?latest' ./alpine
  docker-fetcher fetch --platform linux/arm64 ghcr.io/owner/image:tag /srv/image
  docker-fetcher fetch --request - <request.json`,
		ValidArgsFunction: uriThenDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("request") {
				return answer(cmd, o, request, args)
			}
			if err := exactly("URI", "DIR")(cmd, args); err != nil {
				return err
			}
			return fetch(cmd, o, args[0], args[1])
		},
	}
	cmd.Flags().StringVar(&request, "request", "", "`FILE` with the request of a program, - for stdin; takes the place of URI and DIR")
	o.callFlags(cmd.Flags())
	o.registryFlags(cmd.Flags())
	o.transferFlags(cmd.Flags())
	o.progressFlag(cmd.Flags())
	return cmd
}

func fetch(cmd *cobra.Command, o options, name, dir string) error {
	ref, err := parse(name)
	if err != nil {
		return err
	}
	show := newDisplay(o.progress.value, o.logLevel.value, ref.Name(), cmd.ErrOrStderr())
	f, config, err := o.openOnce(show.observe)
	if err != nil {
		return err
	}
	result, err := f.Fetch(cmd.Context(), fetcher.Request{
		URI: ref.URI(), Directory: dir, Config: config, Observe: show.observe, ProgressInterval: show.interval,
	})
	show.end()
	if err != nil {
		return o.located(err)
	}
	text := result.Manifest.Digest
	if ref.Kind == scheme.Blob {
		text = ref.Digest
	}
	return o.print(cmd, text.String(), func() ([]byte, error) { return plugin.ResultJSON(result) })
}

func resolveCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "resolve [flags] URI",
		Short: "Print the digest that a reference stands for",
		Long: `Print the digest of the manifest or index that URI names now. With -o json also
the platform's manifest, its config and its layers with their sizes, and what
platforms an index offers. Nothing is written to disk. URI is as for 'docker-fetcher fetch', but no docker-blob.`,
		Example: `  docker-fetcher resolve alpine:latest
  docker-fetcher resolve -o json --platform linux/arm64 alpine:latest`,
		Args: exactly("URI"),
		RunE: func(cmd *cobra.Command, args []string) error { return resolve(cmd, o, args[0]) },
	}
	o.callFlags(cmd.Flags())
	o.registryFlags(cmd.Flags())
	return cmd
}

func resolve(cmd *cobra.Command, o options, name string) error {
	ref, err := parse(name)
	if err != nil {
		return err
	}
	observe := newObserver("none", "warn", cmd.ErrOrStderr())
	f, config, err := o.openOnce(observe)
	if err != nil {
		return err
	}
	r, err := f.Resolve(cmd.Context(), fetcher.ResolveRequest{URI: ref.URI(), Config: config, Observe: observe})
	if err != nil {
		return o.located(err)
	}
	named := r.Manifest
	if r.Index != nil {
		named = *r.Index
	}
	return o.print(cmd, named.Digest.String(), func() ([]byte, error) { return resolutionJSON(r) })
}

// offer is a manifest of an index, for one platform.
type offer struct {
	Platform  string `json:"platform"` // OS/ARCH[/VARIANT]
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size,string"` // as protojson has it
}

// resolutionJSON is the message and, of an index, what it offers.
func resolutionJSON(r fetcher.Resolution) ([]byte, error) {
	message, err := plugin.ResolutionJSON(r)
	if err != nil || r.Index == nil {
		return message, err
	}
	offers := []offer{}
	for _, d := range r.Platforms {
		offers = append(offers, offer{platforms.Format(*d.Platform), d.MediaType, d.Digest.String(), d.Size})
	}
	list, err := json.Marshal(offers)
	return fmt.Appendf(nil, `%s,"platforms":%s}`, message[:len(message)-1], list), err
}

// parse reads a URI or a familiar name from the command line.
func parse(name string) (scheme.Reference, error) {
	switch {
	case name == "":
		return scheme.Reference{}, usageError{errors.New("the URI is empty; give a URI or a name such as alpine:3.20")}
	case strings.HasPrefix(name, "/"), strings.HasPrefix(name, "./"), strings.HasPrefix(name, "../"), name == ".":
		return scheme.Reference{}, usageError{fmt.Errorf("%.100q is a path, not a URI; the order is URI DIR", name)}
	}
	ref, err := scheme.ParseFamiliar(name)
	if err != nil {
		return scheme.Reference{}, usageError{err}
	}
	return ref, nil
}

func serveCommand(hosted bool) *cobra.Command {
	var o options
	var debug bool
	cmd := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve the host that launched this process, as it does without a command",
		Long: `Serve the host that launched this process as a go-plugin. A host need not say
serve: launched by one, docker-fetcher serves without a command.

With --debug it serves without a host, under a debugger for instance, until it is
interrupted. It prints one line of JSON on stdout, which a host of go-plugin takes
as its reattach config.`,
		Example: `  docker-fetcher serve --default-docker-config /etc/agent/config.json --log-level debug
  docker-fetcher serve --debug`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case debug:
				return serve(cmd.Context(), o, reattachTo(cmd.OutOrStdout()))
			case !hosted:
				return usageError{errors.New("serve is for a host that launches docker-fetcher as a go-plugin (it sets " +
					plugin.Handshake.MagicCookieKey + "); by hand use 'docker-fetcher fetch', or 'serve --debug'")}
			}
			return serve(cmd.Context(), o, nil)
		},
	}
	o.serveFlags(cmd.Flags())
	cmd.Flags().BoolVar(&debug, "debug", false, "serve without a host, and print how one attaches")
	return cmd
}

func versionCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version",
		Example: `  docker-fetcher version
  docker-fetcher version -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.print(cmd, "docker-fetcher "+version, func() ([]byte, error) {
				return json.Marshal(map[string]any{
					"version": version, "commit": commit, "protocolVersion": plugin.ProtocolVersion,
					"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			})
		},
	}
	o.outputFlag(cmd.Flags())
	return cmd
}
