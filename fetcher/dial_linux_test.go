package fetcher_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// blackhole returns an address where connections are neither made nor refused:
// the queue of its listener, which nobody takes from, is full.
func blackhole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", at, 100*time.Millisecond)
		if err != nil {
			return at
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("the queue of a listener does not get full here")
	return ""
}

func TestAMirrorThatCannotBeReachedCostsItsDialTimeoutOnce(t *testing.T) {
	t.Parallel()
	hole, origin, hosts := blackhole(t), served(t, fetchertest.Config{}), newHostsDir(t)
	hosts.put(origin.Host(), "hosts.toml", fmt.Appendf(nil, "[host.\"http://%s\"]\ndial_timeout = \"300ms\"\n", hole))
	f := newFetcher(t, fetcher.Config{HostsDir: hosts.path})
	for _, test := range []struct {
		title       string
		least, most time.Duration
	}{{"the first fetch", 300 * time.Millisecond, 5 * time.Second}, {"the second", 0, 300 * time.Millisecond}} {
		begin := time.Now()
		if err := take(t, f, origin.Host()+"/team/app#http", ""); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < test.least || took > test.most {
			t.Errorf("%s took %v", test.title, took)
		}
	}
}

func TestTheErrorOfAHostThatCannotBeReachedSaysThatItTimedOut(t *testing.T) {
	t.Parallel()
	hole, origin, hosts := blackhole(t), served(t, fetchertest.Config{}), newHostsDir(t)
	hosts.put(origin.Host(), "hosts.toml", fmt.Appendf(nil, "capabilities = []\n[host.\"http://%s\"]\ndial_timeout = \"100ms\"\n", hole))
	begin := time.Now()
	err := take(t, newFetcher(t, fetcher.Config{HostsDir: hosts.path}), origin.Host()+"/team/app#http", "")
	refused(t, err, fetcher.RegistryUnreachable, "dial tcp "+hole+": i/o timeout")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
