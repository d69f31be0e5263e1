package replication_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// serverDialect returns the dialect of a running server, by its own words.
func serverDialect(t *testing.T, server *mysqltest.Server) replication.Dialect {
	t.Helper()
	row := server.Row(t, "SELECT @@version AS version, @@version_comment AS comment")
	v := version(t, row["version"], row["comment"])
	if v.Flavor != server.Flavor {
		t.Errorf("%q %q: got flavor %s, want %s", row["version"], row["comment"], v.Flavor, server.Flavor)
	}
	d, err := replication.DialectFor(v)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMySQLServer(t *testing.T) {
	t.Parallel()
	server := mysqltest.Start(t, replication.MySQL, mysqltest.Options{})
	d := serverDialect(t, server)
	t.Run("arithmetic", func(t *testing.T) { testServerArithmetic(t, server) })
	t.Run("damaged", func(t *testing.T) { testServerDamaged(t, server) })
	t.Run("statements", func(t *testing.T) { testStatements(t, server, d) })
	t.Run("password", func(t *testing.T) {
		options := oddSource()
		server.Exec(t, d.ChangeSource(options))
		row := server.Row(t, "SELECT User_name AS user, User_password AS password, Enabled_ssl AS tls, Get_public_key AS public_key FROM mysql.slave_master_info")
		want := map[string]string{"user": options.User, "password": options.Password, "tls": "1", "public_key": "1"}
		if diff := cmp.Diff(want, row); diff != "" {
			t.Errorf("what the server keeps, want - got +:\n%s", diff)
		}
		server.Exec(t, d.ResetReplicaAll(""))
	})
	t.Run("position", func(t *testing.T) {
		for _, text := range []string{"", uuidA + ":1-48:x:3," + uuidB + ":_:1:a:5-6", uuidC + ":9223372036854775806"} {
			server.Exec(t, d.ResetBinaryLogs, d.SetPosition(position(t, "mysql:"+text)))
			for _, query := range []string{d.PrimaryGTIDs, d.ReplicaGTIDs, "SELECT @@GLOBAL.gtid_purged"} {
				requireSet(t, query, server.Value(t, query), text)
			}
			requireSet(t, d.BinlogStatus, server.Row(t, d.BinlogStatus)["Executed_Gtid_Set"], text)
		}
	})
}

// requireSet compares what a server printed, but for newlines, byte by byte and
// as a set.
func requireSet(t *testing.T, what, got, want string) {
	t.Helper()
	if got := strings.ReplaceAll(got, "\n", ""); got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
	if !gtidSet(t, got).Equal(gtidSet(t, want)) {
		t.Errorf("%s: %q is not the set %q", what, got, want)
	}
}

// randomGTIDs is a set in the server's syntax, in no particular order.
func randomGTIDs(r *rand.Rand) string {
	var elements []string
	for range r.IntN(6) {
		text := []string{uuidA, uuidB, strings.ToUpper(uuidC)}[r.IntN(3)]
		for i := range 1 + r.IntN(3) {
			if i > 0 || r.IntN(2) == 0 {
				text += ":" + []string{"a", "B_2", "_", "zz"}[r.IntN(4)]
			}
			for range 1 + r.IntN(4) {
				first := 1 + r.IntN(30)
				text += fmt.Sprintf(":%d-%d", first, first+r.IntN(8))
			}
		}
		elements = append(elements, text)
	}
	return strings.Join(elements, ", ")
}

// testServerArithmetic compares our arithmetic and printing with the server's.
func testServerArithmetic(t *testing.T, server *mysqltest.Server) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		textA, textB := randomGTIDs(r), randomGTIDs(r)
		a, b := gtidSet(t, textA), gtidSet(t, textB)
		both := strings.Trim(textA+","+textB, ",")
		got := server.Row(t, fmt.Sprintf(
			"SELECT GTID_SUBTRACT(%[1]s, '') AS a, GTID_SUBTRACT(%[1]s, %[2]s) AS minus, GTID_SUBTRACT(%[3]s, '') AS united, GTID_SUBSET(%[2]s, %[1]s) AS subset",
			replication.Quote(textA), replication.Quote(textB), replication.Quote(both)))
		for name, text := range got {
			got[name] = strings.ReplaceAll(text, "\n", "")
		}
		subset := "0"
		if a.Contains(b) {
			subset = "1"
		}
		want := map[string]string{"a": a.String(), "minus": a.Subtract(b).String(), "united": a.Union(b).String(), "subset": subset}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("a = %s\nb = %s\nserver - ours +:\n%s", textA, textB, diff)
		}
	}
}

// testServerDamaged checks that the server accepts all that we accept, and
// reads the same set.
func testServerDamaged(t *testing.T, server *mysqltest.Server) {
	accepted := 0
	damaged(uuidA+":1-6:9,\n"+uuidB+":1-9:11:tag_1:3-5", func(text string) {
		s, err := replication.ParseGTIDSet(text)
		if err != nil {
			return
		}
		accepted++
		requireSet(t, text, server.Value(t, "SELECT GTID_SUBTRACT("+replication.Quote(text)+", '')"), s.String())
	})
	if accepted < 50 {
		t.Errorf("only %d texts were compared", accepted)
	}
}

// oddSource has an account that must be quoted with care.
func oddSource() replication.SourceOptions {
	return replication.SourceOptions{
		Host: "127.0.0.1", Port: 1, User: `u"s'e\r`, Password: "p'\"\\%_é\t\\'; --", AutoPosition: true, TLS: true, PublicKey: true,
	}
}

