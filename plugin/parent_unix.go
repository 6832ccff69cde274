//go:build unix

package plugin

import (
	"os"
	"sync"
	"time"
)

// parentInterval is how often the parent's process ID is looked at.
const parentInterval = 250 * time.Millisecond

// parentChanges closes gone once this process' parent is not host any more: an
// orphan is given to init, or to a subreaper.
func parentChanges(host int) (gone <-chan struct{}, stop func()) {
	changed, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		ticker := time.NewTicker(parentInterval)
		defer ticker.Stop()
		for os.Getppid() == host {
			select {
			case <-ticker.C:
			case <-stopped:
				return
			}
		}
		close(changed)
	}()
	return changed, sync.OnceFunc(func() { close(stopped) })
}
