package mysqlbackup

import (
	"context"
	"fmt"
	"strings"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// checkReplication collects what speaks against stopping a replica for the way
// in which it replicates, and warns of what the backup can't be used for.
func (b *backupRun) checkReplication(ctx context.Context, srv *server, vars map[string]string, r *refusals) error {
	channels, err := srv.channels(ctx)
	if err != nil {
		return err
	}
	b.byFile = srv.flavor() == replication.MySQL && !same(vars["gtid_mode"], "ON")
	if b.byFile {
		b.checkByFile(srv, vars, channels, r)
	}
	for _, c := range channels {
		source := HostPort{Host: c.SourceHost, Port: c.SourcePort}
		if c.Filters != "" {
			b.Progress.Warn(fmt.Sprintf("the replica leaves out a part of what %s writes (%s): so does the backup", source, c.Filters))
		}
		if !c.AutoPosition && !b.byFile {
			b.Progress.Warn(fmt.Sprintf("the replica follows %s by file and position: so will a server restored from the backup, as long as it follows %[1]s", source))
		}
	}
	if err := b.warnSemiSync(ctx, srv); err != nil {
		return err
	}
	return checkFilters(ctx, srv, r)
}

// checkByFile is for servers without GTIDs: a backup can be used as long as the
// binary log in which it stands is there, and for its very source.
func (b *backupRun) checkByFile(srv *server, vars map[string]string, channels []replication.ReplicaStatus, r *refusals) {
	mode := vars["gtid_mode"]
	if len(channels) == 0 {
		if !same(vars["log_bin"], "ON") {
			r.addHint("set gtid_mode=ON, or log_bin, on the whole shard first", "gtid_mode is %s and there is no binary log: a position cannot be recorded", mode)
			return
		}
		b.Progress.Warn(fmt.Sprintf("gtid_mode is %s: a server restored from this backup can follow this server only, from a position in its binary log", mode))
	}
	for _, c := range channels {
		b.Progress.Warn(fmt.Sprintf("gtid_mode is %s: a server restored from this backup can follow %s:%d only, from a position in its binary log; "+
			"whether somebody wrote to the replica itself can't be told", mode, c.SourceHost, c.SourcePort))
		if c.SQLRunning == replication.ThreadStopped && leavesGaps(srv, vars) {
			r.addHint(srv.dialect.StartUntilGapsClosed(c.Channel),
				"parallel appliers have stopped by themselves, and without GTIDs nobody can tell what they left out")
		}
	}
}

// warnSemiSync tells that a primary waits for this server.
func (b *backupRun) warnSemiSync(ctx context.Context, srv *server) error {
	acknowledges, err := srv.acknowledges(ctx)
	if err == nil && acknowledges {
		b.Progress.Warn("the server acknowledges what its source commits (semi-synchronous replication): " +
			"while it is away, the source waits for another replica, or for its time limit")
	}
	return err
}

// acknowledges reports whether the source waits for this replica.
func (s *server) acknowledges(ctx context.Context) (bool, error) {
	rows, err := s.rows(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Rpl_semi_sync_replica_status', 'Rpl_semi_sync_slave_status')")
	for _, row := range rows {
		if same(row["Value"], "ON") {
			return true, err
		}
	}
	return false, err
}

// checkFilters refuses a replica that would forget with the restart what it is
// not to replicate.
func checkFilters(ctx context.Context, srv *server, r *refusals) error {
	query := "SELECT DISTINCT FILTER_NAME AS name FROM performance_schema.replication_applier_filters" +
		" WHERE CONFIGURED_BY LIKE 'CHANGE_REPLICATION_FILTER%' AND FILTER_RULE <> ''"
	if srv.flavor() == replication.MariaDB {
		query = "SELECT VARIABLE_NAME AS name FROM information_schema.SYSTEM_VARIABLES" +
			" WHERE VARIABLE_NAME LIKE 'REPLICATE\\_%' AND GLOBAL_VALUE_ORIGIN = 'SQL' AND VARIABLE_NAME <> 'REPLICATE_EVENTS_MARKED_FOR_SKIP'"
	}
	rows, err := srv.rows(ctx, query)
	if err != nil {
		return err
	}
	var names []string
	for _, row := range rows {
		names = append(names, strings.ToLower(row["name"]))
	}
	if len(names) > 0 {
		r.addHint("write the filters into the server's options", "replication filters (%s) were set at run time: the server would forget them with a restart", strings.Join(names, ", "))
	}
	return nil
}

// recordChannels is what a manifest says of channels that have been stopped.
func recordChannels(channels []replication.ReplicaStatus) []manifest.Channel {
	var recorded []manifest.Channel
	for _, c := range channels {
		recorded = append(recorded, manifest.Channel{
			Name: c.Channel, Source: manifest.Source{Host: c.SourceHost, Port: c.SourcePort},
			ServerUUID: c.SourceUUID, ServerID: c.SourceServerID,
			AutoPosition: c.AutoPosition, File: c.SourceFile, Offset: c.SourceOffset, Filters: c.Filters,
		})
	}
	return recorded
}
