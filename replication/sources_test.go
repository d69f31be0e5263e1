package replication

import (
	"strings"
	"testing"
)

func TestSplitForeign(t *testing.T) {
	t.Parallel()
	const (
		one = "00000000-0000-0000-0000-000000000001"
		two = "00000000-0000-0000-0000-000000000002"
		own = "0000000A-0000-0000-0000-00000000000A"
	)
	for _, c := range []struct{ flavor, backup, primary, rest, foreign string }{
		{"mysql", one + ":1-9," + two + ":1-5," + own + ":1", one + ":1-9", one + ":1-9," + strings.ToLower(own) + ":1", two + ":1-5"},
		{"mysql", one + ":1-9", one + ":1-2", one + ":1-9", ""},
		{"mysql", "", one + ":1-2", "", ""},
		{"mysql", two + ":tag:1-5", one + ":1," + two + ":1", two + ":tag:1-5", ""},
		{"mariadb", "1-11-9,2-22-5", "1-11-12", "1-11-9", "2-22-5"},
		{"mariadb", "1-11-9", "1-11-12", "1-11-9", ""},
		{"mariadb", "1-11-9,3-77-1", "1-11-12", "1-11-9,3-77-1", ""}, // written by itself
		{"mariadb", "", "1-11-12", "", ""},
	} {
		backup, err1 := ParsePosition(c.flavor + ":" + c.backup)
		primary, err2 := ParsePosition(c.flavor + ":" + c.primary)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		backup.BinlogState = backup.Domains
		rest, foreign := SplitForeign(backup, PrimaryState{Position: primary}, own, 77)
		if rest.GTIDs() != c.rest || foreign.GTIDs() != c.foreign {
			t.Errorf("%s without %s: got %q and %q, want %q and %q", c.backup, c.primary, rest.GTIDs(), foreign.GTIDs(), c.rest, c.foreign)
		}
		if !rest.BinlogState.Equal(rest.Domains) {
			t.Errorf("%s: binary log state %s, want %s", c.backup, rest.BinlogState, rest.Domains)
		}
	}
}

func TestLogReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file       string
		offset     uint64
		want       string
		wantOffset uint64
		reached    bool
	}{
		{"binlog.000001", 4, "binlog.000001", 4, true},
		{"binlog.000001", 3, "binlog.000001", 4, false},
		{"binlog.000001", 5, "binlog.000001", 4, true},
		{"binlog.000002", 4, "binlog.000001", 999, true},
		{"binlog.000001", 999, "binlog.000002", 4, false},
		{"binlog.999999", 999, "binlog.1000000", 4, false},
		{"binlog.1000000", 4, "binlog.999999", 999, true},
		{"", 0, "binlog.000001", 4, false},
		{"", 0, "", 0, true},
	} {
		if got := LogReached(c.file, c.offset, c.want, c.wantOffset); got != c.reached {
			t.Errorf("%s:%d reaches %s:%d: got %t", c.file, c.offset, c.want, c.wantOffset, got)
		}
	}
}

func TestMoveSource(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"9.7.4":           "CHANGE REPLICATION SOURCE TO SOURCE_HOST='db\\'2', SOURCE_PORT=3307 FOR CHANNEL 'c'",
		"8.0.22":          "CHANGE MASTER TO MASTER_HOST='db\\'2', MASTER_PORT=3307 FOR CHANNEL 'c'",
		"10.11.2-MariaDB": "CHANGE MASTER 'c' TO MASTER_HOST='db\\'2', MASTER_PORT=3307",
	} {
		v, err := ParseVersion(version, "")
		if err != nil {
			t.Fatal(err)
		}
		d, err := DialectFor(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.MoveSource("c", "db'2", 3307); got != want {
			t.Errorf("%s: got %s, want %s", version, got, want)
		}
		if got := d.BinlogEventsFrom("binlog.000007", 157); got != "SHOW BINLOG EVENTS IN 'binlog.000007' FROM 157 LIMIT 2" {
			t.Errorf("%s: got %s", version, got)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	got := filters(map[string]string{
		"Replicate_Wild_Do_Table": "a.%", "Replicate_Do_DB": "a,b", "Replicate_Ignore_DB": "", "Replicate_Ignore_Server_Ids": "0", "Source_Host": "x",
	})
	if want := "Replicate_Do_DB=a,b; Replicate_Wild_Do_Table=a.%"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