// testStatements runs every statement and reads what the server says of two
// channels. Nothing listens where they point to.
func testStatements(t *testing.T, server *mysqltest.Server, d replication.Dialect) {
	const east = "ea'st"
	odd := oddSource()
	byFile := replication.SourceOptions{Channel: east, Host: "localhost", Port: 2, User: "u", File: "binlog.000007", Offset: 157}
	server.Exec(t, d.StopReplica, d.StopIOThread, d.ChangeSource(odd), d.ChangeSource(byFile))
	statuses := channels(t, server, d)
	if diff := cmp.Diff([]string{"", east}, names(statuses)); diff != "" {
		t.Fatalf("channels, want - got +:\n%s", diff)
	}
	got := statuses[0]
	if got.SourceHost != odd.Host || got.SourcePort != odd.Port || got.SourceUser != odd.User || !got.AutoPosition || !got.TLS || got.IORunning != replication.ThreadStopped {
		t.Errorf("default channel: got %+v", got)
	}
	got = statuses[1]
	if got.SourceHost != "localhost" || got.SourcePort != 2 || got.SourceFile != byFile.File || got.SourceOffset != byFile.Offset || got.AutoPosition || got.TLS || got.PublicKey {
		t.Errorf("channel %q: got %+v", east, got)
	}
	server.Exec(t, d.StartChannel(east, replication.SQLThread))
	if got := channels(t, server, d)[1]; got.SQLRunning != replication.ThreadRunning || got.IORunning != replication.ThreadStopped || got.Running() {
		t.Errorf("one thread started: got %+v", got)
	}
	server.Exec(t, d.StopChannel(east), d.StartChannel(east), d.StopChannel(east, replication.IOThread, replication.SQLThread))
	if gaps := d.StartUntilGapsClosed(east); gaps != "" {
		server.Exec(t, gaps, d.StopChannel(east))
	}
	server.Exec(t, d.StartReplica, d.StopIOThread, d.StopReplica, d.ResetReplicaAll(east), d.ResetReplicaAll(""))
	if got := channels(t, server, d); len(got) != 0 {
		t.Errorf("after the reset: got %+v, want no channel", got)
	}
	file := server.Row(t, d.BinlogStatus)["File"]
	if logs := server.Rows(t, d.BinaryLogs); logs[len(logs)-1]["Log_name"] != file {
		t.Errorf("binary logs %v, want %q last", logs, file)
	}
	if events := server.Rows(t, d.BinlogEvents(file)); events[0]["Event_type"] != "Format_desc" {
		t.Errorf("events of %s: got %v", file, events)
	}
	for _, variable := range []string{d.ReadOnlyVariable, d.ParallelWorkers, d.PreserveCommitOrder} {
		if variable != "" {
			server.Value(t, "SELECT @@GLOBAL."+variable)
		}
	}
}

func channels(t *testing.T, server *mysqltest.Server, d replication.Dialect) []replication.ReplicaStatus {
	t.Helper()
	var statuses []replication.ReplicaStatus
	for _, row := range server.Rows(t, d.ReplicaStatus) {
		s, err := replication.ParseReplicaStatus(server.Flavor, row)
		if err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, s)
	}
	return statuses
}

func names(statuses []replication.ReplicaStatus) []string {
	var all []string
	for _, s := range statuses {
		all = append(all, s.Channel)
	}
	return all
}

func TestMariaDBServer(t *testing.T) {
	t.Parallel()
	server := mysqltest.Start(t, replication.MariaDB, mysqltest.Options{})
	d := serverDialect(t, server)
	t.Run("statements", func(t *testing.T) { testStatements(t, server, d) })
	t.Run("password", func(t *testing.T) {
		options := oddSource()
		server.Exec(t, d.ChangeSource(options))
		info, err := os.ReadFile(filepath.Join(server.Datadir, "master.info"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(info), "\n"+options.User+"\n"+options.Password+"\n") {
			t.Errorf("what the server keeps: %q", info)
		}
		server.Exec(t, d.ResetReplicaAll(""))
	})
	t.Run("position", func(t *testing.T) {
		for _, text := range []string{"", "0-1-100,7-4294967295-3", "0-0-18446744073709551615"} {
			server.Exec(t, d.ResetBinaryLogs, d.SetPosition(position(t, "mariadb:"+text)))
			requireList(t, d.ReplicaGTIDs, server.Value(t, d.ReplicaGTIDs), text)
		}
	})
	t.Run("binlog state", func(t *testing.T) { testBinlogState(t, server, d) })
}

func requireList(t *testing.T, what, got, want string) {
	t.Helper()
	if got := mariaDB(t, got); got.String() != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// testBinlogState checks what the server makes of a state: its own printing,
// the newest of each domain, and the list at the start of a binary log.
func testBinlogState(t *testing.T, server *mysqltest.Server, d replication.Dialect) {
	for _, text := range []string{"", "0-1-5", "0-1-5,0-2-7,3-1-1", "0-2-7,0-1-8,0-3-9,1-1-1,4294967295-3-3"} {
		want := mariaDB(t, text)
		server.Exec(t, d.ResetBinaryLogs, "SET GLOBAL gtid_binlog_state = "+replication.Quote(want.String()), "FLUSH BINARY LOGS")
		requireList(t, "gtid_binlog_state", server.Value(t, "SELECT @@GLOBAL.gtid_binlog_state"), want.String())
		requireList(t, d.PrimaryGTIDs, server.Value(t, d.PrimaryGTIDs), want.Newest().String())
		start := ""
		for _, event := range server.Rows(t, d.BinlogEvents(server.Row(t, d.BinlogStatus)["File"])) {
			if event["Event_type"] == "Gtid_list" {
				start = event["Info"]
			}
		}
		got, err := replication.ParseMariaDBGTIDList(start)
		if err != nil || !got.Equal(want) {
			t.Errorf("list %q: got %q, %v, want %q", start, got, err, want)
		}
	}
}
