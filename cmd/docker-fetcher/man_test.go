//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestTheManPagesAreThoseOfTheCommands holds docs/man to the commands; `make man`
// writes the pages anew.
func TestTheManPagesAreThoseOfTheCommands(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "docs", "man")
	want := map[string]bool{}
	walk(newCommand(false), func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		name := page(cmd) + ".1"
		want[name] = true
		golden(t, filepath.Join(dir, name), man(cmd))
	})
	for _, name := range names(t, dir) {
		if !want[name] {
			t.Errorf("docs/man/%s is of no command; remove it", name)
		}
	}
}

// page is the name of a command's page.
func page(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// man is the page of a command, in the macros of man(7).
func man(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"docker-fetcher\" \"User Commands\"\n", strings.ToUpper(roff(page(cmd))))
	short := strings.ToLower(cmd.Short[:1]) + cmd.Short[1:]
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(page(cmd)), roff(short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(usage(cmd)))
	literal(&b, "EXAMPLES", cmd.Example)
	b.WriteString(".SH DESCRIPTION\n")
	for _, paragraph := range strings.Split(strings.TrimSpace(cmd.Long+"\n"), "\n\n") {
		b.WriteString(".PP\n")
		if strings.HasPrefix(paragraph, "  ") {
			fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(paragraph))
			continue
		}
		fmt.Fprintf(&b, "%s\n", roff(paragraph))
	}
	flags(&b, cmd)
	var also []string
	if cmd.HasParent() {
		also = append(also, page(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" {
			also = append(also, page(sub))
		}
	}
	for i, name := range also {
		also[i] = fmt.Sprintf(".BR %s (1)", roff(name))
	}
	if len(also) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(also, ",\n"))
	}
	return b.String()
}

func literal(b *strings.Builder, title, text string) {
	if text != "" {
		fmt.Fprintf(b, ".SH %s\n.nf\n%s\n.fi\n", title, roff(text))
	}
}

func flags(b *strings.Builder, cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	title := ".SH OPTIONS\n"
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name, text := pflag.UnquoteUsage(f)
		label := "--" + f.Name
		if f.Shorthand != "" {
			label = "-" + f.Shorthand + ", " + label
		}
		if name != "" {
			label += " " + name
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		fmt.Fprintf(b, "%s.TP\n.B %s\n%s\n", title, roff(label), roff(text))
		title = ""
	})
}

// roff escapes what means something to a formatter.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", "\\`", "^", `\(ha`, "~", `\(ti`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func TestRoffEscapesWhatMeansSomethingToAFormatter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"--flag":    `\-\-flag`,
		`a\n`:       `a\en`,
		"'a' ~/x":   `\(aqa\(aq \(ti/x`,
		"a\n.TH\nb": "a\n" + `\&.TH` + "\nb",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
