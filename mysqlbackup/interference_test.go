package mysqlbackup_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// promote does what makes a replica a primary.
func promote(t testing.TB, srv *mysqltest.Server) {
	t.Helper()
	if srv.Flavor == replication.MariaDB {
		srv.Exec(t, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
		return
	}
	srv.Exec(t, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = 0")
}

// checkPromoted verifies that a server is the primary that somebody has made
// of it.
func checkPromoted(t testing.TB, s *stand, srv *mysqltest.Server) {
	t.Helper()
	if state := stateOf(t, srv); state["read_only"] != "OFF" || state["source"] != "" {
		t.Errorf("state %v, want a server that takes writes and has no source", state)
	}
	if left := s.journals(t); len(left) > 0 {
		t.Errorf("journals are left: %v", left)
	}
}

// TestPromoted promotes the replica while it is backed up.
func TestPromoted(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		again := func() {
			s.replica.Follow(t, s.primary)
			s.replica.WaitForReplica(t, s.primary)
			s.replica.Exec(t, "SET GLOBAL read_only = 1")
		}
		for _, step := range []mysqlbackup.Step{mysqlbackup.StepFence, mysqlbackup.StepPosition, mysqlbackup.StepStop} {
			s.at(step, func() { promote(t, s.replica) })
			pid := s.replica.PID()
			_, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica))
			checkKinds(t, err)
			if s.replica.PID() != pid {
				t.Errorf("promoted at %s: the new primary was stopped", step)
			}
			if step != mysqlbackup.StepFence { // there the fence comes after
				checkPromoted(t, s, s.replica)
			}
			again()
		}
		for _, step := range []mysqlbackup.Step{mysqlbackup.StepRecheck, mysqlbackup.StepPutBack} {
			s.at(step, func() { promote(t, s.replica) })
			if _, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica)); err != nil {
				t.Errorf("promoted at %s: %v", step, err)
			}
			checkPromoted(t, s, s.replica)
			again()
		}
		s.at(mysqlbackup.StepCopy, func() { s.setPrimary(t, s.replica) }) // in the record alone
		if _, err := mysqlbackup.Backup(t.Context(), s.backupOptions(t, s.replica)); err != nil {
			t.Error(err)
		}
		if state := stateOf(t, s.replica); state["read_only"] != "ON" || state["applying"] != "No" {
			t.Errorf("state %v, want one in which nothing was put back", state)
		}
	})
}

// TestChangedFlags lets somebody else change flags and the source while the
// server is backed up: his word counts.
func TestChangedFlags(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		other := mysqltest.StartReplica(t, s.primary, mysqltest.Options{})
		want := maps.Clone(s.want)
		s.at(mysqlbackup.StepPutBack, func() { s.replica.Exec(t, "SET GLOBAL innodb_fast_shutdown = 0") })
		s.backUpMeanwhile(t)
		want["innodb_fast_shutdown"] = "0" // it was 2, and 1 after the start
		checkState(t, s.replica, want)
		s.at(mysqlbackup.StepPutBack, func() { s.replica.Exec(t, "SET GLOBAL read_only = 0") })
		s.backUpMeanwhile(t)
		want["read_only"] = "OFF"
		if flavor == replication.MySQL {
			want["super_read_only"] = "OFF"
		}
		checkState(t, s.replica, want)
		s.at(mysqlbackup.StepRecheck, func() { s.replica.Follow(t, other) })
		s.backUpMeanwhile(t)
		want["source"] = strconv.Itoa(other.Port)
		checkState(t, s.replica, want)
	})
}

// backUpMeanwhile makes a backup, with what at has prepared, that must succeed.
func (s *stand) backUpMeanwhile(t *testing.T) {
	t.Helper()
	s.mustBackUp(t, s.backupOptions(t, s.replica))
}

// TestReshuffle makes another replica the primary while one is backed up.
func TestReshuffle(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		for _, test := range []struct {
			step     mysqlbackup.Step
			commands bool
		}{{mysqlbackup.StepPosition, false}, {mysqlbackup.StepCopy, false}, {mysqlbackup.StepRecheck, true}} {
			next := mysqltest.StartReplica(t, s.primary, mysqltest.Options{})
			opts := s.backupOptions(t, s.replica)
			if test.commands {
				opts = s.withCommands(t, "", "")
			}
			s.at(test.step, func() {
				next.WaitForReplica(t, s.primary)
				promote(t, next)
				s.setPrimary(t, next)
				next.Write(t, 3)
			})
			result, err := mysqlbackup.Backup(t.Context(), opts)
			if err != nil {
				t.Fatalf("reshuffle at %s: %v", test.step, err)
			}
			if got := result.CaughtUp.Source; got != hostPort(next) {
				t.Errorf("reshuffle at %s: the replica follows %s, want %s", test.step, got, hostPort(next))
			}
			s.want["source"] = strconv.Itoa(next.Port)
			checkState(t, s.replica, s.want)
			s.replica.WaitForReplica(t, next)
			s.primary = next
		}
		// A record that names a server which can't be followed changes nothing.
		alone := mysqltest.Start(t, flavor, mysqltest.Options{})
		s.at(mysqlbackup.StepCopy, func() { s.setPrimary(t, alone) })
		s.backUpMeanwhile(t)
		checkState(t, s.replica, s.want)
	})
}

// failing is a topology that stops to answer.
type failing struct {
	mysqlbackup.Topology
	failed *bool
}

var errTopology = errors.New("the topology does not answer")

func (f failing) Primary(ctx context.Context) (mysqlbackup.HostPort, error) {
	if *f.failed {
		return mysqlbackup.HostPort{}, errTopology
	}
	return f.Topology.Primary(ctx)
}

func TestTopologyFails(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		failed := false
		opts := s.backupOptions(t, s.replica)
		opts.Topology = failing{opts.Topology, &failed}
		s.at(mysqlbackup.StepCopy, func() { failed = true })
		if _, err := mysqlbackup.Backup(t.Context(), opts); err != nil {
			t.Error(err)
		}
		s.checkBack(t, 1)
	})
}

func TestBusy(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		for _, step := range []mysqlbackup.Step{mysqlbackup.StepFence, mysqlbackup.StepCopy} {
			s.at(step, func() {
				second := *s.bench
				second.progress = &testProgress{t: t}
				_, err := mysqlbackup.Backup(t.Context(), second.backupOptions(t, s.replica))
				checkKinds(t, err, mysqlbackup.ErrBusy)
				_, err = mysqlbackup.Recover(t.Context(), second.recoverOptions(t, s.replica))
				checkKinds(t, err, mysqlbackup.ErrBusy)
				_, err = mysqlbackup.Restore(t.Context(), second.restoreOptions(t, s.replica))
				if !errors.Is(err, mysqlbackup.ErrBusy) {
					t.Errorf("restore over a backup: %v", err)
				}
			})
			s.backUpMeanwhile(t)
		}
		s.checkBack(t, 2)
	})
}
