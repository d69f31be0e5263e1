package vitess

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func alias(uid uint32) Alias { return Alias{Cell: "zone1", UID: uid} }

func tablet(uid uint32, kind Type) Tablet {
	return Tablet{alias(uid), "commerce", "0", kind, "127.0.0.1", int(15000 + uid), "127.0.0.1", int(17000 + uid)}
}

func TestParseShard(t *testing.T) {
	for file, primary := range map[string]uint32{"getshard.out": 100, "getshard-compact.out": 100, "getshard-after-reparents.out": 102} {
		got, err := ParseShard(fixture(t, file))
		if want := (Shard{"commerce", "0", alias(primary)}); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", file, got, err, want)
		}
	}
	got, err := ParseShard([]byte(`{"keyspace":"commerce","name":"0","shard":{"primary_alias":null}}`))
	if err != nil || !got.Primary.IsZero() {
		t.Errorf("a shard without primary: got %+v, %v", got, err)
	}
}

func TestParseTablet(t *testing.T) {
	stopped := Tablet{alias(104), "commerce", "0", Replica, "", 0, "", 17104}
	for file, want := range map[string]Tablet{
		"gettablet-primary.out":             tablet(100, Primary),
		"gettablet-replica.out":             tablet(101, Replica),
		"gettablet-replica-longalias.out":   tablet(101, Replica),
		"cold2-gettablet-BACKUP.out":        tablet(102, Backup),
		"gettablet-after-vttablet-stop.out": stopped,
	} {
		got, err := ParseTablet(fixture(t, file))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", file, got, err, want)
		}
		if got.Runs() != (want != stopped) {
			t.Errorf("%s: runs is %v", file, got.Runs())
		}
	}
}

