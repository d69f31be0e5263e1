package mysqlbackup_test

import (
	"testing"

	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// TestUpgradeSafe: the server is stopped slowly if that is wanted, else fast,
// but never as if it crashed; and it is as before afterwards.
func TestUpgradeSafe(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		for want, upgradeSafe := range map[string]bool{"0": true, "1": false} {
			got := ""
			s.at(mysqlbackup.StepStop, func() { got = s.replica.Value(t, "SELECT @@GLOBAL.innodb_fast_shutdown") })
			opts := s.backupOptions(t, s.replica)
			opts.UpgradeSafe = upgradeSafe
			s.mustBackUp(t, opts)
			if got != want {
				t.Errorf("upgrade-safe %t: stopped with innodb_fast_shutdown=%s, want %s", upgradeSafe, got, want)
			}
		}
		s.checkBack(t, 2)
	})
}
