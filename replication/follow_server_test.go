package replication_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// TestPurgedAgainstMySQL compares CanFollow with what the source itself says
// when a replica at the position asks for its binary logs.
func TestPurgedAgainstMySQL(t *testing.T) {
	t.Parallel()
	primary := mysqltest.Start(t, replication.MySQL, mysqltest.Options{})
	primary.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	purgeLogs(t, primary)
	primary.Exec(t, "INSERT INTO d.t VALUES (2)")
	state := replication.PrimaryState{Position: position(t, "mysql:"+primary.Executed(t))}
	state.Position.Purged = gtidSet(t, primary.Value(t, "SELECT @@GLOBAL.gtid_purged"))
	uuid := primary.Value(t, "SELECT @@server_uuid")
	compareWithSource(t, primary, state, map[string]bool{
		"mysql:":                 false,
		"mysql:" + uuid + ":1-2": false,
		"mysql:" + uuid + ":1:3": false,
		"mysql:" + uuid + ":1-3": true,
	})
}

// TestPurgedAgainstMariaDB is the same with two domains.
func TestPurgedAgainstMariaDB(t *testing.T) {
	t.Parallel()
	primary := mysqltest.Start(t, replication.MariaDB, mysqltest.Options{})
	primary.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "SET gtid_domain_id = 7", "INSERT INTO d.t VALUES (1)", "INSERT INTO d.t VALUES (2)")
	purgeLogs(t, primary)
	primary.Exec(t, "SET gtid_domain_id = 7", "INSERT INTO d.t VALUES (3)", "SET gtid_domain_id = 9", "INSERT INTO d.t VALUES (4)")
	d := serverDialect(t, primary)
	state := replication.PrimaryState{Position: position(t, "mariadb:"+primary.Value(t, d.PrimaryGTIDs))}
	state.Position.BinlogState = mariaDB(t, primary.Value(t, "SELECT @@GLOBAL.gtid_binlog_state"))
	state.BinlogStart = mariaDB(t, primary.Value(t, fmt.Sprintf("SELECT BINLOG_GTID_POS(%s, 4)", replication.Quote(oldestLog(t, primary)))))
	id := primary.ServerID
	compareWithSource(t, primary, state, map[string]bool{
		"mariadb:":                                   false,
		fmt.Sprintf("mariadb:0-%d-2", id):            false,
		fmt.Sprintf("mariadb:0-%d-2,7-%d-1", id, id): false,
		fmt.Sprintf("mariadb:0-%d-1,7-%d-2", id, id): false,
		fmt.Sprintf("mariadb:0-%d-2,7-%d-2", id, id): true,
		fmt.Sprintf("mariadb:0-%d-3,7-%d-2", id, id): false,
	})
}

func oldestLog(t *testing.T, server *mysqltest.Server) string {
	t.Helper()
	return server.Rows(t, serverDialect(t, server).BinaryLogs)[0]["Log_name"]
}

// purgeLogs deletes all binary logs but a new one. MariaDB keeps the old ones
// until the new one has a checkpoint.
func purgeLogs(t *testing.T, server *mysqltest.Server) {
	t.Helper()
	d := serverDialect(t, server)
	server.Exec(t, "FLUSH BINARY LOGS")
	until(t, "the old binary logs are gone", func() bool {
		server.Exec(t, "PURGE BINARY LOGS TO "+replication.Quote(server.Row(t, d.BinlogStatus)["File"]))
		return len(server.Rows(t, d.BinaryLogs)) == 1
	})
}

// compareWithSource asks for binary logs from each position; positions maps to
// whether a replica there can follow.
func compareWithSource(t *testing.T, primary *mysqltest.Server, state replication.PrimaryState, positions map[string]bool) {
	replica := mysqltest.Start(t, primary.Flavor, mysqltest.Options{})
	d := serverDialect(t, replica)
	for text, want := range positions {
		p := position(t, text)
		verdict := replication.CanFollow(p, state)
		if got := verdict == nil; got != want {
			t.Errorf("%s: our verdict: %v, want served %t", text, verdict, want)
		}
		replica.Exec(t, d.StopReplica, d.ResetReplicaAll(""), d.ResetBinaryLogs, d.SetPosition(p), d.ChangeSource(replication.SourceOptions{
			Host: "127.0.0.1", Port: primary.Port, User: mysqltest.ReplUser, Password: mysqltest.ReplPassword, AutoPosition: true, PublicKey: true,
		}), d.StartChannel("", replication.IOThread))
		status := received(t, replica, d, state.Position.Subtract(p))
		if got := status.IOErrno == 0; got != want {
			t.Errorf("%s: the source's verdict: %v, want served %t", text, status.Err(), want)
		}
	}
}

// received waits until the replica has received all of want, or has failed.
func received(t *testing.T, replica *mysqltest.Server, d replication.Dialect, want replication.Position) replication.ReplicaStatus {
	t.Helper()
	var status replication.ReplicaStatus
	until(t, "the replica has received "+want.String(), func() bool {
		status = channels(t, replica, d)[0]
		return status.IOErrno != 0 || status.Retrieved.Contains(want)
	})
	return status
}

// until waits for done.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(time.Minute)
	for !done() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}
