package mysqlbackup_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// newStray returns a stand with another replica, made of a backup, that has gone
// its own way since: it fell behind, and somebody has written to it.
func newStray(t *testing.T, flavor replication.Flavor) (*stand, *mysqltest.Server) {
	t.Helper()
	s := newStand(t, flavor)
	s.primary.LoadFixture(t)
	s.primary.Exec(t, "CREATE TABLE test.large (i INT AUTO_INCREMENT PRIMARY KEY, x VARCHAR(512))", "INSERT INTO test.large (x) VALUES ('')")
	for range 16 { // 32 MiB
		s.primary.Exec(t, "INSERT INTO test.large (x) SELECT REPEAT(SHA2(i, 256), 8) FROM test.large")
	}
	s.replica.WaitForReplica(t, s.primary)
	s.backUp(t)
	target := s.seed(t, flavor, mysqltest.Options{})
	s.stray(t, target)
	s.primary.Write(t, 10)
	s.replica.WaitForReplica(t, s.primary)
	s.backUp(t)
	s.primary.Write(t, 5)
	return s, target
}

// stray takes a replica away from its primary and writes to it. It ends by a
// crash, so that its redo log has something to say.
func (s *stand) stray(t *testing.T, target *mysqltest.Server) {
	t.Helper()
	promote(t, target)
	target.Exec(t, "CREATE DATABASE errant", "CREATE TABLE errant.t (i INT PRIMARY KEY, x VARCHAR(200))", "DELETE FROM test.writes", "DELETE FROM test.large WHERE i < 100")
	for _, values := range []string{"(1, 'a'), (2, 'b')", "(3, REPEAT('c', 200))"} {
		target.Exec(t, "INSERT INTO errant.t VALUES "+values)
	}
	target.Kill(t)
	if err := os.WriteFile(filepath.Join(target.Datadir, "left.ibd"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkReset verifies that nothing is left of what a stray had of its own.
func checkReset(t *testing.T, s *stand, target *mysqltest.Server) {
	t.Helper()
	checkReplica(t, target, s.primary)
	for _, path := range []string{"errant", "left.ibd"} {
		if exists(filepath.Join(target.Datadir, path)) {
			t.Errorf("%s is left", path)
		}
	}
}

// TestRestoreInPlace resets a replica to a backup: it becomes a replica again,
// equal to the primary, and little was written.
func TestRestoreInPlace(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s, target := newStray(t, flavor)
		opts := s.restoreOptions(t, target)
		opts.InPlace = true
		result := mustRestore(t, opts)
		plain := result.Manifest.Totals.Plain
		t.Logf("wrote %d and kept %d of %d bytes", result.Written, result.Kept, plain)
		if result.Written == 0 || result.Written > plain/10 || result.Kept < plain/2 || result.Written+result.Kept > plain {
			t.Errorf("wrote %d and kept %d of %d bytes, want a small part to be written", result.Written, result.Kept, plain)
		}
		checkReset(t, s, target)
		target.Stop(t)
		target.Start(t)
		s.primary.Write(t, 5)
		target.WaitForReplica(t, s.primary)
		target.Stop(t)
		opts.Mode = mysqlbackup.ModeFiles
		inPlace, err := mysqlbackup.Restore(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		again, err := mysqlbackup.Restore(t.Context(), opts)
		if err != nil || again.Written != 0 || again.Kept != inPlace.Written+inPlace.Kept {
			t.Errorf("onto itself: wrote %d and kept %d bytes, %v; want all %d to be kept", again.Written, again.Kept, err, inPlace.Written+inPlace.Kept)
		}
	})
}

// TestRestoreInPlaceEmpty has nothing to compare with.
func TestRestoreInPlaceEmpty(t *testing.T) {
	s := newStand(t, replication.MySQL)
	s.backUp(t)
	target := mysqltest.New(t, replication.MySQL, mysqltest.Options{})
	opts := s.restoreOptions(t, target)
	opts.InPlace = true
	result, err := mysqlbackup.Restore(t.Context(), opts)
	if err != nil || result.Kept != 0 {
		t.Errorf("kept %d bytes, %v; want none", result.Kept, err)
	}
	checkReplica(t, target, s.primary)
}

// TestRestoreInPlaceKilled kills one restore in place after the other, each a
// step later; while files are written, at several places. No server starts on
// what they leave before the end.
func TestRestoreInPlaceKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s, target := newStray(t, flavor)
		run := childRun{Restore: true, InPlace: true, Server: target}
		kill := func(step mysqlbackup.Step, after int64) {
			run.DieAt, run.DieAfter = step, after
			s.killed(t, run)
		}
		kill(mysqlbackup.StepPreflight, 0)
		kill(mysqlbackup.StepClear, 0)
		if target.Running() {
			t.Error("a server runs")
		}
		for _, after := range []int64{0, 1, 1 << 20, 20 << 20, 50 << 20} {
			step := mysqlbackup.StepSync
			if after == 0 {
				step = mysqlbackup.StepFiles // all that is not in the backup has gone, the rest is as it was
			}
			kill(step, after)
			checkStartless(t, target)
		}
		kill(mysqlbackup.StepSync, 0)
		checkStartless(t, target)
		for _, test := range restoreSteps()[4:] {
			kill(test.step, 0)
			if got := target.Running(); got != test.killed {
				t.Errorf("killed at %s: server runs: %t, want %t", test.step, got, test.killed)
			}
			if slices.Contains([]mysqlbackup.Step{mysqlbackup.StepProof, mysqlbackup.StepCatchUp}, test.step) {
				target.Kill(t)
			}
		}
		opts := s.restoreOptions(t, target)
		opts.InPlace = true
		mustRestore(t, opts)
		checkReset(t, s, target)
	})
}

// TestRestoreAfterInPlace: what a restore in place has left is cleared by one
// that is not.
func TestRestoreAfterInPlace(t *testing.T) {
	s, target := newStray(t, replication.MariaDB)
	s.killed(t, childRun{Restore: true, InPlace: true, Server: target, DieAfter: 20 << 20})
	mustRestore(t, s.restoreOptions(t, target))
	checkReset(t, s, target)
}

// checkStartless verifies that no server starts on what is in the data directory,
// and that trying it has done no harm that a restore does not undo.
func checkStartless(t *testing.T, srv *mysqltest.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := exec.CommandContext(ctx, srv.Program, "--defaults-file="+srv.DefaultsFile).Run(); err == nil || ctx.Err() != nil {
		t.Errorf("a server has started on an unfinished restore: %v", err)
	}
}
