package model

// Rule is one rule of the protocol. docs/design.md says which code follows it.
type Rule uint8

// The rules: of writers, then of collectors, then of readers.
const (
	// ReserveFirst: a session is reserved before its lists are read.
	ReserveFirst Rule = iota
	// HitsPresent: a chunk stored earlier counts only if its pack is named in no list.
	HitsPresent
	// ChainsPresent: and only if the same holds for the packs of its whole chain.
	ChainsPresent
	// BasesPresent: a new delta's base and its chain count by the same rule.
	BasesPresent
	// DepthOneMore: a delta is one deeper than the copy of the base that was found.
	DepthOneMore
	// FinalCheck: before its register is created, a writer looks for damage again.
	FinalCheck
	// RegisterOnce: a register is created only if it is absent.
	RegisterOnce

	// FirstMark: only what is not live is condemned. Readers need it: their pins
	// are older than the list then.
	FirstMark
	// AdoptCondemned: of two condemned lists of a generation the first counts for all.
	AdoptCondemned
	// AdoptFinal: of two final lists of a generation the first counts for all.
	AdoptFinal
	// AdopterWaits: who takes over a condemned list waits as its maker does.
	AdopterWaits
	// WaitTwice: between the condemned list and the listing of sessions lies 2d, not d.
	WaitTwice
	// SessionsAfter: the sessions to be fenced are listed after the condemned list is out.
	SessionsAfter
	// SessionsTwice: that listing is the union of two.
	SessionsTwice
	// Fence: a session without a register gets a revocation.
	Fence
	// Remark: what is live is marked again after the fence.
	Remark
	// DirectRoots: registers read while fencing are roots, listed or not.
	DirectRoots
	// UnionRoots: registers that any listing of the run showed are roots.
	UnionRoots
	// KnownRoots: a register that an earlier list recorded and that is gone stops the run.
	KnownRoots
	// SettledRoots: between the fence and the last listing of registers lies d.
	SettledRoots
	// NewFooters: the second mark reads the packs published since the first.
	NewFooters
	// Explained: a chunk of a root that no footer explains stops the run.
	Explained
	// Closure: what is live includes the bases of what is kept.
	Closure
	// DepthRule: a delta is kept only with a copy of its base of lower depth.
	DepthRule
	// FinalsGone: packs of earlier final lists are not kept in place of others.
	FinalsGone
	// DamagedGone: nor are damaged packs, where there is another copy.
	DamagedGone

	// PinFirst: a reader pins a backup, then looks whether it is forgotten.
	PinFirst
	// PinsAgain: collectors read the pins again after the fence.
	PinsAgain
	// LookAgain: a reader that misses a pack waits d and lists the packs again before it fails.
	LookAgain

	// What follows spares work or stands behind a rule above: alone it is not
	// needed for safety.

	// DamageFirst: packs marked as damaged do not count when a writer begins.
	DamageFirst
	// CheckListed: a writer's last check asks also whether packs are there and not finally condemned.
	CheckListed
	// OneByOne: a generation begins when the one before is decided.
	OneByOne
	// PacksFirst: the first mark lists packs before registers.
	PacksFirst
	// PacksLast: the second mark lists packs after registers.
	PacksLast

	numRules

	firstHabit = DamageFirst
)

// Rules returns all rules.
func Rules() []Rule {
	rules := make([]Rule, numRules)
	for i := range rules {
		rules[i] = Rule(i)
	}
	return rules
}

// Habit tells whether the rule is not needed for safety.
func (r Rule) Habit() bool { return r >= firstHabit }

// String returns the rule's name.
func (r Rule) String() string {
	return [numRules]string{
		"ReserveFirst", "HitsPresent", "ChainsPresent", "BasesPresent", "DepthOneMore", "FinalCheck", "RegisterOnce",
		"FirstMark", "AdoptCondemned", "AdoptFinal", "AdopterWaits", "WaitTwice", "SessionsAfter", "SessionsTwice", "Fence",
		"Remark", "DirectRoots", "UnionRoots", "KnownRoots", "SettledRoots", "NewFooters", "Explained", "Closure", "DepthRule",
		"FinalsGone", "DamagedGone", "PinFirst", "PinsAgain", "LookAgain",
		"DamageFirst", "CheckListed", "OneByOne", "PacksFirst", "PacksLast",
	}[r]
}

// ruleSet is a set of rules that were dropped.
type ruleSet uint64

func (d ruleSet) has(r Rule) bool { return d>>r&1 != 0 }
