package commands

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/ui"
)

// usageError is a command line, an environment or a configuration file that
// makes no sense. Nothing has been opened when it is returned.
type usageError struct {
	problems []string // one fact each, at least one
}

func (e *usageError) Error() string { return strings.Join(e.problems, "; ") }

// usagef returns a usage error with one problem.
func usagef(format string, args ...any) error {
	return &usageError{problems: []string{fmt.Sprintf(format, args...)}}
}

// seeHelp adds the hint that shows how a command is used; "" is the program.
func seeHelp(err error, command string) error {
	return hint.Wrap(err, fmt.Sprintf("run %q", strings.Join(strings.Fields(ui.Program+" "+command+" --help"), " ")))
}

// checks collects what is wrong with the flags and arguments of a command, so
// that all of it can be said at once.
type checks struct {
	problems []string
	failed   error // why not all could be checked
}

// addf adds a problem.
func (k *checks) addf(format string, args ...any) {
	k.problems = append(k.problems, fmt.Sprintf(format, args...))
}

// add adds err as a problem unless it is nil.
func (k *checks) add(err error) {
	if err != nil {
		k.problems = append(k.problems, err.Error())
	}
}

// file adds what is wrong with the file that a flag names. That it can't be read is
// no mistake in the flag.
func (k *checks) file(flag string, err error) {
	err = fmt.Errorf("flag --%s: %w", flag, err)
	for _, mistake := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.EISDIR, syscall.ENOTDIR, syscall.ELOOP} {
		if errors.Is(err, mistake) {
			k.add(err)
			return
		}
	}
	if errors.As(err, new(syscall.Errno)) {
		k.failed = errors.Join(k.failed, err)
		return
	}
	k.add(err)
}

// err returns why not all could be checked, else the usage error of the command c,
// or nil if all is well.
func (k *checks) err(c *cli.Context) error {
	if k.failed != nil || len(k.problems) == 0 {
		return k.failed
	}
	return seeHelp(&usageError{problems: k.problems}, strings.TrimPrefix(c.Command.HelpName, ui.Program+" "))
}

// positionals returns the arguments of c, which must be as many as names. If
// they are not, that is a problem and the result is as long, but empty.
func (k *checks) positionals(c *cli.Context, names ...string) []string {
	args := c.Args().Slice()
	if len(args) == len(names) {
		return args
	}
	wanted := strings.Join(names, " ")
	switch {
	case len(names) == 0:
		k.addf("no argument is wanted, got %q", args)
	case len(args) == 0:
		k.addf("%s is missing", wanted)
	case len(args) < len(names):
		k.addf("%s is missing after %q", strings.Join(names[len(args):], " "), args)
	default:
		k.addf("only %s is wanted, got %q", wanted, args)
	}
	return make([]string, len(names))
}

// require adds a problem for each flag that has no value.
func (k *checks) require(c *cli.Context, flags ...string) {
	for _, name := range flags {
		if c.String(name) == "" {
			k.addf("flag --%s is missing", name)
		}
	}
}

// exclusive adds a problem if more than one of the flags is given.
func (k *checks) exclusive(c *cli.Context, flags ...string) {
	var set []string
	for _, name := range flags {
		if isGiven(c, name) {
			set = append(set, "--"+name)
		}
	}
	if len(set) > 1 {
		k.addf("%s exclude each other", strings.Join(set, " and "))
	}
}

// isGiven tells whether a flag has a value that says something: a switch that
// is on, or a text that is not empty.
func isGiven(c *cli.Context, name string) bool {
	switch value := c.Value(name).(type) {
	case bool:
		return value
	case string:
		return value != ""
	default:
		return c.IsSet(name)
	}
}
