package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// recheck reads the position again: the server must have started where it was
// before the stop.
func (b *backupRun) recheck(ctx context.Context, srv *server) error {
	b.step(StepRecheck, "")
	now, unmoved, err := b.look(ctx, srv)
	if errors.Is(err, errNotKnown) {
		detail := fmt.Sprintf("the server went on by itself before it could be asked: %v", err)
		b.mark(manifest.MarkPositionNotRechecked, detail)
		b.Progress.Warn(detail)
		return nil
	}
	if err != nil {
		return err
	}
	if !unmoved {
		return fmt.Errorf("the position was %s before the server was stopped, and is %s after: the copy would not be what it says", b.record.Position.Short(), now)
	}
	return nil
}

// look returns where the server is now, and whether it started where it was
// stopped. GTIDs tell; without them, how far it has applied its sources' binary
// logs, and for a server without a source the end of its own.
func (b *backupRun) look(ctx context.Context, srv *server) (now string, unmoved bool, err error) {
	channels, err := srv.channels(ctx)
	if err != nil {
		return "", false, err
	}
	got, err := srv.position(ctx, channels)
	if err != nil {
		return "", false, err
	}
	want := b.record.Position
	switch {
	case !got.Equal(want):
		unmoved, err = srv.positionAtStart(ctx, want)
	case !b.byFile, len(channels) > 0 && sameChannels(b.record.Channels, recordChannels(channels)):
		unmoved = true
	default:
		unmoved, err = srv.endedAt(ctx, want)
	}
	return got.Short(), unmoved, err
}

// sameChannels reports whether the same was applied of each source.
func sameChannels(want, got []manifest.Channel) bool {
	return slices.EqualFunc(want, got, func(w, g manifest.Channel) bool {
		return w.Name == g.Name && w.File == g.File && w.Offset == g.Offset
	})
}

// endedAt reports whether the server's binary log ended where it stood when it
// was stopped: only the event that says so may follow.
// Source: tried on MySQL 9.7, docs/testing.md.
func (s *server) endedAt(ctx context.Context, want replication.Position) (bool, error) {
	if want.BinlogFile == "" {
		return false, errNotLogged
	}
	if logs, err := s.logsReplicated(ctx); err != nil || !logs {
		return false, errors.Join(err, errNotLogged)
	}
	events, err := s.rows(ctx, s.dialect.BinlogEventsFrom(want.BinlogFile, want.BinlogOffset))
	if err != nil {
		return false, fmt.Errorf("%w: %w", errNotKnown, err)
	}
	return len(events) == 1 && events[0]["Event_type"] == "Stop", nil
}

// logsReplicated reports whether a MySQL server writes what it replicates into
// its own binary log.
func (s *server) logsReplicated(ctx context.Context) (bool, error) {
	rows, err := s.rows(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_replica_updates', 'log_slave_updates')")
	return len(rows) > 0 && same(rows[0]["Value"], "ON"), err
}

// errNotKnown says that the server can't tell where it stood when it started.
var (
	errNotKnown  = errors.New("where the server stood when it started is not known")
	errNotLogged = fmt.Errorf("%w: its binary log does not hold what it replicates", errNotKnown)
)

// positionAtStart tells whether a server that has gone on since it was started
// stood at want when it started. The binary log that each start begins says
// what the ones before it held.
// Source: tried on MySQL 9.7 and MariaDB 10.11, /docs/testing.md.
func (s *server) positionAtStart(ctx context.Context, want replication.Position) (bool, error) {
	file, err := s.binlogAfter(ctx, want.BinlogFile)
	if err != nil {
		return false, err
	}
	events, err := s.rows(ctx, s.dialect.BinlogEvents(file))
	if err != nil {
		return false, err
	}
	for _, event := range events {
		switch event["Event_type"] {
		case "Previous_gtids":
			return s.startedAt(ctx, event["Info"], want)
		case "Gtid_list":
			state, err := replication.ParseMariaDBGTIDList(event["Info"])
			if err == nil && !want.BinlogState.Contains(want.Domains) {
				err = errNotLogged
			}
			return err == nil && state.Equal(want.BinlogState), err
		}
	}
	return false, fmt.Errorf("%w: %s does not say", errNotKnown, file)
}

// startedAt: what MySQL's binary logs held at the start, with what had been
// purged before, is all that was executed.
func (s *server) startedAt(ctx context.Context, previous string, want replication.Position) (bool, error) {
	if logs, err := s.logsReplicated(ctx); err != nil || !logs {
		return false, errors.Join(err, errNotLogged)
	}
	inLogs, err := replication.ParseGTIDSet(previous)
	if err != nil {
		return false, err
	}
	text, err := s.value(ctx, "SELECT @@GLOBAL.gtid_purged")
	if err != nil {
		return false, err
	}
	purged, err := replication.ParseGTIDSet(text)
	return inLogs.Union(purged).Equal(want.Executed), err
}

// binlogAfter returns the binary log that follows the given one.
func (s *server) binlogAfter(ctx context.Context, file string) (string, error) {
	if file == "" {
		return "", fmt.Errorf("%w: it has no binary log", errNotKnown)
	}
	logs, err := s.rows(ctx, s.dialect.BinaryLogs)
	if err != nil {
		return "", err
	}
	for i, log := range logs {
		if log["Log_name"] == file && i+1 < len(logs) {
			return logs[i+1]["Log_name"], nil
		}
	}
	return "", fmt.Errorf("%w: the binary log after %s is gone", errNotKnown, file)
}
