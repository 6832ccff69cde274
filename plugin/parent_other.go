//go:build unix && !linux

package plugin

import "os"

// hostGone returns a channel that is closed when the process that launched this
// one is gone, until stop is called.
func hostGone() (gone <-chan struct{}, stop func()) { return parentChanges(os.Getppid()) }
