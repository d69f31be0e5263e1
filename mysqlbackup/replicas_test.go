package mysqlbackup_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// commandsOf stops and starts a server by a shell, which knows nothing of how a
// server should be started: it replicates at once.
func commandsOf(srv *mysqltest.Server) mysqlbackup.Commands {
	return mysqlbackup.Commands{
		StopCommand:  fmt.Sprintf("kill -TERM $(cat %s/pid)", srv.Dir),
		StartCommand: fmt.Sprintf("setsid %s --defaults-file=%s </dev/null >/dev/null 2>&1 &", srv.Program, srv.DefaultsFile),
	}
}

// channelsOf returns the replication channels by name.
func channelsOf(t testing.TB, srv *mysqltest.Server) map[string]replication.ReplicaStatus {
	t.Helper()
	query := "SHOW REPLICA STATUS"
	if srv.Flavor == replication.MariaDB {
		query = "SHOW ALL SLAVES STATUS"
	}
	channels := map[string]replication.ReplicaStatus{}
	for _, row := range srv.Rows(t, query) {
		status, err := replication.ParseReplicaStatus(srv.Flavor, row)
		if err != nil {
			t.Fatal(err)
		}
		channels[status.Channel] = status
	}
	return channels
}

// dialectOf returns the server's statements.
func dialectOf(t testing.TB, srv *mysqltest.Server) replication.Dialect {
	t.Helper()
	row := srv.Row(t, "SELECT @@version AS v, @@version_comment AS c")
	version, err := replication.ParseVersion(row["v"], row["c"])
	if err != nil {
		t.Fatal(err)
	}
	dialect, err := replication.DialectFor(version)
	if err != nil {
		t.Fatal(err)
	}
	return dialect
}

// source are options to replicate from a primary.
func sourceOf(primary *mysqltest.Server, channel string) replication.SourceOptions {
	return replication.SourceOptions{
		Channel: channel, Host: "127.0.0.1", Port: primary.Port, User: mysqltest.ReplUser, Password: mysqltest.ReplPassword,
		AutoPosition: true, PublicKey: true,
	}
}

// follow makes a channel replicate.
func follow(t testing.TB, replica *mysqltest.Server, options replication.SourceOptions) {
	t.Helper()
	d := dialectOf(t, replica)
	replica.Exec(t, d.ChangeSource(options), d.StartChannel(options.Channel))
}

// sameRows waits until a query has the same answer on both servers.
func sameRows(t testing.TB, got, want *mysqltest.Server, query string) {
	t.Helper()
	wanted := want.Value(t, query)
	eventually(t, func() string {
		var value string
		err := got.DB().QueryRowContext(t.Context(), query).Scan(&value)
		if err != nil || value != wanted { // the table may not be there yet
			return fmt.Sprintf("%s: got %s, %v; want %s", query, value, err, wanted)
		}
		return ""
	})
}

const countWrites = "SELECT COUNT(*) FROM test.writes"

// checkWarned verifies that a run said something, and forgets it.
func (b *bench) checkWarned(t testing.TB, words ...string) {
	t.Helper()
	for _, word := range words {
		if !slices.ContainsFunc(b.progress.warned, func(text string) bool { return strings.Contains(text, word) }) {
			t.Errorf("nobody was warned of %q, but of %q", word, b.progress.warned)
		}
	}
	b.progress.warned = nil
}

