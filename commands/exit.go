package commands

import (
	"context"
	"errors"
	"strings"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// The exit codes. docs/cli.md holds the same table.
const (
	exitDone             = 0
	exitFailed           = 1
	exitUsage            = 2
	exitMarked           = 3
	exitGoodNotPutBack   = 4
	exitFailedNotPutBack = 5
	exitRefused          = 6
	exitNoUsableBackup   = 7
	exitNoBackup         = 8
	exitNotServing       = 9
	exitNoRepository     = 10
	exitDamaged          = 12
	exitBusy             = 13
	exitInterrupted      = 130
)

// exitMeaning is a row of the table of exit codes.
type exitMeaning struct {
	code    int
	meaning string
}

// exitTable returns what every exit code means, in ascending order.
func exitTable() []exitMeaning {
	return []exitMeaning{
		{exitDone, "done"},
		{exitFailed, "failed, nothing changed or everything put back"},
		{exitUsage, "wrong usage, nothing opened"},
		{exitMarked, "done, but the backup is marked (bad pages, position not re-checked)"},
		{exitGoodNotPutBack, "backup good, put-back or catch-up incomplete"},
		{exitFailedNotPutBack, "backup failed and put-back incomplete"},
		{exitRefused, "refused by the preflight, nothing changed"},
		{exitNoUsableBackup, "there are backups, but none can be used"},
		{exitNoBackup, "no backup of that shard at all"},
		{exitNotServing, "the server does not serve (health)"},
		{exitNoRepository, "no repository at the root"},
		{exitDamaged, "damaged repository, or a backup that failed its drill"},
		{exitBusy, "busy: another run works on this server or shard"},
		{exitInterrupted, "interrupted, everything put back"},
	}
}

// codedError is an error whose exit code is known where it happened.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// withCode gives err a code if it is of a kind.
func withCode(err, kind error, code int) error {
	if errors.Is(err, kind) {
		return &codedError{err, code}
	}
	return err
}

// exitCode returns the exit code for the error that a run returned. What has
// been left undone on a server counts more than why.
func exitCode(ctx context.Context, err error) int {
	code := kindOf(err)
	stopped := code == exitFailed || code >= exitRefused && errors.Is(err, context.Canceled)
	if stopped && ctx.Err() != nil {
		return exitInterrupted
	}
	return code
}

// kindOf returns the exit code for the error alone.
func kindOf(err error) int {
	if err == nil {
		return exitDone
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	for _, row := range exitSentinels() {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return exitFailed
}

// exitSentinel is an error that has an exit code of its own.
type exitSentinel struct {
	err  error
	code int
}

// exitSentinels returns them; of several that an error is, the first counts.
func exitSentinels() []exitSentinel {
	return []exitSentinel{
		{mysqlbackup.ErrPutBack, exitFailedNotPutBack},
		{mysqlbackup.ErrBusy, exitBusy},
		{mysqlbackup.ErrMarked, exitMarked},
		{mysqlbackup.ErrDrill, exitDamaged},
		{mysqlbackup.ErrNoUsableBackup, exitNoUsableBackup},
		{mysqlbackup.ErrNoBackup, exitNoBackup},
		{mysqlbackup.ErrRefused, exitRefused},
		{cas.ErrNoRepository, exitNoRepository},
		{cas.ErrCorrupt, exitDamaged},
	}
}

// failure returns how the run ends with err, which is not nil.
func failure(ctx context.Context, err error) ui.Failure {
	f := ui.Failure{Messages: messages(err), Hints: hint.Of(err), ExitCode: exitCode(ctx, err)}
	if f.ExitCode != exitInterrupted {
		return f
	}
	switch cause := context.Cause(ctx).Error(); {
	case err.Error() == cause:
		f.Messages = []string{"interrupted: " + cause}
	case !strings.Contains(err.Error(), cause):
		f.Messages = append(f.Messages, "interrupted: "+cause)
	}
	return f
}

// messages returns what err says, one fact each: several if it is a usage
// error or a plain list of errors.
func messages(err error) []string {
	if usage, ok := err.(*usageError); ok { //nolint:errorlint // the chain is walked here, as long as no link says more than the next
		return usage.problems
	}
	if inner := errors.Unwrap(err); inner != nil && inner.Error() == err.Error() {
		return messages(inner)
	}
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var texts, all []string
	for _, part := range list.Unwrap() {
		if part.Error() == err.Error() {
			return messages(part)
		}
		texts = append(texts, part.Error())
		all = append(all, messages(part)...)
	}
	if text := err.Error(); text == strings.Join(texts, "\n") || text == strings.Join(texts, "; ") {
		return all
	}
	return []string{err.Error()}
}
