package fetchertest

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// ExpireTargets makes the content host refuse all addresses that blobs were
// redirected to so far, as [Config.TargetExpired] says.
func (r *Registry) ExpireTargets() { r.targets.expire() }

// targets are the addresses on the content host that blobs were redirected to.
type targets struct {
	mu     sync.Mutex
	issued int
	used   map[string]int // by the date of the address; one that has expired isn't here
}

// sign returns the query of a new address for path.
func (t *targets) sign(path string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used == nil {
		t.used = map[string]int{}
	}
	t.issued++
	// Each address is a second younger than the last, so a date is one address.
	date := time.Unix(int64(t.issued), 0).UTC().Format("20060102T150405Z")
	t.used[date] = 0
	return signedQuery(path, date)
}

// verdict is what the content host makes of a query.
type verdict int

const (
	good verdict = iota
	forged
	expired
)

// judge counts the use of an address, which is good for uses; 0: any number.
func (t *targets) judge(path, query string, uses int) verdict {
	values, _ := url.ParseQuery(query)
	date := values.Get("X-Amz-Date")
	if query != signedQuery(path, date) {
		return forged
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	used, there := t.used[date]
	if !there || uses > 0 && used >= uses {
		return expired
	}
	t.used[date] = used + 1
	return good
}

func (t *targets) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.used)
}

// signedQuery looks like an AWS presigned query, and the content host holds
// its clients to it.
func signedQuery(path, date string) string {
	mac := hmac.New(sha256.New, []byte("fetchertest"))
	mac.Write([]byte(date + path))
	return "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=" + date +
		"&X-Amz-Expires=1200&X-Amz-SignedHeaders=host&X-Amz-Signature=" + hex.EncodeToString(mac.Sum(nil))
}

// expiredTarget is the answer to an address that has expired.
func (c Config) expiredTarget() answer {
	status := cmp.Or(c.TargetExpired, http.StatusForbidden)
	if status == http.StatusForbidden {
		return storeError(status, "AccessDenied", "Request has expired")
	}
	return storeError(status, "ExpiredToken", "The provided token has expired.")
}
