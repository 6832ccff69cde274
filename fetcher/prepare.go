package fetcher

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/manifest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// prepare validates the request, finds the credential and opens the directory.
func (f *Fetcher) prepare(ctx context.Context, req Request, watch *watch) (*job, error) {
	ref, err := scheme.FromURI(req.URI)
	if err != nil {
		return nil, err
	}
	j := &job{ref: ref, output: req.OutputFileName, skip: req.SkipDigests, watch: watch, grants: &f.grants, flights: &f.flights, hosts: &f.hosts, room: f.room}
	if err := j.options(f.config, req); err != nil {
		return nil, err
	}
	if j.route, err = f.route(ctx, ref, req.Config, watch); err != nil {
		return nil, err
	}
	if req.Directory == "" {
		return nil, invalid(DirectoryInvalid, "the directory is not specified")
	}
	if j.dir, err = content.Open(req.Directory); err != nil {
		return nil, err
	}
	if j.documents, err = f.documents(j.route); err != nil {
		_ = j.dir.Close()
		return nil, err
	}
	j.cache, j.reader = j.documents.cache, j.route.Identity()
	if ref.Kind == scheme.Image && j.documents.new() {
		for _, host := range j.route.Hosts {
			host.Ahead = min(aheadConnections, j.room.streams()) // there will be blobs to fetch
		}
	}
	return j, nil
}

// maxRequestID keeps an error's metadata within the header limits of gRPC.
const maxRequestID = 128

// options takes the request's options, or the fetcher's where it names none.
func (j *job) options(c Config, req Request) error {
	j.parallel, j.chunks, j.stall, j.platform = c.MaxConcurrentBlobs, c.ChunksPerBlob, c.StallTimeout, *c.Platform
	switch {
	case req.MaxParallel < 0, req.StallTimeout < 0, req.ProgressInterval < 0:
		return invalid(OptionInvalid, "parallelism, stall timeout and progress interval must not be negative")
	case len(req.RequestID) > maxRequestID:
		return invalid(OptionInvalid, fmt.Sprintf("the request ID is longer than %d bytes", maxRequestID))
	case req.OutputFileName != "" && j.ref.Kind == scheme.Image:
		return invalid(OutputNameInvalid, "an output file name is for single files (docker-manifest, docker-blob), not for a whole image")
	case req.OutputFileName == indexName && j.ref.Kind == scheme.Manifest:
		return invalid(OutputNameInvalid, `the output file name "index" is that of the image index; choose another`)
	}
	if req.OutputFileName != "" {
		if err := content.CheckName(req.OutputFileName); err != nil {
			return invalid(OutputNameInvalid, "output file name: "+err.Error())
		}
	}
	for _, d := range req.SkipDigests {
		if !manifest.Verifiable(d) {
			return invalid(DigestInvalid, fmt.Sprintf("digest to skip %.100q is neither sha256: with 64 nor sha512: with 128 lower-case hex digits", d.String()))
		}
	}
	if req.MaxParallel > 0 {
		j.parallel = req.MaxParallel
	}
	if req.StallTimeout > 0 {
		j.stall = req.StallTimeout
	}
	j.parallel = j.room.share(j.parallel)
	var err error
	j.platform, err = platform(req.Platform, c.Platform)
	return err
}

// platform returns the asked platform, normalised, or the default.
func platform(asked, otherwise *Platform) (Platform, error) {
	if asked == nil {
		return *otherwise, nil
	}
	if asked.OS == "" || asked.Architecture == "" {
		return Platform{}, invalid(OptionInvalid, "a platform needs an operating system and an architecture, such as linux/arm64")
	}
	return platforms.Normalize(*asked), nil
}

// set decodes the config; nil where there is none.
func (c DockerConfig) set() (*credential.Set, error) {
	sources := 0
	for _, b := range [][]byte{c.JSON, c.MesosSecret, c.MesosSecretJSON} {
		if b != nil {
			sources++
		}
	}
	var config []byte
	var err error
	switch {
	case sources == 0:
		return nil, nil
	case sources > 1:
		return nil, invalid(ConfigInvalid, "the docker config is given in more than one form; give one")
	case c.MesosSecret != nil:
		config, err = credential.DecodeSecret(c.MesosSecret)
	case c.MesosSecretJSON != nil:
		config, err = credential.DecodeSecretJSON(c.MesosSecretJSON)
	default:
		config = c.JSON
	}
	if err != nil {
		return nil, err
	}
	return credential.Parse(config)
}
