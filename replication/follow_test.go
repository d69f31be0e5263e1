package replication_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/replication"
)

func TestCanFollowMySQL(t *testing.T) {
	tests := []struct{ name, backup, executed, purged, missing, extra string }{
		{"same", uuidA + ":1-10", uuidA + ":1-10", "", "", ""},
		{"behind, nothing purged", uuidA + ":1-5", uuidA + ":1-10", "", "", ""},
		{"behind, purged what it has", uuidA + ":1-5", uuidA + ":1-10", uuidA + ":1-5", "", ""},
		{"behind, purged one more", uuidA + ":1-5", uuidA + ":1-10", uuidA + ":1-6", uuidA + ":6", ""},
		{"purged from another UUID", uuidA + ":1-5", uuidA + ":1-10," + uuidB + ":1", uuidB + ":1", uuidB + ":1", ""},
		{"errant on the primary's UUID", uuidA + ":1-11", uuidA + ":1-10", "", "", uuidA + ":11"},
		{"errant on its own UUID", uuidA + ":1-5," + uuidB + ":1-2", uuidA + ":1-10", "", "", uuidB + ":1-2"},
		{"errant by its tag", uuidA + ":1-5:x:1", uuidA + ":1-10", "", "", uuidA + ":x:1"},
		{"hole below what is purged", uuidA + ":1-2:4-5", uuidA + ":1-10", uuidA + ":1-5", uuidA + ":3", ""},
		{"both", uuidA + ":1-5," + uuidB + ":1", uuidA + ":1-10", uuidA + ":1-7", uuidA + ":6-7", uuidB + ":1"},
		{"empty backup, nothing purged", "", uuidA + ":1-10", "", "", ""},
		{"empty backup, purged", "", uuidA + ":1-10", uuidA + ":1", uuidA + ":1", ""},
		{"empty primary", uuidA + ":1", "", "", "", uuidA + ":1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			primary := replication.PrimaryState{Position: position(t, "mysql:"+test.executed)}
			primary.Position.Purged = gtidSet(t, test.purged)
			err := replication.CanFollow(position(t, "mysql:"+test.backup), primary)
			requireRefusal(t, err, test.missing, test.extra)
		})
	}
}

func TestCanFollowMariaDB(t *testing.T) {
	tests := []struct {
		name                            string
		backup, backupState             string
		primary, primaryState           string
		start, slavePos, missing, extra string
	}{
		{name: "same", backup: "0-1-10", primary: "0-1-10", primaryState: "0-1-10"},
		{name: "behind", backup: "0-1-5", primary: "0-1-10", primaryState: "0-1-10"},
		{name: "behind, start at what it has", backup: "0-1-5", primary: "0-1-10", primaryState: "0-1-10", start: "0-1-5"},
		{name: "behind, start one later", backup: "0-1-5", primary: "0-1-10", primaryState: "0-1-10", start: "0-1-6", missing: "0-1-6"},
		{name: "start of a domain that the backup lacks", backup: "0-1-5", primary: "0-1-10,7-1-3", primaryState: "0-1-10,7-1-3", start: "0-1-2,7-1-1", missing: "7-1-1"},
		{name: "domain that begins in the binary logs", backup: "0-1-5", primary: "0-1-10,7-1-3", primaryState: "0-1-10,7-1-3", start: "0-1-2"},
		{name: "start with two servers", backup: "0-2-8", primary: "0-2-9", primaryState: "0-1-5,0-2-9", start: "0-1-5,0-2-7"},
		{name: "start with two servers, one later", backup: "0-1-6", primary: "0-2-9", primaryState: "0-1-6,0-2-9", start: "0-1-6,0-2-7", missing: "0-2-7"},
		{name: "ahead", backup: "0-1-11", primary: "0-1-10", primaryState: "0-1-10", extra: "0-1-11"},
		{name: "unknown domain", backup: "0-1-5,7-2-1", primary: "0-1-10", primaryState: "0-1-10", extra: "7-2-1"},
		{name: "own write, known by the state", backup: "0-1-5", backupState: "0-1-5,0-2-6", primary: "0-1-10", primaryState: "0-1-10", extra: "0-2-6"},
		{name: "own write in a domain of its own", backup: "0-1-5", backupState: "0-1-5,9-2-1", primary: "0-1-10", primaryState: "0-1-10", extra: "9-2-1"},
		{name: "own write, older than the logs: not seen", backup: "0-1-9", backupState: "0-1-9,0-2-6", primary: "0-1-10", primaryState: "0-1-10", start: "0-1-7"},
		{name: "former primary", backup: "0-1-5", backupState: "0-1-5", primary: "0-2-10", primaryState: "0-1-7,0-2-10"},
		{name: "diverged at a failover", backup: "0-1-9", backupState: "0-1-9", primary: "0-2-12", primaryState: "0-1-7,0-2-12", extra: "0-1-9"},
		{name: "promoted, all logged", backup: "0-1-5", primary: "0-1-7", primaryState: "0-1-7", slavePos: "0-1-7"},
		{name: "promoted, nothing logged, same", backup: "0-1-7", primary: "", primaryState: "", slavePos: "0-1-7"},
		{name: "promoted, nothing logged, behind", backup: "0-1-5", primary: "", primaryState: "", slavePos: "0-1-7", missing: "0-1-7"},
		{name: "seeded without a state, writes", backup: "0-1-7", backupState: "0-1-7,0-3-4", primary: "0-2-8", primaryState: "0-2-8", slavePos: "0-1-7"},
		{name: "promoted, ahead of it", backup: "0-1-9", primary: "", primaryState: "", slavePos: "0-1-7", extra: "0-1-9"},
		{name: "both", backup: "0-1-5,7-2-1", primary: "0-1-10", primaryState: "0-1-10", start: "0-1-6", missing: "0-1-6", extra: "7-2-1"},
		{name: "empty backup, first log there", backup: "", primary: "0-1-10", primaryState: "0-1-10"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backup := position(t, "mariadb:"+test.backup)
			backup.BinlogState = mariaDB(t, test.backupState)
			primary := replication.PrimaryState{Position: position(t, "mariadb:"+test.primary)}
			primary.Position.BinlogState = mariaDB(t, test.primaryState)
			primary.BinlogStart, primary.SlavePos = mariaDB(t, test.start), mariaDB(t, test.slavePos)
			requireRefusal(t, replication.CanFollow(backup, primary), test.missing, test.extra)
		})
	}
}

