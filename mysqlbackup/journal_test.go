package mysqlbackup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/hint"
)

func sampleRecord() record {
	return record{
		Version: journalVersion, Datadir: "/data", DefaultsFile: "/etc/my.cnf", Socket: "/run/s", Alias: "zone1-0000000101",
		Backup: "k/-80/2026-08-01.131502.zone1-0000000101", PID: os.Getpid(), Started: time.Date(2026, 8, 1, 13, 15, 2, 0, time.UTC),
		Phase: phaseStopped, Primary: "db1:3306", Left: map[string]string{varReadOnly: "ON"}, StartFlags: []string{"--x"},
		Saved: serverState{
			Variables: map[string]string{varReadOnly: "OFF"},
			Channels:  []channelState{{Name: "c", Host: "db1", Port: 3306, IORunning: true, SQLRunning: true}},
		},
	}
}

func openTestJournal(t testing.TB, stateDir, datadir string) *journal {
	t.Helper()
	j, err := openJournal(stateDir, datadir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func closeJournal(t testing.TB, j *journal) {
	t.Helper()
	if err := j.close(); err != nil {
		t.Error(err)
	}
}

func TestJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	j := openTestJournal(t, dir, "/data")
	if j.pending() {
		t.Error("a new journal is pending")
	}
	j.record = sampleRecord()
	j.Phase = ""
	if err := j.enter(phaseStopped); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	j = openTestJournal(t, dir, "/data")
	if diff := cmp.Diff(sampleRecord(), j.record, cmp.AllowUnexported(channelState{})); diff != "" || !j.pending() {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	if err := errors.Join(j.clear(), j.clear()); err != nil || j.pending() {
		t.Errorf("clear twice: %v, pending %v", err, j.pending())
	}
	closeJournal(t, j)
	j = openTestJournal(t, dir, "/data")
	defer closeJournal(t, j)
	if j.pending() {
		t.Error("a cleared journal is pending")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, j.path + ".lock": 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", path, info, err, want)
		}
	}
}

func TestJournalClearedByHand(t *testing.T) {
	j := openTestJournal(t, t.TempDir(), "/data")
	defer closeJournal(t, j)
	if err := j.enter(phaseFenced); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(j.path); err != nil {
		t.Fatal(err)
	}
	if err := j.clear(); err != nil || j.pending() {
		t.Errorf("clear: %v, pending %v", err, j.pending())
	}
}

// One data directory has one journal, whatever it is called; another has its
// own.
func TestJournalOfDatadir(t *testing.T) {
	f := newFolders(t)
	tree(t, f.dir, "link->data", "new/")
	state := t.TempDir()
	j := openTestJournal(t, state, f.data)
	defer closeJournal(t, j)
	if _, err := openJournal(state, f.dir+"/link"); !errors.Is(err, ErrBusy) {
		t.Errorf("through a link: %v, want busy", err)
	}
	other := openTestJournal(t, state, f.dir+"/new/later")
	defer closeJournal(t, other)
	if got, want := realPath(f.dir+"/link/x/y"), f.data+"/x/y"; got != want {
		t.Errorf("real path %s, want %s", got, want)
	}
	tree(t, f.dir, "new/later/")
	if _, err := openJournal(state, f.dir+"/new/later"); !errors.Is(err, ErrBusy) {
		t.Errorf("when the folder is there: %v, want busy", err)
	}
}

// A data directory whose place can't be found out may have another journal.
func TestJournalOfUnknown(t *testing.T) {
	dir := t.TempDir()
	circle := filepath.Join(dir, "circle")
	if err := os.Symlink(circle, circle); err != nil {
		t.Fatal(err)
	}
	if j, err := openJournal(dir, circle); err == nil || !strings.Contains(err.Error(), "find the journal of "+circle) {
		t.Errorf("got %v, %v", j, err)
	}
}

func TestJournalBusy(t *testing.T) {
	dir := t.TempDir()
	pid, stop := helper(t, "lock-journal "+dir)
	_, err := openJournal(dir, "/data")
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", pid)) || len(hint.Of(err)) != 1 {
		t.Errorf("error %v with hints %v, want a busy one that names process %d", err, hint.Of(err), pid)
	}
	stop()
	closeJournal(t, openTestJournal(t, dir, "/data"))
}

func TestJournalBusyWithoutName(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir, "/data")
	defer closeJournal(t, j)
	if err := os.Truncate(j.path+".lock", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(dir, "/data"); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v, want a busy one", err)
	}
}

func TestJournalErrors(t *testing.T) {
	file := writeText(t, filepath.Join(t.TempDir(), "file"), "x")
	for _, dir := range []string{file, file + "/state", "/proc/none"} {
		if _, err := openJournal(dir, "/data"); err == nil || len(hint.Of(err)) != 1 {
			t.Errorf("state folder %s: %v with hints %v, want an error with one", dir, err, hint.Of(err))
		}
	}
	dir := t.TempDir()
	j := openTestJournal(t, dir, "/data")
	closeJournal(t, j)
	writeText(t, j.path, `{"version":2,"phase":"stopped"}`)
	_, err := openJournal(dir, "/data")
	if err == nil || !strings.Contains(err.Error(), "its version is 2") || len(hint.Of(err)) != 1 {
		t.Errorf("newer journal: %v", err)
	}
	if err := os.Remove(j.path); err != nil { // the failure has let go of the lock
		t.Fatal(err)
	}
	closeJournal(t, openTestJournal(t, dir, "/data"))
}

// On a full disk the old record stays as it was.
func TestJournalDiskFull(t *testing.T) {
	dir := mountTmpfs(t, "64k")
	j := openTestJournal(t, dir, "/data")
	defer closeJournal(t, j)
	j.record = sampleRecord()
	if err := j.save(); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "full"))
	j.Phase = phaseStarted
	j.StartFlags = []string{strings.Repeat("x", 16<<10)}
	if err := j.save(); err == nil {
		t.Fatal("a journal was written on a full disk")
	}
	data, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRecord(data)
	if diff := cmp.Diff(sampleRecord(), got, cmp.AllowUnexported(channelState{})); err != nil || diff != "" {
		t.Errorf("record on the full disk: %v (-want +got):\n%s", err, diff)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("the folder holds %v, %v; want journal, lock and what fills the disk", entries, err)
	}
	if err := j.clear(); err != nil {
		t.Errorf("clear on a full disk: %v", err)
	}
}

// fill writes into a file until the disk is full.
func fill(t testing.TB, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, file)
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
	}
}

func TestDecodeRecord(t *testing.T) {
	good, err := json.Marshal(sampleRecord())
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := decodeRecord(good[:n]); err == nil {
			t.Fatalf("cut at byte %d: no error", n)
		}
		flipped := append([]byte(nil), good...)
		for bit := range 8 {
			flipped[n] = good[n] ^ 1<<bit
			if r, err := decodeRecord(flipped); err == nil && r.Version != journalVersion {
				t.Fatalf("bit %d of byte %d flipped: version %d is taken", bit, n, r.Version)
			}
		}
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"version":1}`, `{"version":1,"phase":"resting"}`, `{"version":0,"phase":"fenced"}`} {
		if _, err := decodeRecord([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	good, err := json.Marshal(sampleRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"phase":"fenced","saved":{"variables":null,"channels":[{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(again); err != nil {
			t.Errorf("written again: %v", err)
		}
	})
}
