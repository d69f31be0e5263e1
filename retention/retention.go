// Package retention decides which backups of a shard are kept, and which is the
// newest. It does no I/O and knows no clock.
package retention

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// Policy says how many backups are kept by each rule; 0: the rule is not used.
// A rule of a period keeps the newest backup of each of the newest periods, in
// UTC, that have one.
type Policy struct {
	Last    int
	Hourly  int
	Daily   int
	Weekly  int // weeks begin on Monday (ISO 8601)
	Monthly int
	Yearly  int
	Within  time.Duration // before the newest backup, not before now
}

// IsZero tells that no rule is used.
func (p Policy) IsZero() bool { return p == Policy{} }

// Backup is what the rules need to know of one.
type Backup struct {
	Name     manifest.Name
	State    State
	Pinned   bool
	Position replication.Position // zero: not known
}

// State says how far a backup can be relied on.
type State int

// The states.
const (
	Good       State = iota
	Doubtful         // marked, or its last drill failed
	Unreadable       // its record is damaged or newer than this program
	Leaving          // its removal was begun: nothing keeps it
)

// Rule is why a backup is kept.
type Rule string

// The rules: first those of a [Policy], then those that always hold.
const (
	Last    Rule = "last"
	Hourly  Rule = "hourly"
	Daily   Rule = "daily"
	Weekly  Rule = "weekly"
	Monthly Rule = "monthly"
	Yearly  Rule = "yearly"
	Within  Rule = "within"

	Pinned      Rule = "pinned"
	LastGood    Rule = "last-good"  // the newest good backup
	Ahead       Rule = "ahead"      // good, and has transactions that the newest good one and all others lack
	Future      Rule = "future"     // its name is later than now
	Behind      Rule = "behind"     // its name is too early: the one that it was made after is kept
	NotReadable Rule = "unreadable" // what it is can't be told
)

// Verdict is what becomes of one backup.
type Verdict struct {
	Backup
	Rules []Rule // that keep it, in the order of the constants; empty: it is forgotten
}

// Keep tells whether the backup is kept.
func (v *Verdict) Keep() bool { return len(v.Rules) > 0 }

// ErrNoRule says that a policy has no rules: it would keep next to nothing.
var ErrNoRule = errors.New("no rule says what to keep")

// skew is how far the clocks of hosts may be apart without notice.
const skew = time.Hour

// Decide returns a verdict on each backup of a shard, sorted by name.
//
// Times are those of the names. A backup whose name is later than now is kept
// and otherwise looked through, so that one host's wrong clock does not make
// the others' backups look old; should it be this host's clock that is wrong,
// that keeps more, never less. A clock that was behind gives a new backup an
// old name: it is kept by its position, as [Ahead], as long as no other has all
// its transactions, then as [Behind]. It takes no other's place.
//
// Good backups are judged as if there were no others. Doubtful ones that are
// newer than the newest good one are judged by the same rules among
// themselves; older ones are kept by Within alone.
func Decide(backups []Backup, p Policy, now time.Time) ([]Verdict, error) {
	if p.IsZero() {
		return nil, ErrNoRule
	}
	if p.Last < 0 || p.Hourly < 0 || p.Daily < 0 || p.Weekly < 0 || p.Monthly < 0 || p.Yearly < 0 || p.Within < 0 {
		return nil, fmt.Errorf("a rule is negative: %+v", p)
	}
	verdicts := make([]Verdict, len(backups))
	for i, b := range backups {
		verdicts[i].Backup = b
	}
	slices.SortFunc(verdicts, func(a, b Verdict) int { return a.Name.Compare(b.Name) })
	good, newer, older := sortOut(verdicts, now)
	p.apply(good)
	p.apply(newer)
	if len(good) > 0 {
		p.applyWithin(older, good[0].Name.Time)
	}
	late := findBehind(good, newer, older)
	p.apply(without(good, late))
	p.apply(without(newer, late))
	protect(verdicts, good, now)
	if len(late) > 0 {
		p.applyBehind(late, slices.Concat(good, newer)[0].Name.Time)
	}
	return verdicts, nil
}

