//go:build !unix

package fetcher

import "math"

// maxFiles is how many files this process may have open: Windows has no limit.
func maxFiles() uint64 { return math.MaxInt32 }
