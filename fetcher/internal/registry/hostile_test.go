package registry

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// panicking is a connection whose Close panics.
type panicking struct{ net.Conn }

func (panicking) Close() error { panic("close") }

// No request could tell of a panic that nobody waits for.
func TestAPanicAheadEndsNothingAndKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for title, dial := range map[string]dial{
		"of the dial":  func(context.Context, string, string) (net.Conn, error) { panic("dial") },
		"of the close": func(context.Context, string, string) (net.Conn, error) { return panicking{}, nil },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &wire{}
				d := w.dialer()
				var mended atomic.Bool
				right := d.dial
				d.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if mended.Load() {
						return right(ctx, network, address)
					}
					return dial(ctx, network, address)
				}
				d.warm(there, 2)
				synctest.Wait()
				d.closeIdle()
				d.warm(there, 4)
				time.Sleep(2 * keepReady)
				mended.Store(true)
				conn, took := take(t, d)
				defer conn.Close()
				if took != w.takes {
					t.Errorf("a request waited for %v", took)
				}
			})
		})
	}
}

func TestATextIsTakenForAProxyOnlyIfItNamesOne(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"http://proxy:3128": true, "https://proxy": true, "socks5://proxy:1080": true, "socks5h://u:p@proxy": true,
		"proxy": true, "proxy:3128": true, "u:p@proxy:3128": true, "10.0.0.1:3128": true, "[::1]:3128": true, "HTTP://proxy": true,
		"http://u:100%@proxy": false, "u:100%@proxy": false, "ftp://proxy": false, "http://": false, "http:///x": false,
		"http://proxy:port": false, ":3128:": false, "http://http://proxy": false, "a proxy": false, "file:///etc/passwd": false,
	} {
		if got := namesProxy(text); got != want {
			t.Errorf("namesProxy(%q) = %v", text, got)
		}
	}
}
