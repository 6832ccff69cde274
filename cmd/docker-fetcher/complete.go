package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commonPlatforms are those that a shell offers for --platform.
var commonPlatforms = []string{
	"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/riscv64", "linux/s390x", "windows/amd64",
}

// completeFlags tells shells what values the flags of a command take: words,
// platforms, directories or files.
func completeFlags(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		words := cobra.NoFileCompletions
		switch value := f.Value.(type) {
		case *choice:
			words = cobra.FixedCompletions(value.of, cobra.ShellCompDirectiveNoFileComp)
		case *platform:
			words = cobra.FixedCompletions(commonPlatforms, cobra.ShellCompDirectiveNoFileComp)
		default:
			switch name, _ := pflag.UnquoteUsage(f); {
			case strings.HasPrefix(name, "DIR"):
				words = directories
			case strings.HasPrefix(name, "FILE"), name == "SOCKET":
				return // which is what shells do by themselves
			}
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, words) // an error is a second registration
	})
}

func directories(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// uriThenDir completes the arguments of fetch. No shell knows what registries have.
func uriThenDir(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

const completionLong = `Print the completion of the command line for a shell. It knows commands, flags and
their values.

  bash   docker-fetcher completion bash >/etc/bash_completion.d/docker-fetcher
  zsh    docker-fetcher completion zsh >"${fpath[1]}/_docker-fetcher"
  fish   docker-fetcher completion fish >~/.config/fish/completions/docker-fetcher.fish

bash needs the package bash-completion.`

func completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command) error{
		"bash": func(cmd *cobra.Command) error { return cmd.Root().GenBashCompletionV2(cmd.OutOrStdout(), true) },
		"zsh":  func(cmd *cobra.Command) error { return cmd.Root().GenZshCompletion(cmd.OutOrStdout()) },
		"fish": func(cmd *cobra.Command) error { return cmd.Root().GenFishCompletion(cmd.OutOrStdout(), true) },
	}
	names := choice{of: []string{"bash", "zsh", "fish"}}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion for bash, zsh or fish",
		Long:  completionLong,
		Example: `  . <(docker-fetcher completion bash)
  docker-fetcher completion zsh >"${fpath[1]}/_docker-fetcher"`,
		DisableFlagsInUseLine: true,
		Args:                  exactly("SHELL"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return names.of, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := names.Set(args[0]); err != nil {
				return misuse(cmd, err)
			}
			return shells[args[0]](cmd)
		},
	}
}
