package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// door is the way to a server, with faults. Its address stays when what is
// behind it changes.
type door struct {
	address  string // HOST:PORT
	upstream string
	proxy    *toxiproxy.Proxy
	replaced int
}

// openDoor opens a door to upstream, HOST:PORT.
func openDoor(ctx context.Context, upstream string) (*door, error) {
	// The proxies log each connection that breaks.
	zerolog.SetGlobalLevel(zerolog.Disabled)
	address, err := quietAddress(ctx)
	if err != nil {
		return nil, err
	}
	d := &door{address: address, upstream: upstream}
	return d, d.renew(ctx)
}

// quietAddress returns a loopback address below the ports that systems give to
// clients: while the door is down nobody else gets its port.
func quietAddress(ctx context.Context) (string, error) {
	const first, ports, tries = 20000, 12000, 100
	var failed error
	for range tries {
		address := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(ports))
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, listener.Close()
		}
		failed = err
	}
	return "", failed
}

// patience is how long toxiproxy has for a change. It waits without end, with
// its lock, for a toxic that waits for a reader that is gone.
const patience = 3 * time.Second

var errStuck = errors.New("toxiproxy is stuck")

// within does change, and leaves it behind when it does not end.
func within(ctx context.Context, change func() error) error {
	done := make(chan error, 1)
	go func() { done <- change() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errStuck
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renew puts a new proxy, a well one, in the place of the old.
func (d *door) renew(ctx context.Context) error {
	if old := d.proxy; old != nil {
		d.replaced++
		go old.Stop() // which closes the port first
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		d.proxy = toxiproxy.NewProxy(server, d.address, d.address, d.upstream)
		err := d.proxy.Start()
		if err == nil {
			return nil
		}
		if wait(ctx, 10*time.Millisecond) != nil {
			return err
		}
	}
}

// afflict makes the door do f.
func (d *door) afflict(ctx context.Context, f fault) error {
	return d.change(ctx, func(proxy *toxiproxy.Proxy) error {
		if f.Kind == down {
			proxy.Stop()
			return nil
		}
		toxic, err := json.Marshal(map[string]any{
			"name": f.Kind, "type": f.Kind, "stream": f.Stream, "toxicity": f.Toxicity, "attributes": f.Attributes,
		})
		if err == nil {
			_, err = proxy.Toxics.AddToxicJson(bytes.NewReader(toxic))
		}
		return err
	})
}

// heal takes f away. Connections live on, unless f had the better of them.
func (d *door) heal(ctx context.Context, f fault) error {
	return d.change(ctx, func(proxy *toxiproxy.Proxy) error {
		if f.Kind == down {
			return proxy.Start()
		}
		if proxy.Toxics.GetToxic(f.Kind) == nil {
			return nil // the door was renewed
		}
		return proxy.Toxics.RemoveToxic(ctx, f.Kind)
	})
}

// cut ends all connections.
func (d *door) cut(ctx context.Context) error {
	return d.change(ctx, func(proxy *toxiproxy.Proxy) error {
		proxy.Stop()
		return proxy.Start()
	})
}

// change changes the proxy, and renews it where that does not end.
func (d *door) change(ctx context.Context, change func(*toxiproxy.Proxy) error) error {
	proxy := d.proxy
	err := within(ctx, func() error { return change(proxy) })
	if errors.Is(err, errStuck) {
		return d.renew(ctx)
	}
	return err
}

// haunt afflicts the door with fault after fault, until stop. It leaves it well.
func (d *door) haunt(ctx context.Context, stop <-chan struct{}, r *rand.Rand, longest time.Duration, counts *counts) error {
	for {
		f := drawFault(r, longest)
		if err := d.afflict(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", f.Kind, err)
		}
		counts.fault(f.Kind)
		stopped := waitOrStop(ctx, stop, f.Lasts)
		if err := d.heal(ctx, f); err != nil {
			return fmt.Errorf("heal %s: %w", f.Kind, err)
		}
		if stopped || waitOrStop(ctx, stop, f.Rest) {
			return ctx.Err()
		}
	}
}

// waitOrStop waits, and reports whether it was told to stop meanwhile.
func waitOrStop(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-stop:
		return true
	case <-ctx.Done():
		return true
	}
}

// wait waits, or ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	waitOrStop(ctx, nil, d)
	return ctx.Err()
}
