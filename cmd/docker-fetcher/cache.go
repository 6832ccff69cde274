package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

func cacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look after the cache that fetchers share",
		Long: `Look after the directory that 'docker-fetcher fetch --cache-dir DIR' and plugins with
this flag keep blobs and manifests in, each registry's apart. Fetchers may use it
meanwhile. It belongs to one user; these commands have to be run by that one.`,
		Example: `  docker-fetcher cache ls --cache-dir /var/cache/docker-fetcher
  docker-fetcher cache verify --cache-dir /var/cache/docker-fetcher
  docker-fetcher cache prune --cache-dir /var/cache/docker-fetcher --max-size 10GiB --older-than 30d`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return misuse(cmd, errors.New("cache has no such command"+meant("", args[0], commandNames(cmd))))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return writeHelp(cmd) },
	}
	cmd.AddCommand(cacheListCommand(), cacheVerifyCommand(), cachePruneCommand())
	return cmd
}

// cacheFlags are those of all commands of the cache.
func (o *options) cacheFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.cacheDir, "cache-dir", "", "`DIR` of the cache")
	o.outputFlag(cmd.Flags())
}

func (o *options) openCache(cmd *cobra.Command) (*fetcher.Cache, error) {
	if o.cacheDir == "" {
		return nil, misuse(cmd, errors.New("which cache? say --cache-dir DIR, or set DOCKER_FETCHER_CACHE_DIR"))
	}
	return fetcher.OpenCache(o.cacheDir)
}

func cacheListCommand() *cobra.Command {
	var o options
	var blobs bool
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List what the cache holds",
		Long: `List the registries that the cache holds something of: how many blobs, how much in
all with manifests and with blobs that are not complete, and when any of it was
used last. With --blobs each blob, by its last use. No blob is read.`,
		Example: `  docker-fetcher cache ls --cache-dir /var/cache/docker-fetcher
  docker-fetcher cache ls --cache-dir /var/cache/docker-fetcher --blobs
  docker-fetcher cache ls --cache-dir /var/cache/docker-fetcher -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := o.openCache(cmd)
			if err != nil {
				return err
			}
			held, err := cache.List()
			if err != nil {
				return err
			}
			text := registryTable(held)
			if blobs {
				text = blobTable(held)
			}
			return o.print(cmd, text, func() ([]byte, error) { return json.Marshal(held) })
		},
	}
	o.cacheFlags(cmd)
	cmd.Flags().BoolVar(&blobs, "blobs", false, "list each blob (-o json always does)")
	return cmd
}

func registryTable(held []fetcher.CachedRegistry) string {
	rows := []string{"REGISTRY\tBLOBS\tSIZE\tLAST USED"}
	var count int
	var all int64
	var last time.Time
	for _, r := range held {
		bytes := r.PartialBytes + r.DocumentBytes
		for _, b := range r.Blobs {
			bytes += b.Size
		}
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%s", oneLine(r.Registry), len(r.Blobs), size(bytes), minute(r.LastUsed)))
		count += len(r.Blobs)
		all += bytes
		if r.LastUsed.After(last) {
			last = r.LastUsed
		}
	}
	return table(append(rows, fmt.Sprintf("total\t%d\t%s\t%s", count, size(all), minute(last))))
}

func blobTable(held []fetcher.CachedRegistry) string {
	rows := []string{"REGISTRY\tBLOB\tSIZE\tLAST USED"}
	for _, r := range held {
		for _, b := range r.Blobs {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", oneLine(r.Registry), oneLine(b.Digest.String()), size(b.Size), minute(b.LastUsed)))
		}
	}
	return table(rows)
}

// table aligns the columns of rows, which tabs separate.
func table(rows []string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = w.Write([]byte(strings.Join(rows, "\n"))) // to a Builder
	_ = w.Flush()
	return b.String()
}

// minute is a time in this machine's zone.
func minute(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func cacheVerifyCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "verify [flags]",
		Short: "Read all that the cache holds, and remove what is damaged",
		Long: `Read each blob and each manifest of the cache, and remove those whose digest does
not hold: the next fetch that wants one brings it again. What a fetcher is using is
left alone, and a fetcher waits for the blob that is just being read.

The exit code is 5 if anything was damaged. A directory that a damaged blob was
handed out to by hard link has the same file: fetch into it again.`,
		Example: `  docker-fetcher cache verify --cache-dir /var/cache/docker-fetcher
  docker-fetcher cache verify --cache-dir /var/cache/docker-fetcher -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return verifyCache(cmd, &o) },
	}
	o.cacheFlags(cmd)
	return cmd
}

