package retention_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/retention"
)

// In any history: nothing comes before a backup that has all its transactions
// and more; without positions it is the time that counts, the future last.
func TestNewestFirst(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		var backups []retention.Backup
		for n := range rapid.IntRange(0, 8).Draw(rt, "backups") {
			b := retention.Backup{Name: manifest.NewName(
				now.Add(time.Duration(rapid.IntRange(-50, 50).Draw(rt, "hours"))*time.Hour+time.Duration(n)*time.Second), manifest.TabletAlias{Cell: "zone1", UID: 101},
			)}
			if last := rapid.IntRange(0, 6).Draw(rt, "last"); last > 0 {
				b.Position = position(t, strconv.Itoa(last))
			}
			backups = append(backups, b)
		}
		ordered := retention.NewestFirst(backups, now)
		if len(ordered) != len(backups) {
			rt.Fatalf("%d of %d backups are left", len(ordered), len(backups))
		}
		positions := false
		for i := range ordered {
			positions = positions || !ordered[i].Position.IsEmpty()
			for _, later := range ordered[i+1:] {
				if newer := later.Position; !ordered[i].Position.IsEmpty() && newer.Contains(ordered[i].Position) && !ordered[i].Position.Contains(newer) {
					rt.Errorf("%s comes before %s, which has more", ordered[i].Name, later.Name)
				}
			}
		}
		if !positions && !slices.IsSortedFunc(ordered, func(a, b retention.Backup) int {
			if retention.IsFuture(a.Name, now) != retention.IsFuture(b.Name, now) {
				if retention.IsFuture(a.Name, now) {
					return 1
				}
				return -1
			}
			return b.Name.Compare(a.Name)
		}) {
			rt.Errorf("not by time: %v", ordered)
		}
	})
}
