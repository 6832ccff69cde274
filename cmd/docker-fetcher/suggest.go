package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/plugin"
)

// misuse is a mistake in the command line, with what may have been meant and
// where to read more.
func misuse(cmd *cobra.Command, err error) error {
	text := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		text = meant("--", unknown.GetSpecifiedName(), flagNames(cmd))
	}
	return usageError{fmt.Errorf("%w%s; see '%s --help'", err, text, cmd.CommandPath())}
}

// flagNames are the flags that a command takes.
func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// commandNames are the commands below one.
func commandNames(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		names = append(names, sub.Name())
	}
	return names
}

// noCommand refuses arguments that name no command. It does not show them: a
// URI may hold a password.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := meant("", args[0], commandNames(cmd))
	if text == "" {
		text = "; say 'docker-fetcher fetch URI DIR' to fetch"
	}
	return misuse(cmd, errors.New("the first argument is no command"+text))
}

// meant asks whether the nearest name was meant; "" where none is near.
func meant(prefix, name string, names []string) string {
	near := nearest(name, names)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, near)
}

// nearest returns the name that differs least, or one that begins so; "" where
// more than a third differs.
func nearest(name string, names []string) string {
	best, least := "", max(1, len(name)/3)+1
	for _, other := range slices.Sorted(slices.Values(names)) {
		d := distance(name, other)
		if len(name) >= 3 && strings.HasPrefix(other, name) {
			d = 1
		}
		if d < least {
			best, least = other, d
		}
	}
	return best
}

// distance is how many bytes have to be put in, left out, changed, or swapped with
// their neighbours, to make b of a. What is far too long is far away.
func distance(a, b string) int {
	if len(a) > 100 || len(b) > 100 {
		return max(len(a), len(b))
	}
	d := make([][]int, len(a)+1) // of the first i bytes of a and the first j of b
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j], d[i][j-1], d[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// environment is the prefix of the variables that are flags.
const environment = "DOCKER_FETCHER_"

// variable is the environment variable of a flag.
func variable(flag string) string {
	return environment + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// misspelt returns a warning for each variable that is near one of a flag but is
// none. Those that are near none are left alone: Kubernetes makes such for a
// service of this name. Values are not shown.
func misspelt(root *cobra.Command, variables []string) (warnings []string) {
	var known []string
	for _, line := range variables {
		name, _, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, environment) {
			continue
		}
		if known == nil {
			known = knownVariables(root)
		}
		rest := name[len(environment):]
		if slices.Contains(known, rest) {
			continue
		}
		if near := nearest(rest, known); near != "" {
			warnings = append(warnings, fmt.Sprintf("nothing reads the environment variable %s%s", name, meant(environment, rest, known)))
		}
	}
	return warnings
}

// knownVariables are what follows the prefix in the variables that mean something
// to any command.
func knownVariables(root *cobra.Command) []string {
	known := []string{strings.TrimPrefix(plugin.Handshake.MagicCookieKey, environment)}
	walk(root, func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			known = append(known, strings.TrimPrefix(variable(f.Name), environment))
		})
	})
	return known
}

// walk visits a command and all below it.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

// warnMisspelt shows the warnings as the command shows others: a host reads JSON.
func warnMisspelt(cmd *cobra.Command, hosted bool, w io.Writer) {
	value := func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	level := cmp.Or(value("log-level"), "warn")
	for _, text := range misspelt(cmd.Root(), os.Environ()) {
		if hosted {
			newLogger(w, level).Warn(text)
			continue
		}
		newObserver(cmp.Or(value("progress"), "none"), level, w)(fetcher.Warning{Text: text})
	}
}
