package main

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A one-shot command takes a few milliseconds, and what packages do before
// main is most of them: each start pays for it, whatever the command.

func TestPackagesDoLittleBeforeMain(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), executable(t), "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	all := 0
	for lines := bufio.NewScanner(&trace); lines.Scan(); {
		var name string
		var at, took float64
		var size, allocations int
		if _, err := fmt.Sscanf(lines.Text(), "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &name, &at, &took, &size, &allocations); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		all += size
		ours, is := strings.CutPrefix(name, "github.com/docker-fetcher/docker-fetcher/")
		if is && !strings.HasPrefix(ours, "protocol/") && allocations > 20 {
			t.Errorf("%s makes %d allocations, such as those of a regular expression; make it when it is asked for", ours, allocations)
		}
	}
	if all == 0 || all > 900<<10 {
		t.Errorf("all packages take %d KiB, want at most 900; GODEBUG=inittrace=1 says which", all>>10)
	}
}

func TestTheExecutableHoldsNothingThatOnlyTestsNeed(t *testing.T) {
	t.Parallel()
	info, err := buildinfo.ReadFile(executable(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range info.Deps {
		if slices.Contains([]string{"github.com/distribution/reference", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "github.com/mattn/go-runewidth"}, module.Path) {
			t.Errorf("%s is linked, which makes every start slower", module.Path)
		}
	}
}
