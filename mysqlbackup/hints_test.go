package mysqlbackup_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// sizes is a progress that notes how much is read.
type sizes struct {
	*testProgress
	begun map[string]int64
}

func (p *sizes) Begin(what string, total int64) { p.begun[what] = total }

// read backs up the stopped server and returns how many bytes of its files were
// read. The clock is ahead: nothing was changed just now.
func (c *churn) read(t *testing.T, edit func(*mysqlbackup.BackupOptions)) (int64, *manifest.Manifest) {
	t.Helper()
	opts := c.options(t)
	p := &sizes{c.progress, map[string]int64{}}
	opts.Progress = p
	start := time.Now().Add(time.Duration(len(c.made)+1) * time.Hour)
	opts.Now = func() time.Time { return start }
	if edit != nil {
		edit(&opts)
	}
	result, err := mysqlbackup.BackupStopped(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	c.made, c.copies = append(c.made, result.Manifest), append(c.copies, c.srv.Datadir)
	return p.begun["copy"], result.Manifest
}

// Files that are as they were are not read again, and the backup is the same as
// if they had been.
func TestUnchangedFiles(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		c := newChurn(t, flavor)
		c.srv.Stop(t)
		all, first := c.read(t, nil)
		if all != first.Totals.Plain {
			t.Errorf("first: read %d bytes of %d", all, first.Totals.Plain)
		}
		got, second := c.read(t, nil)
		if got != 0 {
			t.Errorf("second: read %d bytes of files that have not changed", got)
		}
		want := first.Totals
		want.New, want.NewChunks, want.Stored = 0, 0, second.Totals.Stored
		if diff := cmp.Diff(want, second.Totals); diff != "" {
			t.Errorf("totals (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(first.Pages, second.Pages); diff != "" {
			t.Errorf("pages (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(listFiles(t, c.bench, first), listFiles(t, c.bench, second)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if second.Totals.Stored > 64<<10 {
			t.Errorf("stored %d bytes for nothing", second.Totals.Stored)
		}
		datadir, err := c.restoreFiles(t, flavor, second)
		if err != nil {
			t.Fatal(err)
		}
		c.compare(t, 1, datadir)
		if got, _ := c.read(t, func(opts *mysqlbackup.BackupOptions) { opts.Rehash = true }); got != all {
			t.Errorf("rehash: read %d bytes, want %d", got, all)
		}
		if got, _ := c.read(t, nil); got != 0 {
			t.Errorf("after rehash: read %d bytes", got)
		}
	})
}

// Whatever of a file's stat has changed, it is read again, and only it.
func TestChangedFiles(t *testing.T) {
	c := newChurn(t, replication.MySQL)
	c.srv.Stop(t)
	all, _ := c.read(t, nil)
	path := filepath.Join(c.srv.Datadir, "mysql.ibd")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil { // a new ctime
		t.Fatal(err)
	}
	if got, _ := c.read(t, nil); got != info.Size() {
		t.Errorf("another ctime: read %d bytes, want %d", got, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", data, info.Mode()); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".new", path)
	if got, _ := c.read(t, nil); got != info.Size() {
		t.Errorf("another inode: read %d bytes, want %d", got, info.Size())
	}
	if got, _ := c.read(t, nil); got != 0 {
		t.Errorf("left alone: read %d bytes", got)
	}
	_, last := c.read(t, func(opts *mysqlbackup.BackupOptions) { opts.Alias.UID++ })
	if got, m := c.read(t, nil); got != 0 && got != all || m.Totals.Plain != last.Totals.Plain {
		t.Errorf("after another tablet's backup: read %d bytes", got)
	}
}

// Doubt about hints, or about what the repository holds, costs a full read.
func TestDoubtfulHints(t *testing.T) {
	c := newChurn(t, replication.MySQL)
	c.srv.Stop(t)
	all, _ := c.read(t, nil)
	hints := func() string {
		names, err := filepath.Glob(filepath.Join(c.cacheDir, "*.files"))
		if err != nil || len(names) != 1 {
			t.Fatalf("hints in %v, %v", names, err)
		}
		return names[0]
	}
	spoil := func(edit func(data []byte) []byte) func() {
		return func() {
			data, err := os.ReadFile(hints())
			if err != nil {
				t.Fatal(err)
			}
			replaceFile(t, hints(), edit(data))
		}
	}
	doubts := []struct {
		name string
		do   func()
	}{
		{"one byte changed", spoil(func(data []byte) []byte { data[len(data)/2] ^= 1; return data })},
		{"cut", spoil(func(data []byte) []byte { return data[:len(data)-1] })},
		{"empty", spoil(func([]byte) []byte { return nil })},
		{"not there", func() {
			if err := os.Remove(hints()); err != nil {
				t.Fatal(err)
			}
		}},
		{"a pack of the parent is damaged", func() {
			pack := c.rootPack(t, c.made[len(c.made)-1])
			if err := os.MkdirAll(filepath.Join(c.root, "damaged"), 0o700); err != nil {
				t.Fatal(err)
			}
			replaceFile(t, filepath.Join(c.root, "damaged", pack.ID.String()), nil)
		}},
		{"changed just now", func() {
			opts := c.options(t)
			opts.Now = time.Now
			if _, err := mysqlbackup.BackupStopped(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, doubt := range doubts {
		doubt.do()
		if got, _ := c.read(t, nil); got != all && doubt.name != "changed just now" || got == 0 {
			t.Errorf("%s: read %d bytes, want %d", doubt.name, got, all)
		}
		if got, _ := c.read(t, nil); got != 0 {
			t.Errorf("after %s: read %d bytes", doubt.name, got)
		}
	}
}

// Every tenth backup reads all files.
func TestFullReads(t *testing.T) {
	c := newChurn(t, replication.MariaDB)
	c.srv.Stop(t)
	all, _ := c.read(t, nil)
	for n := 1; n <= 21; n++ {
		want := int64(0)
		if n%10 == 0 {
			want = all
		}
		if got, _ := c.read(t, nil); got != want {
			t.Errorf("backup %d: read %d bytes, want %d", n, got, want)
		}
	}
}

// A backup of files ahead takes the step, and is none the worse for files that
// come, go and change meanwhile.
func TestPreCopy(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.primary.Exec(t, "CREATE DATABASE moving", "CREATE TABLE moving.gone (id INT PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TABLE moving.emptied (id INT PRIMARY KEY, t LONGTEXT) ENGINE=InnoDB", "INSERT INTO moving.emptied VALUES (1, REPEAT('x', 3000000))")
		s.replica.WaitForReplica(t, s.primary)
		var steps []string
		s.progress.onStep = func(step string) {
			steps = append(steps, step)
			if step == string(mysqlbackup.StepPreCopy) {
				s.primary.Exec(t, "DROP TABLE moving.gone", "TRUNCATE TABLE moving.emptied", "CREATE TABLE moving.come (id INT PRIMARY KEY) ENGINE=InnoDB")
				s.replica.WaitForReplica(t, s.primary)
			}
		}
		result := s.mustBackUp(t, s.backupOptions(t, s.replica))
		if steps[1] != string(mysqlbackup.StepPreCopy) || result.Manifest.Downtime <= 0 || result.Manifest.Totals.New == 0 {
			t.Errorf("steps %v, down for %v s, totals %+v", steps, result.Manifest.Downtime, result.Manifest.Totals)
		}
		s.progress.onStep = nil
		target := s.seed(t, flavor, mysqltest.Options{})
		checkReplica(t, target, s.primary)
		for _, from := range []int64{-1, 1 << 40} {
			opts := s.backupOptions(t, s.replica)
			opts.PreCopyFrom = from
			s.at(mysqlbackup.StepPreCopy, func() { t.Errorf("pre-copy from %d bytes on", from) })
			s.mustBackUp(t, opts)
		}
	})
}

// Tables that nobody writes to while the server runs are not read again once it
// is stopped; those that somebody writes to are, and so are damaged ones. In the
// next backup only the former are stored ahead.
func TestPreCopyIdle(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.primary.Exec(t, "CREATE DATABASE ahead")
		for _, table := range []string{"idle", "busy", "later"} {
			s.primary.Exec(t, "CREATE TABLE ahead."+table+" (id INT PRIMARY KEY, t LONGTEXT) ENGINE=InnoDB",
				"INSERT INTO ahead."+table+" VALUES (1, REPEAT('"+table+"', 1000000))")
		}
		s.replica.WaitForReplica(t, s.primary)
		s.replica.Exec(t, "SET GLOBAL innodb_fast_shutdown = 1") // what was written is in the files then
		s.replica.Stop(t)
		s.replica.Start(t)
		s.primary.Exec(t, "CREATE TABLE ahead.more (id INT PRIMARY KEY) ENGINE=InnoDB") // it replicates again
		s.replica.WaitForReplica(t, s.primary)
		backup := func(change string) (taken, read int64) { // bytes not read again, and those that were
			p := &sizes{s.progress, map[string]int64{}}
			s.at(mysqlbackup.StepJournal, func() {
				s.primary.Exec(t, change)
				s.replica.WaitForReplica(t, s.primary)
			})
			opts := s.backupOptions(t, s.replica)
			opts.Progress, opts.Rehash = p, true
			opts.Now = func() time.Time { return time.Now().Add(time.Hour) } // nothing was written just now
			result := s.mustBackUp(t, opts)
			return result.Manifest.Totals.Plain - p.begun["copy"], p.begun["copy"]
		}
		size := func(table string) int64 {
			info, err := os.Stat(filepath.Join(s.replica.Datadir, "ahead", table+".ibd"))
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		taken, read := backup("UPDATE ahead.busy SET t = REPEAT('other', 900000)")
		if least := size("idle") + size("later"); taken < least || read < size("busy") {
			t.Errorf("took over %d bytes and read %d again; %d are tables that nobody wrote to, %d one that somebody did",
				taken, read, least, size("busy"))
		}
		checkReplica(t, s.seed(t, flavor, mysqltest.Options{}), s.primary)

		taken, read = backup("INSERT INTO ahead.later VALUES (2, 'two')")
		if least := size("idle"); taken < least || read < size("later") {
			t.Errorf("took over %d bytes and read %d again; %d are tables that nobody wrote to, %d one that somebody did",
				taken, read, least, size("later"))
		}
		checkReplica(t, s.seed(t, flavor, mysqltest.Options{}), s.primary)
	})
}
