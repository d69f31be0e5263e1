package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/cas"
)

// pinBackup tells garbage collection that the chosen backup is being read, so
// that it stays also if somebody removes it meanwhile. Where the repository cannot
// be written there is no pin: a restore that is overtaken by a removal and a prune
// fails then.
func (r *restoreRun) pinBackup(ctx context.Context) error {
	r.unpin(ctx) // another was chosen before
	pin, err := r.Store.Repo.Pin(ctx, r.chosen.Key(), cas.BeatEvery)
	var newer *cas.VersionError
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), pin.Close(context.WithoutCancel(ctx)))
	case err == nil:
		r.pin = pin
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.As(err, &newer):
	default:
		r.Progress.Warn(fmt.Sprintf("the backup is not kept if somebody removes it now: %v", err))
	}
	if _, err := ReadManifest(ctx, r.Store.Repo, r.chosen.Key()); err != nil { // it may have been removed before the pin was there
		return fmt.Errorf("backup %s: %w", r.chosen.Name, err)
	}
	return nil
}

// unpin ends the pin, if there is one.
func (r *restoreRun) unpin(ctx context.Context) {
	if err := r.pin.Close(context.WithoutCancel(ctx)); err != nil {
		r.Progress.Warn(fmt.Sprintf("prune keeps the backup until it has seen no sign of life for %s: %v", cas.DefaultStaleAfter, err))
	}
}
