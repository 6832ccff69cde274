package registry

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/content"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/transfer"
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

// Identity names who reads what: in 64 hexadecimal digits the registry, the
// repository, and the credential at each host, since a mirror may give to one
// what the registry gives to another. See Repository.Identity.
func (r *Route) Identity() string {
	if r.File == "" {
		return r.Origin.identity
	}
	parts := []string{r.Origin.identity}
	for _, host := range r.Hosts {
		parts = append(parts, host.String(), host.identity)
	}
	identity := sum(parts...)
	return hex.EncodeToString(identity[:])
}

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
		if said, ok := host.Admitted(ctx); !ok {
			failed.Skip(host, said)
			continue
		}
		err := ask(host)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if host.Told(err, false); err == nil {
			return nil
		}
		failed.Add(host, err)
	}
	return failed.Err(r.File)
}

// Able returns the hosts to ask for a tag, or for content by digest. Nothing is
// repeated at a mirror that another host comes after.
func (r *Route) Able(tag bool) []*Repository {
	var able []*Repository
	for _, host := range r.Hosts {
		if c := host.configured; c == nil || c.Pull && !tag || c.Resolve && tag {
			one := *host
			able = append(able, &one)
		}
	}
	for i, host := range able {
		host.once = host.Mirror() && i < len(able)-1
	}
	return able
}

// Admitted reports whether a host is to be asked: the last one always, a mirror
// unless it is down. Of one that was down, one caller finds out first. said is
// why it is not.
func (r *Repository) Admitted(ctx context.Context) (said string, ok bool) {
	defer func() {
		if !ok {
			r.skipped(ctx, said)
		}
	}()
	if r.place != nil {
		return r.place.admitted()
	}
	if !r.once {
		return "", true
	}
	standing, said := r.client.health.standing(r.configured, time.Now())
	if standing != unknown {
		return said, standing == fine
	}
	err := r.ping(ctx)
	switch {
	case ctx.Err() != nil:
		return said, false
	case err != nil:
		r.client.health.silent(r.configured, err.Error(), time.Now(), false, true)
		return err.Error(), false
	}
	r.client.health.try(r.configured, time.Now().Add(r.patience()))
	return "", true
}

// ping takes any answer to GET /v2/ for a sign of life.
func (r *Repository) ping(ctx context.Context) error {
	patience := max(probeTime, r.configured.DialTimeout)
	limited, cancel := context.WithTimeoutCause(ctx, patience, lateError(patience))
	defer cancel()
	req := (&http.Request{Method: http.MethodGet, URL: r.at(""), Header: r.fields(nil)}).WithContext(limited)
	resp, err := r.roundTrip(req, false)
	if err != nil {
		return r.failure(ctx, req.Method, req.URL, cmp.Or(context.Cause(limited), err))
	}
	discard(resp)
	return nil
}

// Down reports whether a mirror went down since it was admitted.
func (r *Repository) Down() (said string, down bool) {
	if !r.once || r.place != nil {
		return "", false
	}
	return r.client.health.down(r.configured)
}

// String names the host by its URL.
func (r *Repository) String() string {
	if r.place != nil {
		return r.place.url.Scheme + "://" + r.place.url.Host
	}
	if r.configured != nil {
		return r.configured.URL.String()
	}
	return r.registry.String()
}

// Scheme is http or https.
func (r *Repository) Scheme() string { return r.registry.Scheme }

// Mirror reports whether the host is another than the registry's own.
func (r *Repository) Mirror() bool { return r.configured != nil && r.configured.Mirror }

// Once reports whether nothing is repeated at this host, as another comes after it.
func (r *Repository) Once() bool { return r.once }

// Told notes for later requests whether a mirror answered at all, for a blob or for
// something else, and warns where the operator has something to mend. One that
// broke off says neither.
func (r *Repository) Told(err error, blob bool) {
	if !r.Mirror() {
		return
	}
	var e *Error
	var broken *transfer.Error
	switch {
	case errors.As(err, &e) && e.Unanswered:
		r.Silent(err, blob)
	case errors.As(err, &broken):
	case err == nil, e != nil && e.Status != 0:
		r.client.health.answered(r.configured, blob, time.Now())
	case Wrong(err):
		r.warn("the mirror " + r.String() + " sent wrong bytes, of which nothing was kept: " + err.Error())
	}
}

// Silent notes that a mirror does not answer.
func (r *Repository) Silent(err error, blob bool) {
	if r.client.health.silent(r.configured, err.Error(), time.Now(), blob, false) && r.once {
		r.warn("the mirror " + r.String() + " does not answer and is left alone for a while: " + err.Error())
	}
}

// Wrong reports whether bytes came that are not those asked for.
func Wrong(err error) bool {
	return errors.Is(err, content.ErrDigest) || errors.Is(err, content.ErrSize) || errors.Is(err, content.ErrTooBig)
}

// Failed is what hosts said who did not serve, in the order in which they were asked.
type Failed struct {
	hosts   []string
	errs    []error
	skipped []string
	foreign []string // URLs of a foreign layer, and what came of them
}

// Add notes a host and its error.
func (f *Failed) Add(host *Repository, err error) {
	if host.place != nil {
		f.addPlace(host.place, saidElsewhere(err))
		if errors.Is(err, transfer.ErrStalled) {
			host.place.spent.Add(int64(foreignBudget)) // it took a minute or more
		}
		return
	}
	f.hosts, f.errs = append(f.hosts, host.String()), append(f.errs, err)
}

// Skip notes a host that was not asked, and what it said before.
func (f *Failed) Skip(host *Repository, said string) {
	if host.place != nil {
		f.addPlace(host.place, said)
		return
	}
	f.skipped = append(f.skipped, host.String()+" ("+said+")")
}

// Err is the error of the last host, which tells what to do, and after it those
// of the others. file is the hosts.toml that said whom to ask.
func (f *Failed) Err(file string) error {
	switch {
	case len(f.errs) == 0:
		return &Error{
			Reason: "HOSTS_CLOSED", Message: "no host may be asked for it",
			Hint: "give one the capability in " + file,
		}
	case len(f.errs) == 1 && len(f.skipped) == 0 && len(f.foreign) == 0:
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
	text := f.errs[last].Error()
	if len(before) > 0 {
		text += "; asked before: " + strings.Join(before, ", ")
	}
	if len(f.skipped) > 0 {
		text += "; left alone, as they did not answer: " + strings.Join(f.skipped, ", ")
	}
	if len(f.foreign) > 0 {
		text += "; nor do the URLs serve that the manifest names: " + strings.Join(f.foreign, ", ")
	}
	return text
}

// Unwrap is the last host's error.
func (f *Failed) Unwrap() error { return f.errs[len(f.errs)-1] }
