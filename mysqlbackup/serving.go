package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Serving says how a server is taken out of serving before it is stopped, and
// returned when it has caught up again: by its tablet's type, or by commands.
// The zero value does neither.
type Serving struct {
	Tablet   *Tablet        `json:"tablet,omitempty"`
	Commands *DrainCommands `json:"commands,omitempty"`
}

func (s Serving) isZero() bool { return s.Tablet == nil && s.Commands == nil }

func (s Serving) String() string {
	switch {
	case s.Tablet != nil:
		return s.Tablet.String()
	case s.Commands != nil:
		return fmt.Sprintf("by %q", s.Commands.Drain)
	}
	return ""
}

// DrainCommands are shell commands that take a server out of serving and return
// it. Undrain must also do on a server that is not drained: nobody can tell
// how far a drain that was killed has come.
type DrainCommands struct {
	Drain       string        `json:"drain"`
	Undrain     string        `json:"undrain"`
	Timeout     time.Duration `json:"timeout"`     // of each
	Environment []string      `json:"environment"` // NAME=VALUE, set by Backup
}

func (d *DrainCommands) run(ctx context.Context, command string) error {
	if command == "" {
		return nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, d.Timeout, &timeoutError{fmt.Sprintf("%q", command), d.Timeout})
	defer cancel()
	return program{name: "/bin/sh", args: []string{"-c", command}, env: d.Environment, whole: true}.run(limited)
}

// environment tells the commands which server it is about.
func (b *backupRun) environment(vars map[string]string) []string {
	return []string{
		"SHARDSEED_ALIAS=" + b.Alias.Short(), "SHARDSEED_KEYSPACE=" + string(b.Keyspace), "SHARDSEED_SHARD=" + string(b.Shard),
		"SHARDSEED_HOST=" + b.Host, "SHARDSEED_PORT=" + vars["port"], "SHARDSEED_SOCKET=" + b.Server.Conn.Socket,
	}
}

// prepareServing refuses what must not be taken out of serving. Nothing is
// changed.
func (b *backupRun) prepareServing(ctx context.Context, vars map[string]string, r *refusals) error {
	if commands := b.Serving.Commands; commands != nil {
		own := *commands
		own.Environment = b.environment(vars)
		b.Serving.Commands = &own
	}
	if b.Serving.Tablet == nil {
		return nil
	}
	own := *b.Serving.Tablet
	b.Serving.Tablet = &own
	return own.check(ctx, vars["server_uuid"], b, r)
}

// drain takes the server out of serving. If that fails, the run is refused:
// what may have been done is undone.
func (b *backupRun) drain(ctx context.Context) error {
	if b.Serving.isZero() {
		return nil
	}
	b.step(StepDrain, b.Serving.String())
	err := b.drainNow(ctx)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("take the server out of serving: %w", err)
	if undone := b.keeper.undrain(context.WithoutCancel(ctx)); undone != nil {
		return errors.Join(err, b.notPutBack(undone))
	}
	return errors.Join(as(ErrRefused, err), b.journal.clear())
}

func (b *backupRun) drainNow(ctx context.Context) error {
	if tablet := b.Serving.Tablet; tablet != nil {
		return tablet.drain(ctx)
	}
	return b.Serving.Commands.run(ctx, b.Serving.Commands.Drain)
}

// undrain returns a server to serving.
func (k *keeper) undrain(ctx context.Context) error {
	serving := k.journal.Serving
	switch {
	case serving.Tablet != nil:
		return serving.Tablet.undrain(ctx, k.progress)
	case serving.Commands != nil:
		return serving.Commands.run(ctx, serving.Commands.Undrain)
	}
	return nil
}

// serve returns a server that has been put back to serving, if it was taken out,
// and clears the journal: nothing is left to do.
func (k *keeper) serve(ctx context.Context, srv *server) error {
	if k.journal.Serving.isZero() {
		return k.journal.clear()
	}
	k.progress.Step(string(StepServe), k.journal.Alias)
	if k.journal.Serving.Tablet != nil && !k.promotedNow {
		if err := k.followPrimary(ctx, srv); err != nil {
			return err
		}
	}
	if err := k.undrain(ctx); err != nil {
		return fmt.Errorf("return the server to serving: %w", err)
	}
	if k.journal.Serving.Tablet != nil && !k.promotedNow {
		if err := k.awaitThreads(ctx, srv); err != nil { // vttablet has connected them anew
			return err
		}
	}
	return k.journal.clear()
}

// catchUpAndServe is how a server whose run has failed comes back to serving.
// One that was not taken out need not have caught up.
func (k *keeper) catchUpAndServe(ctx context.Context, srv *server) error {
	if !k.promotedNow && !k.journal.Serving.isZero() {
		if _, err := k.catchUp(ctx, srv); err != nil {
			return fmt.Errorf("the server stays out of serving: %w", err)
		}
	}
	return k.serve(ctx, srv)
}
