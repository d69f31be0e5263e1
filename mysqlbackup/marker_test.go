package mysqlbackup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

func TestMarker(t *testing.T) {
	f := newFolders(t)
	place := &target{layout: &layout{datadir: f.data}}
	if m, err := readMarker(f.data); m != nil || err != nil {
		t.Fatalf("no marker: got %+v, %v", m, err)
	}
	if place.isPartial() {
		t.Error("no marker, and partial")
	}
	for s, partial := range map[stage]bool{stageWriting: true, stageReleasing: false, stageWhole: false} {
		want := marker{Stage: s, Backup: "k/-80/2026-08-01.131502.zone1-0000000101", Mode: ModeStandalone, Primary: "db1:3306"}
		if err := place.mark(want); err != nil {
			t.Fatal(err)
		}
		got, err := readMarker(f.data)
		if err != nil {
			t.Fatal(err)
		}
		want.Version, want.Note = markerVersion, s.note()
		if s == stageWriting {
			want = marker{Stage: stageWriting} // the rest is for people
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("want - got +:\n%s", diff)
		}
		if place.isPartial() != partial {
			t.Errorf("%s: partial: %t, want %t", s, !partial, partial)
		}
		if err := checkUnfinished(f.data); (err == nil) != (s == stageWhole) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for range 2 { // the second finds nothing
		if err := unmark(f.data); err != nil {
			t.Error(err)
		}
	}
	if exists(filepath.Join(f.data, markerName)) {
		t.Error("the marker is there")
	}
}

// What a marker does not say in so many words, it does not say.
func TestMarkerDamaged(t *testing.T) {
	f := newFolders(t)
	place := &target{layout: &layout{datadir: f.data}}
	if err := place.mark(marker{Stage: stageWhole, Backup: "k/-80/b", Mode: ModeReplica}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.data, markerName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(data)
	if decodeMarker(data).Stage != stageWhole {
		t.Fatalf("not whole: %s", data)
	}
	for n := range len(data) - 2 { // the last are a brace and a line end
		if m := decodeMarker(data[:n]); m.Stage != stageWriting {
			t.Errorf("cut at %d: stage %s", n, m.Stage)
		}
	}
	for _, text := range []string{
		"", "{}", "null", "[]", strings.Replace(whole, `"version": 1`, `"version": 2`, 1), strings.Replace(whole, `"replica"`, `"master"`, 1),
		strings.Replace(whole, `"whole"`, `"broken"`, 1), strings.Replace(whole, `"k/-80/b"`, `""`, 1), whole + strings.Repeat(" ", maxMarker),
	} {
		if m := decodeMarker([]byte(text)); m.Stage != stageWriting {
			t.Errorf("%.200s: stage %s", text, m.Stage)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tree(t, f.data, "elsewhere", markerName+"->elsewhere")
	if _, err := readMarker(f.data); err == nil {
		t.Error("a link in place of the marker is no error")
	}
	if place.isPartial() {
		t.Error("a marker that can't be read makes the folder nobody's")
	}
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"version":1,"stage":"whole","backup":"k/-80/b","mode":"replica","primary":"db1:3306"}`))
	f.Add([]byte(`{"version":1,"stage":"releasing","backup":"k/-80/b","mode":"files"}`))
	f.Add([]byte("shardseed restores"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := decodeMarker(data)
		if !m.Stage.isComplete() && m.Stage != stageWriting {
			t.Errorf("stage %q", m.Stage)
		}
		_ = m.Mode.String() // does not panic
		m.goesOn(&RestoreOptions{Keyspace: "k", Shard: "-80"})
	})
}

func TestGoesOn(t *testing.T) {
	name, err := manifest.ParseName("2026-08-01.131502.zone1-101")
	if err != nil {
		t.Fatal(err)
	}
	other, err := manifest.ParseName("2026-08-02.131502.zone1-101")
	if err != nil {
		t.Fatal(err)
	}
	good := marker{Stage: stageWhole, Backup: string(manifest.Key("k", "-80", name)), Mode: ModeReplica}
	releasing, writing := good, good
	releasing.Stage, writing.Stage = stageReleasing, stageWriting
	for what, test := range map[string]struct {
		marker *marker
		opts   RestoreOptions
		want   bool
	}{
		"the newest":      {&good, RestoreOptions{Keyspace: "k", Shard: "-80"}, true},
		"by name":         {&good, RestoreOptions{Keyspace: "k", Shard: "-80", Backup: &name}, true},
		"releasing":       {&releasing, RestoreOptions{Keyspace: "k", Shard: "-80"}, true},
		"none":            {nil, RestoreOptions{Keyspace: "k", Shard: "-80"}, false},
		"writing":         {&writing, RestoreOptions{Keyspace: "k", Shard: "-80"}, false},
		"force":           {&good, RestoreOptions{Keyspace: "k", Shard: "-80", Force: true}, false},
		"another name":    {&good, RestoreOptions{Keyspace: "k", Shard: "-80", Backup: &other}, false},
		"another shard":   {&good, RestoreOptions{Keyspace: "k", Shard: "80-"}, false},
		"its name, other": {&good, RestoreOptions{Keyspace: "k", Shard: "80-", Backup: &name}, false},
		"another mode":    {&good, RestoreOptions{Keyspace: "k", Shard: "-80", Mode: ModeFiles}, false},
	} {
		if got := test.marker.goesOn(&test.opts); got != test.want {
			t.Errorf("%s: %t, want %t", what, got, test.want)
		}
	}
}

// A release that was interrupted is finished by the next one.
func TestRelease(t *testing.T) {
	for name, made := range map[string][]string{
		"nothing done": {withheld + "/#innodb_redo/#ib_redo1", withheld + "/ib_logfile0"},
		"half done":    {"#innodb_redo/#ib_redo1", withheld + "/ib_logfile0"},
		"moved":        {"#innodb_redo/#ib_redo1", "ib_logfile0", withheld + "/"},
		"done":         {"#innodb_redo/#ib_redo1", "ib_logfile0"},
	} {
		f := newFolders(t)
		tree(t, f.dir, made...)
		place := &target{layout: &layout{folders: map[string]string{rootRedo: f.dir}}}
		if err := place.checkRelease(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := place.release(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !exists(f.dir+"/#innodb_redo/#ib_redo1") || !exists(f.dir+"/ib_logfile0") || exists(place.withheldFolder()) {
			t.Errorf("%s: got %q", name, listed(t, f.dir))
		}
	}
}

// A redo log that somebody has made meanwhile is not overwritten.
func TestReleaseOverOther(t *testing.T) {
	f := newFolders(t)
	tree(t, f.dir, withheld+"/ib_logfile0", "ib_logfile0")
	place := &target{layout: &layout{folders: map[string]string{rootRedo: f.dir}}}
	if err := place.checkRelease(); err == nil || !strings.Contains(err.Error(), "somebody has made "+f.dir+"/ib_logfile0") {
		t.Errorf("got %v", err)
	}
}

// A restore that was killed before its first mark had its name is in nobody's way.
func TestUnbornMarker(t *testing.T) {
	f := newFolders(t)
	at := &target{layout: f.layout(t, replication.MariaDB)}
	tree(t, f.data, ".tmp-123", "t/.tmp-1", "other")
	for name, want := range map[string]bool{".tmp-123": true, "t/.tmp-1": false, "other": false, "t": false} {
		if got := at.isUnborn(filepath.Join(f.data, name)); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}