// requireRefusal fails unless err is nil or names what is missing and too much.
func requireRefusal(t *testing.T, err error, missing, extra string) {
	t.Helper()
	var purged *replication.PurgedError
	got := ""
	if errors.As(err, &purged) {
		got = purged.Missing.GTIDs()
	}
	if got != missing {
		t.Errorf("missing: got %q, want %q", got, missing)
	}
	var errant *replication.ErrantError
	got = ""
	if errors.As(err, &errant) {
		got = errant.Extra.GTIDs()
	}
	if got != extra {
		t.Errorf("extra: got %q, want %q", got, extra)
	}
	if (err != nil) != (missing+extra != "") {
		t.Errorf("got error %v", err)
	}
}

func TestCanFollowOtherFlavor(t *testing.T) {
	err := replication.CanFollow(position(t, "mysql:"), replication.PrimaryState{Position: position(t, "mariadb:")})
	if got, want := err.Error(), "follow the primary: it is MariaDB, the backup is MySQL"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCanFollowMessages(t *testing.T) {
	purged := replication.PrimaryState{Position: position(t, "mysql:"+uuidA+":1-10")}
	purged.Position.Purged = gtidSet(t, uuidA+":1-7")
	started := replication.PrimaryState{Position: position(t, "mariadb:0-1-10"), BinlogStart: mariaDB(t, "0-1-6")}
	many := position(t, "mysql:")
	many.Executed = manyIntervals(t, 10000)
	tests := []struct {
		name    string
		backup  replication.Position
		primary replication.PrimaryState
		want    string
	}{
		{"purged", position(t, "mysql:"+uuidA+":1-5"), purged, "the primary has purged transactions that the backup lacks: " + uuidA + ":6-7"},
		{"errant", position(t, "mysql:"+uuidA+":1-7:11"), purged, "the backup has transactions that the primary lacks (errant): " + uuidA + ":11"},
		{"purged, MariaDB", position(t, "mariadb:0-1-5"), started, "the primary has purged transactions that the backup lacks: its binary logs start after 0-1-6, the backup has 0-1-5"},
		{"purged, MariaDB, empty", position(t, "mariadb:"), started, "the primary has purged transactions that the backup lacks: its binary logs start after 0-1-6, the backup has nothing"},
		{
			"bounded", many,
			replication.PrimaryState{Position: position(t, "mysql:")},
			"the backup has transactions that the primary lacks (errant): " + uuidA + ":1:3:5:7:9:11:13:15,... (9992 more intervals)",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := replication.CanFollow(test.backup, test.primary)
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	err := replication.CanFollow(many, replication.PrimaryState{Position: position(t, "mysql:")})
	var errant *replication.ErrantError
	if !errors.As(err, &errant) || strings.Count(errant.Extra.GTIDs(), ":") != 10000 {
		t.Error("the field doesn't hold all that the message leaves out")
	}
}
