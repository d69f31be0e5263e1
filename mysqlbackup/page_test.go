package mysqlbackup_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// damagedPage is a page of test.cold that holds rows.
const damagedPage = 5

// damage changes a few bytes of a page of test.cold on disk, and with a second
// call changes them back.
func damage(t *testing.T, srv *mysqltest.Server) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(srv.Datadir, "test", "cold.ibd"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	bytes := make([]byte, 16)
	const at = damagedPage*16384 + 5000
	if _, err := file.ReadAt(bytes, at); err != nil {
		t.Fatal(err)
	}
	for i := range bytes {
		bytes[i] ^= 0xff
	}
	if _, err := file.WriteAt(bytes, at); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBadPage: a backup with a bad page is marked and never chosen.
func TestBadPage(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.primary.Exec(t, "CREATE TABLE test.cold (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(600))",
			"INSERT INTO test.cold (text) SELECT REPEAT('row ', 100) FROM test.writes a, test.writes b, test.writes c")
		s.replica.WaitForReplica(t, s.primary)
		good := s.backUp(t)
		s.at(mysqlbackup.StepCopy, func() { damage(t, s.replica) })
		result, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
		damage(t, s.replica)
		s.checkMarked(t, result, err)
		s.checkBack(t, 2)

		target := mysqltest.New(t, flavor, mysqltest.Options{})
		opts := s.restoreOptions(t, target)
		opts.Mode = mysqlbackup.ModeFiles
		restored, err := mysqlbackup.Restore(t.Context(), opts)
		if err != nil || restored.Manifest.Name != good.Manifest.Name {
			t.Fatalf("restored %+v, %v; want %s", restored, err, good.Manifest.Name)
		}
		opts.Force, opts.Backup = true, &result.Manifest.Name
		s.progress.warned = nil
		if _, err := mysqlbackup.Restore(t.Context(), opts); err != nil || len(s.progress.warned) == 0 {
			t.Errorf("marked and named: %v, warnings %q", err, s.progress.warned)
		}
		opts.Backup = nil
		if err := s.repo.Forget(t.Context(), good.Manifest.Key(), nil); err != nil {
			t.Fatal(err)
		}
		_, err = mysqlbackup.Restore(t.Context(), opts)
		checkKinds(t, err, mysqlbackup.ErrNoUsableBackup)
		checkSays(t, err, "are marked")

		s.replica.Exec(t, "SET GLOBAL innodb_fast_shutdown = 1")
		s.replica.Stop(t)
		damage(t, s.replica)
		result, err = mysqlbackup.BackupStopped(t.Context(), s.backupOptions(t, s.replica))
		damage(t, s.replica)
		s.checkMarked(t, result, err)
		s.checkBackups(t, 2)
	})
}

// checkMarked verifies that a backup is there and marked for the damage.
func (s *stand) checkMarked(t *testing.T, result *mysqlbackup.BackupResult, err error) {
	t.Helper()
	checkKinds(t, err, mysqlbackup.ErrMarked)
	if result == nil || len(result.Manifest.Marks) != 1 || result.Manifest.Marks[0].Kind != manifest.MarkBadPages {
		t.Fatalf("got %+v, want one mark for bad pages", result)
	}
	if !strings.Contains(result.Manifest.Marks[0].Detail, "cold.ibd") || result.Manifest.Pages.Bad != 1 {
		t.Errorf("got marks %v, pages %+v; want one of cold.ibd", result.Manifest.Marks, result.Manifest.Pages)
	}
}

// TestBackupStopped backs up a server that was stopped by others.
func TestBackupStopped(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		opts := s.backupOptions(t, s.replica)
		_, err := mysqlbackup.BackupStopped(t.Context(), opts)
		checkKinds(t, err, mysqlbackup.ErrRefused)
		checkSays(t, err, "works in "+s.replica.Datadir)
		s.primary.Write(t, 20)
		s.replica.Kill(t)
		s.checkUnclean(t)
		s.replica.Start(t)
		s.replica.Exec(t, "SET GLOBAL innodb_fast_shutdown = 2")
		s.replica.WaitForReplica(t, s.primary)
		s.replica.Stop(t)
		s.checkUnclean(t)
		s.replica.Start(t)
		s.replica.Stop(t)
		result, err := mysqlbackup.BackupStopped(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if result.Manifest.PositionKnown || !result.Manifest.CleanStop.Proved || s.replica.Running() {
			t.Errorf("got %+v, server runs: %t", result.Manifest, s.replica.Running())
		}
		s.primary.Write(t, 5)
		target := s.seed(t, flavor, mysqltest.Options{})
		checkReplica(t, target, s.primary)
	})
}

// checkUnclean verifies that the stopped server's files are refused.
func (s *stand) checkUnclean(t *testing.T) {
	t.Helper()
	_, err := mysqlbackup.BackupStopped(t.Context(), s.backupOptions(t, s.replica))
	checkSays(t, err, "not stopped in order")
	checkKinds(t, err, mysqlbackup.ErrRefused)
	s.checkBackups(t, 0)
}