func TestParseTablets(t *testing.T) {
	three := []Tablet{tablet(100, Primary), tablet(101, Replica), tablet(102, Replica)}
	for file, want := range map[string][]Tablet{
		"gettablets-json.out": three, "gettablets-ks-json.out": three, "gettablets-alias-json.out": three[1:2],
	} {
		got, err := ParseTablets(fixture(t, file))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", file, err, diff)
		}
	}
	many, err := ParseTablets(fixture(t, "gettablets-many-json.out"))
	if err != nil || len(many) != 11 {
		t.Fatalf("got %d tablets, %v; want 11", len(many), err)
	}
	for _, got := range many {
		want := tablet(got.Alias.UID, Replica)
		switch got.Alias.UID {
		case 102:
			want.Type = Primary
		case 108, 109:
			want.Type = Backup
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	stopped, err := ParseTablets(fixture(t, "gettablets-after-vttablet-stop-json.out"))
	if err != nil || len(stopped) == 0 {
		t.Fatalf("got %d tablets, %v", len(stopped), err)
	}
	for _, got := range stopped {
		if got.Runs() {
			t.Errorf("%+v counts as running", got)
		}
	}
}

func TestTypes(t *testing.T) {
	for text, want := range map[string]Type{
		`1`: Primary, `2`: Replica, `3`: ReadOnly, `6`: Backup, `8`: Drained, `0`: Unknown, `99`: "99", `-1`: "-1",
		`"REPLICA"`: Replica, `"backup"`: Backup, `"MASTER"`: Primary, `"rdonly"`: ReadOnly,
	} {
		var got Type
		if err := got.UnmarshalJSON([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
	var got Type
	for _, text := range []string{`{}`, `[1]`, `1.5`, `true`} {
		if err := got.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is taken for %q", text, got)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got, err := ParseStatus(fixture(t, "getfullstatus-replica.out"))
	want := Status{
		ServerUUID: "57ba3005-e683-11f1-82a7-02fc00000001", Replicates: true, LagKnown: true, Acknowledges: true, WaitFor: 1,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	text := strings.NewReplacer(`"io_state": 3`, `"io_state": 2`, `"replication_lag_seconds": 0`, `"replication_lag_seconds": 7`).
		Replace(string(fixture(t, "getfullstatus-replica.out")))
	if got, err = ParseStatus([]byte(text)); err != nil || got.Replicates || got.Lag != 7*time.Second {
		t.Errorf("one that connects: got %+v, %v", got, err)
	}
	got, err = ParseStatus([]byte(`{"server_uuid":"X","replication_status":null,"semi_sync_primary_status":true,"semi_sync_primary_clients":2,"semi_sync_wait_for_replica_count":1}`))
	if want := (Status{ServerUUID: "x", WaitsForReplicas: true, Replicas: 2, WaitFor: 1}); err != nil || got != want {
		t.Errorf("a primary: got %+v, %v", got, err)
	}
}

func TestParseVars(t *testing.T) {
	for file, want := range map[string]Identity{
		"vttablet-101-debug-vars.out":                       {alias(101), "commerce", "0", Replica, false},
		"cold2-debug-vars-BACKUP.out":                       {alias(102), "commerce", "0", Backup, false},
		"vttablet-103-during-builtin-backup-debug-vars.out": {alias(103), "commerce", "0", Backup, true},
	} {
		got, err := ParseVars(fixture(t, file))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", file, got, err, want)
		}
	}
}

// What is no answer is an error: an empty one with exit code 0 above all.
func TestNoAnswers(t *testing.T) {
	for _, text := range []string{"", "\n", "{}", "null", "[", "[]x", `{"keyspace":1}`, `"x"`} {
		if got, err := ParseShard([]byte(text)); err == nil {
			t.Errorf("shard %q: got %+v", text, got)
		}
		if got, err := ParseTablet([]byte(text)); err == nil {
			t.Errorf("tablet %q: got %+v", text, got)
		}
		if got, err := ParseStatus([]byte(text)); err == nil {
			t.Errorf("status %q: got %+v", text, got)
		}
		if got, err := ParseVars([]byte(text)); err == nil {
			t.Errorf("vars %q: got %+v", text, got)
		}
		if got, err := ParseTablets([]byte(text)); err == nil && len(got) > 0 {
			t.Errorf("tablets %q: got %+v", text, got)
		}
	}
	if got, err := ParseTablets([]byte(`[{}]`)); err == nil {
		t.Errorf("a tablet without a name: %+v", got)
	}
}

func TestParseAlias(t *testing.T) {
	for text, want := range map[string]Alias{
		"zone1-101": alias(101), "zone1-0000000101": alias(101), "us-east-1-7": {"us-east-1", 7}, "a.b_c-4294967295": {"a.b_c", 1<<32 - 1},
	} {
		if got, err := ParseAlias(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "foo", "zone1-", "-1", "zone1-4294967296", "zone 1-1", "zone1-1x"} {
		if got, err := ParseAlias(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestLastMessage(t *testing.T) {
	for file, want := range map[string]string{
		"getshard-unknown.err":       "rpc error: code = Unknown desc = node doesn't exist: /vitess/global/keyspaces/commerce/shards/80-/Shard",
		"gettablet-unknown.err":      "rpc error: code = Unknown desc = node doesn't exist: /vitess/zone1/tablets/zone1-0000000999/Tablet",
		"gettablet-unknown-cell.err": "rpc error: code = Unknown desc = node doesn't exist: /vitess/global/cells/zone9/CellInfo",
		"getshard-badarg.err":        "invalid shard path: commerce",
		"executehook-timeout.err":    "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
		"changetype-badtype.err":     "unknown TabletType BOGUS",
	} {
		if got := lastMessage(fixture(t, file)); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	if got := lastMessage(fixture(t, "vtctld-down-timeout.err")); !strings.HasPrefix(got, "rpc error: code = DeadlineExceeded") {
		t.Errorf("vtctld down: got %q", got)
	}
	for text, want := range map[string]string{
		"": "",
		"Usage:\n  x\n\nE1122 14:47:22.510199   4711 main.go:63] rpc error: code = Unknown desc = x\n": "rpc error: code = Unknown desc = x",
		"rpc error: plain\n":     "rpc error: plain",
		`{"level":"ERROR"}`:      `{"level":"ERROR"}`,
		"{half of a line of JSO": "{half of a line of JSO",
	} {
		if got := lastMessage([]byte(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestNotFound(t *testing.T) {
	for file, want := range map[string]bool{
		"getshard-unknown.err": true, "gettablet-unknown.err": true, "gettablet-unknown-cell.err": true, "gettablets-unknown-ks.err": true,
		"changetype-primary.err": false, "changetype-mysqld-down.err": false, "vtctld-down-timeout.err": false, "gettablet-badalias.err": false,
	} {
		err := &Error{Message: lastMessage(fixture(t, file))}
		if got := errors.Is(err, ErrNotFound); got != want {
			t.Errorf("%s: not found is %v", file, got)
		}
	}
}

// FuzzParse: whatever a program prints, its readers return an error or
// something complete, and read the same again.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.out")
	if err != nil || len(paths) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(text) < 4<<10 { // the long ones make it slow
			f.Add(text)
		}
	}
	f.Add([]byte(`{"TabletAlias":"zone1-0000000101","TabletType":"replica","BackupIsRunning":{"offline":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseShard(text); err == nil && (s.Keyspace == "" || s.Name == "") {
			t.Errorf("shard %+v", s)
		}
		if s, err := ParseStatus(text); err == nil && (s.ServerUUID == "" || s.LagKnown && s.Lag < 0) {
			t.Errorf("status %+v", s)
		}
		if v, err := ParseVars(text); err == nil && v.Alias.Cell == "" {
			t.Errorf("vars %+v", v)
		}
		tablets, err := ParseTablets(text)
		if one, oneErr := ParseTablet(text); oneErr == nil {
			if err == nil {
				t.Error("both a tablet and a list of them")
			}
			tablets = append(tablets, one)
		}
		for _, tablet := range tablets {
			if tablet.Alias.Cell == "" || tablet.Type == "" || tablet.MySQLTCP < 0 || tablet.MySQLTCP > 65535 {
				t.Errorf("tablet %+v", tablet)
			}
		}
		lastMessage(text)
	})
}