// TestReplicaOfTwo backs up a replica of two sources, one of which it later
// does not apply, and restores it as a replica of one.
func TestReplicaOfTwo(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		var sources [2]*mysqltest.Server
		for i, name := range []string{"a", "b"} {
			options := mysqltest.Options{}
			if flavor == replication.MariaDB {
				options.Cnf = []string{fmt.Sprintf("gtid-domain-id=%d", i+1)}
			}
			sources[i] = mysqltest.Start(t, flavor, options)
			sources[i].Exec(t, "CREATE DATABASE "+name, "CREATE TABLE "+name+".t (id INT AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO "+name+".t VALUES ()")
		}
		one, two := sources[0], sources[1]
		replica := mysqltest.Start(t, flavor, mysqltest.Options{})
		follow(t, replica, sourceOf(one, "one"))
		follow(t, replica, sourceOf(two, "two"))
		b.setPrimary(t, one)
		sameRows(t, replica, two, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'b'")

		result := b.mustBackUp(t, b.backupOptions(t, replica))
		if channels := result.Manifest.Channels; len(channels) != 2 || channels[0].Name != "one" || channels[1].Source.Port != two.Port {
			t.Errorf("the manifest's channels are %+v", channels)
		}
		if result.CaughtUp == nil || result.CaughtUp.Source.Port != one.Port {
			t.Errorf("caught up: %+v", result.CaughtUp)
		}
		checkThreads(t, replica, map[string]string{"one": "Yes Yes", "two": "Yes Yes"})

		d := dialectOf(t, replica)
		replica.Exec(t, d.StopChannel("two", replication.SQLThread))
		two.Exec(t, "INSERT INTO b.t VALUES ()")
		b.progress.warned = nil
		b.mustBackUp(t, b.backupOptions(t, replica))
		checkThreads(t, replica, map[string]string{"one": "Yes Yes", "two": "Yes No"})
		b.checkWarned(t, fmt.Sprintf("replication from 127.0.0.1:%d did not run before", two.Port))

		one.Exec(t, "INSERT INTO a.t VALUES ()")
		target := b.seed(t, flavor, mysqltest.Options{})
		b.checkWarned(t, "replica of 2 sources", "stays in its GTID position")
		checkThreads(t, target, map[string]string{"": "Yes Yes"})
		sameRows(t, target, one, "SELECT COUNT(*) FROM a.t")
		if got := target.Value(t, "SELECT COUNT(*) FROM b.t"); got != "1" {
			t.Errorf("b.t has %s rows, want the one of the backup", got)
		}
		follow(t, target, sourceOf(two, "two")) // it goes on where the backup stood
		sameRows(t, target, two, "SELECT COUNT(*) FROM b.t")
	})
}

// checkThreads waits until the channels' threads are as wanted: "IO SQL".
func checkThreads(t testing.TB, srv *mysqltest.Server, want map[string]string) {
	t.Helper()
	eventually(t, func() string {
		got := map[string]string{}
		for name, c := range channelsOf(t, srv) {
			got[name] = c.IORunning + " " + c.SQLRunning
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("threads are %v, want %v", got, want)
		}
		return ""
	})
}

// TestReplicaStopped backs up replicas that do not replicate, or not now.
func TestReplicaStopped(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		primary := mysqltest.Start(t, flavor, mysqltest.Options{})
		replica := mysqltest.StartReplica(t, primary, mysqltest.Options{Cnf: []string{"replicate-ignore-db=junk"}})
		b.setPrimary(t, primary)
		d := dialectOf(t, replica)
		prefix := map[replication.Flavor]string{replication.MySQL: "CHANGE REPLICATION SOURCE TO SOURCE", replication.MariaDB: "CHANGE MASTER TO MASTER"}[flavor]
		commands := b.backupOptions(t, replica)
		commands.Server.Service = commandsOf(replica)
		backUp := func(want string, opts mysqlbackup.BackupOptions) *mysqlbackup.BackupResult {
			result := b.mustBackUp(t, opts)
			checkThreads(t, replica, map[string]string{"": want})
			return result
		}

		replica.Exec(t, d.StopReplica, prefix+"_DELAY=3600", d.StartReplica)
		primary.Write(t, 3)
		if result := backUp("Yes Yes", b.backupOptions(t, replica)); result.CaughtUp == nil || channelsOf(t, replica)[""].Delay != 3600 {
			t.Errorf("of a delayed replica: caught up %+v, channels %+v", result.CaughtUp, channelsOf(t, replica))
		}
		b.checkWarned(t, "leaves out a part", "Replicate_Ignore_DB=junk")
		replica.Exec(t, d.StopReplica, prefix+"_DELAY=0", d.StartReplica)
		replica.WaitForReplica(t, primary)

		for state, statement := range map[string]string{
			"No Yes": d.StopChannel("", replication.IOThread), "Yes No": d.StopChannel("", replication.SQLThread), "No No": d.StopReplica,
		} {
			replica.Exec(t, d.StartReplica, statement)
			backUp(state, commands)
			b.checkWarned(t, "did not run before")
		}

		replica.Exec(t, d.StartReplica, "SET SESSION sql_log_bin = 0", "INSERT INTO test.writes VALUES (1000, '')", "SET SESSION sql_log_bin = 1")
		primary.Exec(t, "INSERT INTO test.writes VALUES (1000, '')")
		checkThreads(t, replica, map[string]string{"": "Yes No"})
		if result := backUp("Yes No", b.backupOptions(t, replica)); result.CaughtUp != nil {
			t.Errorf("a replica with an error has caught up: %+v", result.CaughtUp)
		}

		runtime := map[replication.Flavor]string{replication.MySQL: "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (test)", replication.MariaDB: "SET GLOBAL replicate_do_db = 'test'"}[flavor]
		replica.Exec(t, d.StopReplica, runtime)
		_, err := mysqlbackup.Backup(t.Context(), b.backupOptions(t, replica))
		checkKinds(t, err, mysqlbackup.ErrRefused)
		checkSays(t, err, "replicate_do_db", "set at run time")
	})
}

