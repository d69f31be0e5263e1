package replication

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PrimaryState is what is read from a primary to judge whether a backup can
// follow it.
type PrimaryState struct {
	// Position is what its replicas are to reach: Executed and Purged on MySQL,
	// Domains (@@gtid_binlog_pos) and BinlogState on MariaDB.
	Position Position
	// BinlogStart is MariaDB's counterpart of Purged: the GTID list at the start
	// of the oldest binary log.
	BinlogStart MariaDBPosition
	// SlavePos is MariaDB's @@gtid_slave_pos: what the primary applied while it
	// was a replica, or was seeded with.
	SlavePos MariaDBPosition
}

// PurgedError says that a primary has deleted binary logs that a server at
// the backup's position would ask for.
type PurgedError struct {
	Missing Position // what is gone; on MariaDB the GTIDs where the primary's binary logs start, as far as it is ahead
	Have    Position // the backup's
}

// Error shows a bounded part of what is missing.
func (e *PurgedError) Error() string {
	if e.Missing.Flavor == MariaDB {
		return fmt.Sprintf("the primary has purged transactions that the backup lacks: its binary logs start after %s, the backup has %s",
			e.Missing.Short(), e.Have.Short())
	}
	return "the primary has purged transactions that the backup lacks: " + e.Missing.Short()
}

// ErrantError says that the backup has transactions that the primary lacks.
type ErrantError struct {
	Extra Position // on MariaDB the newest of each server, perhaps several of one domain
}

// Error shows a bounded part of what is too much.
func (e *ErrantError) Error() string {
	return "the backup has transactions that the primary lacks (errant): " + e.Extra.Short()
}

// CanFollow returns nil if a server restored from a backup at the position can
// replicate from the primary: the primary still has all that the backup lacks
// (else *PurgedError) and has all that the backup has (else *ErrantError); both
// are joined if both hold.
//
// MariaDB keeps no set of what a server has executed. There, a backup's
// transaction is called errant if its number is beyond the primary's newest of
// the domain, or if the primary's binary log state, which covers all that came
// after its oldest log's start, doesn't know it. What two servers wrote under
// the same number and server_id, or before that start, can't be told apart; and
// a primary that was seeded without its binary log state, has replicated since,
// and still has its first log, looks as if it lacked what earlier primaries
// wrote.
func CanFollow(backup Position, primary PrimaryState) error {
	if backup.Flavor != primary.Position.Flavor {
		return fmt.Errorf("follow the primary: it is %s, the backup is %s", primary.Position.Flavor.title(), backup.Flavor.title())
	}
	missing := Position{Flavor: backup.Flavor}
	extra := Position{Flavor: backup.Flavor}
	if backup.Flavor == MariaDB {
		missing.Domains = primary.start().Newest().Subtract(backup.Domains)
		extra.Domains = mariaDBErrant(backup, primary)
	} else {
		missing.Executed = primary.Position.Purged.Subtract(backup.Executed)
		extra.Executed = backup.Executed.Subtract(primary.Position.Executed)
	}
	var errs []error
	if !missing.IsEmpty() {
		errs = append(errs, &PurgedError{Missing: missing, Have: backup})
	}
	if !extra.IsEmpty() {
		errs = append(errs, &ErrantError{Extra: extra})
	}
	return errors.Join(errs...)
}

// start is where the primary's binary logs start: what its oldest one says, and
// what the primary applied, or was seeded with, without logging it.
func (s PrimaryState) start() MariaDBPosition {
	logged := s.Position.BinlogState.byServer()
	unlogged := s.SlavePos.filter(func(g MariaDBGTID) bool { return g.Seq > logged[g.writer()] })
	return unionOf(s.BinlogStart, unlogged)
}

// mariaDBErrant returns the newest GTIDs of the backup that the primary lacks.
func mariaDBErrant(backup Position, primary PrimaryState) MariaDBPosition {
	own := unionOf(backup.Domains, backup.BinlogState)
	known := unionOf(unionOf(primary.Position.Domains, primary.Position.BinlogState), primary.SlavePos)
	newest, start := known.newest(), primary.start().newest()
	written := known.byServer()
	return own.filter(func(g MariaDBGTID) bool {
		return g.Seq > newest[g.Domain] || g.Seq > written[g.writer()] && g.Seq > start[g.Domain]
	})
}

// unionOf returns the newest GTID of each server and domain in both lists.
func unionOf(p, q MariaDBPosition) MariaDBPosition {
	merged := p.byServer()
	for _, g := range q.gtids {
		merged[g.writer()] = max(merged[g.writer()], g.Seq)
	}
	gtids := make([]MariaDBGTID, 0, len(merged))
	for w, seq := range merged {
		gtids = append(gtids, MariaDBGTID{Domain: w.domain, Server: w.server, Seq: seq})
	}
	slices.SortFunc(gtids, MariaDBGTID.compare)
	return MariaDBPosition{gtids: gtids}
}

// SplitForeign parts a position of a replica of several sources for a server
// that is to follow one of them: what came from sources of which that primary
// knows nothing (no GTID of their server_uuid on MySQL, of their domain on
// MariaDB), and the rest. What the server itself wrote, known by its own
// server_uuid or server_id, is never foreign.
func SplitForeign(backup Position, primary PrimaryState, ownUUID string, ownID uint32) (rest, foreign Position) {
	rest, foreign = backup, Position{Flavor: backup.Flavor}
	if backup.Flavor == MySQL {
		known := primary.Position.Executed.Union(primary.Position.Purged)
		rest.Executed, foreign.Executed = backup.Executed.split(func(o origin) bool {
			return known.hasUUID(o.uuid) || strings.EqualFold(string(appendUUID(nil, o.uuid)), ownUUID)
		})
		return rest, foreign
	}
	known := unionOf(unionOf(primary.Position.Domains, primary.Position.BinlogState), primary.SlavePos).newest()
	own := backup.BinlogState.filter(func(g MariaDBGTID) bool { return g.Server == ownID }).newest()
	keep := func(g MariaDBGTID) bool { return known[g.Domain] > 0 || own[g.Domain] > 0 }
	rest.Domains, rest.BinlogState = backup.Domains.filter(keep), backup.BinlogState.filter(keep)
	foreign.Domains = backup.Domains.filter(func(g MariaDBGTID) bool { return !keep(g) })
	return rest, foreign
}
