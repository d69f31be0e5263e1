package mysqlbackup_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// checkHint verifies that an error's advice has the words.
func checkHint(t testing.TB, err error, words string) {
	t.Helper()
	if !slices.ContainsFunc(hint.Of(err), func(text string) bool { return strings.Contains(text, words) }) {
		t.Errorf("error %v gives the advice %q, want %q", err, hint.Of(err), words)
	}
}

// TestBackupRefused: the preflight of a backup changes nothing.
func TestBackupRefused(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		tests := []struct {
			name   string
			server *mysqltest.Server
			change func(*mysqlbackup.BackupOptions)
			says   string
			hint   string
		}{
			{"primary", s.primary, nil, "replicates from nowhere", "--allow-primary"},
			{"wrong password", s.replica, func(o *mysqlbackup.BackupOptions) { o.Server.Conn.Password = "wrong" }, "Access denied", "--password-file"},
			{"no socket", s.replica, func(o *mysqlbackup.BackupOptions) { o.Server.Conn.Socket = filepath.Join(s.replica.Dir, "none") }, "no such file", "--socket"},
			{"another's socket", s.replica, func(o *mysqlbackup.BackupOptions) { o.Server.Conn.Socket = s.primary.Socket }, "not of the same server", ""},
			{"another's defaults file", s.replica, func(o *mysqlbackup.BackupOptions) { o.Server.Defaults = instance(t, s.primary).Defaults }, "not of the same server", ""},
			{"no GTIDs", s.noGTIDs(t), func(o *mysqlbackup.BackupOptions) { o.AllowPrimary = true }, "a position cannot be recorded", "gtid_mode=ON"},
		}
		for _, test := range tests {
			if test.server == nil {
				continue // MariaDB has GTIDs always
			}
			t.Run(test.name, func(t *testing.T) {
				opts := s.backupOptions(t, test.server)
				if test.change != nil {
					test.change(&opts)
				}
				pid, before := test.server.PID(), stateOf(t, test.server)
				_, err := mysqlbackup.Backup(t.Context(), opts)
				checkKinds(t, err, mysqlbackup.ErrRefused)
				checkSays(t, err, test.says)
				if test.hint != "" {
					checkHint(t, err, test.hint)
				}
				if diff := cmp.Diff(before, stateOf(t, test.server)); diff != "" || test.server.PID() != pid {
					t.Errorf("process %d became %d, state (want - got +):\n%s", pid, test.server.PID(), diff)
				}
			})
		}
		s.checkBack(t, 0)
	})
}

// noGTIDs returns a server with neither GTIDs nor a binary log, nil where there
// are GTIDs always.
func (s *stand) noGTIDs(t *testing.T) *mysqltest.Server {
	t.Helper()
	if s.primary.Flavor == replication.MariaDB {
		return nil
	}
	return mysqltest.Start(t, s.primary.Flavor, mysqltest.Options{Cnf: []string{"gtid-mode=OFF", "skip-log-bin", "skip-log-replica-updates"}})
}

// TestBackupPrimary backs up the primary itself and seeds a replica of it.
func TestBackupPrimary(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		before := stateOf(t, s.primary)
		opts := s.backupOptions(t, s.primary)
		_, err := mysqlbackup.Backup(t.Context(), opts)
		checkSays(t, err, "it may be the primary", "is the shard's primary")
		opts.AllowPrimary = true
		result := s.mustBackUp(t, opts)
		if result.CaughtUp != nil || result.Manifest.State.ReplicaConfigured {
			t.Errorf("the backup of a primary says it is of a replica: %+v", result.Manifest.State)
		}
		checkState(t, s.primary, before)
		s.primary.Write(t, 5)
		target := s.seed(t, flavor, mysqltest.Options{})
		checkReplica(t, target, s.primary)
	})
}
