package mysqlbackup

import (
	"context"
	"fmt"

	"github.com/shardseed/shardseed/replication"
)

// leavesGaps reports whether parallel appliers may apply a transaction before
// an earlier one. MariaDB's never do.
func leavesGaps(srv *server, vars map[string]string) bool {
	return srv.flavor() == replication.MySQL && vars[srv.dialect.ParallelWorkers] != "0" && !same(vars[srv.dialect.PreserveCommitOrder], "ON")
}

// closeGaps applies what the parallel appliers of a channel that has been
// stopped left out below the newest transaction.
func (b *backupRun) closeGaps(ctx context.Context, srv *server, c channelState) error {
	if !c.SQLRunning {
		return nil
	}
	vars, err := srv.variables(ctx)
	if err != nil || !leavesGaps(srv, vars) {
		return err
	}
	stopped, idle, err := lookForGaps(ctx, srv, c.Name)
	if err != nil || stopped && idle {
		return err
	}
	if err := srv.exec(ctx, srv.dialect.StartUntilGapsClosed(c.Name)); err != nil {
		return err
	}
	return poll(ctx, "the gaps of parallel appliers to close", b.Server.StopTimeout, func(ctx context.Context) (bool, error) {
		stopped, idle, err := lookForGaps(ctx, srv, c.Name)
		if err != nil || stopped {
			return err == nil, err
		}
		if idle { // it would wait for one more transaction before it ends
			return false, srv.exec(ctx, srv.dialect.StopChannel(c.Name, replication.SQLThread))
		}
		return false, nil
	})
}

// lookForGaps reports whether a channel does not apply, and whether there is
// nothing left to apply: then there are no gaps either.
func lookForGaps(ctx context.Context, srv *server, name string) (stopped, idle bool, err error) {
	channels, err := srv.channels(ctx)
	if err != nil {
		return false, false, err
	}
	for _, c := range channels {
		if c.Channel != name {
			continue
		}
		stopped = c.SQLRunning == replication.ThreadStopped
		if c.SQLErrno != 0 && stopped {
			return stopped, false, c.Err()
		}
		idle = replication.LogReached(c.SourceFile, c.SourceOffset, c.ReadFile, c.ReadOffset)
		if !c.Retrieved.IsEmpty() {
			idle = c.Executed.Contains(c.Retrieved)
		}
		return stopped, idle, nil
	}
	return false, false, fmt.Errorf("replication channel %q is gone", name)
}
