package retention

import (
	"slices"
	"time"
)

// astray is how much later the name of a backup must be than that of another one
// that has all its transactions and more, before a wrong clock is the reason: a
// replica may be behind for hours, or be delayed by days on purpose.
const astray = 30 * 24 * time.Hour

// behind is a backup whose clock was behind: its name is too early. It was made
// after one and before another.
type behind struct {
	*Verdict
	after  *Verdict  // of those that it was made after, the one with the latest name; a good one if it is good
	before time.Time // name of the first that was made after it; zero: there is none
}

// findBehind returns the backups of the lists that were made by a clock that was
// behind. Nothing is known of those that contain no backup with a later name.
func findBehind(lists ...[]*Verdict) []behind {
	all := slices.Concat(lists...)
	var found []behind
	for _, v := range all {
		var after *Verdict
		for _, other := range all {
			late := other.Name.Time.Sub(v.Name.Time) > astray
			if late && other.State <= v.State && (after == nil || other.Name.Time.After(after.Name.Time)) && v.contains(&other.Backup) {
				after = other
			}
		}
		if after != nil {
			found = append(found, behind{Verdict: v, after: after})
		}
	}
	for i := range found {
		b := &found[i]
		for _, other := range all {
			at := other.Name.Time
			if other.contains(&b.Backup) && !at.Before(b.after.Name.Time) && (b.before.IsZero() || at.Before(b.before)) {
				b.before = at
			}
		}
	}
	return found
}

// without returns the list without those that are behind.
func without(list []*Verdict, late []behind) []*Verdict {
	return slices.DeleteFunc(slices.Clone(list), func(v *Verdict) bool {
		return slices.ContainsFunc(late, func(b behind) bool { return b.Verdict == v })
	})
}

// applyBehind keeps backups of clocks that were behind: each for as long as the one
// that it was made after, and as long as it may be young enough for Within. What
// else keeps one keeps that other too: without it nobody would know what the clock
// was like, and the next run decide otherwise.
func (p Policy) applyBehind(late []behind, newest time.Time) {
	for _, b := range late {
		mayBeWithin := p.Within > 0 && (b.before.IsZero() || !b.before.Before(newest.Add(-p.Within)))
		if b.after.Keep() || mayBeWithin {
			b.keep(Behind)
		}
	}
	for _, b := range late {
		if b.Keep() && !b.after.Keep() {
			b.after.keep(Behind)
		}
	}
}
