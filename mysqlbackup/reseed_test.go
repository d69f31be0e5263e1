package mysqlbackup_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// checkReplica verifies that a server is a read-only replica of the primary,
// with the same rows and an identity of its own.
func checkReplica(t testing.TB, srv, primary *mysqltest.Server) {
	t.Helper()
	eventually(t, func() string {
		state := stateOf(t, srv)
		if state["receiving"] == "Yes" && state["applying"] == "Yes" && state["read_only"] == "ON" && state["source"] == strconv.Itoa(primary.Port) {
			return ""
		}
		return fmt.Sprintf("not a replica of the primary: %v", state)
	})
	srv.WaitForReplica(t, primary)
	if diff := mysqltest.Differences(srv.Checksums(t), primary.Checksums(t)); len(diff) > 0 {
		t.Errorf("tables differ: %v", diff)
	}
	if srv.Flavor == replication.MySQL && srv.Value(t, "SELECT @@server_uuid") == primary.Value(t, "SELECT @@server_uuid") {
		t.Error("the replica has the primary's server_uuid")
	}
}

// checkUntouched verifies that nothing has been written into an empty place.
func checkUntouched(t testing.TB, srv *mysqltest.Server) {
	t.Helper()
	entries, err := os.ReadDir(srv.Datadir)
	if err != nil || len(entries) > 0 || srv.Running() {
		t.Errorf("%s holds %v, %v; server runs: %t", srv.Datadir, entries, err, srv.Running())
	}
}

