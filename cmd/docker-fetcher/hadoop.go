package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// arguments are those of a command line: installed as hadoop, the executable is
// that command.
func arguments(line []string) []string {
	if len(line) > 0 && filepath.Base(line[0]) == "hadoop" {
		return append([]string{"hadoop"}, line[1:]...)
	}
	return line[min(1, len(line)):]
}

func hadoopCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "hadoop version | hadoop fs -copyToLocal URI DEST | hadoop fs -du URI",
		Short: "Be the hadoop client that a Mesos agent calls for task URIs",
		Long: `Answer as the hadoop client does that a Mesos agent calls for task URIs. So a
stock agent can fetch docker URIs: as $HADOOP_HOME/bin/hadoop, docker-fetcher
takes what follows "hadoop" here.

  version                     print a version
  fs -copyToLocal URI DEST    put a blob (docker-blob), a manifest (docker-manifest)
                              or an image as the tar of an OCI image layout (docker)
                              into the file DEST, which must not be there yet
  fs -du URI                  print the size of that file in bytes, and URI

It takes no flags. Those of 'docker-fetcher fetch' may come from the environment,
as DOCKER_FETCHER_PLATFORM. The credential is in $DOCKER_CONFIG/config.json or
~/.docker/config.json.`,
		Example: `  ln -s /usr/libexec/docker-fetcher /opt/docker-fetcher/bin/hadoop
  docker-fetcher hadoop fs -copyToLocal 'docker://registry.example.com/team/app?1.2' app.tar
  docker-fetcher hadoop fs -du 'docker-manifest://registry.example.com/team/app?1.2'`,
		DisableFlagsInUseLine: true,
		DisableFlagParsing:    true, // pflag would take -du for -d and -u
		RunE:                  func(cmd *cobra.Command, args []string) error { return hadoop(cmd, o, args) },
	}
	o.callFlags(cmd.Flags())
	o.registryFlags(cmd.Flags())
	o.transferFlags(cmd.Flags())
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	return cmd
}

// hadoop does what the C++ original's HDFS class calls for (Apache Mesos,
// src/hdfs/hdfs.cpp) and no more.
func hadoop(cmd *cobra.Command, o options, args []string) error {
	switch strings.Join(args[:min(2, len(args))], " ") {
	case "", "-h", "-help", "--help", "fs -h", "fs -help", "fs --help":
		return cmd.Help()
	case "version":
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "Hadoop 0.0.0 (no Hadoop: docker-fetcher takes its place)\ndocker-fetcher %s\n", version)
		return err
	case "fs -copyToLocal":
		if err := exactly("URI", "DEST")(cmd, args[2:]); err != nil {
			return err
		}
		if args[3] == "" {
			return misuse(cmd, errors.New("DEST is empty; give the path of the file to make"))
		}
		return copyToLocal(cmd, o, args[2], args[3])
	case "fs -du":
		if err := exactly("URI")(cmd, args[2:]); err != nil {
			return err
		}
		return du(cmd, o, args[2])
	}
	return misuse(cmd, errors.New("docker-fetcher takes hadoop's place for version, fs -copyToLocal and fs -du only"))
}

// parseTask reads the URI of a task. It is not shown where it may hold a password.
func parseTask(uri string) (scheme.Reference, error) {
	if !strings.Contains(uri, "://") {
		return scheme.Reference{}, usageError{errors.New("the first argument is no URI; give docker://, docker-manifest:// or docker-blob://")}
	}
	ref, err := scheme.ParseFamiliar(uri)
	var part *scheme.Error
	if errors.As(err, &part) && part.Part == scheme.PartScheme {
		err = fmt.Errorf("%w; docker-fetcher is here in hadoop's place and knows no other", err)
	}
	if err != nil {
		return scheme.Reference{}, usageError{err}
	}
	return ref, nil
}

// openTask is open for a call of mesos-fetcher. That runs as the task's user in
// the agent's environment, so HOME is another user's, whose config is not for
// this one.
func openTask(o *options, observe func(fetcher.Event)) (*fetcher.Fetcher, fetcher.DockerConfig, error) {
	f, config, err := o.openOnce(observe)
	if !errors.Is(err, fs.ErrPermission) || os.Getenv("DOCKER_CONFIG") != "" {
		return f, config, err
	}
	o.oneShot = false
	if f, config, err = o.open(); err == nil {
		observe(fetcher.Warning{Text: "this user may not read ~/.docker/config.json; set DOCKER_CONFIG if a credential is needed"})
	}
	return f, config, err
}

