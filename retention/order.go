package retention

import (
	"slices"
	"time"

	"github.com/shardseed/shardseed/manifest"
)

// IsFuture tells whether a backup's name is later than now by more than clocks
// differ unnoticed: the clock of the host that made the backup was wrong, or this one's
// is.
func IsFuture(name manifest.Name, now time.Time) bool { return name.Time.After(now.Add(skew)) }

// contains tells whether one backup has all transactions of another, and more:
// then it is the newer one, whatever clocks have said. Nothing is known of the
// position of a server without GTIDs.
func (b *Backup) contains(other *Backup) bool {
	return !other.Position.IsEmpty() && b.Position.Contains(other.Position) && !other.Position.Contains(b.Position)
}

// NewestFirst returns the backups in the order in which a restore prefers them: none
// comes before another one that has all its transactions and more. Where
// positions do not decide, the time of the name does, and names of the future
// come last.
func NewestFirst(backups []Backup, now time.Time) []Backup {
	left := slices.Clone(backups)
	slices.SortStableFunc(left, func(a, b Backup) int {
		switch future := IsFuture(a.Name, now); {
		case future == IsFuture(b.Name, now):
			return b.Name.Compare(a.Name)
		case future:
			return 1
		}
		return -1
	})
	above := make([]int, len(left)) // how many of those left contain it
	for i := range left {
		for j := range left {
			if left[j].contains(&left[i]) {
				above[i]++
			}
		}
	}
	var ordered []Backup
	taken := make([]bool, len(left))
	for range left {
		next := 0 // the first of which no other is known to be newer; containment has no circles
		for taken[next] || above[next] > 0 {
			next++
		}
		taken[next] = true
		ordered = append(ordered, left[next])
		for i := range left {
			if left[next].contains(&left[i]) {
				above[i]--
			}
		}
	}
	return ordered
}
