package registry

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kernelRoundTrip returns the round trip that the kernel saw on a connection
// (tcp(7), TCP_INFO).
func kernelRoundTrip(conn net.Conn) (took time.Duration, known bool) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			took, known = time.Duration(info.Rtt)*time.Microsecond, true
		}
	})
	return took, known && err == nil
}
