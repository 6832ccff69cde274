package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func explainCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "explain [flags] URI",
		Short: "Tell each request and decision on the way to an image, and never a secret",
		Long: `Ask for the manifest that URI names, as fetch does, and for the size of the image's
config, and tell what was asked, what the registry, its token server and the hosts
that it redirects to answered, what was decided and why. At the end stands what a
fetch would bring, or what is wrong and what to do about it. Nothing is kept on disk.

URI is as for 'docker-fetcher fetch'. The exit code is that of a fetch.`,
		Example: `  docker-fetcher explain alpine:3.20
  docker-fetcher explain --docker-config ./config.json nvcr.io/nvidia/cuda:12
  docker-fetcher explain -o json ghcr.io/owner/image:tag`,
		Args: exactly("URI"),
		RunE: func(cmd *cobra.Command, args []string) error { return explain(cmd, o, args[0]) },
	}
	o.callFlags(cmd.Flags())
	o.registryFlags(cmd.Flags())
	return cmd
}

func explain(cmd *cobra.Command, o options, name string) error {
	ref, err := parse(name)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	told := teller(&story{w: out, paint: painted(out), known: map[fetcher.Chosen]bool{}})
	if o.output.value == "json" {
		told = &record{w: out, URI: ref.String()}
	}
	f, config, err := o.openOnce(told.event)
	if err != nil {
		return err
	}
	told.begin(ref, o.platform.Platform)
	outlook, err := look(cmd.Context(), f, ref, fetcher.ResolveRequest{URI: ref.URI(), Config: config, Observe: told.event, Trace: true})
	if broken := told.end(outlook, err); broken != nil {
		return broken
	}
	return o.located(err)
}

// outlook is what a fetch would bring.
type outlook struct {
	*fetcher.Resolution       // nil for a docker-blob URI
	Size                int64 // of a docker-blob; -1: unknown
}

// look goes the way of a fetch as far as it is not yet clear: to the manifest, and
// to a blob, for which registries have other hosts. Of that it asks for the size
// alone, so that nothing comes.
func look(ctx context.Context, f *fetcher.Fetcher, ref scheme.Reference, r fetcher.ResolveRequest) (outlook, error) {
	if ref.Kind == scheme.Blob {
		size, err := f.BlobSize(ctx, r)
		return outlook{Size: size}, err
	}
	found, err := f.Resolve(ctx, r)
	if err != nil || ref.Kind == scheme.Manifest || found.Config == nil {
		return outlook{Resolution: &found}, err
	}
	blob := ref
	blob.Kind, blob.Tag, blob.Digest = scheme.Blob, "", found.Config.Digest
	r.URI = blob.URI()
	_, err = f.BlobSize(ctx, r)
	return outlook{Resolution: &found}, err
}

// teller tells a story to people or to programs.
type teller interface {
	begin(ref scheme.Reference, p *fetcher.Platform)
	event(e fetcher.Event)
	end(o outlook, err error) error // of the writing
}

// story is for people: a paragraph for each request.
type story struct {
	w     io.Writer
	paint palette
	asked int // requests so far
	known map[fetcher.Chosen]bool
	err   error
}

func (s *story) line(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.w, format+"\n", args...)
	}
}

func (s *story) begin(ref scheme.Reference, p *fetcher.Platform) {
	if p == nil {
		here := platforms.DefaultSpec()
		p = &here
	}
	s.line("%s, for %s", s.paint.strong(ref.Name()), platforms.Format(*p))
}

// event tells what has a place in the story. What a fetch says of its files does
// not: nothing is kept.
func (s *story) event(e fetcher.Event) {
	switch e := e.(type) {
	case fetcher.Chosen:
		s.chosen(e)
	case fetcher.Asked:
		s.request(e)
	case fetcher.Decided:
		s.decided(e)
	case fetcher.Granted:
		s.line("     the token lasts %s%s", lasting(e.Lasts), goodFor(e.Access))
	case fetcher.Refused:
		s.line("     it says: %s", oneLine(e.Message))
	case fetcher.Waiting:
		s.line("  %s wait %s, then ask again", s.paint.arrow(), e.For.Round(time.Millisecond))
	case fetcher.Skipped:
		s.line("  %s leave %s alone: %s", s.paint.arrow(), oneLine(e.Host), oneLine(e.Why))
	case fetcher.Warning:
		s.line("  %s %s", s.paint.bad("warning:"), oneLine(e.Text))
	}
}

// chosen tells each credential once: the blob's is that of the manifest.
func (s *story) chosen(e fetcher.Chosen) {
	known := s.known[e]
	s.known[e] = true
	switch {
	case known:
	case e.Key == "":
		s.line("no credential for %s", e.Host)
	case e.Helper != "":
		s.line("the credential for %s is that of key %q, which %s keeps", e.Host, e.Key, e.Helper)
	default:
		s.line("the credential for %s is that of key %q", e.Host, e.Key)
	}
}

