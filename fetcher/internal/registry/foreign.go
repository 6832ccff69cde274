package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// maxForeign is how many of the URLs are asked that one descriptor names.
	maxForeign = 16
	// foreignWait is how long a foreign URL may take for its answer, where another
	// comes after it; foreignBudget how long those together that serve nothing.
	foreignWait   = 5 * time.Second
	foreignBudget = 8 * time.Second
)

// place is a URL of a foreign layer.
type place struct {
	url   *url.URL
	spent *atomic.Int64 // nanoseconds that it and its neighbours took without serving
}

// Foreign returns the places where a descriptor says that its blob is too
// (image-spec, descriptor.md, "urls"), to be asked in this order where no host
// of the route has it. They are other people's: nothing is sent there that a
// redirect would not take along, and they lead to no internal address unless the
// registry may redirect to such by hosts.toml. failed is told of those that can't be asked.
func (r *Route) Foreign(urls []string, failed *Failed) []*Repository {
	var places []*Repository
	spent := new(atomic.Int64)
	for i, text := range urls {
		if i == maxForeign {
			failed.foreign = append(failed.foreign, fmt.Sprintf("the other %d were not asked", len(urls)-i))
			break
		}
		u, err := readPlace(text)
		if err != nil {
			failed.foreign = append(failed.foreign, err.Error())
			continue
		}
		one := *r.Origin
		one.place, one.led, one.once = &place{u, spent}, true, true
		one.anywhere = slices.ContainsFunc(r.Hosts, func(h *Repository) bool { return h.anywhere && !h.Mirror() })
		places = append(places, &one)
	}
	if len(places) > 0 {
		places[len(places)-1].once = false
	}
	return places
}

// readPlace reads a URL of a descriptor.
func readPlace(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("one that can't be read as a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("%s (only http and https are asked)", placeName(u))
	case u.User != nil:
		return nil, fmt.Errorf("%s (one with a user name is not asked)", placeName(u))
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// placeName is a URL in messages, as redact has it; a manifest may hold one of megabytes.
func placeName(u *url.URL) string { return fmt.Sprintf("%.200s", redact(u)) }

// admitted reports whether there is time for one more place.
func (p *place) admitted() (said string, ok bool) {
	return "not asked, as those before took too long", time.Duration(p.spent.Load()) < foreignBudget
}

// askPlace sends a request to a place of a foreign layer, where no ladder leads.
func (r *Repository) askPlace(ctx context.Context, q *request) (*http.Response, error) {
	begin := time.Now()
	req := (&http.Request{Method: q.method, URL: q.url, Header: q.header}).WithContext(ctx)
	resp, err := r.send(req, &q.throttled)
	if err == nil {
		if !served(resp) {
			r.place.spent.Add(int64(time.Since(begin)))
		}
		return resp, nil
	}
	r.place.spent.Add(int64(time.Since(begin)))
	if target := (*targetError)(nil); errors.As(err, &target) && target.url == q.url {
		err = target.error // nobody redirected
	}
	return nil, r.failure(ctx, q.method, q.url, err)
}

// Missing reports whether the last host says that it has no such blob.
func (f *Failed) Missing() bool {
	var last *Error
	return len(f.errs) > 0 && errors.As(f.errs[len(f.errs)-1], &last) && last.Reason == blobMissing
}

// addPlace notes what a place of a foreign layer said.
func (f *Failed) addPlace(p *place, said string) {
	f.foreign = append(f.foreign, placeName(p.url)+" ("+said+")")
}

// saidElsewhere is an error of a place in the fewest words: what to do about it is not
// the reader's to do, and the body of an answer is not for who chose the URL.
func saidElsewhere(err error) string {
	var e *Error
	switch {
	case !errors.As(err, &e):
		return err.Error()
	case errors.Is(err, ErrInternalAddress):
		return "an internal address, which is refused without private_redirects in hosts.toml"
	case e.Status != 0:
		return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}
