package replication

import (
	"strconv"
	"strings"
)

// Dialect holds the statements, variables and options of one server version
// that differ between flavors and versions. Statements without a channel act
// on all channels.
type Dialect struct {
	Version Version

	ReplicaStatus   string // one row for each channel; no row: not a replica
	StopReplica     string
	StopIOThread    string // stops receiving, goes on applying
	StartReplica    string
	BinlogStatus    string // columns File, Position and others; no row without a binary log
	BinaryLogs      string // columns Log_name, File_size and others, oldest first
	ResetBinaryLogs string // deletes all binary logs and, on MySQL, the GTID history

	PrimaryGTIDs string // a query for one value: all that replicas of this server are to reach
	ReplicaGTIDs string // a query for one value: all that this server has applied as a replica

	ReadOnlyVariable    string // fences the writes of all accounts that can be fenced
	HasSuperReadOnly    bool
	SkipStartFlag       string // option of mysqld: don't start replication
	ParallelWorkers     string // variable: number of parallel appliers
	PreserveCommitOrder string // variable: parallel appliers leave no gaps; empty where they never do

	// Variables that switch semi-synchronous replication on, the present name
	// first: which of them exist depends on the plugin that is loaded, and it
	// may be none.
	SemiSyncSource  []string
	SemiSyncReplica []string
}

// A Thread is one of the two threads of a replica.
type Thread string

// The threads.
const (
	IOThread  Thread = "IO_THREAD"  // receives
	SQLThread Thread = "SQL_THREAD" // applies
)

// DialectFor returns the statements for v, or the error of v.Supported.
func DialectFor(v Version) (Dialect, error) {
	if err := v.Supported(); err != nil {
		return Dialect{}, err
	}
	if v.Flavor == MariaDB {
		return mariaDBDialect(v), nil
	}
	return mysqlDialect(v), nil
}

// mysqlDialect: the words replica and source came with 8.0.22, 8.0.23 and
// 8.0.26, those about binary logs with 8.2; the old ones went with 8.4.
func mysqlDialect(v Version) Dialect {
	d := Dialect{
		Version:             v,
		ReplicaStatus:       "SHOW SLAVE STATUS",
		StopReplica:         "STOP SLAVE",
		StopIOThread:        "STOP SLAVE IO_THREAD",
		StartReplica:        "START SLAVE",
		BinlogStatus:        "SHOW MASTER STATUS",
		BinaryLogs:          "SHOW BINARY LOGS",
		ResetBinaryLogs:     "RESET MASTER",
		PrimaryGTIDs:        "SELECT @@GLOBAL.gtid_executed",
		ReplicaGTIDs:        "SELECT @@GLOBAL.gtid_executed",
		ReadOnlyVariable:    "super_read_only",
		HasSuperReadOnly:    true,
		SkipStartFlag:       "--skip-slave-start",
		ParallelWorkers:     "slave_parallel_workers",
		PreserveCommitOrder: "slave_preserve_commit_order",
		SemiSyncSource:      []string{"rpl_semi_sync_master_enabled"},
		SemiSyncReplica:     []string{"rpl_semi_sync_slave_enabled"},
	}
	if v.AtLeast(8, 0, 22) {
		d.ReplicaStatus = "SHOW REPLICA STATUS"
		d.StopReplica = "STOP REPLICA"
		d.StopIOThread = "STOP REPLICA IO_THREAD"
		d.StartReplica = "START REPLICA"
	}
	if v.AtLeast(8, 0, 26) {
		d.SkipStartFlag = "--skip-replica-start"
		d.ParallelWorkers = "replica_parallel_workers"
		d.PreserveCommitOrder = "replica_preserve_commit_order"
		d.SemiSyncSource = []string{"rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled"}
		d.SemiSyncReplica = []string{"rpl_semi_sync_replica_enabled", "rpl_semi_sync_slave_enabled"}
	}
	if v.AtLeast(8, 2, 0) {
		d.BinlogStatus = "SHOW BINARY LOG STATUS"
		d.ResetBinaryLogs = "RESET BINARY LOGS AND GTIDS"
	}
	return d
}

