//go:build !unix

package fetcher

import "errors"

var errQuota = errors.New("disk quota exceeded")