// TestReplicaAutoStart backs up a replica that its start command makes
// replicate at once, under writes, with flags that were set at run time.
func TestReplicaAutoStart(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := &stand{bench: newBench(t), primary: mysqltest.Start(t, flavor, mysqltest.Options{})}
		s.primary.Write(t, 10)
		s.setPrimary(t, s.primary)
		s.replica = newReplica(t, s.primary)
		s.replica.Exec(t, "SET GLOBAL read_only = 0", "SET GLOBAL read_only = 1") // on MySQL not super_read_only
		semiSync(t, s.primary, s.replica)
		checkThreads(t, s.replica, map[string]string{"": "Yes Yes"})
		s.want = stateOf(t, s.replica)
		stop := s.primary.Writing(t)
		opts := s.backupOptions(t, s.replica)
		s.mustBackUp(t, opts)
		s.checkWarned(t, "the server acknowledges what its source commits")
		checkState(t, s.replica, s.want)
		checkAcknowledges(t, s.replica)
		opts.Server.Service = commandsOf(s.replica)
		s.mustBackUp(t, opts)
		checkState(t, s.replica, s.want)
		checkAcknowledges(t, s.replica)
		stop()
	})
}

// semiSync makes the primary wait for the replica.
func semiSync(t testing.TB, primary, replica *mysqltest.Server) {
	t.Helper()
	d := dialectOf(t, replica)
	if primary.Flavor == replication.MySQL {
		primary.Exec(t, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
	}
	primary.Exec(t, "SET GLOBAL "+d.SemiSyncSource[0]+" = 1")
	replica.Exec(t, d.StopReplica, d.StartReplica)
	checkAcknowledges(t, replica)
}

// checkAcknowledges waits until the replica's source waits for it.
func checkAcknowledges(t testing.TB, replica *mysqltest.Server) {
	t.Helper()
	eventually(t, func() string {
		for _, row := range replica.Rows(t, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Rpl_semi_sync_replica_status', 'Rpl_semi_sync_slave_status')") {
			if row["Value"] == "ON" {
				return ""
			}
		}
		return "the replica does not acknowledge"
	})
}

// TestReplicaWithoutBinlog backs up a replica that can't tell where it stood
// when it started: the backup is marked if it has gone on, and good if it is
// started without replication.
func TestReplicaWithoutBinlog(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		primary := mysqltest.Start(t, flavor, mysqltest.Options{})
		replica := mysqltest.StartReplica(t, primary, mysqltest.Options{Cnf: []string{"skip-log-bin"}})
		b.setPrimary(t, primary)
		stop := primary.Writing(t)
		opts := b.backupOptions(t, replica)
		b.mustBackUp(t, opts)
		opts.Server.Service = commandsOf(replica)
		b.at(mysqlbackup.StepRecheck, func() {
			was := replica.Value(t, countWrites)
			eventually(t, func() string {
				if replica.Value(t, countWrites) == was {
					return "the replica does not go on"
				}
				return ""
			})
		})
		result, err := mysqlbackup.Backup(t.Context(), opts)
		stop()
		checkKinds(t, err, mysqlbackup.ErrMarked)
		if result == nil || len(result.Manifest.Marks) != 1 || result.Manifest.Marks[0].Kind != manifest.MarkPositionNotRechecked {
			t.Fatalf("result %+v", result)
		}
		target := b.seed(t, flavor, mysqltest.Options{}) // of the good one
		target.WaitForReplica(t, primary)
		checkThreads(t, replica, map[string]string{"": "Yes Yes"})
	})
}

// TestReceiverConnects backs up a replica whose receiver has just been started
// and takes a while to connect: it replicates and is waited for.
func TestReceiverConnects(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		d := dialectOf(t, s.replica)
		s.replica.Exec(t, d.StopChannel(""), d.MoveSource("", "127.0.0.1", slowDoor(t, s.primary.Port, 2*time.Second)), d.StartChannel(""))
		result := s.mustBackUp(t, s.backupOptions(t, s.replica))
		if result.CaughtUp == nil {
			t.Errorf("it was not waited for: %q", s.progress.warned)
		}
	})
}

// slowDoor leads to a port of this machine; the first to come waits before.
// It returns the port of its own.
func slowDoor(t *testing.T, port int, wait time.Duration) int {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for ; ; wait = 0 {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			time.Sleep(wait)
			go lead(t.Context(), client, port)
		}
	}()
	return int(netip.MustParseAddrPort(listener.Addr().String()).Port())
}

// lead copies between a client and a port of this machine until either ends.
func lead(ctx context.Context, client net.Conn, port int) {
	defer func() { _ = client.Close() }()
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}
