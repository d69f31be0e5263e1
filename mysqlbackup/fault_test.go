package mysqlbackup_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// errSignal is why an interrupted run's context ends.
var errSignal = errors.New("signal: terminated")

// interruptAt makes the next run's context end when a step begins.
func (b *bench) interruptAt(t *testing.T, step mysqlbackup.Step) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	b.at(step, func() { cancel(errSignal) })
	return ctx
}

// checkInterrupted verifies that an error tells an interruption.
func checkInterrupted(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errSignal) && !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, errSignal)
	}
}

// TestBackupInterrupted interrupts one run after the other, each a step later:
// each of them works on what the one before has left.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		published := 0
		for _, step := range mysqlbackup.BackupSteps() {
			result, err := mysqlbackup.Backup(s.interruptAt(t, step), s.backupOptions(t, s.replica))
			checkInterrupted(t, err)
			if slices.Contains([]mysqlbackup.Step{mysqlbackup.StepPutBack, mysqlbackup.StepCatchUp}, step) {
				published++
				checkKinds(t, err, mysqlbackup.ErrPutBack) // it has not caught up
			} else {
				checkKinds(t, err)
			}
			if got, want := result != nil, published > 0; got != want {
				t.Errorf("result %t, want %t", got, want)
			}
			s.checkBack(t, published)
			if t.Failed() {
				t.Fatalf("interrupted at %s", step)
			}
		}
		s.backUp(t)
		s.checkBack(t, published+1)
	})
}

// backUp makes a backup that must succeed.
func (s *stand) backUp(t *testing.T) *mysqlbackup.BackupResult {
	t.Helper()
	s.progress.onStep = nil
	result, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestRecoverKilled puts the server back after a SIGKILL at every step.
func TestRecoverKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		published := 0
		for _, step := range mysqlbackup.BackupSteps() {
			s.killed(t, childRun{Server: s.replica, DieAt: step})
			if step == mysqlbackup.StepPutBack || step == mysqlbackup.StepCatchUp {
				published++
			}
			result, err := mysqlbackup.Recover(t.Context(), s.recoverOptions(t, s.replica))
			if err != nil {
				t.Fatalf("killed at %s: %v", step, err)
			}
			none := []mysqlbackup.Step{mysqlbackup.StepIdentify, mysqlbackup.StepPreCopy, mysqlbackup.StepJournal, mysqlbackup.StepCatchUp}
			if got, want := result.Pending, !slices.Contains(none, step); got != want {
				t.Errorf("something to put back: %t, want %t", got, want)
			}
			s.checkBack(t, published)
			if t.Failed() {
				t.Fatalf("killed at %s", step)
			}
		}
	})
}

// TestBackupAfterKilled kills one run after the other, each a step later: each
// puts back what the one before has left, the last one is not killed.
func TestBackupAfterKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		for _, step := range mysqlbackup.BackupSteps() {
			s.killed(t, childRun{Server: s.replica, DieAt: step})
		}
		s.backUp(t)
		s.checkBack(t, 3)
	})
}
