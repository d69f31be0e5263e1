package mysqlbackup_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// unchangedBytes is what a second backup may store at most, in bytes of packs:
// a restart makes a few pages of the system's own anew.
const unchangedBytes = 512 << 10

func TestNothingChanged(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		first, second, third := s.backUp(t), s.backUp(t), s.backUp(t)
		for _, result := range []*mysqlbackup.BackupResult{first, second, third} {
			t.Logf("%+v", result.Manifest.Totals)
		}
		if got := third.Manifest.Totals.Stored; got > unchangedBytes {
			t.Errorf("a backup without changes stored %d bytes, want at most %d", got, unchangedBytes)
		}
	})
}

// TestTwoHosts backs up two replicas into one repository in the same second:
// under the same alias, and under two in two shards, because a shard is backed up
// by one tablet at a time.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		s := newStand(t, flavor)
		other := *s.bench
		second := &stand{bench: &other, primary: s.primary, replica: newReplica(t, s.primary), want: s.want}
		second.cacheDir, second.stateDir = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "state")
		second.progress = &testProgress{t: t}
		at := time.Now()
		for _, uid := range []uint32{101, 102} {
			at = at.Add(time.Minute)
			var results [2]*mysqlbackup.BackupResult
			var errs [2]error
			var group sync.WaitGroup
			for i, host := range []*stand{s, second} {
				opts := host.backupOptions(t, host.replica)
				opts.Now = func() time.Time { return at }
				if i == 1 && uid != opts.Alias.UID {
					opts.Alias.UID, opts.Shard = uid, "80-"
				}
				group.Go(func() { results[i], errs[i] = mysqlbackup.Backup(t.Context(), opts) })
			}
			group.Wait()
			if errs[0] != nil || errs[1] != nil {
				t.Fatal(errs)
			}
			names := [2]string{results[0].Manifest.Name.String(), results[1].Manifest.Name.String()}
			if names[0] == names[1] {
				t.Errorf("both are called %s", names[0])
			}
			target := mysqltest.New(t, flavor, mysqltest.Options{})
			opts := s.restoreOptions(t, target)
			opts.Backup = &results[uid%2].Manifest.Name // one of each
			mustRestore(t, opts)
			checkReplica(t, target, s.primary)
		}
		s.checkBack(t, 3) // and one in the other shard
		checkState(t, second.replica, second.want)
	})
}
