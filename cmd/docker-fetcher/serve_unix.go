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
	if dir == "" {
		dir = os.TempDir()
	}
	const advice = "the host has to set PLUGIN_UNIX_SOCKET_DIR to another one"
	path := unix.RawSockaddrUnix{}.Path // its last byte is a NUL
	if most := len(path) - 1 - len("/plugin1234567890"); len(dir) > most {
		return usageError{fmt.Errorf("socket directory %q: its path is longer than %d bytes, too long for a unix socket; %s", dir, most, advice)}
	}
	if err := unix.Access(dir+"/.", unix.W_OK|unix.X_OK); err != nil {
		return usageError{fmt.Errorf("socket directory %q: %w; %s", dir, err, advice)}
	}
	return nil
}
