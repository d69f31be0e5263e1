package mysqlbackup_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// withoutGTIDs are servers as they were before GTIDs.
func withoutGTIDs() mysqltest.Options {
	return mysqltest.Options{Cnf: []string{"gtid-mode=OFF", "enforce-gtid-consistency=OFF"}}
}

// byFile makes a replica follow by file and position.
func byFile(t testing.TB, replica, primary *mysqltest.Server) {
	t.Helper()
	d := dialectOf(t, primary)
	status := primary.Row(t, d.BinlogStatus)
	options := sourceOf(primary, "")
	options.AutoPosition, options.File = false, status["File"]
	if _, err := fmt.Sscan(status["Position"], &options.Offset); err != nil {
		t.Fatal(err)
	}
	follow(t, replica, options)
}

// TestReplicaWithoutGTIDs backs up a replica, and its primary, that know no
// GTIDs: a backup can be seeded by file and position, and from its own source
// only.
func TestReplicaWithoutGTIDs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	primary := mysqltest.Start(t, replication.MySQL, withoutGTIDs())
	replica := mysqltest.Start(t, replication.MySQL, withoutGTIDs())
	byFile(t, replica, primary)
	b.setPrimary(t, primary)
	primary.Write(t, 10)
	sameRows(t, replica, primary, countWrites)

	stop := primary.Writing(t)
	opts := b.backupOptions(t, replica)
	result := b.mustBackUp(t, opts)
	b.checkWarned(t, fmt.Sprintf("can follow 127.0.0.1:%d only", primary.Port))
	if c := result.Manifest.Channels; len(c) != 1 || c[0].AutoPosition || c[0].File == "" || c[0].Offset == 0 || c[0].ServerUUID == "" {
		t.Errorf("the manifest's channels are %+v", c)
	}
	opts.Server.Service = commandsOf(replica) // it goes on before it can be asked
	b.mustBackUp(t, opts)
	target := b.seed(t, replication.MySQL, withoutGTIDs())
	stop()
	b.checkWarned(t, "by file and position")
	sameRows(t, target, primary, countWrites)
	sameRows(t, replica, primary, countWrites)
	if c := channelsOf(t, target)[""]; c.AutoPosition {
		t.Errorf("the restored server uses GTIDs: %+v", c)
	}

	other := mysqltest.Start(t, replication.MySQL, withoutGTIDs())
	refused := func(options mysqltest.Options, words ...string) {
		t.Helper()
		_, err := mysqlbackup.Restore(t.Context(), b.restoreOptions(t, mysqltest.New(t, replication.MySQL, options)))
		checkKinds(t, err, mysqlbackup.ErrRefused)
		checkSays(t, err, words...)
	}
	b.setPrimary(t, other)
	refused(withoutGTIDs(), fmt.Sprintf("binary logs of 127.0.0.1:%d", primary.Port), "means nothing on 127.0.0.1:")
	b.setPrimary(t, primary)
	refused(mysqltest.Options{}, "gtid_mode is not ON on the primary")
	purgeLogs(t, primary)
	refused(withoutGTIDs(), "does not have its binary log", result.Manifest.Channels[0].File)

	opts = b.backupOptions(t, primary)
	opts.AllowPrimary = true
	b.mustBackUp(t, opts)
	b.checkWarned(t, "can follow this server only")
	primary.Write(t, 5)
	target = b.seed(t, replication.MySQL, withoutGTIDs())
	sameRows(t, target, primary, countWrites)
}

// purgeLogs leaves a primary its newest binary log.
func purgeLogs(t testing.TB, primary *mysqltest.Server) {
	t.Helper()
	primary.Exec(t, "FLUSH BINARY LOGS")
	eventually(t, func() string { // its replicas must have left the old ones
		logs := primary.Rows(t, "SHOW BINARY LOGS")
		primary.Exec(t, "PURGE BINARY LOGS TO '"+logs[len(logs)-1]["Log_name"]+"'")
		if len(logs) > 1 {
			return fmt.Sprintf("binary logs %v are left", logs)
		}
		return ""
	})
}

// TestReplicaParallel backs up a replica whose appliers leave gaps, under load.
func TestReplicaParallel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	primary := mysqltest.Start(t, replication.MySQL, mysqltest.Options{})
	replica := mysqltest.StartReplica(t, primary, mysqltest.Options{Cnf: []string{
		"replica-parallel-workers=8", "replica-preserve-commit-order=OFF", "skip-replica-start",
	}})
	b.setPrimary(t, primary)
	load := startLoad(t, primary)
	opts := b.backupOptions(t, replica)
	b.at(mysqlbackup.StepStart, load)
	for range 2 {
		result := b.mustBackUp(t, opts)
		executed := result.Manifest.Position.Executed.String()
		if strings.Count(executed, ":") != 1 {
			t.Errorf("the position has gaps: %s", executed)
		}
	}
	target := b.seed(t, replication.MySQL, mysqltest.Options{})
	target.WaitForReplica(t, primary)
	if diff := mysqltest.Differences(target.Checksums(t), primary.Checksums(t)); len(diff) > 0 {
		t.Errorf("tables differ: %v", diff)
	}
}

// startLoad writes from many connections, transactions of very different size,
// until the returned function is called.
func startLoad(t testing.TB, primary *mysqltest.Server) (stop func()) {
	t.Helper()
	primary.Exec(t, "CREATE DATABASE load_test")
	ended := make(chan struct{})
	var group sync.WaitGroup
	for i := range 8 {
		table := fmt.Sprintf("load_test.t%d", i)
		primary.Exec(t, "CREATE TABLE "+table+" (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(2000))", "INSERT INTO "+table+" VALUES (1, '')")
		size := 1 + 30*i
		group.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				rows := strings.TrimSuffix(strings.Repeat("(REPEAT('x', 1000)),", size), ",")
				if _, err := primary.DB().Exec("INSERT INTO " + table + " (note) VALUES " + rows); err != nil { //nolint:noctx // ends by itself
					t.Error(err)
					return
				}
			}
		})
	}
	return func() {
		close(ended)
		group.Wait()
	}
}
