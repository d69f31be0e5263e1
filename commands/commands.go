// Package commands is the command line: the table of commands, what their
// flags mean, and how their results and errors are told. docs/cli.md is its
// contract.
package commands

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/internal/ui"
)

// Options are what the process gives a run. All but OnStep must be set.
type Options struct {
	Args           []string // as the process got them, the program's name first
	Stdout, Stderr io.Writer
	Now            func() time.Time
	Random         io.Reader         // of cryptographic quality
	OnStep         func(step string) // for tests: called when a step of a backup or restore begins; nil: nobody listens
}

// run is one run of the program.
type run struct {
	opts   Options
	out    *ui.Printer
	config altsrc.InputSourceContext // of --config; nil: none
}

// Main runs the command that opts.Args name and returns the exit code of the
// process. When ctx ends, the command puts back what it has changed and
// returns; the cause of ctx is what is said then.
func Main(ctx context.Context, opts Options) int {
	r := &run{opts: opts}
	// Until the flags have been read, errors are told as the arguments seem
	// to ask for.
	r.out = ui.New(r.printing(seems(opts.Args, "--json"), false, false))
	return r.finish(ctx, r.main(ctx))
}

// finish tells what came of the run and returns the exit code.
func (r *run) finish(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	f := failure(ctx, err)
	if f.ExitCode == exitMarked { // done all the same
		for _, message := range f.Messages {
			r.out.Warn(message)
		}
		return f.ExitCode
	}
	r.out.Fail(f)
	return f.ExitCode
}

func (r *run) main(ctx context.Context) error {
	app := r.app()
	args, err := arrange(app, r.opts.Args[1:])
	if err != nil {
		return err
	}
	return app.RunContext(ctx, args)
}

// app returns the program's flags and commands.
func (r *run) app() *cli.App {
	app := &cli.App{
		Name:            ui.Program,
		HelpName:        ui.Program,
		Usage:           "backs up MySQL and MariaDB replicas and seeds replicas from the backups",
		UsageText:       "shardseed [global flags] COMMAND [flags] [arguments]",
		Description:     appDescription,
		HideHelpCommand: true,
		HideVersion:     true,
		Flags:           globalFlags(),
		Commands: []*cli.Command{
			r.initCommand(),
			r.backupCommand(),
			r.restoreCommand(),
			r.verifyCommand(),
			r.startupCommand(),
			r.recoverCommand(),
			r.healthCommand(),
			r.statusCommand(),
			r.listCommand(),
			r.showCommand(),
			r.statsCommand(),
			r.removeCommand(),
			r.forgetCommand(),
			r.pinCommand(),
			r.unpinCommand(),
			r.pruneCommand(),
			r.checkCommand(),
			r.repairCommand(),
			r.primaryCommand(),
			r.reindexCommand(),
			r.completionCommand(),
			r.manCommand(),
			r.versionCommand(),
		},
		Writer:                    r.opts.Stdout,
		ErrWriter:                 r.opts.Stderr,
		Before:                    r.start,
		OnUsageError:              badValue,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main does it
		DisableSliceFlagSeparator: true,
	}
	r.prepare(app.Commands, ui.Program)
	return app
}

// prepare gives every command what all of them have; before are the words that
// stand before their names.
func (r *run) prepare(list []*cli.Command, before string) {
	for _, c := range list {
		words := before + " " + c.Name
		c.HideHelpCommand = true
		c.OnUsageError = badValue
		c.CustomHelpTemplate = commandHelp
		c.Before = r.configure
		c.UsageText = strings.TrimSpace(words+" "+c.ArgsUsage) + " [flags]"
		if len(c.Subcommands) > 0 {
			c.CustomHelpTemplate = groupHelp
			c.Before = nil
		}
		r.prepare(c.Subcommands, words)
	}
}

// start reads the configuration file and the global flags that say how to
// print.
func (r *run) start(c *cli.Context) error {
	if path := c.String("config"); path != "" {
		config, err := readConfig(newFlagTable(c.App), path)
		if err != nil {
			return err
		}
		r.config = config
		if err := altsrc.ApplyInputSourceValues(c, config, c.App.Flags); err != nil {
			return usagef("configuration %s: %v", path, err)
		}
	}
	format := c.String("log-format")
	if format != "text" && format != "json" {
		return usagef("flag --log-format: %q is neither text nor json", format)
	}
	r.out = ui.New(r.printing(c.Bool("json"), format == "json", c.Bool("quiet")))
	return nil
}

func (r *run) printing(asJSON, logJSON, quiet bool) ui.Options {
	return ui.Options{
		Stdout: r.opts.Stdout, Stderr: r.opts.Stderr, Now: r.opts.Now, OnStep: r.opts.OnStep,
		JSON: asJSON, LogJSON: logJSON, Quiet: quiet,
	}
}

// seems tells whether the arguments hold the switch, with one dash or two.
func seems(args []string, name string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return "--"+strings.TrimLeft(arg, "-") == name && strings.HasPrefix(arg, "-")
	})
}

const appDescription = `Flags may stand before or after the command and its arguments, with one dash
or two, with "_" for "-". Run "shardseed COMMAND --help" for a command's flags.

Example:
  shardseed init --root /backups
  shardseed list commerce/-80 --root /backups`

// commandHelp and groupHelp are how a command's help is laid out.
const (
	commandHelp = `NAME:
   {{template "helpNameTemplate" .}}

USAGE:
   {{template "usageTemplate" .}}

DESCRIPTION:
   {{template "descriptionTemplate" .}}

FLAGS:{{template "visibleFlagTemplate" .}}

Global flags: see "shardseed --help".
`
	groupHelp = `NAME:
   {{template "helpNameTemplate" .}}

DESCRIPTION:
   {{template "descriptionTemplate" .}}

COMMANDS:{{template "visibleCommandTemplate" .}}

Global flags: see "shardseed --help".
`
)
