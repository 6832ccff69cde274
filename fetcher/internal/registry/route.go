package registry

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
)

// Route is the hosts that may be asked for one repository, in the order in which
// they are asked: mirrors, and the registry's server last. Safe for concurrent
// use.
type Route struct {
	// Origin is the registry itself. Its name and its credential say whose
	// content it is and who reads it; it is asked only if it is among Hosts.
	Origin *Repository
	Hosts  []*Repository
	// File is the hosts.toml that made it; "": none, then Origin is the one host.
	File string
}

// Direct is the route to a registry that no file says anything about.
func Direct(origin *Repository) *Route { return &Route{Origin: origin, Hosts: []*Repository{origin}} }

// Manifest asks the hosts, one after the other, until one has a manifest that
// check accepts. A tag is asked of those that may resolve, a digest of those that
// may pull.
func (r *Route) Manifest(ctx context.Context, identifier string, check func(Manifest) error) error {
	tag := digest.Digest(identifier).Validate() != nil
	return r.try(ctx, tag, func(host *Repository) error {
		m, err := host.Manifest(ctx, identifier)
		if err == nil {
			err = check(m)
		}
		return err
	})
}

// Has asks the hosts, one after the other, for the size of a blob that this
// reader may have: Repository.Has.
func (r *Route) Has(ctx context.Context, d digest.Digest) (size int64, err error) {
	size = -1
	err = r.try(ctx, false, func(host *Repository) (err error) {
		size, err = host.Has(ctx, d)
		return err
	})
	return size, err
}

// try asks hosts until one serves. What all of them said is in the error.
func (r *Route) try(ctx context.Context, tag bool, ask func(*Repository) error) error {
	var failed Failed
	for _, host := range r.Able(tag) {
		err := ask(host)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if host.Told(err); err == nil {
			return nil
		}
		failed.Add(host, err)
	}
	return failed.Err(r.File)
}

// Able returns the hosts to ask for a tag, or for content by digest: those that
// may be asked and are not known to be down. Where that would be none, those
// that are down are asked all the same.
func (r *Route) Able(tag bool) []*Repository {
	var able, all []*Repository
	now := time.Now()
	for _, host := range r.Hosts {
		if c := host.configured; c != nil && !c.Pull && !tag || c != nil && !c.Resolve && tag {
			continue
		}
		all = append(all, host)
		if !host.mirror || host.client.health.admits(host.String(), now) {
			able = append(able, host)
		}
	}
	if len(able) == 0 {
		return all
	}
	return able
}

// String names the host by its URL.
func (r *Repository) String() string {
	if r.configured != nil {
		return r.configured.URL.String()
	}
	return r.registry.String()
}

// Scheme is http or https.
func (r *Repository) Scheme() string { return r.registry.Scheme }

// Mirror reports whether the host is a mirror, which is tried once.
func (r *Repository) Mirror() bool { return r.mirror }

// Told notes for later requests whether a mirror answered at all, and warns where
// the operator has something to mend.
func (r *Repository) Told(err error) {
	if !r.mirror {
		return
	}
	var answer *Error
	if errors.As(err, &answer) && answer.Status == 0 {
		if r.client.health.silent(r.String(), time.Now()) {
			r.warn("the mirror " + r.String() + " does not answer and is left alone for a while: " + err.Error())
		}
		return
	}
	r.client.health.answered(r.String())
	if Wrong(err) {
		r.warn("the mirror " + r.String() + " sent wrong bytes, of which nothing was kept: " + err.Error())
	}
}

// Wrong reports whether bytes came that are not those asked for.
func Wrong(err error) bool {
	return errors.Is(err, content.ErrDigest) || errors.Is(err, content.ErrSize) || errors.Is(err, content.ErrTooBig)
}

// Failed is what hosts said who did not serve, in the order in which they were asked.
type Failed struct {
	hosts []string
	errs  []error
}

// Add notes a host and its error.
func (f *Failed) Add(host *Repository, err error) {
	f.hosts, f.errs = append(f.hosts, host.String()), append(f.errs, err)
}

// Err is the error of the last host, which tells what to do, and after it those
// of the others. file is the hosts.toml that said whom to ask.
func (f *Failed) Err(file string) error {
	switch len(f.errs) {
	case 0:
		return &Error{
			Reason: "HOSTS_CLOSED", Message: "no host may be asked for it",
			Hint: "give one the capability in " + file,
		}
	case 1:
		return f.errs[0]
	}
	return f
}

// Error implements error.
func (f *Failed) Error() string {
	last := len(f.errs) - 1
	var before []string
	for i := range last {
		before = append(before, f.hosts[i]+" ("+f.errs[i].Error()+")")
	}
	return f.errs[last].Error() + "; asked before: " + strings.Join(before, ", ")
}

// Unwrap is the last host's error.
func (f *Failed) Unwrap() error { return f.errs[len(f.errs)-1] }
