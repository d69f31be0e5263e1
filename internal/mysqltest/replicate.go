package mysqltest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/shardseed/shardseed/replication"
)

// Follow makes the server a replica of the primary, by GTIDs, and starts
// replication. What it followed before is forgotten.
func (s *Server) Follow(tb testing.TB, primary *Server) {
	tb.Helper()
	// A receiver of MySQL that is told to end just after it has connected may only
	// notice with the next sign of life of its source.
	source := fmt.Sprintf("HOST='127.0.0.1', %%[1]s_PORT=%d, %%[1]s_USER=%s, %%[1]s_PASSWORD=%s, %%[1]s_CONNECT_RETRY=1, %%[1]s_HEARTBEAT_PERIOD=2",
		primary.Port, quote(ReplUser), quote(ReplPassword))
	if s.Flavor == replication.MariaDB {
		s.Exec(tb, "STOP SLAVE", "RESET SLAVE ALL",
			fmt.Sprintf("CHANGE MASTER TO %[1]s_"+source+", %[1]s_USE_GTID=slave_pos", "MASTER"),
			"START SLAVE")
		return
	}
	s.Exec(tb, "STOP REPLICA", "RESET REPLICA ALL",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO %[1]s_"+source+", %[1]s_SSL=1, %[1]s_AUTO_POSITION=1", "SOURCE"),
		"START REPLICA")
}

// Executed returns what the server has executed, as it prints it: gtid_executed
// without line ends, or, of a MariaDB server, gtid_current_pos of a primary and
// gtid_slave_pos of a replica.
func (s *Server) Executed(tb testing.TB) string {
	tb.Helper()
	position, err := s.executed(tb.Context())
	if err != nil {
		tb.Fatalf("mysqltest: server %d: %v", s.ServerID, err)
	}
	return position
}

func (s *Server) executed(ctx context.Context) (string, error) {
	if s.Flavor == replication.MariaDB {
		return s.db.value(ctx, "SELECT @@gtid_current_pos")
	}
	return s.db.value(ctx, `SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')`)
}

// ReplicaStatus returns the server's only row of replica status, with the
// column names of its flavor, or nil when it is no replica.
func (s *Server) ReplicaStatus(tb testing.TB) map[string]string {
	tb.Helper()
	if s.Flavor == replication.MariaDB {
		return s.Row(tb, "SHOW ALL SLAVES STATUS")
	}
	return s.Row(tb, "SHOW REPLICA STATUS")
}

// WaitForReplica waits until the server has executed everything that the
// primary has executed at the time of the call, and until a receiver that was
// started is connected and the lag is known: there is nothing else to wait for
// where nothing was written. It fails as soon as the replica cannot apply
// something.
func (s *Server) WaitForReplica(tb testing.TB, primary *Server) {
	tb.Helper()
	if err := s.waitFor(tb.Context(), primary.Executed(tb)); err != nil {
		tb.Fatalf("mysqltest: wait for replica %d of %d: %v", s.ServerID, primary.ServerID, err)
	}
}

func (s *Server) waitFor(ctx context.Context, position string) error {
	query := "SELECT GTID_SUBSET(" + quote(position) + ", @@GLOBAL.gtid_executed)"
	if s.Flavor == replication.MariaDB {
		query = "SELECT MASTER_GTID_WAIT(" + quote(position) + ", 0) = 0"
	}
	err := poll(ctx, func() (bool, error) {
		reached, err := s.db.value(ctx, query)
		if err != nil {
			return false, err
		}
		settled, err := s.settled(ctx)
		return reached == "1" && settled, err
	})
	if err != nil {
		return fmt.Errorf("reach %s: %w", position, err)
	}
	return nil
}

// settled returns the error at which the replica stopped, or nil, and whether
// its receivers, where they were started, are connected and know the lag.
func (s *Server) settled(ctx context.Context) (bool, error) {
	query, receiver, applier, lag := "SHOW REPLICA STATUS", "Replica_IO_Running", "Replica_SQL_Running", "Seconds_Behind_Source"
	if s.Flavor == replication.MariaDB {
		query, receiver, applier, lag = "SHOW ALL SLAVES STATUS", "Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master"
	}
	rows, err := s.db.rows(ctx, query)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row["Last_SQL_Errno"] != "0" {
			return false, errors.New(row["Last_SQL_Error"])
		}
		_, known := row[lag]
		if row[receiver] != "No" && (row[receiver] != "Yes" || row[applier] == "Yes" && !known) {
			return false, nil
		}
	}
	return true, nil
}
