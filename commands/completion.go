package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/ui"
)

func (r *run) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "prints what completes command lines in a shell",
		ArgsUsage: "bash|zsh",
		Description: `Prints a script for bash or zsh that completes commands and flags.

Example:
  shardseed completion bash`,
		Action: r.completion,
	}
}

func (r *run) completion(c *cli.Context) error {
	var k checks
	shell := k.positionals(c, "bash|zsh")[0]
	if shell != "" && shell != "bash" && shell != "zsh" {
		k.addf("%q is neither bash nor zsh", shell)
	}
	if err := k.err(c); err != nil {
		return err
	}
	text := bashCompletion(c.App)
	if shell == "zsh" { // zsh understands bash's
		text = "#compdef " + ui.Program + "\nautoload -U +X bashcompinit && bashcompinit\n" + text
	}
	r.out.Object(struct {
		Type  string `json:"type"`
		Shell string `json:"shell"`
		Text  string `json:"text"`
	}{"completion", shell, text})
	r.out.Text("%s", strings.TrimSuffix(text, "\n"))
	return r.out.Err()
}

// bashCompletion returns a script that knows the words of all commands: what
// may follow each, and its flags. Values of flags are completed as file names.
func bashCompletion(app *cli.App) string {
	globals := flagWords(app.Flags)
	var cases strings.Builder
	add := func(path string, words []string) {
		fmt.Fprintf(&cases, "    %q) words=%q ;;\n", path, strings.Join(words, " "))
	}
	add("", append(commandWords(app.Commands), globals...))
	eachCommand(app.Commands, "", func(path string, c *cli.Command) {
		add(path, slices.Concat(commandWords(c.Subcommands), flagWords(c.Flags), globals))
	})
	return fmt.Sprintf(`_%[1]s() {
  local current=${COMP_WORDS[COMP_CWORD]} path= words= word takes=%[2]q
  COMPREPLY=()
  case " $takes " in
    *" ${COMP_WORDS[COMP_CWORD-1]} "*) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case %[3]q in
      *",${path:+$path }$word,"*) path=${path:+$path }$word ;;
    esac
  done
  case $path in
%[4]s  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _%[1]s %[1]s
`, ui.Program, strings.Join(valueFlags(app), " "), ","+strings.Join(commandPaths(app), ",")+",", cases.String())
}

// eachCommand calls visit for every command and group.
func eachCommand(list []*cli.Command, prefix string, visit func(path string, c *cli.Command)) {
	for _, c := range list {
		visit(prefix+c.Name, c)
		eachCommand(c.Subcommands, prefix+c.Name+" ", visit)
	}
}

func commandPaths(app *cli.App) []string {
	var paths []string
	eachCommand(app.Commands, "", func(path string, _ *cli.Command) { paths = append(paths, path) })
	return paths
}

func commandWords(list []*cli.Command) []string {
	var words []string
	for _, c := range list {
		words = append(words, c.Name)
	}
	return words
}

func flagWords(flags []cli.Flag) []string {
	var words []string
	for _, f := range flags {
		if name := f.Names()[0]; name != helpWord {
			words = append(words, "--"+name)
		}
	}
	return append(words, "--"+helpWord)
}

// valueFlags returns the flags after which a value stands.
func valueFlags(app *cli.App) []string {
	var words []string
	for name, known := range newFlagTable(app) {
		if known.takesValue {
			words = append(words, "--"+name)
		}
	}
	slices.Sort(words)
	return words
}
