package mysqlbackup_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// Old backups are removed and pruned: the newest, which was deltas of them, and
// the next one, which took unchanged files over before, restore byte for byte.
func TestRestoreAfterPrune(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		c := newChurn(t, flavor)
		for range 3 {
			c.day(t, nil)
		}
		for _, m := range c.made[:2] {
			if err := c.repo.Forget(t.Context(), m.Key(), nil); err != nil {
				t.Fatal(err)
			}
		}
		result, err := mysqlbackup.Prune(t.Context(), c.repo, cas.PruneOptions{Workers: 2, Progress: c.options(t).Progress, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("prune: %+v", result)
		if result.Backups != 1 || result.Packs == 0 || result.Unused != 0 {
			t.Errorf("prune: got %+v", result)
		}
		if c.listed(t, c.made[2].Packs) {
			t.Error("no pack of the backup was repacked: the test shows nothing")
		}
		c.day(t, nil)
		for day := 2; day < 4; day++ {
			datadir, err := c.restoreFiles(t, flavor, c.made[day])
			if err != nil {
				t.Fatal(err)
			}
			c.compare(t, day, datadir)
		}
		for _, dir := range []string{"beats", "readers"} {
			names, err := filepath.Glob(filepath.Join(c.root, dir, "*", "*", "*"))
			if err != nil || len(names) == 0 {
				t.Errorf("no signs of life in %s: %v", dir, err)
			}
		}
	})
}

// listed tells whether all packs are there.
func (c *churn) listed(t *testing.T, packs []cas.ID) bool {
	t.Helper()
	for _, id := range packs {
		if _, err := c.repo.Pack(t.Context(), id); err != nil {
			return false
		}
	}
	return true
}
