package mysqlbackup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
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

// backupSteps are the steps of a backup in their order, but for those that take
// the server out of serving and back.
func backupSteps() []mysqlbackup.Step {
	return []mysqlbackup.Step{
		mysqlbackup.StepIdentify, mysqlbackup.StepPreCopy, mysqlbackup.StepJournal, mysqlbackup.StepFence,
		mysqlbackup.StepStopReplication, mysqlbackup.StepPosition, mysqlbackup.StepStop, mysqlbackup.StepLock,
		mysqlbackup.StepProve, mysqlbackup.StepCopy, mysqlbackup.StepSeal, mysqlbackup.StepStart,
		mysqlbackup.StepRecheck, mysqlbackup.StepPublish, mysqlbackup.StepPutBack, mysqlbackup.StepCatchUp,
	}
}

// TestBackupInterrupted interrupts one run after the other, each a step later:
// each of them works on what the one before has left.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		published := 0
		for _, step := range backupSteps() {
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

// TestRecoverKilled puts the server back after a SIGKILL at every step.
func TestRecoverKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		published := 0
		for _, step := range backupSteps() {
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
			if got := s.openSessions(t); result.Pending && got > 0 {
				t.Errorf("%d sessions are open: prune waits for that of the killed run", got)
			}
			s.checkBack(t, published)
			if t.Failed() {
				t.Fatalf("killed at %s", step)
			}
		}
	})
}

// openSessions counts the sessions that have not come to an end.
func (b *bench) openSessions(t testing.TB) int {
	t.Helper()
	sessions, err := filepath.Glob(filepath.Join(b.root, "sessions/commerce/-80/*"))
	if err != nil {
		t.Fatal(err)
	}
	ended, err := filepath.Glob(filepath.Join(b.root, "manifests/commerce/-80/*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(sessions) - len(ended)
}

// TestBackupAfterKilled kills one run after the other, each a step later: each
// puts back what the one before has left, the last one is not killed.
func TestBackupAfterKilled(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		for _, step := range backupSteps() {
			s.killed(t, childRun{Server: s.replica, DieAt: step})
		}
		s.backUp(t)
		s.checkBack(t, 3)
		if got := s.openSessions(t); got > 0 {
			t.Errorf("%d sessions are open", got)
		}
	})
}

// TestRecoverRebooted ends shardseed and the server together at every step, as
// a reboot of the host does; by turns the boot starts the server, or does not.
func TestRecoverRebooted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		steps := backupSteps()
		published := 0
		first, last := slices.Index(steps, mysqlbackup.StepFence), slices.Index(steps, mysqlbackup.StepCatchUp)
		for i, step := range steps[first : last+1] {
			s.killed(t, childRun{Server: s.replica, DieAt: step})
			s.rebooted(t)
			if i%2 == 0 {
				s.replica.Start(t)
			}
			if _, err := mysqlbackup.Recover(t.Context(), s.recoverOptions(t, s.replica)); err != nil {
				t.Fatalf("rebooted at %s: %v", step, err)
			}
			if step == mysqlbackup.StepPutBack || step == mysqlbackup.StepCatchUp {
				published++
			}
			s.checkBack(t, published)
			if t.Failed() {
				t.Fatalf("rebooted at %s", step)
			}
		}
	})
}

// rebooted ends the replica by SIGKILL.
func (s *stand) rebooted(t *testing.T) {
	t.Helper()
	rebooted(t, s.replica)
}

// rebooted ends a server by SIGKILL, and waits until nothing is left of its
// process: a server does not start while the process of its socket's lock file
// answers signals, and one that nobody has reaped does.
func rebooted(t *testing.T, srv *mysqltest.Server) {
	t.Helper()
	pid := srv.PID()
	srv.Kill(t)
	eventually(t, func() string {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); pid != 0 && err == nil {
			return fmt.Sprintf("process %d is still there", pid)
		}
		return ""
	})
}
