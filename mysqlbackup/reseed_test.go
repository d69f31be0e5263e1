package mysqlbackup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

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
		restore := func(t *testing.T, change func(*mysqlbackup.RestoreOptions)) *mysqlbackup.RestoreResult {
			t.Helper()
			opts := s.restoreOptions(t, target)
			if change != nil {
				change(&opts)
			}
			result := mustRestore(t, opts)
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
	whole   bool // killed here, the files are whole
} {
	return []struct {
		step                   mysqlbackup.Step
		serving, killed, whole bool
	}{
		{mysqlbackup.StepPreflight, false, false, false},
		{mysqlbackup.StepClear, false, false, false},
		{mysqlbackup.StepFiles, false, false, false},
		{mysqlbackup.StepSync, false, false, false},
		{mysqlbackup.StepFenced, false, false, false},
		{mysqlbackup.StepSeed, false, true, false}, // behind the fence
		{mysqlbackup.StepUnmark, true, false, false},
		{mysqlbackup.StepStart, true, false, true},
		{mysqlbackup.StepProof, true, true, true},
		{mysqlbackup.StepCatchUp, true, true, true},
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
		mustRestore(t, opts)
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
		mustRestore(t, opts)
		checkReplica(t, target, s.primary)
	})
}

// TestStartWhileMarked kills a restore at each of its steps: until its server
// was proved, no server starts on what it has left, for the redo log is
// withheld; after that one starts, and is the proved replica. The restore run
// again succeeds.
func TestStartWhileMarked(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		for name, cnf := range map[string][]string{"inside": nil, "redo log outside": {"innodb-log-group-home-dir=" + t.TempDir()}} {
			t.Run(name, func(t *testing.T) {
				target := mysqltest.New(t, flavor, mysqltest.Options{Cnf: cnf})
				run := childRun{Restore: true, Server: target, TempDir: s.scratch(t)}
				for _, run.DieAt = range []mysqlbackup.Step{
					mysqlbackup.StepFiles, mysqlbackup.StepSync, mysqlbackup.StepFenced, mysqlbackup.StepSeed, mysqlbackup.StepUnmark,
				} {
					s.killed(t, run)
					rebooted(t, target) // it may run behind the fence
					if complete := run.DieAt != mysqlbackup.StepFiles; exists(filepath.Join(target.Datadir, "ibdata1")) != complete {
						t.Errorf("killed at %s: the system tablespace is there: %t, want %t", run.DieAt, !complete, complete)
					}
					checkStartsNot(t, target, run.DieAt)
					// The fenced server ended with its restore: the next one removes its folder.
					if left, err := os.ReadDir(run.TempDir); err != nil || (len(left) == 2) != (run.DieAt == mysqlbackup.StepSeed) {
						t.Errorf("killed at %s: %v, %v", run.DieAt, left, err)
					}
				}
				run.DieAt = mysqlbackup.StepStart
				s.killed(t, run)
				target.Start(t)
				target.WaitForReplica(t, s.primary)
				result, err := mysqlbackup.Restore(t.Context(), s.restoreOptions(t, target))
				if err != nil || !result.WentOn {
					t.Fatalf("result %+v, %v; want one that went on", result, err)
				}
				checkReplica(t, target, s.primary)
				s.checkFinished(t, target)
			})
		}
	})
}

// checkStartsNot starts a server as its service would: it must give up.
func checkStartsNot(t *testing.T, srv *mysqltest.Server, when mysqlbackup.Step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := exec.CommandContext(ctx, srv.Program, "--defaults-file="+srv.DefaultsFile).Run()
	if err == nil || ctx.Err() != nil {
		t.Errorf("killed at %s: a server has started on an unfinished restore: %v", when, err)
	}
}

// checkFinished verifies that a restore has left nothing to finish.
func (b *bench) checkFinished(t *testing.T, srv *mysqltest.Server) {
	t.Helper()
	for _, pattern := range []string{srv.Datadir + "/.shardseed*", srv.Datadir + "/*/.shardseed*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left by the restore: %q, %v", left, err)
		}
	}
	if left := b.journals(t); len(left) > 0 {
		t.Errorf("journals are left: %v", left)
	}
}

// TestRestoreRebooted ends shardseed and the server together at every step of
// a restore, as a reboot of the host does. The boot starts the server, or does
// not; then the same restore is run again.
func TestRestoreRebooted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		for _, boots := range []bool{false, true} {
			t.Run(fmt.Sprintf("boot starts the server %t", boots), func(t *testing.T) {
				target := mysqltest.New(t, flavor, mysqltest.Options{})
				run := childRun{Restore: true, Server: target}
				for _, test := range restoreSteps() {
					run.DieAt = test.step
					s.killed(t, run)
					rebooted(t, target)
					switch {
					case boots && test.whole:
						target.Start(t)
					case boots:
						checkStartsNot(t, target, test.step)
					}
					s.finishRestore(t, target, test.whole)
					if t.Failed() {
						t.Fatalf("rebooted at %s", test.step)
					}
					target.Kill(t)
					emptyFolder(t, target.Datadir)
				}
			})
		}
	})
}

