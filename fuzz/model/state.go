package model

import (
	"cmp"
	"math/bits"
)

// set is a set of small numbers: packs, keys, chunks or generations.
type set uint16

func (a set) has(i int) bool    { return a>>i&1 != 0 }
func (a set) with(i int) set    { return a | 1<<i }
func (a set) without(i int) set { return a &^ (1 << i) }
func (a set) within(b set) bool { return a&^b == 0 }
func (a set) first() int        { return bits.TrailingZeros16(uint16(a)) }
func (a set) rest() set         { return a & (a - 1) }
func below(n int) set           { return 1<<n - 1 }

// eachSubset calls f with every subset, the whole first and the empty one last.
func (a set) eachSubset(f func(set)) {
	for sub := a; ; sub = (sub - 1) & a {
		f(sub)
		if sub == 0 {
			return
		}
	}
}

// frame is what a pack holds, of which the chunk is known: base plus one (0: it
// stands alone) and, above it, depth.
type frame uint8

func newFrame(base, depth int) frame { return frame(depth<<4 | base + 1) }
func (f frame) base() int            { return int(f&15) - 1 }
func (f frame) depth() int           { return int(f >> 4) }

// objects is a set of names in the store that others may not see yet, and of
// packs whose deletion they may not see yet. The ranges of bits:
type objects uint64

const (
	sessionNames   = 0
	registerNames  = sessionNames + maxKeys
	forgottenNames = registerNames + maxKeys
	packNames      = forgottenNames + maxKeys
	packDeletions  = packNames + maxPacks
	condemnedNames = packDeletions + maxPacks
	finalNames     = condemnedNames + maxGenerations
	pinName        = finalNames + maxGenerations
)

func (o objects) of(kind, count int) set { return set(o>>kind) & below(count) }
func (o objects) has(kind, i int) bool   { return o>>(kind+i)&1 != 0 }

// state is all that there is at one moment. It is compared and hashed as a
// whole: what cannot matter any more is zero.
type state struct {
	frames  [maxPacks]frame
	packs   set // that exist
	damaged set // packs marked
	gens    [maxGenerations]generation

	reserved  set // keys
	committed set
	revoked   set
	forgotten set
	hurt      set // keys of backups that damage has hurt: they need their chunks, damaged or not
	vanished  set // keys that listings have lost
	omitted   bool
	pinned    bool

	fresh      objects // what others may not see yet
	writers    [maxWriters]writer
	collectors [maxCollectors]collector
	reader     reader
}

// generation is what gc/ holds of one.
type generation struct {
	condemned   set  // packs
	final       set  // packs
	recorded    set  // keys of the registers that the first mark saw
	waiting     set  // keys of the sessions to be fenced
	isOut       bool // condemned exists
	isAnnounced bool // waiting exists
	isDecided   bool // final exists
}

// create makes a new name fresh, if there is delay.
func (m *machine) create(s *state, kind, i int) {
	if m.Delay {
		s.fresh |= 1 << (kind + i)
	}
}

// settle makes names visible to all. Whoever is waiting for some of them needs
// not remember them.
func (s *state) settle(names objects) {
	s.fresh &^= names
	for i := range s.collectors {
		s.collectors[i].before &= s.fresh
	}
	s.reader.before &= s.fresh
}

// visible splits a set by what everybody sees and what some may not see.
func (s *state) visible(there set, kind, count int) (sure, maybe set) {
	fresh := s.fresh.of(kind, count)
	return there &^ fresh, there & fresh
}

// finals returns the packs of all final lists.
func (s *state) finals() set {
	var packs set
	for _, g := range s.gens {
		packs |= g.final
	}
	return packs
}

// canonical makes states one that differ only in which collector is which.
func (m *machine) canonical(s *state) {
	if m.symmetric && m.Collectors == 2 && s.collectors[0].compare(s.collectors[1]) > 0 {
		s.collectors[0], s.collectors[1] = s.collectors[1], s.collectors[0]
	}
}

func (c collector) compare(d collector) int {
	return cmp.Or(
		cmp.Compare(c.phase, d.phase), cmp.Compare(c.gen, d.gen), cmp.Compare(c.list, d.list), cmp.Compare(c.listed, d.listed),
		cmp.Compare(c.seen, d.seen), cmp.Compare(c.direct, d.direct), cmp.Compare(c.pending, d.pending),
		cmp.Compare(c.roots, d.roots), cmp.Compare(c.before, d.before),
	)
}

// safe returns what is wrong with a state; "" is good.
func (m *machine) safe(s *state) string {
	for keys := s.committed; keys != 0; keys = keys.rest() {
		key := keys.first()
		if s.forgotten.has(key) && (key != 0 || !s.reader.counts()) {
			continue
		}
		packs := s.packs
		if !s.hurt.has(key) {
			packs &^= s.damaged
		}
		if !m.holds(s, m.recipe[key], packs) {
			return "backup " + keyName(key) + " cannot be restored"
		}
	}
	if s.reader.phase == readerFailed && !s.reader.void {
		return "the reader fails although its pin counts"
	}
	return ""
}