// mariaDBDialect: MariaDB knows the old words in all versions.
func mariaDBDialect(v Version) Dialect {
	return Dialect{
		Version:          v,
		ReplicaStatus:    "SHOW ALL SLAVES STATUS",
		StopReplica:      "STOP ALL SLAVES",
		StopIOThread:     "STOP ALL SLAVES IO_THREAD",
		StartReplica:     "START ALL SLAVES",
		BinlogStatus:     "SHOW MASTER STATUS",
		BinaryLogs:       "SHOW BINARY LOGS",
		ResetBinaryLogs:  "RESET MASTER",
		PrimaryGTIDs:     "SELECT @@GLOBAL.gtid_binlog_pos",
		ReplicaGTIDs:     "SELECT @@GLOBAL.gtid_slave_pos",
		ReadOnlyVariable: "read_only",
		SkipStartFlag:    "--skip-slave-start",
		ParallelWorkers:  "slave_parallel_threads",
		SemiSyncSource:   []string{"rpl_semi_sync_master_enabled"},
		SemiSyncReplica:  []string{"rpl_semi_sync_slave_enabled"},
	}
}

// StartChannel starts threads of one channel, both if none is named. The
// default channel is "".
func (d Dialect) StartChannel(channel string, threads ...Thread) string {
	return d.onChannel("START", channel, joinThreads(threads))
}

// StopChannel stops threads of one channel, both if none is named.
func (d Dialect) StopChannel(channel string, threads ...Thread) string {
	return d.onChannel("STOP", channel, joinThreads(threads))
}

// StartUntilGapsClosed applies what parallel appliers left out below the
// highest transaction applied; the applier then stops by itself. It is "" where
// appliers leave no gaps: MariaDB commits in order.
func (d Dialect) StartUntilGapsClosed(channel string) string {
	if d.Version.Flavor == MariaDB {
		return ""
	}
	return d.onChannel("START", channel, string(SQLThread)+" UNTIL SQL_AFTER_MTS_GAPS")
}

// ResetReplicaAll forgets a channel's source; both threads must be stopped. The
// GTID state stays.
func (d Dialect) ResetReplicaAll(channel string) string {
	return d.onChannel("RESET", channel, "ALL")
}

// onChannel builds verb REPLICA what FOR CHANNEL, or its likeness.
func (d Dialect) onChannel(verb, channel, what string) string {
	switch {
	case d.Version.Flavor == MariaDB:
		return words(verb, "SLAVE", Quote(channel), what)
	case d.Version.AtLeast(8, 0, 22):
		return words(verb, "REPLICA", what, "FOR CHANNEL", Quote(channel))
	default:
		return words(verb, "SLAVE", what, "FOR CHANNEL", Quote(channel))
	}
}

// BinlogEvents lists the first events of a binary log. On MariaDB one of them
// is of type Gtid_list, see ParseMariaDBGTIDList.
func (d Dialect) BinlogEvents(file string) string {
	return "SHOW BINLOG EVENTS IN " + Quote(file) + " LIMIT 5"
}

// BinlogEventsFrom lists what follows an offset in a binary log.
func (d Dialect) BinlogEventsFrom(file string, offset uint64) string {
	return "SHOW BINLOG EVENTS IN " + Quote(file) + " FROM " + strconv.FormatUint(offset, 10) + " LIMIT 2"
}

// SetPosition makes an idle server that has no history of its own (run
// ResetBinaryLogs first) believe that it has executed p: gtid_purged on MySQL,
// gtid_slave_pos on MariaDB.
func (d Dialect) SetPosition(p Position) string {
	if d.Version.Flavor == MariaDB {
		return "SET GLOBAL gtid_slave_pos = " + Quote(p.Domains.Newest().String())
	}
	return "SET GLOBAL gtid_purged = " + Quote(p.Executed.String())
}

func joinThreads(threads []Thread) string {
	names := make([]string, len(threads))
	for i, t := range threads {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// words joins the parts that are not empty.
func words(parts ...string) string {
	var kept []string
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, " ")
}