// sortOut returns, newest first, the good backups and the doubtful ones that
// are newer and older than the newest of them. Others are in no list.
func sortOut(verdicts []Verdict, now time.Time) (good, newer, older []*Verdict) {
	for i := range slices.Backward(verdicts) {
		switch v := &verdicts[i]; {
		case v.State != Good && v.State != Doubtful || IsFuture(v.Name, now):
		case v.State == Good:
			good = append(good, v)
		case len(good) == 0:
			newer = append(newer, v)
		default:
			older = append(older, v)
		}
	}
	return good, newer, older
}

func (v *Verdict) keep(rule Rule) {
	order := []Rule{Last, Hourly, Daily, Weekly, Monthly, Yearly, Within, Pinned, LastGood, Ahead, Future, Behind, NotReadable}
	at, found := slices.BinarySearchFunc(v.Rules, rule, func(a, b Rule) int {
		return slices.Index(order, a) - slices.Index(order, b)
	})
	if !found {
		v.Rules = slices.Insert(v.Rules, at, rule)
	}
}

// period is a rule that keeps one backup of each stretch of time.
type period struct {
	rule  Rule
	count int
	of    func(time.Time) [2]int // differs for times in different stretches
}

func (p Policy) periods() []period {
	return []period{
		{Hourly, p.Hourly, func(t time.Time) [2]int { return [2]int{t.Year(), t.YearDay()*24 + t.Hour()} }},
		{Daily, p.Daily, func(t time.Time) [2]int { return [2]int{t.Year(), t.YearDay()} }},
		{Weekly, p.Weekly, func(t time.Time) [2]int { year, week := t.ISOWeek(); return [2]int{year, week} }},
		{Monthly, p.Monthly, func(t time.Time) [2]int { return [2]int{t.Year(), int(t.Month())} }},
		{Yearly, p.Yearly, func(t time.Time) [2]int { return [2]int{t.Year(), 0} }},
	}
}

// apply lets the rules keep backups of a list, which is sorted newest first.
func (p Policy) apply(list []*Verdict) {
	for _, v := range list[:min(p.Last, len(list))] {
		v.keep(Last)
	}
	for _, period := range p.periods() {
		var before [2]int // no stretch has year 0
		left := period.count
		for _, v := range list {
			now := period.of(v.Name.Time.UTC())
			if now == before || left == 0 {
				continue
			}
			before = now
			left--
			v.keep(period.rule)
		}
	}
	if len(list) > 0 {
		p.applyWithin(list, list[0].Name.Time)
	}
}

func (p Policy) applyWithin(list []*Verdict, newest time.Time) {
	for _, v := range list {
		if p.Within > 0 && !v.Name.Time.Before(newest.Add(-p.Within)) {
			v.keep(Within)
		}
	}
}

// protect keeps what no rule may give up.
func protect(verdicts []Verdict, good []*Verdict, now time.Time) {
	for i := range verdicts {
		v := &verdicts[i]
		if v.State == Leaving {
			continue
		}
		if v.Pinned {
			v.keep(Pinned)
		}
		switch {
		case IsFuture(v.Name, now):
			v.keep(Future)
		case len(good) > 0 && v == good[0]:
			v.keep(LastGood)
		case isAhead(v, verdicts):
			v.keep(Ahead)
		}
		if v.State == Unreadable {
			v.keep(NotReadable)
		}
	}
}

// isAhead tells whether a good backup has transactions that no other good one
// has all of. Of several at the same position that is the newest. Nothing is
// ahead with the position of a server without GTIDs, or none.
func isAhead(v *Verdict, verdicts []Verdict) bool {
	if v.State != Good || v.Position.IsEmpty() {
		return false
	}
	for i := range slices.Backward(verdicts) {
		other := &verdicts[i]
		if other == v || other.State != Good || !other.Position.Contains(v.Position) {
			continue
		}
		if !v.Position.Contains(other.Position) || other.Name.Compare(v.Name) > 0 {
			return false
		}
	}
	return true
}
