package replication

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The states of a replica's thread, as the server prints them.
const (
	ThreadRunning    = "Yes"
	ThreadStopped    = "No"
	ThreadConnecting = "Connecting"
)

// ReplicaStatus is what a server says about one of its channels.
type ReplicaStatus struct {
	Channel        string // "" is the default channel
	SourceHost     string // "" if no source is set
	SourcePort     int
	SourceUser     string
	SourceServerID uint32 // 0 while not known
	SourceUUID     string // MySQL; "" while not known

	IORunning  string // ThreadRunning, ThreadStopped, ThreadConnecting, or others of MariaDB
	SQLRunning string // ThreadRunning or ThreadStopped
	IOErrno    int
	IOError    string
	SQLErrno   int
	SQLError   string

	SecondsBehind *int64 // lag as the server sees it; nil if it doesn't know
	Delay         int64  // seconds: a lag that is wanted

	AutoPosition bool     // by GTID
	Retrieved    Position // GTID part: received
	Executed     Position // GTID part: applied
	SourceFile   string   // Relay_Source_Log_File: applied up to here in the source's binary log
	SourceOffset uint64   // Exec_Source_Log_Pos, bytes
	ReadFile     string   // Source_Log_File: received up to here
	ReadOffset   uint64   // Read_Source_Log_Pos, bytes

	Filters string // what it leaves out, as "Replicate_Do_DB=a,b; …"; "" if nothing

	TLS       bool
	PublicKey bool // MySQL: Get_Source_public_key
}

// Running reports whether both threads run.
func (s ReplicaStatus) Running() bool {
	return s.IORunning == ThreadRunning && s.SQLRunning == ThreadRunning
}

// Connecting reports whether the receiver has been started, is not connected
// yet and has not failed to.
func (s ReplicaStatus) Connecting() bool {
	return s.IORunning != ThreadRunning && s.IORunning != ThreadStopped && s.IOErrno == 0
}

// Err returns the last error of either thread as the server put it, or nil.
func (s ReplicaStatus) Err() error {
	switch {
	case s.SQLErrno != 0:
		return fmt.Errorf("replication from %s:%d: applying: error %d: %s", s.SourceHost, s.SourcePort, s.SQLErrno, s.SQLError)
	case s.IOErrno != 0:
		return fmt.Errorf("replication from %s:%d: receiving: error %d: %s", s.SourceHost, s.SourcePort, s.IOErrno, s.IOError)
	}
	return nil
}

// ParseReplicaStatus reads one row of Dialect.ReplicaStatus: column names to
// values, those that are NULL left out. It takes the names of all flavors and
// versions.
func ParseReplicaStatus(flavor Flavor, row map[string]string) (ReplicaStatus, error) {
	r := newRow(row)
	s := ReplicaStatus{
		Channel:        r.optional("channel_name") + r.optional("connection_name"),
		SourceHost:     r.required("source_host"),
		SourcePort:     int(r.number("source_port", 16)),
		SourceUser:     r.optional("source_user"),
		SourceServerID: uint32(r.number("source_server_id", 32)),
		SourceUUID:     r.optional("source_uuid"),
		IORunning:      r.required("replica_io_running"),
		SQLRunning:     r.required("replica_sql_running"),
		IOErrno:        int(r.number("last_io_errno", 31)),
		IOError:        r.optional("last_io_error"),
		SQLErrno:       int(r.number("last_sql_errno", 31)),
		SQLError:       r.optional("last_sql_error"),
		SecondsBehind:  r.seconds("seconds_behind_source"),
		Delay:          int64(r.number("sql_delay", 63)),
		SourceFile:     r.optional("relay_source_log_file"),
		SourceOffset:   r.number("exec_source_log_pos", 64),
		ReadFile:       r.optional("source_log_file"),
		ReadOffset:     r.number("read_source_log_pos", 64),
		Filters:        filters(row),
		TLS:            strings.EqualFold(r.optional("source_ssl_allowed"), "yes"),
		PublicKey:      r.optional("get_source_public_key") == "1",
	}
	if flavor == MariaDB {
		using := r.optional("using_gtid")
		s.AutoPosition = using != "" && !strings.EqualFold(using, "no")
		s.Retrieved = r.gtids(flavor, "gtid_io_pos")
		s.Executed = r.gtids(flavor, "gtid_replica_pos")
	} else {
		s.AutoPosition = r.optional("auto_position") == "1"
		s.Retrieved = r.gtids(flavor, "retrieved_gtid_set")
		s.Executed = r.gtids(flavor, "executed_gtid_set")
	}
	if r.err != nil {
		return ReplicaStatus{}, fmt.Errorf("parse replica status: %w", r.err)
	}
	return s, nil
}

// filters joins the columns that name databases, tables or servers that are
// left out.
func filters(columns map[string]string) string {
	var parts []string
	for name, value := range columns {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "replicate_") || value == "" || lower == "replicate_ignore_server_ids" && value == "0" {
			continue
		}
		parts = append(parts, name+"="+value)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// row holds columns by their present names and the first error.
type row struct {
	columns map[string]string
	err     error
}

// newRow renames: Slave_IO_Running, Replica_IO_Running → replica_io_running.
func newRow(columns map[string]string) *row {
	rename := strings.NewReplacer("master", "source", "slave", "replica")
	r := &row{columns: make(map[string]string, len(columns))}
	for name, value := range columns {
		r.columns[rename.Replace(strings.ToLower(name))] = value
	}
	return r
}

func (r *row) optional(name string) string { return r.columns[name] }

func (r *row) required(name string) string {
	value, ok := r.columns[name]
	if !ok {
		r.fail("column %s is missing", name)
	}
	return value
}

// number is 0 for a column that is missing, NULL or empty.
func (r *row) number(name string, bits int) uint64 {
	value := r.columns[name]
	if value == "" {
		return 0
	}
	n, err := strconv.ParseUint(value, 10, bits)
	if err != nil {
		r.fail("column %s: %q is no number of %d bits", name, clip(value), bits)
		return 0
	}
	return n
}

func (r *row) seconds(name string) *int64 {
	if r.columns[name] == "" {
		return nil
	}
	n := int64(r.number(name, 63))
	return &n
}

func (r *row) gtids(flavor Flavor, name string) Position {
	p, err := ParseGTIDs(flavor, r.columns[name])
	if err != nil {
		r.fail("column %s: %w", name, err)
	}
	return p
}

func (r *row) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}
