//go:build !linux

package registry

import (
	"net"
	"time"
)

func kernelRoundTrip(net.Conn) (took time.Duration, known bool) { return 0, false }
