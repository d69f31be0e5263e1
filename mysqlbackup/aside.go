package mysqlbackup

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/internal/hint"
)

// takeAside fences the server, stops replication, records the position and
// stops mysqld.
func (b *backupRun) takeAside(ctx context.Context, srv *server) error {
	if err := b.fence(ctx, srv); err != nil {
		return err
	}
	b.step(StepStopReplication, "")
	if err := b.stopReplication(ctx, srv); err != nil {
		return err
	}
	b.step(StepPosition, "")
	channels, err := srv.channels(ctx)
	if err != nil {
		return err
	}
	if b.record.Position, err = srv.position(ctx, channels); err != nil {
		return err
	}
	// Not earlier: until now replication could make tablespaces.
	if b.spaces, err = srv.tablespaces(ctx); err != nil {
		return err
	}
	b.record.Channels = recordChannels(channels)
	b.record.PositionKnown = true
	return b.stop(ctx, srv)
}

// fence keeps out all writes but those of replication.
func (b *backupRun) fence(ctx context.Context, srv *server) error {
	b.step(StepFence, srv.dialect.ReadOnlyVariable)
	b.journal.Left = map[string]string{varReadOnly: "ON"}
	if srv.dialect.HasSuperReadOnly {
		b.journal.Left[varSuperReadOnly] = "ON"
	}
	if err := b.journal.save(); err != nil {
		return err
	}
	return setVariable(ctx, srv, srv.dialect.ReadOnlyVariable, "1")
}

// stopReplication stops all channels and leaves no gaps: what parallel
// appliers have left out below the newest transaction is applied first.
func (b *backupRun) stopReplication(ctx context.Context, srv *server) error {
	if len(b.journal.Saved.Channels) == 0 {
		return nil
	}
	if tablet := b.Serving.Tablet; tablet != nil { // with its hooks
		if err := tablet.Client.StopReplication(ctx, tablet.Alias); err != nil {
			return err
		}
	}
	if err := srv.exec(ctx, srv.dialect.StopReplica); err != nil {
		return err
	}
	for _, c := range b.journal.Saved.Channels {
		if err := b.closeGaps(ctx, srv, c); err != nil {
			return err
		}
	}
	return b.checkTempTables(ctx, srv)
}

// checkTempTables refuses to stop a replica that has applied half a session's
// temporary tables: they would be lost with the restart.
func (b *backupRun) checkTempTables(ctx context.Context, srv *server) error {
	rows, err := srv.rows(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Replica_open_temp_tables', 'Slave_open_temp_tables')")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row["Value"] != "0" {
			return hint.Wrap(refuse("replication has %s temporary tables open, which a restart would lose", row["Value"]), "try again later, or set binlog_format=ROW on the primary")
		}
	}
	return nil
}

// stop stops mysqld in order, and locks its files.
func (b *backupRun) stop(ctx context.Context, srv *server) error {
	if err := b.setFastShutdown(ctx, srv); err != nil {
		return err
	}
	b.step(StepStop, b.Server.Service.String())
	if err := b.checkUntouched(ctx, srv); err != nil {
		return err
	}
	if err := b.journal.enter(phaseStopped); err != nil {
		return err
	}
	b.down = b.Now()
	if err := stopServer(ctx, b.Server.Service, srv, b.Server.StopTimeout); err != nil {
		return err
	}
	b.step(StepLock, b.layout.systemFiles[0])
	lock, err := lockSpace(ctx, b.layout.systemFiles[0])
	if err != nil {
		return err
	}
	b.lock = lock
	return b.checkAlone()
}

// checkAlone fails if another server waits for the files: somebody starts it
// again as soon as it ends.
func (b *backupRun) checkAlone() error {
	pids, err := serversOf(b.layout.datadir, b.Server.Defaults.Path)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return hint.Wrap(fmt.Errorf("the server was stopped, and %s waits to take its place", describeProcess(pids[0])),
			"let whoever starts it also stop it: --service, or --stop-command and --start-command")
	}
	return nil
}

// checkUntouched gives up on a server on which somebody has worked since it was
// fenced: it may be the primary now.
func (b *backupRun) checkUntouched(ctx context.Context, srv *server) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	now, err := readState(ctx, srv)
	if err != nil {
		return err
	}
	promoted, err := b.keeper.promoted(ctx, srv, now)
	if err != nil {
		return err
	}
	if promoted != "" {
		return errors.New(promoted)
	}
	if tablet := b.Serving.Tablet; tablet != nil {
		if err := tablet.checkDrained(ctx); err != nil {
			return err
		}
	}
	for name, left := range b.journal.Left {
		if got := now.Variables[name]; !same(got, left) {
			return fmt.Errorf("somebody has set %s to %s since the server was fenced", name, got)
		}
	}
	return nil
}

// setFastShutdown makes the shutdown a clean one: 2 would be like a crash, 0
// is what an upgrade to the next major version needs.
func (b *backupRun) setFastShutdown(ctx context.Context, srv *server) error {
	was, want := b.journal.Saved.Variables[varFastShutdown], ""
	switch {
	case b.UpgradeSafe && was != "0":
		want = "0"
	case !b.UpgradeSafe && was != "0" && was != "1":
		want = "1"
	default:
		return nil
	}
	b.journal.Left[varFastShutdown] = want
	if err := b.journal.save(); err != nil {
		return err
	}
	return setVariable(ctx, srv, varFastShutdown, want)
}
