package main

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/spf13/cobra"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

func TestPruneTellsWhatWasRemovedBeforeItWasStopped(t *testing.T) {
	t.Parallel()
	for label, c := range map[string]struct {
		output string
		dry    bool
		pruned fetcher.Pruned
		err    error
		want   string
	}{
		"all of it":              {"text", false, fetcher.Pruned{Blobs: 2, Bytes: 3}, nil, "removed 2 blobs, 3 B in all\n"},
		"interrupted":            {"text", false, fetcher.Pruned{Blobs: 2, Bytes: 3}, context.Canceled, "removed 2 blobs, 3 B in all until it was stopped\n"},
		"interrupted, as JSON":   {"json", false, fetcher.Pruned{Blobs: 2, Bytes: 3}, context.Canceled, `{"blobs":2,"bytes":3,"dryRun":false}` + "\n"},
		"after a manifest":       {"text", false, fetcher.Pruned{Bytes: 3}, context.Canceled, "removed 0 blobs, 3 B in all until it was stopped\n"},
		"before anything":        {"text", false, fetcher.Pruned{}, context.Canceled, ""},
		"a dry run, interrupted": {"text", true, fetcher.Pruned{Blobs: 2, Bytes: 3}, context.Canceled, ""},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			cmd := &cobra.Command{}
			cmd.SetOut(&out)
			var o options
			o.output.value = c.output
			if err := tellPruned(cmd, &o, c.dry, c.pruned, c.err); !errors.Is(err, c.err) || out.String() != c.want {
				t.Errorf("got %q, %v, want %q", &out, err, c.want)
			}
		})
	}
}
