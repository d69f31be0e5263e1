package replication_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/replication"
)

// statusRow reads a row as a real server gave it; the client program that
// wrote it printed NULL as a word.
func statusRow(t testing.TB, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]string
	if err := json.Unmarshal(text, &row); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(row, func(_, value string) bool { return value == "NULL" })
	return row
}

func mysqlRow(t testing.TB) map[string]string { return statusRow(t, "replica-status-mysql-9.7.json") }

func mariaDBRow(t testing.TB) map[string]string {
	return statusRow(t, "replica-status-mariadb-10.11.json")
}

// oldWords renames the columns as MySQL before 8.0.22 had them.
func oldWords(row map[string]string) map[string]string {
	rename := strings.NewReplacer("Source", "Master", "Replica_", "Slave_")
	old := map[string]string{}
	for name, value := range row {
		old[rename.Replace(name)] = value
	}
	return old
}

func mysqlStatus(t testing.TB) replication.ReplicaStatus {
	return replication.ReplicaStatus{
		SourceHost: "127.0.0.1", SourcePort: 14001, SourceUser: "repl", SourceServerID: 11, SourceUUID: "08b02207-e6f3-11f1-8211-02fc00000001",
		IORunning: replication.ThreadRunning, SQLRunning: replication.ThreadRunning,
		SecondsBehind: new(int64), AutoPosition: true,
		Retrieved:  position(t, "mysql:08b02207-e6f3-11f1-8211-02fc00000001:6-10"),
		Executed:   position(t, "mysql:08b02207-e6f3-11f1-8211-02fc00000001:1-10"),
		SourceFile: "binlog.000003", SourceOffset: 1523, ReadFile: "binlog.000003", ReadOffset: 1523, TLS: true, PublicKey: true,
	}
}

func mariaDBStatus(t testing.TB) replication.ReplicaStatus {
	return replication.ReplicaStatus{
		SourceHost: "127.0.0.1", SourcePort: 14002, SourceUser: "repl", SourceServerID: 12,
		IORunning: replication.ThreadRunning, SQLRunning: replication.ThreadRunning,
		SecondsBehind: new(int64), AutoPosition: true,
		Retrieved:  position(t, "mariadb:0-12-10"),
		Executed:   position(t, "mariadb:0-12-10"),
		SourceFile: "binlog.000002", SourceOffset: 1101, ReadFile: "binlog.000002", ReadOffset: 1101,
	}
}

func TestParseReplicaStatus(t *testing.T) {
	tests := []struct {
		name   string
		flavor replication.Flavor
		row    map[string]string
		want   replication.ReplicaStatus
	}{
		{"MySQL", replication.MySQL, mysqlRow(t), mysqlStatus(t)},
		{"old MySQL", replication.MySQL, oldWords(mysqlRow(t)), mysqlStatus(t)},
		{"MariaDB", replication.MariaDB, mariaDBRow(t), mariaDBStatus(t)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := replication.ParseReplicaStatus(test.flavor, test.row)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
			if !got.Running() || got.Err() != nil {
				t.Errorf("running %t, error %v, want a replica in good health", got.Running(), got.Err())
			}
		})
	}
}

func TestParseReplicaStatusFields(t *testing.T) {
	lag := int64(86400)
	tests := []struct {
		name    string
		flavor  replication.Flavor
		columns map[string]string
		change  func(*replication.ReplicaStatus)
	}{
		{"channel of MySQL", replication.MySQL, map[string]string{"Channel_Name": "east"}, func(s *replication.ReplicaStatus) { s.Channel = "east" }},
		{"channel of MariaDB", replication.MariaDB, map[string]string{"Connection_name": "east"}, func(s *replication.ReplicaStatus) { s.Channel = "east" }},
		{"lag", replication.MySQL, map[string]string{"Seconds_Behind_Source": "86400"}, func(s *replication.ReplicaStatus) { s.SecondsBehind = &lag }},
		{"lag of MariaDB", replication.MariaDB, map[string]string{"Seconds_Behind_Master": "86400"}, func(s *replication.ReplicaStatus) { s.SecondsBehind = &lag }},
		{"lag not known", replication.MySQL, map[string]string{"Seconds_Behind_Source": ""}, func(s *replication.ReplicaStatus) { s.SecondsBehind = nil }},
		{"delay", replication.MariaDB, map[string]string{"SQL_Delay": "3600"}, func(s *replication.ReplicaStatus) { s.Delay = 3600 }},
		{"connecting", replication.MySQL, map[string]string{"Replica_IO_Running": "Connecting"}, func(s *replication.ReplicaStatus) { s.IORunning = replication.ThreadConnecting }},
		{"stopped", replication.MariaDB, map[string]string{"Slave_SQL_Running": "No"}, func(s *replication.ReplicaStatus) { s.SQLRunning = replication.ThreadStopped }},
		{"by file", replication.MySQL, map[string]string{"Auto_Position": "0"}, func(s *replication.ReplicaStatus) { s.AutoPosition = false }},
		{"by file, MariaDB", replication.MariaDB, map[string]string{"Using_Gtid": "No"}, func(s *replication.ReplicaStatus) { s.AutoPosition = false }},
		{"by current_pos", replication.MariaDB, map[string]string{"Using_Gtid": "Current_Pos"}, func(*replication.ReplicaStatus) {}},
		{"filters", replication.MySQL, map[string]string{"Replicate_Do_DB": "a,b"}, func(s *replication.ReplicaStatus) { s.Filters = "Replicate_Do_DB=a,b" }},
		{"no TLS", replication.MySQL, map[string]string{"Source_SSL_Allowed": "No"}, func(s *replication.ReplicaStatus) { s.TLS = false }},
		{"no public key", replication.MySQL, map[string]string{"Get_Source_public_key": "0"}, func(s *replication.ReplicaStatus) { s.PublicKey = false }},
		{"sets in lines", replication.MySQL, map[string]string{"Executed_Gtid_Set": uuidA + ":1,\n" + uuidB + ":2"}, func(s *replication.ReplicaStatus) {
			s.Executed = position(t, "mysql:"+uuidA+":1,"+uuidB+":2")
		}},
		{"no sets", replication.MySQL, map[string]string{"Retrieved_Gtid_Set": "", "Executed_Gtid_Set": ""}, func(s *replication.ReplicaStatus) {
			s.Retrieved, s.Executed = position(t, "mysql:"), position(t, "mysql:")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base, want := mysqlRow(t), mysqlStatus(t)
			if test.flavor == replication.MariaDB {
				base, want = mariaDBRow(t), mariaDBStatus(t)
			}
			test.change(&want)
			got, err := replication.ParseReplicaStatus(test.flavor, with(base, test.columns))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want - got +:\n%s", diff)
			}
			if got, want := got.Running(), want.IORunning == "Yes" && want.SQLRunning == "Yes"; got != want {
				t.Errorf("running: got %t, want %t", got, want)
			}
		})
	}
}

