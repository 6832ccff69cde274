// Command kraken is every process of a Kraken fleet in one executable, named by
// its first argument:
//
//	kraken agent|build-index|origin|tracker [that component's flags]
//	kraken redis LISTEN           what the tracker keeps its peers in
//	kraken front LISTEN REGISTRY  what stands between Kraken and a plain registry
//
// As the leader of a process group it ends, with all of the group, when its
// standard input does. So a fleet ends with the process that started it, in
// whatever way that one ends.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/alicebob/miniredis"
	agent "github.com/uber/kraken/agent/cmd"
	buildindex "github.com/uber/kraken/build-index/cmd"
	_ "github.com/uber/kraken/lib/backend/httpbackend"     // where build-index gets tags
	_ "github.com/uber/kraken/lib/backend/registrybackend" // where the origin gets blobs
	origin "github.com/uber/kraken/origin/cmd"
	tracker "github.com/uber/kraken/tracker/cmd"
)

func main() {
	if syscall.Getpgrp() == os.Getpid() {
		go endWithStdin()
	}
	if err := run(os.Args[1:]); err != nil {
		log.Fatalln("kraken:", err)
	}
}

// endWithStdin ends the process group, which holds this process and its nginx,
// when nobody has the other end of standard input any more.
func endWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = syscall.Kill(0, syscall.SIGTERM)
	time.AfterFunc(time.Second, func() { _ = syscall.Kill(0, syscall.SIGKILL) })
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("which component?")
	}
	component, args := args[0], args[1:]
	os.Args = append([]string{"kraken-" + component}, args...) // Kraken's components parse it
	switch {
	case component == "agent":
		agent.Run(agent.ParseFlags())
	case component == "build-index":
		buildindex.Run(buildindex.ParseFlags())
	case component == "origin":
		origin.Run(origin.ParseFlags())
	case component == "tracker":
		tracker.Run(tracker.ParseFlags())
	case component == "redis" && len(args) == 1:
		if err := miniredis.NewMiniRedis().StartAddr(args[0]); err != nil {
			return err
		}
		select {}
	case component == "front" && len(args) == 2:
		server := http.Server{Addr: args[0], Handler: newFront(args[1]), ReadHeaderTimeout: 10 * time.Second}
		return server.ListenAndServe()
	default:
		return fmt.Errorf("%s %q: no such component, or not its arguments", component, args)
	}
	return nil
}