func verifyCache(cmd *cobra.Command, o *options) error {
	cache, err := o.openCache(cmd)
	if err != nil {
		return err
	}
	check, err := cache.Verify(cmd.Context())
	for _, d := range check.Damaged {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s of %s was damaged and is removed\n", oneLine(d.Name), oneLine(d.Registry))
	}
	if err != nil {
		return err
	}
	if len(check.Damaged) > 0 {
		err = &fetcher.Error{Reason: fetcher.DigestMismatch, Text: fmt.Sprintf(
			"cache: %d of %s did not have their digest; fetch again what has to be there", len(check.Damaged), files(check.Files+len(check.Damaged)))}
	}
	if err != nil && o.output.value == "text" {
		return err
	}
	text := fmt.Sprintf("%s, %s, all as they should be", files(check.Files), size(check.Bytes))
	if check.Busy > 0 {
		text += fmt.Sprintf("; %s not read, as fetchers use them", plural(check.Busy, "blob"))
	}
	return errors.Join(o.print(cmd, text, func() ([]byte, error) { return json.Marshal(check) }), err)
}

func cachePruneCommand() *cobra.Command {
	var o options
	var most byteCount
	var age duration
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove from the cache what is too much or too old",
		Long: `Remove what was not used for longer than --older-than and then, least recently used
first, what goes beyond --max-size in all. At least one of the two has to be said.
Blobs that were not complete and that nobody went on with for a day go as well. What
a fetcher is using stays. Directories that blobs were handed out to keep them: one
that was handed out by hard link takes room until it is removed there too.`,
		Example: `  docker-fetcher cache prune --cache-dir /var/cache/docker-fetcher --max-size 10GiB
  docker-fetcher cache prune --cache-dir /var/cache/docker-fetcher --older-than 30d --dry-run`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			limits := fetcher.CacheLimits{MaxSize: int64(most), OlderThan: time.Duration(age), DryRun: dry}
			return pruneCache(cmd, &o, limits)
		},
	}
	o.cacheFlags(cmd)
	cmd.Flags().Var(&most, "max-size", "what may stay, such as 10GiB, 500MB or 512M (which is MiB)")
	cmd.Flags().Var(&age, "older-than", "the time without a use after which it goes, such as 12h, 30d or 2w")
	cmd.Flags().Lookup("older-than").DefValue = "" // none
	cmd.Flags().BoolVar(&dry, "dry-run", false, "remove nothing, and tell what would be removed")
	return cmd
}

func pruneCache(cmd *cobra.Command, o *options, limits fetcher.CacheLimits) error {
	if limits.MaxSize == 0 && limits.OlderThan == 0 {
		return misuse(cmd, errors.New("what may stay? say --max-size SIZE, --older-than AGE or both"))
	}
	cache, err := o.openCache(cmd)
	if err != nil {
		return err
	}
	pruned, err := cache.Prune(cmd.Context(), limits)
	return tellPruned(cmd, o, limits.DryRun, pruned, err)
}

// tellPruned tells what was removed, also where err ended it before all was.
func tellPruned(cmd *cobra.Command, o *options, dry bool, pruned fetcher.Pruned, err error) error {
	if err != nil && (dry || pruned == fetcher.Pruned{}) {
		return err
	}
	verb, until := "removed", ""
	if dry {
		verb = "would remove"
	}
	if err != nil {
		until = " until it was stopped"
	}
	text := fmt.Sprintf("%s %s, %s in all%s", verb, plural(pruned.Blobs, "blob"), size(pruned.Bytes), until)
	return errors.Join(o.print(cmd, text, func() ([]byte, error) {
		return json.Marshal(struct {
			fetcher.Pruned
			DryRun bool `json:"dryRun"`
		}{pruned, dry})
	}), err)
}
