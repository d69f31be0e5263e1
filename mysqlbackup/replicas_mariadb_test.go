package mysqlbackup_test

import (
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// TestReplicaByFile backs up a MariaDB replica that does not use the GTIDs that
// there are: a restored server does as it did, and uses them where file and
// position mean nothing any more.
func TestReplicaByFile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	primary := mysqltest.Start(t, replication.MariaDB, mysqltest.Options{})
	replica := mysqltest.Start(t, replication.MariaDB, mysqltest.Options{Cnf: []string{"slave-parallel-threads=4"}})
	byFile(t, replica, primary)
	b.setPrimary(t, primary)
	primary.Write(t, 10)
	sameRows(t, replica, primary, countWrites)

	stop := primary.Writing(t)
	opts := b.backupOptions(t, replica)
	result := b.mustBackUp(t, opts)
	b.checkWarned(t, "by file and position")
	if c := result.Manifest.Channels; len(c) != 1 || c[0].AutoPosition || c[0].Offset == 0 || result.Manifest.Position.Domains.IsEmpty() {
		t.Errorf("the manifest's channels are %+v, its position is %s", c, result.Manifest.Position)
	}
	opts.Server.Service = commandsOf(replica)
	b.mustBackUp(t, opts)
	checkUsesGTIDs(t, replica, false)
	target := b.seed(t, replication.MariaDB, mysqltest.Options{})
	b.checkWarned(t, "by file and position")
	checkUsesGTIDs(t, target, false)
	stop()
	sameRows(t, target, primary, countWrites)
	sameRows(t, replica, primary, countWrites)

	b.mustBackUp(t, opts)
	purgeLogs(t, primary)
	target = b.seed(t, replication.MariaDB, mysqltest.Options{})
	checkUsesGTIDs(t, target, true)
	primary.Write(t, 1)
	target.WaitForReplica(t, primary)

	promote(t, target)
	b.setPrimary(t, target)
	target.Write(t, 1)
	last := b.seed(t, replication.MariaDB, mysqltest.Options{})
	checkUsesGTIDs(t, last, true)
	sameRows(t, last, target, countWrites)
}

func checkUsesGTIDs(t testing.TB, srv *mysqltest.Server, want bool) {
	t.Helper()
	if got := channelsOf(t, srv)[""].AutoPosition; got != want {
		t.Errorf("the replica uses GTIDs: got %t, want %t", got, want)
	}
}
