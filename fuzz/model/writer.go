package model

// The phases of a writer.
const (
	writerIdle   = iota
	writerListed // has read the lists before it has reserved: only if ReserveFirst is dropped
	writerReserved
	writerStoring
	writerChecked
	writerLeaving
	writerDone
)

type writer struct {
	phase  uint8
	next   uint8 // of its needs
	dead   set   // packs that count as absent
	relied set   // packs
	warned bool  // it was told of damage and went on: only if FinalCheck is dropped
}

// done returns what is left of a writer that has ended: of what it could not
// rely on only if there is damage.
func (m *machine) done(was writer) writer {
	if !m.Damage {
		was.dead = 0
	}
	return writer{phase: writerDone, dead: was.dead}
}

func (m *machine) writerSteps(s *state, w int, f emit) {
	me := s.writers[w]
	mine := step{actor: "writer", n: w}
	if m.Writers[w].Repack {
		mine.actor = "repacker"
	}
	switch me.phase {
	case writerIdle:
		if m.keeps(ReserveFirst) {
			m.reserve(s, w, writerReserved, mine, f)
		} else {
			m.readLists(s, w, writerListed, mine, f)
		}
	case writerListed:
		m.reserve(s, w, writerStoring, mine, f)
	case writerReserved:
		m.readLists(s, w, writerStoring, mine, f)
	case writerStoring:
		m.storeNext(s, w, mine, f)
	case writerChecked:
		m.commit(s, w, mine, f)
	case writerLeaving:
		m.leave(s, w, mine, f)
	}
}

// leave ends a session that will not commit.
func (m *machine) leave(s *state, w int, mine step, f emit) {
	next := *s
	key := int(m.keyOf[w])
	if !next.revoked.has(key) {
		next.revoked = next.revoked.with(key)
		m.create(&next, registerNames, key)
	}
	next.writers[w] = m.done(s.writers[w])
	mine.kind = leaves
	f(mine, next)
}

func (m *machine) reserve(s *state, w int, phase uint8, mine step, f emit) {
	next := *s
	key := int(m.keyOf[w])
	next.reserved = next.reserved.with(key)
	m.create(&next, sessionNames, key)
	next.writers[w].phase = phase
	mine.kind, mine.keys = reserves, set(0).with(key)
	f(mine, next)
}

// readLists reads gc/ and damaged/. Of each generation it finds the final list,
// the condemned one, or none; what is there and seen by all it does find.
func (m *machine) readLists(s *state, w int, phase uint8, mine step, f emit) {
	mine.kind = readsLists
	var read func(gen int, dead set)
	read = func(gen int, dead set) {
		if gen == m.Generations {
			next := *s
			next.writers[w].phase, next.writers[w].dead = phase, dead
			mine.packs = dead
			f(mine, next)
			return
		}
		g := s.gens[gen]
		if g.isDecided {
			read(gen+1, dead|g.final)
		}
		if g.isOut && (!g.isDecided || s.fresh.has(finalNames, gen)) {
			read(gen+1, dead|g.condemned)
		}
		if !g.isOut || s.fresh.has(condemnedNames, gen) && (!g.isDecided || s.fresh.has(finalNames, gen)) {
			read(gen+1, dead)
		}
	}
	if m.keeps(DamageFirst) {
		read(0, s.damaged)
	} else {
		read(0, 0)
	}
}

// storeNext finds the next chunk stored, or stores it in full or as a delta. It
// may do either whatever is there: an index need not know all. After the last
// chunk comes the check.
func (m *machine) storeNext(s *state, w int, mine step, f emit) {
	me := s.writers[w]
	if int(me.next) == len(m.slots[w]) {
		if m.Writers[w].Repack {
			m.leave(s, w, mine, f)
		} else {
			m.check(s, w, mine, f)
		}
		return
	}
	need := m.Writers[w].Needs[me.next]
	pack := int(m.slots[w][me.next])
	mine.chunk = need.Chunk + 1
	if m.Writers[w].Repack {
		if !m.present(s, need.Chunk, anyDepth, s.packs&^s.damaged) {
			return // it cannot read what it is to copy
		}
	} else {
		m.findStored(s, w, need.Chunk, mine, f)
	}
	m.store(s, w, pack, newFrame(standsAlone, 0), 0, mine, f)
	if need.Like == standsAlone {
		return
	}
	usable := s.listable()
	if m.keeps(BasesPresent) {
		usable &^= me.dead
	}
	m.chains(s, need.Like, maxDepth, usable, func(c chain) {
		depth := s.frames[c.first].depth() + 1
		if !m.keeps(DepthOneMore) {
			depth = 1
		}
		m.store(s, w, pack, newFrame(need.Like, depth), c.packs, mine, f)
	})
}