// TestRestoreKinds restores in every manner in which it ends well.
func TestRestoreKinds(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		first := s.backUp(t)
		s.primary.Write(t, 5)
		s.replica.WaitForReplica(t, s.primary)
		s.backUp(t)
		s.primary.Write(t, 5)
		logs := t.TempDir()
		target := mysqltest.New(t, flavor, mysqltest.Options{Cnf: []string{"log-bin=" + logs + "/bin/log", "relay-log=" + logs + "/relay/log"}})
		target.DB().SetMaxIdleConns(-1)
		restore := func(t *testing.T, change func(*mysqlbackup.RestoreOptions)) *mysqlbackup.RestoreResult {
			t.Helper()
			opts := s.restoreOptions(t, target)
			if change != nil {
				change(&opts)
			}
			result, err := mysqlbackup.Restore(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			return result
		}
		t.Run("files", func(t *testing.T) {
			restore(t, func(o *mysqlbackup.RestoreOptions) { o.Mode = mysqlbackup.ModeFiles })
			if target.Running() {
				t.Error("a server runs")
			}
			target.Start(t)
			if got := target.Value(t, "SELECT COUNT(*) FROM test.writes"); got != "15" {
				t.Errorf("got %s rows, want 15", got)
			}
		})
		t.Run("running server", func(t *testing.T) {
			opts := s.restoreOptions(t, target)
			opts.Force = true
			_, err := mysqlbackup.Restore(t.Context(), opts)
			checkKinds(t, err, mysqlbackup.ErrRefused)
			checkHint(t, err, "stop it first")
			target.Kill(t)
		})
		t.Run("not empty", func(t *testing.T) {
			_, err := mysqlbackup.Restore(t.Context(), s.restoreOptions(t, target))
			checkKinds(t, err, mysqlbackup.ErrRefused)
			checkSays(t, err, "is not empty")
			checkHint(t, err, "--force")
		})
		t.Run("standalone", func(t *testing.T) {
			result := restore(t, func(o *mysqlbackup.RestoreOptions) { o.Mode, o.Force = mysqlbackup.ModeStandalone, true })
			if state := stateOf(t, target); state["source"] != "" || result.Proof != nil || !result.Primary.IsZero() {
				t.Errorf("state %v, result %+v; want a server without a source", state, result)
			}
			target.Kill(t)
		})
		t.Run("no primary", func(t *testing.T) {
			s.progress.warned = nil
			restore(t, func(o *mysqlbackup.RestoreOptions) { o.Topology, o.Force = mysqlbackup.Fixed{}, true })
			if !slices.ContainsFunc(s.progress.warned, func(text string) bool { return strings.Contains(text, "no primary is known") }) {
				t.Errorf("warnings %q, want one that no primary is known", s.progress.warned)
			}
			target.Kill(t)
		})
		t.Run("named, moving the old files aside", func(t *testing.T) {
			result := restore(t, func(o *mysqlbackup.RestoreOptions) {
				o.Backup, o.Force, o.KeepOld = &first.Manifest.Name, true, true
			})
			if result.Manifest.Name != first.Manifest.Name {
				t.Errorf("restored %s, want %s", result.Manifest.Name, first.Manifest.Name)
			}
			if !slices.ContainsFunc(result.OldFiles, func(folder string) bool { return exists(filepath.Join(folder, "ibdata1")) }) {
				t.Errorf("old files in %v, no ibdata1 among them", result.OldFiles)
			}
			checkReplica(t, target, s.primary)
			target.Kill(t)
		})
		t.Run("over old logs", func(t *testing.T) {
			for _, path := range []string{"/bin/log.000077", "/relay/log.000088"} {
				if err := os.WriteFile(logs+path, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			restore(t, func(o *mysqlbackup.RestoreOptions) { o.Force = true })
			checkReplica(t, target, s.primary)
			if exists(logs+"/bin/log.000077") || exists(logs+"/relay/log.000088") {
				t.Error("old logs are left")
			}
			target.Kill(t)
		})
		t.Run("after a reparent", func(t *testing.T) {
			next := mysqltest.StartReplica(t, s.primary, mysqltest.Options{})
			promote(t, next)
			s.setPrimary(t, next)
			next.Write(t, 5)
			restore(t, func(o *mysqlbackup.RestoreOptions) { o.Force = true })
			checkReplica(t, target, next)
			target.Kill(t)
			s.replica.Follow(t, next)
			last := s.replica
			last.WaitForReplica(t, next)
			s.at(mysqlbackup.StepFiles, func() { // and another one, while files are written
				promote(t, last)
				last.Write(t, 5)
				s.setPrimary(t, last)
			})
			restore(t, func(o *mysqlbackup.RestoreOptions) { o.Force = true })
			checkReplica(t, target, last)
		})
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// restoreSteps are the steps of a restore in their order, and where they leave
// the server.
func restoreSteps() []struct {
	step    mysqlbackup.Step
	serving bool // interrupted here, the server runs all the same
	killed  bool // killed here, it runs
} {
	return []struct {
		step            mysqlbackup.Step
		serving, killed bool
	}{
		{mysqlbackup.StepPreflight, false, false},
		{mysqlbackup.StepClear, false, false},
		{mysqlbackup.StepFiles, false, false},
		{mysqlbackup.StepSync, false, false},
		{mysqlbackup.StepFenced, false, false},
		{mysqlbackup.StepSeed, false, true}, // behind the fence
		{mysqlbackup.StepUnmark, true, false},
		{mysqlbackup.StepStart, true, false},
		{mysqlbackup.StepProof, true, true},
		{mysqlbackup.StepCatchUp, true, true},
	}
}

// TestRestoreInterrupted interrupts one restore after the other, each a step
// later and into what the one before has left; the last one is left alone.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		target.DB().SetMaxIdleConns(-1)
		opts := s.restoreOptions(t, target)
		for _, test := range restoreSteps() {
			_, err := mysqlbackup.Restore(s.interruptAt(t, test.step), opts)
			checkInterrupted(t, err)
			if !test.serving {
				checkKinds(t, err)
				if target.Running() {
					t.Errorf("interrupted at %s, a server runs", test.step)
				}
				continue
			}
			checkKinds(t, err, mysqlbackup.ErrPutBack)
			checkReplica(t, target, s.primary)
			target.Kill(t)
			opts.Force = true // it is whole
		}
		s.progress.onStep = nil
		if _, err := mysqlbackup.Restore(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		checkReplica(t, target, s.primary)
	})
}

// TestRestoreKilled does the same by SIGKILL.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		target.DB().SetMaxIdleConns(-1)
		run := childRun{Restore: true, Server: target}
		for _, test := range restoreSteps() {
			run.DieAt = test.step
			s.killed(t, run)
			if got := target.Running(); got != test.killed {
				t.Errorf("killed at %s: server runs: %t, want %t", test.step, got, test.killed)
			}
			if slices.Contains([]mysqlbackup.Step{mysqlbackup.StepProof, mysqlbackup.StepCatchUp}, test.step) {
				target.Kill(t)
			}
			if test.step == mysqlbackup.StepUnmark {
				_, err := mysqlbackup.Recover(t.Context(), s.recoverOptions(t, target))
				checkKinds(t, err, mysqlbackup.ErrRefused) // it is not finished
			}
			run.Force = run.Force || test.step == mysqlbackup.StepStart // from there on it is whole
		}
		opts := s.restoreOptions(t, target)
		opts.Force = true
		if _, err := mysqlbackup.Restore(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		checkReplica(t, target, s.primary)
	})
}

// TestStartWhileMarked: when all files are written but the restore was killed
// before it had synced them, no server starts on them, for its redo log is
// withheld; the restore run again succeeds.
func TestStartWhileMarked(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		s.killed(t, childRun{Restore: true, Server: target, DieAt: mysqlbackup.StepSync})
		if files, err := filepath.Glob(filepath.Join(target.Datadir, "ibdata1")); err != nil || len(files) != 1 {
			t.Fatalf("the system tablespace is not there: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := exec.CommandContext(ctx, target.Program, "--defaults-file="+target.DefaultsFile).Run()
		if err == nil || ctx.Err() != nil {
			t.Errorf("a server has started on an unfinished restore: %v", err)
		}
		if _, err := mysqlbackup.Restore(t.Context(), s.restoreOptions(t, target)); err != nil {
			t.Fatal(err)
		}
		target.WaitForReplica(t, s.primary)
	})
}
