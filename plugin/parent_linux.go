package plugin

import (
	"os"

	"golang.org/x/sys/unix"
)

// hostGone returns a channel that is closed when the process that launched this
// one is gone, until stop is called. A pidfd tells within milliseconds; where the
// kernel has none that can be polled (before 5.10), or lets nobody have one, the
// parent's process ID does, which changes.
func hostGone() (gone <-chan struct{}, stop func()) {
	host := os.Getppid()
	if unread(unix.Stdout) { // it died before this process looked
		host = -1 // 0 is a parent in another PID namespace
	}
	fd, err := unix.PidfdOpen(host, unix.PIDFD_NONBLOCK)
	if err != nil {
		return parentChanges(host)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	if os.Getppid() != host { // it died before there was a pidfd
		_ = file.Close()
		return parentChanges(host)
	}
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return parentChanges(host)
	}
	ended := make(chan struct{})
	go func() {
		if conn.Read(func(fd uintptr) bool { return ready(int(fd), unix.POLLIN) }) == nil {
			close(ended)
		}
	}()
	return ended, func() { _ = file.Close() }
}

// unread reports whether nobody can read any more what is written to fd, a pipe
// or a socket.
func unread(fd int) bool { return ready(fd, unix.POLLERR|unix.POLLHUP) }

func ready(fd int, event int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: event}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&event != 0
}
