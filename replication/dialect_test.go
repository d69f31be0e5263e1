package replication_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/replication"
)

// statements lists what differs between versions, by name.
func statements(d replication.Dialect) map[string]string {
	return map[string]string{
		"ReplicaStatus":       d.ReplicaStatus,
		"StopReplica":         d.StopReplica,
		"StopIOThread":        d.StopIOThread,
		"StartReplica":        d.StartReplica,
		"BinlogStatus":        d.BinlogStatus,
		"BinaryLogs":          d.BinaryLogs,
		"ResetBinaryLogs":     d.ResetBinaryLogs,
		"PrimaryGTIDs":        d.PrimaryGTIDs,
		"ReplicaGTIDs":        d.ReplicaGTIDs,
		"ReadOnlyVariable":    d.ReadOnlyVariable,
		"SkipStartFlag":       d.SkipStartFlag,
		"ParallelWorkers":     d.ParallelWorkers,
		"PreserveCommitOrder": d.PreserveCommitOrder,
		"SemiSyncSource":      strings.Join(d.SemiSyncSource, " "),
		"SemiSyncReplica":     strings.Join(d.SemiSyncReplica, " "),
		"StartChannel":        d.StartChannel("", replication.IOThread),
		"StopChannel":         d.StopChannel("east"),
		"UntilGapsClosed":     d.StartUntilGapsClosed(""),
		"ResetReplicaAll":     d.ResetReplicaAll("east"),
	}
}

func TestDialect(t *testing.T) {
	oldest := map[string]string{
		"ReplicaStatus":       "SHOW SLAVE STATUS",
		"StopReplica":         "STOP SLAVE",
		"StopIOThread":        "STOP SLAVE IO_THREAD",
		"StartReplica":        "START SLAVE",
		"BinlogStatus":        "SHOW MASTER STATUS",
		"BinaryLogs":          "SHOW BINARY LOGS",
		"ResetBinaryLogs":     "RESET MASTER",
		"PrimaryGTIDs":        "SELECT @@GLOBAL.gtid_executed",
		"ReplicaGTIDs":        "SELECT @@GLOBAL.gtid_executed",
		"ReadOnlyVariable":    "super_read_only",
		"SkipStartFlag":       "--skip-slave-start",
		"ParallelWorkers":     "slave_parallel_workers",
		"PreserveCommitOrder": "slave_preserve_commit_order",
		"SemiSyncSource":      "rpl_semi_sync_master_enabled",
		"SemiSyncReplica":     "rpl_semi_sync_slave_enabled",
		"StartChannel":        "START SLAVE IO_THREAD FOR CHANNEL ''",
		"StopChannel":         "STOP SLAVE FOR CHANNEL 'east'",
		"UntilGapsClosed":     "START SLAVE SQL_THREAD UNTIL SQL_AFTER_MTS_GAPS FOR CHANNEL ''",
		"ResetReplicaAll":     "RESET SLAVE ALL FOR CHANNEL 'east'",
	}
	since22 := with(oldest, map[string]string{
		"ReplicaStatus":   "SHOW REPLICA STATUS",
		"StopReplica":     "STOP REPLICA",
		"StopIOThread":    "STOP REPLICA IO_THREAD",
		"StartReplica":    "START REPLICA",
		"StartChannel":    "START REPLICA IO_THREAD FOR CHANNEL ''",
		"StopChannel":     "STOP REPLICA FOR CHANNEL 'east'",
		"UntilGapsClosed": "START REPLICA SQL_THREAD UNTIL SQL_AFTER_MTS_GAPS FOR CHANNEL ''",
		"ResetReplicaAll": "RESET REPLICA ALL FOR CHANNEL 'east'",
	})
	since26 := with(since22, map[string]string{
		"SkipStartFlag":       "--skip-replica-start",
		"ParallelWorkers":     "replica_parallel_workers",
		"PreserveCommitOrder": "replica_preserve_commit_order",
		"SemiSyncSource":      "rpl_semi_sync_source_enabled rpl_semi_sync_master_enabled",
		"SemiSyncReplica":     "rpl_semi_sync_replica_enabled rpl_semi_sync_slave_enabled",
	})
	since82 := with(since26, map[string]string{
		"BinlogStatus":    "SHOW BINARY LOG STATUS",
		"ResetBinaryLogs": "RESET BINARY LOGS AND GTIDS",
	})
	mariadb := with(oldest, map[string]string{
		"ReplicaStatus":       "SHOW ALL SLAVES STATUS",
		"StopReplica":         "STOP ALL SLAVES",
		"StopIOThread":        "STOP ALL SLAVES IO_THREAD",
		"StartReplica":        "START ALL SLAVES",
		"PrimaryGTIDs":        "SELECT @@GLOBAL.gtid_binlog_pos",
		"ReplicaGTIDs":        "SELECT @@GLOBAL.gtid_slave_pos",
		"ReadOnlyVariable":    "read_only",
		"ParallelWorkers":     "slave_parallel_threads",
		"PreserveCommitOrder": "",
		"StartChannel":        "START SLAVE '' IO_THREAD",
		"StopChannel":         "STOP SLAVE 'east'",
		"UntilGapsClosed":     "",
		"ResetReplicaAll":     "RESET SLAVE 'east' ALL",
	})
	tests := []struct {
		version string
		want    map[string]string
	}{
		{"8.0.11", oldest},
		{"8.0.21", oldest},
		{"8.0.22", since22},
		{"8.0.25", since22},
		{"8.0.26", since26},
		{"8.1.0", since26},
		{"8.2.0", since82},
		{"8.4.5", since82},
		{"9.7.4-2", since82},
		{"26.7.0", since82},
		{"10.11.11-MariaDB", mariadb},
		{"11.8.2-MariaDB", mariadb},
		{"12.3.1-MariaDB", mariadb},
	}
	for _, test := range tests {
		t.Run(test.version, func(t *testing.T) {
			d := dialect(t, test.version)
			if diff := cmp.Diff(test.want, statements(d)); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
			if got, want := d.HasSuperReadOnly, d.Version.Flavor == replication.MySQL; got != want {
				t.Errorf("HasSuperReadOnly: got %t, want %t", got, want)
			}
		})
	}
}

// with is base with changes.
func with(base, changes map[string]string) map[string]string {
	all := map[string]string{}
	for _, part := range []map[string]string{base, changes} {
		for k, v := range part {
			all[k] = v
		}
	}
	return all
}

func TestStatementsWithArguments(t *testing.T) {
	mysql, mariadb := dialect(t, "9.7.4"), dialect(t, "10.11.11-MariaDB")
	tests := []struct{ got, want string }{
		{mysql.BinlogEvents("binlog.000001"), "SHOW BINLOG EVENTS IN 'binlog.000001' LIMIT 5"},
		{mysql.SetPosition(position(t, "mysql:"+uuidA+":1-5:x:3")), "SET GLOBAL gtid_purged = '" + uuidA + ":1-5:x:3'"},
		{mariadb.SetPosition(position(t, "mariadb:1-2-3,0-1-100")), "SET GLOBAL gtid_slave_pos = '0-1-100,1-2-3'"},
		{mysql.StartChannel("a", replication.IOThread, replication.SQLThread), "START REPLICA IO_THREAD, SQL_THREAD FOR CHANNEL 'a'"},
		{mariadb.StopChannel("it's", replication.SQLThread), `STOP SLAVE 'it\'s' SQL_THREAD`},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