// copyToLocal puts what uri names into the file dest, which must not be there.
func copyToLocal(cmd *cobra.Command, o options, uri, dest string) (err error) {
	ref, err := parseTask(uri)
	if err != nil {
		return err
	}
	if ref.Kind == scheme.Blob {
		o.cacheDir = "" // its file would be the cache's own, by a hard link, and a task may change what is in its sandbox
	}
	observe := newObserver("none", o.logLevel.value, cmd.ErrOrStderr())
	f, config, err := openTask(&o, observe)
	if err != nil {
		return err
	}
	if err := vacant(dest); err != nil {
		return err
	}
	p, err := newPartial(filepath.Dir(dest))
	if err != nil {
		return refused(dest, err)
	}
	defer func() { err = cmp.Or(err, p.close()) }()
	file, err := fetchFile(cmd.Context(), f, ref, p, fetcher.Request{URI: ref.URI(), Config: config, Observe: observe})
	if err != nil {
		return o.located(err)
	}
	if err := p.place(file, filepath.Base(dest), p.sandbox.Link); err != nil {
		return refused(dest, err)
	}
	return nil
}

// fetchFile fetches what a request names, and returns the name of its one file.
func fetchFile(ctx context.Context, f *fetcher.Fetcher, ref scheme.Reference, p *partial, req fetcher.Request) (string, error) {
	if ref.Kind == scheme.Image {
		return fetchTar(ctx, f, ref, p, req)
	}
	result, err := p.fetch(ctx, f, req)
	if err != nil {
		return "", err
	}
	return result.Files[0].Path, nil
}

// fetchTar fetches an image and makes the tar of it. What can be no tar is
// refused as soon as its manifest is known.
func fetchTar(ctx context.Context, f *fetcher.Fetcher, ref scheme.Reference, p *partial, req fetcher.Request) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	observe := req.Observe
	req.Observe = func(e fetcher.Event) {
		if started, ok := e.(fetcher.Started); ok {
			if err := checkLayout(started.Manifest); err != nil {
				cancel(err)
			}
		}
		observe(e)
	}
	result, err := p.fetch(ctx, f, req)
	if err = cmp.Or(context.Cause(ctx), err); err != nil {
		return "", err
	}
	image, err := fetched(p.dir, result)
	if err != nil {
		return "", err
	}
	entries, err := layout(ref, image)
	if err != nil {
		return "", err
	}
	const name = "image.tar"
	file, err := p.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	err = writeTar(ctx, file, entries, p.dir, result.Files)
	return name, cmp.Or(err, file.Close())
}

// vacant says in hadoop's words that something is in the way. mesos-fetcher
// takes dest for the file even where it is a directory, so nothing goes into one.
func vacant(dest string) error {
	_, err := os.Lstat(dest)
	switch {
	case err == nil:
		return refused(dest, fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return refused(dest, err)
}

// refused is an error about dest, whatever file beside it the system named.
func refused(dest string, err error) error {
	var number syscall.Errno
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("copyToLocal: `%s': File exists", dest)
	case errors.As(err, &number):
		err = number
	}
	return fmt.Errorf("copyToLocal: `%s': %w", dest, err)
}

// du prints how large the file will be that copyToLocal makes.
func du(cmd *cobra.Command, o options, uri string) error {
	ref, err := parseTask(uri)
	if err != nil {
		return err
	}
	size, err := taskSize(cmd, o, ref)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d %s\n", size, uri)
	return err
}

func taskSize(cmd *cobra.Command, o options, ref scheme.Reference) (int64, error) {
	observe := newObserver("none", o.logLevel.value, cmd.ErrOrStderr())
	f, config, err := openTask(&o, observe)
	if err != nil {
		return 0, err
	}
	request := fetcher.ResolveRequest{URI: ref.URI(), Config: config, Observe: observe}
	if ref.Kind == scheme.Blob {
		size, err := f.BlobSize(cmd.Context(), request)
		if err == nil && size < 0 {
			return fetchedSize(cmd.Context(), f, request)
		}
		return size, o.located(err)
	}
	image, err := f.Resolve(cmd.Context(), request)
	switch {
	case err != nil:
		return 0, o.located(err)
	case ref.Kind == scheme.Manifest:
		return image.Manifest.Size, nil
	}
	entries, err := layout(ref, image)
	if err != nil {
		return 0, err
	}
	return tarSize(entries)
}

// fetchedSize fetches a blob to learn how large it is, where nothing else tells.
func fetchedSize(ctx context.Context, f *fetcher.Fetcher, r fetcher.ResolveRequest) (size int64, err error) {
	dir, err := os.MkdirTemp("", "docker-fetcher-")
	if err != nil {
		return 0, err
	}
	defer func() { err = cmp.Or(err, os.RemoveAll(dir)) }()
	result, err := f.Fetch(ctx, fetcher.Request{URI: r.URI, Directory: dir, Config: r.Config, Observe: r.Observe})
	if err != nil {
		return 0, err
	}
	return result.Files[0].Descriptor.Size, nil
}
