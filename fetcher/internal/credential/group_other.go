//go:build !unix

package credential

import "os/exec"

// ownGroup does nothing: the end of the context kills the command alone.
func ownGroup(*exec.Cmd) {}

// killGroup does nothing.
func killGroup(*exec.Cmd) {}
