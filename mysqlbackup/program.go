package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// program is a program that runs in a session of its own, so that a signal for
// us does not end it and what it starts outlives us.
type program struct {
	name  string
	args  []string
	env   []string            // besides ours
	owner *syscall.Credential // who runs it; nil: we
	whole bool                // when its time is over, what it has started is ended too
}

// run runs a program that gets nothing but its arguments.
func run(ctx context.Context, name string, args ...string) error {
	return program{name: name, args: args}.run(ctx)
}

// run runs the program. Its output is written to a file and not to a pipe,
// which what it leaves running would keep open. The file has no name from the
// start, so that nothing is left of it if we are killed.
func (p program) run(ctx context.Context) (err error) {
	output, err := os.CreateTemp("", "shardseed-output-")
	if err != nil {
		return fmt.Errorf("run %s: %w", p.name, err)
	}
	defer func() { err = errors.Join(err, output.Close()) }()
	if err := os.Remove(output.Name()); err != nil {
		return fmt.Errorf("run %s: %w", p.name, err)
	}
	cmd := exec.CommandContext(ctx, p.name, p.args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.owner}
	if len(p.env) > 0 {
		cmd.Env = append(os.Environ(), p.env...)
	}
	if p.whole {
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
		said, readErr := tailOf(output)
		return errors.Join(fmt.Errorf("run %q: %w%s", strings.Join(append([]string{p.name}, p.args...), " "), err, quoteTail(said)), readErr)
	}
	return nil
}
