// Soak has fetchers of all kinds fetch from the CNCF distribution registry,
// through proxies that fail in every way that toxiproxy knows, for as long as it
// is told. It counts, and fails if a fetch left a wrong byte, failed for another
// reason than the network, did not end, or left anything behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	config := config{Doors: 3, Images: len(kinds), Longest: 25 * time.Second, Out: os.Stdout} //nolint:forbidigo // this program is no plugin
	flag.DurationVar(&config.Time, "time", 10*time.Minute, "of faults")
	flag.Uint64Var(&config.Seed, "seed", rand.Uint64N(1e9), "of all that is drawn (default: another one each time)")
	flag.IntVar(&config.Fetchers, "fetchers", 8, "at once")
	flag.DurationVar(&config.Report, "report", time.Minute, "between two reports")
	flag.StringVar(&config.Executable, "executable", "", "the docker-fetcher to use (default: build it)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	counts, err := run(ctx, config)
	stop()
	if err == nil && counts.failures() != "" {
		err = fmt.Errorf("%s", counts.failures())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak failed, seed %d: %v\n", config.Seed, err) //nolint:forbidigo // this program is no plugin
		os.Exit(1)
	}
}
