package model

// Mutant is the protocol without some of its rules, in a scope in which that
// loses data. All but one of the rules may be dropped there without a loss.
type Mutant struct {
	Drop  []Rule
	Scope string
	Steps int // of the shortest way to the loss
}

// Mutants returns at least one mutant for each rule that is not a habit.
func Mutants() []Mutant {
	return []Mutant{
		{[]Rule{ReserveFirst}, "writers", 15},
		{[]Rule{HitsPresent}, "writers", 15},
		{[]Rule{ChainsPresent}, "deltas", 15},
		{[]Rule{BasesPresent}, "deltas", 15},
		{[]Rule{DepthOneMore}, "deltas", 5},
		{[]Rule{FinalCheck}, "damage", 15},
		{[]Rule{RegisterOnce}, "writers", 16},
		{[]Rule{FirstMark}, "late reader", 15},
		{[]Rule{AdoptCondemned}, "generations", 19},
		{[]Rule{AdoptFinal}, "damage", 21},
		{[]Rule{AdopterWaits}, "delay", 17},
		{[]Rule{WaitTwice}, "delay", 17},
		{[]Rule{SessionsAfter}, "writers", 15},
		{[]Rule{SessionsTwice}, "omission", 15},
		{[]Rule{Fence}, "writers", 16},
		{[]Rule{Remark}, "writers", 15},
		{[]Rule{SettledRoots}, "delay", 22},
		{[]Rule{DirectRoots, SettledRoots}, "late deltas", 17},
		{[]Rule{UnionRoots, SettledRoots}, "late deltas", 16},
		{[]Rule{Explained, SettledRoots}, "late deltas", 17},
		{[]Rule{KnownRoots}, "vanish", 19},
		{[]Rule{NewFooters}, "deltas", 15},
		{[]Rule{Closure}, "circles", 10},
		{[]Rule{DepthRule}, "circles", 10},
		{[]Rule{FinalsGone}, "generations", 18},
		{[]Rule{DamagedGone}, "damage", 10},
		{[]Rule{PinFirst}, "reader", 12},
		{[]Rule{PinsAgain}, "late reader", 15},
		{[]Rule{LookAgain}, "late reader", 19},
	}
}

// Find returns the scope of that name.
func Find(name string) (Scope, bool) {
	for _, sc := range append(Short(), Long()...) {
		if sc.Name == name {
			return sc, true
		}
	}
	return Scope{}, false
}