func emptyFolder(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, entry.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// finishRestore runs a restore that was killed again: it succeeds, and goes on
// where it was if the files were whole.
func (s *stand) finishRestore(t *testing.T, target *mysqltest.Server, whole bool) {
	t.Helper()
	opts := s.restoreOptions(t, target)
	result, err := mysqlbackup.Restore(t.Context(), opts)
	if err != nil && errors.Is(err, mysqlbackup.ErrRefused) && strings.Contains(err.Error(), "is not empty") {
		opts.Force = true // nothing had been done, and the failed start of the server has left something
		result, err = mysqlbackup.Restore(t.Context(), opts)
	}
	if err != nil {
		t.Fatal(err)
	}
	if result.WentOn != whole {
		t.Errorf("the restore went on: %t, want %t", result.WentOn, whole)
	}
	checkReplica(t, target, s.primary)
	s.checkFinished(t, target)
}

// TestRestoreServerKilled ends mysqld by SIGKILL at each step of a restore at
// which it runs. The run fails, and says how to go on; run again it succeeds.
func TestRestoreServerKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		opts := s.restoreOptions(t, target)
		for _, test := range []struct {
			step  mysqlbackup.Step
			kinds []error
			hint  string
		}{
			{mysqlbackup.StepSeed, nil, "run the same restore again"},
			{mysqlbackup.StepProof, []error{mysqlbackup.ErrPutBack}, "it goes on from here"},
			{mysqlbackup.StepCatchUp, []error{mysqlbackup.ErrPutBack}, "it goes on from here"},
		} {
			s.at(test.step, func() { rebooted(t, target) })
			_, err := mysqlbackup.Restore(t.Context(), opts)
			checkKinds(t, err, test.kinds...)
			checkHint(t, err, test.hint)
			if test.step == mysqlbackup.StepCatchUp { // and is not waited for
				checkSays(t, err, "has ended while it caught up")
			}
			opts.Force = false
			s.progress.onStep = nil
			s.finishRestore(t, target, len(test.kinds) > 0)
			if t.Failed() {
				t.Fatalf("server killed at %s", test.step)
			}
			target.Kill(t)
			opts.Force = true
		}
	})
}

// TestGoOn: a restore that was killed when its server was proved, and is then
// asked for something else, or meets a world that has changed.
func TestGoOn(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		first := s.backUp(t)
		s.backUp(t)
		target := mysqltest.New(t, flavor, mysqltest.Options{})
		s.killed(t, childRun{Restore: true, Server: target, DieAt: mysqlbackup.StepStart})
		for name, change := range map[string]func(*mysqlbackup.RestoreOptions){
			"another backup": func(o *mysqlbackup.RestoreOptions) { o.Backup = &first.Manifest.Name },
			"another mode":   func(o *mysqlbackup.RestoreOptions) { o.Mode = mysqlbackup.ModeStandalone },
			"no primary":     func(o *mysqlbackup.RestoreOptions) { o.Topology = mysqlbackup.Fixed{} },
		} {
			opts := s.restoreOptions(t, target)
			change(&opts)
			_, err := mysqlbackup.Restore(t.Context(), opts)
			checkKinds(t, err, mysqlbackup.ErrRefused)
			checkHint(t, err, "--force")
			if t.Failed() {
				t.Fatal(name)
			}
		}
		// A reparent has happened: the new primary is followed.
		next := mysqltest.StartReplica(t, s.primary, mysqltest.Options{})
		promote(t, next)
		s.setPrimary(t, next)
		next.Write(t, 3)
		s.finishGoingOn(t, target, next)
		// Somebody has promoted the server itself: it is left alone.
		target.Kill(t)
		s.killed(t, childRun{Restore: true, Force: true, Server: target, DieAt: mysqlbackup.StepCatchUp})
		promote(t, target)
		_, err := mysqlbackup.Restore(t.Context(), s.restoreOptions(t, target))
		checkKinds(t, err, mysqlbackup.ErrPutBack)
		checkSays(t, err, "has no source any more")
		if state := stateOf(t, target); state["read_only"] != "OFF" {
			t.Errorf("state %v, want one that takes writes", state)
		}
		// A backup of it ends the story: nothing goes on after that.
		opts := s.backupOptions(t, target)
		opts.AllowPrimary = true
		s.mustBackUp(t, opts)
		s.checkFinished(t, target)
	})
}

func (s *stand) finishGoingOn(t *testing.T, target, primary *mysqltest.Server) {
	t.Helper()
	result, err := mysqlbackup.Restore(t.Context(), s.restoreOptions(t, target))
	if err != nil || !result.WentOn {
		t.Fatalf("result %+v, %v; want one that went on", result, err)
	}
	checkReplica(t, target, primary)
	s.checkFinished(t, target)
}