// listable returns the packs that a listing may show: those that exist, and
// those whose deletion may not be seen yet.
func (s *state) listable() set {
	return s.packs | s.fresh.of(packDeletions, maxPacks)
}

// findStored relies on a copy stored earlier.
func (m *machine) findStored(s *state, w int, chunk int, mine step, f emit) {
	me := s.writers[w]
	mine.kind = findsStored
	rely := func(packs set) {
		next := *s
		next.writers[w].relied |= packs
		next.writers[w].next++
		mine.packs = packs
		f(mine, next)
	}
	usable := s.listable()
	if m.keeps(HitsPresent) {
		usable &^= me.dead
	}
	if m.keeps(ChainsPresent) {
		m.chains(s, chunk, anyDepth, usable, func(c chain) { rely(c.packs) })
		return
	}
	for copies := m.copiesOf[chunk] & usable; copies != 0; copies = copies.rest() {
		rely(copies & -copies)
	}
}

// store publishes a pack.
func (m *machine) store(s *state, w, pack int, what frame, relied set, mine step, f emit) {
	next := *s
	next.frames[pack] = what
	next.packs = next.packs.with(pack)
	m.create(&next, packNames, pack)
	next.writers[w].relied |= relied.with(pack)
	next.writers[w].next++
	mine.kind, mine.packs = storesFull, relied.with(pack)
	if what.base() != standsAlone {
		mine.kind = storesDelta
	}
	f(mine, next)
}

// check looks at everything relied on once more. What it relies on may be gone,
// or be going, unseen.
func (m *machine) check(s *state, w int, mine step, f emit) {
	next := *s
	me := &next.writers[w]
	relied := me.relied
	dead := m.done(*me).dead
	*me = writer{phase: writerChecked, relied: relied, dead: dead}
	seen, unseen := m.against(s, relied)
	if !m.keeps(CheckListed) {
		seen, unseen = seen&s.damaged, 0
	}
	if !m.keeps(FinalCheck) {
		me.warned = relied&s.damaged != 0
		seen, unseen = 0, 0
	}
	mine.kind = checksPacks
	if seen == 0 {
		f(mine, next)
	}
	if seen|unseen != 0 {
		*me = writer{phase: writerLeaving}
		mine.kind, mine.packs = checkFails, seen|unseen
		f(mine, next)
	}
}

// against returns those of the packs that something speaks against: seen by
// all, and perhaps not seen.
func (m *machine) against(s *state, packs set) (seen, unseen set) {
	gone := packs &^ s.packs
	unseen = gone & s.fresh.of(packDeletions, maxPacks)
	seen = gone&^unseen | packs&s.damaged
	for gen, g := range s.gens {
		if s.fresh.has(finalNames, gen) {
			unseen |= packs & g.final
		} else {
			seen |= packs & g.final
		}
	}
	return seen, unseen &^ seen
}

// commit creates the register, unless a collector has.
func (m *machine) commit(s *state, w int, mine step, f emit) {
	key := int(m.keyOf[w])
	next := *s
	next.writers[w] = m.done(s.writers[w])
	mine.keys = set(0).with(key)
	if s.revoked.has(key) && m.keeps(RegisterOnce) {
		mine.kind = findsRevoked
		f(mine, next)
		return
	}
	next.revoked = next.revoked.without(key)
	next.committed = next.committed.with(key)
	m.create(&next, registerNames, key)
	me := s.writers[w]
	if me.relied&s.damaged != 0 && !me.warned && !m.holds(s, m.recipe[key], m.own(s, key)&^s.damaged) {
		next.hurt = next.hurt.with(key) // found damaged after the check
	}
	mine.kind = commits
	f(mine, next)
}
