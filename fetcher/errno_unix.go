//go:build unix

package fetcher

import "syscall"

const errQuota = syscall.EDQUOT
