package mysqlbackup

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestParseLock(t *testing.T) {
	for line, want := range map[string][2]uint64{
		"1: FLOCK  ADVISORY  WRITE 4211 fd:01:262160 0 EOF":  {4211, 262160},
		"2: FLOCK  ADVISORY  READ 1 00:2b:7 0 EOF":           {1, 7},
		"3: POSIX  ADVISORY  WRITE 4211 fd:01:262160 0 EOF":  {},
		"4: OFDLCK ADVISORY  WRITE -1 fd:01:262160 0 EOF":    {},
		"5: FLOCK  ADVISORY  WRITE 4211 fd:01 0 EOF":         {},
		"6: -> FLOCK  ADVISORY  WRITE 4212 fd:01:262160 0 E": {},
		"": {}, "x": {},
	} {
		pid, inode := parseLock(line)
		if uint64(pid) != want[0] || inode != want[1] {
			t.Errorf("%q: got %d and %d, want %v", line, pid, inode, want)
		}
	}
	if pid, inode := parseLock("1: FLOCK  ADVISORY  WRITE 0 fd:01:5 0 EOF"); pid != -1 || inode != 5 {
		t.Errorf("a process of another namespace: got %d and %d", pid, inode)
	}
}

// What goes on is seen without a lock being taken, in every phase.
func TestActivities(t *testing.T) {
	dir := t.TempDir()
	if all, err := Activities(dir); err != nil || len(all) != 0 {
		t.Fatalf("in an empty folder: %v, %v", all, err)
	}
	j := openTestJournal(t, dir, "/data")
	check := func(running bool, want Activity) {
		t.Helper()
		want.Running, want.PID = running, os.Getpid()
		all, err := Activities(dir)
		if err != nil || len(all) != 1 || all[0] != want {
			t.Errorf("got %+v, %v; want %+v", all, err, want)
		}
		if one, err := ActivityOf(dir, "/data"); err != nil || one != want {
			t.Errorf("of the data directory: got %+v, %v; want %+v", one, err, want)
		}
		if other, err := ActivityOf(dir, "/other"); err != nil || other != (Activity{}) {
			t.Errorf("of another one: got %+v, %v", other, err)
		}
	}
	check(true, Activity{})
	started := time.Date(2026, 8, 1, 13, 15, 2, 0, time.UTC)
	j.record = record{Datadir: "/data", Backup: "commerce/-80/x", Started: started, Serving: Serving{Commands: &DrainCommands{Drain: "d", Undrain: "u"}}}
	if err := j.enter(phaseStopped); err != nil {
		t.Fatal(err)
	}
	want := Activity{Datadir: "/data", Backup: "commerce/-80/x", Started: started, Phase: "stopped", Drained: true}
	check(true, want)
	closeJournal(t, j)
	check(false, want)
	j = openTestJournal(t, dir, "/data")
	if err := j.clear(); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	if all, err := Activities(dir); err != nil || len(all) != 0 {
		t.Errorf("when all is put back: %v, %v", all, err)
	}
	writeText(t, filepath.Join(dir, "journal-0.json.lock"), "")
	writeText(t, filepath.Join(dir, "journal-0.json"), "{")
	if _, err := Activities(dir); err == nil {
		t.Error("a journal that can't be read is nothing")
	}
}
