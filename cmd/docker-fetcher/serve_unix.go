//go:build unix

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// restrictFileMode keeps the socket and the fetched files to this user.
func restrictFileMode() { unix.Umask(0o077) }

// checkSocketDir says what go-plugin would not: it ends with exit code 0 and a
// line of log when it can't make its socket.
func checkSocketDir(dir string) error {
	const advice = "the host has to name another one in PLUGIN_UNIX_SOCKET_DIR"
	if dir == "" {
		dir = os.TempDir()
	}
	// The path in a sockaddr_un ends with a NUL.
	most := len(unix.RawSockaddrUnix{}.Path) - 1 - len("/plugin1234567890")
	if len(dir) > most {
		return usageError{fmt.Errorf("socket directory %q: the path is longer than %d bytes, too long for a unix socket; %s", dir, most, advice)}
	}
	probe, err := os.CreateTemp(dir, "plugin")
	if err != nil {
		return usageError{fmt.Errorf("socket directory: %w; %s", err, advice)}
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	return nil
}