func (s *story) request(e fetcher.Asked) {
	s.asked++
	how := cmp.Or(e.Authorization, "no Authorization")
	if e.Token && e.Method == http.MethodPost {
		how = "the credential, if any, in its body"
	}
	s.line("%3d  %s  %s", s.asked, s.paint.strong(e.Method+" "+oneLine(e.URL)), s.paint.faint(how))
	took := s.paint.faint("in " + e.Elapsed.Round(time.Millisecond/10).String())
	if e.Status == 0 {
		s.line("     %s %s", s.paint.bad("no answer: "+oneLine(e.Err)), took)
		return
	}
	s.line("     %s %s", s.paint.status(e.Status), took)
	for _, c := range e.Challenges {
		s.line("     WWW-Authenticate: %s", oneLine(c))
	}
	if e.RetryAfter != "" {
		s.line("     Retry-After: %s", oneLine(e.RetryAfter))
	}
	if e.Location != "" {
		s.line("     it redirects to %s", oneLine(e.Location))
	}
}

func (s *story) decided(e fetcher.Decided) {
	switch {
	case e.When == "always first" && e.Method == "":
		return // the request tells it
	case e.Action == "give up":
		s.line("  %s %s: %s", s.paint.arrow(), e.Step, e.When)
		return
	}
	s.line("  %s %s, as %s", s.paint.arrow(), e.Step, e.When)
	if e.Method == "" {
		return
	}
	with := "without a credential"
	if e.Key != "" {
		with = fmt.Sprintf("with the credential of key %q", e.Key)
	}
	s.line("     %s %s, scope %q%s, %s", e.Method, oneLine(e.Realm), e.Scope, service(e.Service), with)
	for _, note := range e.Notes {
		s.line("     %s", oneLine(note))
	}
}

func service(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(", service %q", name)
}

// lasting is a time in seconds, without zeros at its end.
func lasting(d time.Duration) string {
	text := d.Round(time.Second).String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

func goodFor(access []string) string {
	switch {
	case access == nil:
		return "; it does not say what it is good for"
	case len(access) == 0:
		return " and is good for nothing"
	}
	return " and is good for " + oneLine(strings.Join(access, " "))
}

// end says what a fetch would do. What is wrong is reported as of any command.
func (s *story) end(o outlook, err error) error {
	switch {
	case err != nil:
		s.line("%s after %s", s.paint.bad("a fetch would fail"), plural(s.asked, "request"))
	case o.Resolution == nil:
		s.line("%s the blob, %s", s.paint.good("a fetch would bring"), size(o.Size))
	default:
		total, blobs := o.total()
		s.line("%s %s: %s, %s", s.paint.good("a fetch would bring"), o.Manifest.Digest, plural(blobs, "blob"), size(total))
	}
	return s.err
}

// total counts each blob once. The size is -1 where the manifest does not say it.
func (o outlook) total() (size int64, blobs int) {
	all := o.Layers
	if o.Config != nil {
		all = append([]fetcher.Descriptor{*o.Config}, all...)
	}
	seen := map[string]bool{}
	for _, d := range all {
		switch {
		case seen[d.Digest.String()]:
			continue
		case d.Size < 0 || size < 0:
			size = -1
		default:
			size += d.Size
		}
		seen[d.Digest.String()] = true
	}
	return size, len(seen)
}

// record is for programs: one JSON object at the end.
type record struct {
	w      io.Writer
	URI    string            `json:"uri"`
	Events []json.RawMessage `json:"events"`
	Result json.RawMessage   `json:"result,omitempty"` // as resolve prints it
	Error  *recordError      `json:"error,omitempty"`
}

type recordError struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
}

func (r *record) begin(scheme.Reference, *fetcher.Platform) {}

// event keeps an event with its kind: {"asked": {...}}.
func (r *record) event(e fetcher.Event) {
	kind := ""
	switch e.(type) {
	case fetcher.Chosen, fetcher.Asked, fetcher.Decided, fetcher.Granted, fetcher.Refused, fetcher.Waiting, fetcher.Skipped, fetcher.Warning:
		kind = strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "fetcher."))
	default:
		return
	}
	if line, err := json.Marshal(map[string]fetcher.Event{kind: e}); err == nil {
		r.Events = append(r.Events, line)
	}
}

func (r *record) end(o outlook, err error) error {
	if err != nil {
		r.Error = &recordError{Message: err.Error()}
		var e *fetcher.Error
		if errors.As(err, &e) {
			r.Error.Reason = string(e.Reason)
		}
	} else if o.Resolution != nil {
		if r.Result, err = plugin.ResolutionJSON(*o.Resolution); err != nil {
			return err
		}
	}
	line, err := json.Marshal(r)
	if err == nil {
		_, err = r.w.Write(append(line, '\n'))
	}
	return err
}

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
