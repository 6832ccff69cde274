package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// help is writeHelp for cobra, which takes no error of it.
func help(cmd *cobra.Command, _ []string) { _ = writeHelp(cmd) }

// writeHelp writes what a person wants to know of a command, in the order in which
// they look for it: examples first.
func writeHelp(cmd *cobra.Command) error {
	cmd.InitDefaultHelpFlag()
	w := new(strings.Builder)
	fmt.Fprintf(w, "%s\n", cmd.Short)
	section(w, "Examples", cmd.Example)
	section(w, "Usage", "  "+usage(cmd))
	fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(cmd.Long))
	if cmd.HasAvailableSubCommands() {
		section(w, "Commands", commandLines(cmd))
	}
	section(w, "Flags", cmd.LocalFlags().FlagUsages())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\n'%s COMMAND --help' tells more of a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(cmd.OutOrStdout(), w.String())
	return err
}

func section(w io.Writer, title, text string) {
	if text = strings.TrimRight(text, "\n"); strings.TrimSpace(text) != "" {
		fmt.Fprintf(w, "\n%s:\n%s\n", title, text)
	}
}

// usage is the line of a command that is given as such.
func usage(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	return cmd.UseLine()
}

func commandLines(cmd *cobra.Command) string {
	var b strings.Builder
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&b, "  %-*s  %s\n", cmd.NamePadding(), sub.Name(), sub.Short)
		}
	}
	return b.String()
}

// helpCommand is 'help COMMAND': COMMAND --help in other words.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Tell how a command is used",
		Long:  "Tell how a command is used, as COMMAND --help does.",
		Example: `  docker-fetcher help fetch
  docker-fetcher help cache prune`,
		DisableFlagsInUseLine: true,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return commandNames(about), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for _, name := range args {
				sub := subcommand(about, name)
				if sub == nil {
					return misuse(about, errors.New("there is no such command"+meant("", name, commandNames(about))))
				}
				about = sub
			}
			return writeHelp(about)
		},
	}
}

func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}
