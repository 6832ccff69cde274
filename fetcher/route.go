package fetcher

import (
	"context"
	"fmt"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/credential"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

// route finds who may be asked for ref, and with which credentials. Those of the
// registry go to no mirror unless the operator says so.
func (f *Fetcher) route(ctx context.Context, ref scheme.Reference, config DockerConfig, watch *watch) (*registry.Route, error) {
	secret, err := config.set()
	if err != nil {
		return nil, err
	}
	match, err := f.lookup(ctx, ref.Host(), ref.Repository, secret, watch)
	if err != nil {
		return nil, err
	}
	origin := f.client.Repository(ctx, ref, match, watch.warn)
	if f.hostsDir == nil {
		return registry.Direct(origin), nil
	}
	hosts, err := f.hostsDir.Of(ref.Authority(), origin.Scheme())
	if err != nil {
		return nil, err
	}
	for _, text := range hosts.Warnings {
		watch.warn(text)
	}
	if hosts.File == "" {
		return registry.Direct(origin), nil
	}
	r := &registry.Route{Origin: origin, File: hosts.File}
	for i, h := range hosts.All {
		theirs := match
		if h.Mirror && !h.Credentials {
			if theirs, err = f.lookup(ctx, h.URL.Host, ref.Repository, secret, watch); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				watch.warn(fmt.Sprintf("the mirror %s is asked without a credential: %v", h.URL, err))
				theirs = credential.Match{}
			}
		}
		host := f.client.RepositoryAt(h, i == len(hosts.All)-1, ref, theirs, watch.warn)
		host.File = hosts.File
		r.Hosts = append(r.Hosts, host)
	}
	return r, nil
}

// lookup finds what the call's config, else the default one, has for a host.
// Only the default one is the operator's and may name helpers.
func (f *Fetcher) lookup(ctx context.Context, host, repository string, secret *credential.Set, watch *watch) (credential.Match, error) {
	match, warnings, err := credential.Lookup(ctx, host, repository,
		credential.Source{Set: secret}, credential.Source{Set: f.defaults, Helpers: &f.helpers})
	for _, text := range warnings {
		watch.warn(text)
	}
	if err == nil {
		watch.chose(host, match)
	}
	return match, err
}

// lane is one host that blobs may come from, and this fetch's share of it.
type lane struct {
	repository *registry.Repository
	streams    *transfer.Group
}

// lanes are those to hosts that blobs may come from.
func (j *job) lanes(hosts []*registry.Repository) []lane {
	var all []lane
	for _, host := range hosts {
		share := j.hosts.host(host.String(), j.room.streams())
		share.RoundTrip(host.RoundTrip())
		all = append(all, lane{host, share.Group(transfer.DefaultStreams)})
	}
	return all
}