func TestReplicaStatusConnecting(t *testing.T) {
	tests := []struct {
		io    string
		errno string
		want  bool
	}{
		{"Yes", "0", false}, {"No", "0", false}, {"Connecting", "0", true}, {"Preparing", "0", true}, {"Connecting", "2003", false},
	}
	for _, test := range tests {
		got, err := replication.ParseReplicaStatus(replication.MySQL, with(mysqlRow(t), map[string]string{
			"Replica_IO_Running": test.io, "Last_IO_Errno": test.errno,
		}))
		if err != nil || got.Connecting() != test.want {
			t.Errorf("%s, error %s: got %t, %v; want %t", test.io, test.errno, got.Connecting(), err, test.want)
		}
	}
}

func TestReplicaStatusErr(t *testing.T) {
	broken := map[string]string{
		"Last_IO_Errno": "1236", "Last_IO_Error": "Got fatal error 1236",
		"Last_SQL_Errno": "1062", "Last_SQL_Error": "Duplicate entry '1'",
	}
	s, err := replication.ParseReplicaStatus(replication.MySQL, with(mysqlRow(t), broken))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Err().Error(), "replication from 127.0.0.1:14001: applying: error 1062: Duplicate entry '1'"; got != want {
		t.Errorf("both: got %q, want %q", got, want)
	}
	s.SQLErrno = 0
	if got, want := s.Err().Error(), "replication from 127.0.0.1:14001: receiving: error 1236: Got fatal error 1236"; got != want {
		t.Errorf("receiving: got %q, want %q", got, want)
	}
}

func TestParseReplicaStatusErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(row map[string]string)
		want   string
	}{
		{"no host", func(row map[string]string) { delete(row, "Source_Host") }, "column source_host is missing"},
		{"no receiving thread", func(row map[string]string) { delete(row, "Replica_IO_Running") }, "column replica_io_running is missing"},
		{"no applying thread", func(row map[string]string) { delete(row, "Replica_SQL_Running") }, "column replica_sql_running is missing"},
		{"port too high", func(row map[string]string) { row["Source_Port"] = "65536" }, `column source_port: "65536" is no number of 16 bits`},
		{"negative lag", func(row map[string]string) { row["Seconds_Behind_Source"] = "-1" }, `"-1" is no number`},
		{"offset", func(row map[string]string) { row["Exec_Source_Log_Pos"] = "x" }, `column exec_source_log_pos: "x" is no number`},
		{"set", func(row map[string]string) { row["Executed_Gtid_Set"] = "0-1-5" }, "column executed_gtid_set: parse GTID set"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			row := mysqlRow(t)
			test.change(row)
			s, err := replication.ParseReplicaStatus(replication.MySQL, row)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v, want an error with %q", s, err, test.want)
			}
		})
	}
	if _, err := replication.ParseReplicaStatus(replication.MySQL, nil); err == nil {
		t.Error("no columns: no error")
	}
}

func TestParseReplicaStatusDamaged(t *testing.T) {
	for flavor, row := range map[replication.Flavor]map[string]string{replication.MySQL: mysqlRow(t), replication.MariaDB: mariaDBRow(t)} {
		for name, value := range row {
			damaged(value, func(text string) { parseColumn(t, flavor, row, name, text) })
			damaged(name, func(text string) { parseColumn(t, flavor, row, text, value) })
		}
	}
}

// parseColumn parses row with one more column: an error or a status, no panic.
func parseColumn(t *testing.T, flavor replication.Flavor, row map[string]string, name, value string) {
	changed := maps.Clone(row)
	changed[name] = value
	s, err := replication.ParseReplicaStatus(flavor, changed)
	if err == nil && s.Executed.Flavor != flavor {
		t.Errorf("%s=%q: the executed position is %q", name, value, s.Executed)
	}
}

func FuzzParseReplicaStatus(f *testing.F) {
	for name, value := range mysqlRow(f) {
		f.Add(name, value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		parseColumn(t, replication.MySQL, mysqlRow(t), name, value)
		parseColumn(t, replication.MariaDB, mariaDBRow(t), name, value)
	})
}
