package plugin

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func TestCloseEndsAProcessThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := short(t)
	c, err := Open(t.Context(), Config{Path: built(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	process := pid(t, c)
	if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", process)); err == nil {
		t.Error("the process is still there")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := c.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestAfterAShutdownTheNextCallLaunchesAnotherProcess(t *testing.T) {
	t.Parallel()
	c := launch(t, Config{Path: built(t), Dir: scratch})
	process := pid(t, c)
	r := fetchertest.New(t, fetchertest.Config{})
	d := r.PutBlob(name, make([]byte, 100))
	held := make(chan struct{})
	r.Inject(fetchertest.Fault{StallAt: 10, Notice: func(fetchertest.Request) { close(held) }, Times: 1})
	inFlight := make(chan error, 1)
	go func() {
		_, err := c.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Blob, r, d), Directory: t.TempDir()})
		inFlight <- err
	}()
	<-held
	if err := syscall.Kill(process, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var late error
	for late == nil { // until the signal has arrived
		_, late = c.Resolve(t.Context(), fetcher.ResolveRequest{URI: uri(t, scheme.Image, r, "none")})
		if errors.Is(late, fetcher.ErrNotFound) {
			late = nil
		}
	}
	shuttingDown := func(err error) bool {
		var e *fetcher.Error
		return errors.As(err, &e) && e.Reason == fetcher.ShuttingDown && errors.Is(err, fetcher.ErrUnavailable)
	}
	if !shuttingDown(late) {
		t.Errorf("a late call got %v", late)
	}
	if again := pid(t, c); again == process {
		t.Error("the process that shuts down is called again")
	}
	if err := <-inFlight; !shuttingDown(err) {
		t.Errorf("the call in flight got %v", err)
	}
}
