package fetcher_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// TestATokenMayExpireAfterAnyRequest revokes all tokens after each request in turn
// that a fetch makes: for the index, the manifest, the config, the layer, its
// continuation and its parts.
func TestATokenMayExpireAfterAnyRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		place
		link  *link
		layer int
		cut   int64
	}{
		"one stream that breaks":                    {blobPlace, nil, 20_000, 10_000},
		"one stream that breaks, at a content host": {contentHost, nil, 20_000, 10_000},
		"parts":                               {blobPlace, far(), 2 * mebibyte, 0},
		"parts that break, at a content host": {contentHost, far(), 2 * mebibyte, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for after, ended := 0, false; !ended; after++ {
				s := newSized(t, test.place, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}}, test.layer)
				if test.link != nil {
					s.link = far()
				}
				s.ready(t, fetcher.Config{})
				ended = true
				var answers atomic.Int64
				revoke := func(q fetchertest.Request) {
					if q.Endpoint != fetchertest.Token && int(answers.Add(1)) == after+1 {
						ended = false
						s.registry.RevokeTokens()
					}
				}
				if test.cut > 0 {
					s.inject(fetchertest.Fault{CutAt: test.cut, Times: 1, Notice: revoke})
				}
				s.registry.Inject(fetchertest.Fault{Notice: revoke})
				s.fetched()
				if tokens := s.registry.Count(fetchertest.Token); tokens > 4 {
					t.Errorf("after %d requests: %d tokens were asked for", after, tokens)
				}
			}
		})
	}
}

// TestATokenMayServeOnce revokes all tokens with each answer, so that each request
// needs one of its own.
func TestATokenMayServeOnce(t *testing.T) {
	t.Parallel()
	s := newTrial(t, blobPlace, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
	s.ready(t, fetcher.Config{})
	for _, e := range []fetchertest.Endpoint{fetchertest.Manifest, fetchertest.Blob} {
		s.registry.Inject(fetchertest.Fault{
			Match: fetchertest.Match{Endpoint: e}, Notice: func(fetchertest.Request) { s.registry.RevokeTokens() },
		})
	}
	s.fetched()
	if tokens := s.registry.Count(fetchertest.Token); tokens != 4 { // index, manifest, config, layer
		t.Errorf("%d tokens were asked for", tokens)
	}
}

// TestATokenThatExpiredOnItsWayIsReplacedOnce has the registry refuse a new token at
// its first use as no longer valid; twice in a row is a no.
func TestATokenThatExpiredOnItsWayIsReplacedOnce(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]error{1: nil, 2: fetcher.ErrUnauthorized} {
		r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
		r.PutImage("team/app", "1", fetchertest.Image{})
		r.Inject(fetchertest.Fault{
			Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, After: 1, Times: times, Status: http.StatusUnauthorized,
			Header: http.Header{"Www-Authenticate": {`Bearer realm="` + r.TokenURL() + `",scope="repository:team/app:pull",error="invalid_token"`}},
		})
		f := newFetcher(t, fetcher.Config{})
		_, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, r, "docker-manifest", "team/app", "1"), Directory: t.TempDir()})
		if !errors.Is(err, want) || r.Count(fetchertest.Token) != 2 || r.Count(fetchertest.Manifest) != 3 {
			t.Errorf("refused %d times: %v, %d tokens, %d manifests", times, err, r.Count(fetchertest.Token), r.Count(fetchertest.Manifest))
		}
	}
}

// TestAnyFewFaultsAreSurvived has faults by chance, of which no request meets more
// than the attempts that it has. The seed is in the name.
func TestAnyFewFaultsAreSurvived(t *testing.T) {
	t.Parallel()
	for range 40 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0))
			config := fetchertest.Config{}
			if random.IntN(2) == 0 {
				config.Auth.Scheme = fetchertest.Bearer
			}
			s := newTrial(t, places[random.IntN(len(places))], config)
			for range 1 + random.IntN(4) {
				s.registry.Inject(passing(random))
			}
			virtual(t, s.link, func(t *testing.T) {
				s.ready(t, fetcher.Config{})
				begin := time.Now()
				s.fetched()
				if took := time.Since(begin); took > 30*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// passing is a fault that strikes once, at some request.
func passing(random *rand.Rand) fetchertest.Fault {
	statuses := []int{408, 429, 500, 502, 503, 504}
	at := 1 + random.Int64N(400)
	faults := []fetchertest.Fault{
		{Status: statuses[random.IntN(len(statuses))]},
		{Status: 429, Header: http.Header{"Retry-After": {"0.5"}}},
		{Drop: true},
		{Drop: true, Reset: true},
		{CutAt: fetchertest.AtOnce},
		{CutAt: at},
		{CutAt: at, Reset: true},
		{CutAt: at, Chunked: true},
		{Chunked: true},
		{Header: http.Header{"Connection": {"close"}}},
	}
	f := faults[random.IntN(len(faults))]
	f.After, f.Times = random.IntN(6), 1
	return f
}
