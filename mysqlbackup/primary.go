package mysqlbackup

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// accounts are tried in turn on a primary: the one that replicas use, and the
// one that administers this host's server, which may see more.
type accounts struct{ replication, admin Credentials }

// each calls ask with a connection by each account until it returns no error.
// The error is that of the account that was to do.
func (a accounts) each(ctx context.Context, addr HostPort, ask func(*server) error) error {
	var first error
	for _, credentials := range []Credentials{a.replication, a.admin} {
		if credentials.User == "" {
			continue
		}
		err := a.try(ctx, addr, credentials, ask)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (accounts) try(ctx context.Context, addr HostPort, credentials Credentials, ask func(*server) error) error {
	srv, err := connectTo(ctx, addr, credentials)
	if err != nil {
		return err
	}
	defer srv.close()
	return ask(srv)
}

// checkWritable refuses a server that does not take writes: it is no primary.
func (s *server) checkWritable(ctx context.Context) error {
	on, err := s.value(ctx, "SELECT @@GLOBAL.read_only")
	if err != nil {
		return err
	}
	if !same(on, "OFF") {
		return fmt.Errorf("it is read-only")
	}
	return nil
}

// state reads what decides whether a copy can follow this primary.
func (s *server) state(ctx context.Context) (replication.PrimaryState, error) {
	position, err := s.primaryPosition(ctx)
	if err != nil {
		return replication.PrimaryState{}, err
	}
	state := replication.PrimaryState{Position: position}
	if s.flavor() != replication.MariaDB {
		return state, nil
	}
	applied, err := s.value(ctx, s.dialect.ReplicaGTIDs)
	if err != nil {
		return state, err
	}
	if state.SlavePos, err = replication.ParseMariaDBPosition(applied); err != nil {
		return state, err
	}
	state.BinlogStart, err = s.binlogStart(ctx)
	return state, err
}

// primaryPosition reads a primary's position: what replicas are to reach. It
// needs no privilege.
func (s *server) primaryPosition(ctx context.Context) (replication.Position, error) {
	gtids, err := s.value(ctx, s.dialect.PrimaryGTIDs)
	if err != nil {
		return replication.Position{}, err
	}
	position, err := replication.ParseGTIDs(s.flavor(), gtids)
	if err != nil {
		return position, err
	}
	return position, s.addHistory(ctx, &position)
}

// binlogStart reads where MariaDB's binary logs begin.
func (s *server) binlogStart(ctx context.Context) (replication.MariaDBPosition, error) {
	logs, err := s.rows(ctx, s.dialect.BinaryLogs)
	if err != nil {
		return replication.MariaDBPosition{}, hint.Wrap(err, "grant BINLOG MONITOR to the replication account: without it nobody can tell what the primary has purged")
	}
	if len(logs) == 0 {
		return replication.MariaDBPosition{}, errors.New("the primary has no binary log")
	}
	oldest := logs[0]["Log_name"]
	row, err := s.row(ctx, fmt.Sprintf("SELECT BINLOG_GTID_POS(%s, 4) AS start", replication.Quote(oldest)))
	if err != nil {
		return replication.MariaDBPosition{}, err
	}
	start, known := row["start"]
	if !known {
		return replication.MariaDBPosition{}, fmt.Errorf("the primary does not know where its binary log %s starts: it was purged just now", oldest)
	}
	return replication.ParseMariaDBPosition(start)
}
