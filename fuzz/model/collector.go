package model

// The phases of a collector, in the order of a run.
const (
	collectorIdle = iota
	collectorListed
	collectorCondemning
	collectorWaiting      // the first d
	collectorWaitingAgain // the second
	collectorSessions
	collectorAnnouncing
	collectorFencing
	collectorSettling // a third d
	collectorFenced
	collectorMarking
	collectorFinalizing
)

type collector struct {
	phase   uint8
	gen     uint8
	pin     bool    // the first mark saw a reader's pin: kept only if PinsAgain is dropped
	list    set     // packs, to be published
	listed  set     // packs known from the first listing: kept for the first mark, and if NewFooters is dropped
	seen    set     // keys of registers that a listing showed
	direct  set     // keys of registers read while fencing
	pending set     // keys of sessions to be fenced
	roots   set     // keys
	before  objects // what was fresh when the wait began
}

func (m *machine) collectorSteps(s *state, c int, f emit) {
	me := s.collectors[c]
	mine := step{actor: "collector", n: c}
	switch me.phase {
	case collectorIdle:
		m.startRun(s, c, mine, f)
		return
	case collectorListed:
		m.mark(s, c, mine, f)
	case collectorCondemning:
		m.condemn(s, c, mine, f)
	case collectorWaiting, collectorWaitingAgain, collectorSettling:
		next := *s
		next.settle(me.before)
		m.advance(&next, c)
		mine.kind = waits
		f(mine, next)
	case collectorSessions:
		m.listSessions(s, c, mine, f)
	case collectorAnnouncing:
		m.announce(s, c, mine, f)
	case collectorFencing:
		for keys := me.pending; keys != 0; keys = keys.rest() {
			m.fence(s, c, keys.first(), mine, f)
		}
	case collectorFenced:
		m.listRegisters(s, c, mine, f)
	case collectorMarking:
		m.markAgain(s, c, mine, f)
	case collectorFinalizing:
		m.finalize(s, c, mine, f)
	}
	next := *s
	next.collectors[c] = collector{}
	mine.kind = crashes
	f(mine, next)
}

// advance takes a collector through the waits, which without delay are nothing.
func (m *machine) advance(s *state, c int) {
	me := &s.collectors[c]
	me.before = s.fresh
	switch {
	case m.Delay && me.phase < collectorWaiting:
		me.phase = collectorWaiting
	case m.Delay && me.phase == collectorWaiting && m.keeps(WaitTwice):
		me.phase = collectorWaitingAgain
	case me.phase < collectorSessions:
		me.phase, me.before = collectorSessions, 0
	case m.Delay && me.phase == collectorFencing && m.keeps(SettledRoots):
		me.phase = collectorSettling
	default:
		me.phase, me.before = collectorFenced, 0
	}
}

// startRun takes the first generation that is not decided, as far as is seen,
// and takes over its condemned list if that is seen.
func (m *machine) startRun(s *state, c int, mine step, f emit) {
	for gen := range m.Generations {
		g := s.gens[gen]
		fresh := s.fresh.has(condemnedNames, gen)
		if g.isOut && (!g.isDecided || s.fresh.has(finalNames, gen)) {
			m.adopt(s, c, gen, mine, f)
		}
		if !g.isOut || fresh {
			for _, packs := range m.listings(s) {
				next := *s
				next.collectors[c] = collector{phase: collectorListed, gen: uint8(gen), listed: packs}
				mine.kind, mine.packs = listsPacks, packs
				f(mine, next)
			}
		}
		if !g.isDecided && (m.keeps(OneByOne) || !g.isOut) {
			return
		}
	}
}

// listings returns what a listing of packs may show.
func (m *machine) listings(s *state) []set {
	sure, maybe := s.visible(s.packs, packNames, maxPacks)
	var all []set
	maybe.eachSubset(func(seen set) { all = append(all, sure|seen) })
	return all
}

func (m *machine) adopt(s *state, c, gen int, mine step, f emit) {
	next := *s
	next.collectors[c] = collector{gen: uint8(gen)}
	if !m.keeps(NewFooters) {
		next.collectors[c].listed = s.packs
	}
	m.advance(&next, c)
	if !m.keeps(AdopterWaits) {
		next.collectors[c].phase, next.collectors[c].before = collectorSessions, 0
	}
	mine.kind = adopts
	f(mine, next)
}

// registers calls f with every view of the registers that hold a commit and of
// the forgotten marks.
func (m *machine) registers(s *state, f func(committed, forgotten set)) {
	sure, maybe := s.visible(s.committed&^s.vanished, registerNames, maxKeys)
	sureGone, maybeGone := s.visible(s.forgotten, forgottenNames, maxKeys)
	maybe.eachSubset(func(seen set) {
		maybeGone.eachSubset(func(gone set) { f(sure|seen, sureGone|gone) })
	})
}

// pinned calls f with every view of whether a reader pins the first backup.
func (m *machine) pinned(s *state, f func(bool)) {
	counts := s.pinned && !s.reader.void
	if !counts || s.fresh.has(pinName, 0) {
		f(false)
	}
	if counts {
		f(true)
	}
}

// recorded returns the keys of the registers that the condemned lists up to a
// generation name.
func (s *state) recorded(gen int) set {
	var keys set
	for _, g := range s.gens[:gen+1] {
		keys |= g.recorded
	}
	return keys
}

// mark lists the registers and chooses what to condemn. What it does not find
// does not matter yet.
func (m *machine) mark(s *state, c int, mine step, f emit) {
	me := s.collectors[c]
	gen := int(me.gen)
	m.registers(s, func(committed, forgotten set) {
		if m.keeps(KnownRoots) && !s.recorded(gen).within(committed|forgotten) {
			m.stop(s, c, mine, f)
			return
		}
		m.pinned(s, func(pin bool) {
			all := me.listed
			if !m.keeps(PacksFirst) {
				all = s.packs
			}
			if m.keeps(FinalsGone) {
				all &^= m.earlier(s, gen)
			}
			roots := committed &^ forgotten
			if pin {
				roots = roots.with(0)
			}
			live := m.live(roots)
			if !m.keeps(FirstMark) {
				live = 0
			}
			m.lists(s, all, live, all, func(list set) {
				if list == 0 {
					return // nothing to do: another run may find more
				}
				next := *s
				next.collectors[c] = collector{phase: collectorCondemning, gen: me.gen, list: list, seen: committed, pin: pin && !m.keeps(PinsAgain)}
				if !m.keeps(NewFooters) {
					next.collectors[c].listed = me.listed
				}
				if !m.keeps(SessionsAfter) {
					sure, maybe := s.visible(s.reserved, sessionNames, maxKeys)
					next.collectors[c].pending = sure | maybe
				}
				mine.kind, mine.packs = marks, list
				f(mine, next)
			})
		})
	})
}

// earlier returns the packs of the lists of earlier generations.
func (m *machine) earlier(s *state, gen int) set {
	var packs set
	for _, g := range s.gens[:gen] {
		if g.isDecided {
			packs |= g.final
		} else {
			packs |= g.condemned
		}
	}
	return packs
}

// live returns the chunks of the backups.
func (m *machine) live(roots set) set {
	var chunks set
	for ; roots != 0; roots = roots.rest() {
		chunks |= m.recipe[roots.first()]
	}
	return chunks
}

// lists calls f with sets of candidates that may go: without them the packs
// still hold every live chunk that all of them hold. Sets to which one more
// could be added are left out unless the scope wants all.
func (m *machine) lists(s *state, all, live, candidates set, f func(set)) {
	candidates.eachSubset(func(list set) {
		if !m.spares(s, all, live, list) {
			return
		}
		if !m.AllLists {
			for more := candidates &^ list; more != 0; more = more.rest() {
				if m.spares(s, all, live, list|more&-more) {
					return
				}
			}
		}
		f(list)
	})
}

// spares tells whether every live chunk stays if the packs of the list go: with
// a copy that is not damaged if there is one.
func (m *machine) spares(s *state, all, live, list set) bool {
	for ; live != 0; live = live.rest() {
		chunk := live.first()
		if m.keeps(DamagedGone) && m.kept(s, chunk, all&^s.damaged) {
			if !m.kept(s, chunk, all&^s.damaged&^list) {
				return false
			}
			continue
		}
		if m.kept(s, chunk, all) && !m.kept(s, chunk, all&^list) {
			return false
		}
	}
	return true
}

func (m *machine) condemn(s *state, c int, mine step, f emit) {
	next := *s
	me := &next.collectors[c]
	g := &next.gens[me.gen]
	mine.kind = condemns
	if g.isOut {
		mine.kind = losesCondemned
	} else {
		*g = generation{condemned: me.list, recorded: me.seen, isOut: true}
		m.create(&next, condemnedNames, int(me.gen))
	}
	mine.packs = g.condemned
	if m.keeps(AdoptCondemned) {
		me.list = 0
	}
	m.advance(&next, c)
	f(mine, next)
}

// listSessions lists the sessions, and which of them have a register.
func (m *machine) listSessions(s *state, c int, mine step, f emit) {
	mine.kind = listsSessions
	sure, maybe := s.visible(s.reserved&^s.vanished, sessionNames, maxKeys)
	if !m.keeps(SessionsAfter) && s.collectors[c].pending != 0 {
		sure, maybe = s.collectors[c].pending, 0
	}
	maybe.eachSubset(func(shown set) {
		sessions := sure | shown
		m.fencing(s, c, sessions, mine, f)
		if !m.Omission || s.omitted || m.keeps(SessionsTwice) {
			return
		}
		for lost := sessions; lost != 0; lost = lost.rest() {
			without := *s
			without.omitted = true
			m.fencing(&without, c, sessions&^(lost&-lost), mine, f)
		}
	})
}

// fencing begins to fence sessions: those without a register, as far as is seen.
func (m *machine) fencing(s *state, c int, sessions set, mine step, f emit) {
	m.registers(s, func(committed, forgotten set) {
		me := s.collectors[c]
		me.seen |= committed
		me.pending = sessions &^ me.seen &^ s.revoked
		if m.keeps(KnownRoots) && !s.recorded(int(me.gen)).within(me.seen|forgotten) {
			m.stop(s, c, mine, f)
			return
		}
		me.phase = collectorAnnouncing
		if !m.keeps(PacksLast) {
			me.listed = s.packs &^ s.fresh.of(packNames, maxPacks)
		}
		next := *s
		next.collectors[c] = me
		mine.keys = me.pending
		f(mine, next)
	})
}

// announce publishes the sessions to be fenced, or finds that list: who is not
// in it had a register when it was made, or began when the condemned list was
// visible, and need not be waited for.
func (m *machine) announce(s *state, c int, mine step, f emit) {
	next := *s
	me := &next.collectors[c]
	g := &next.gens[me.gen]
	mine.kind = announces
	if g.isAnnounced {
		mine.kind = losesWaiting
		me.pending &= g.waiting
	} else {
		g.waiting, g.isAnnounced = me.pending, true
	}
	me.phase = collectorFencing
	if me.pending == 0 {
		m.advance(&next, c)
	}
	mine.keys = me.pending
	f(mine, next)
}

// fence tries to create a revocation as a session's register. While the
// session's beat moves the collector waits: it has taken no step yet then.
func (m *machine) fence(s *state, c, key int, mine step, f emit) {
	next := *s
	me := &next.collectors[c]
	me.pending = me.pending.without(key)
	mine.keys = set(0).with(key)
	switch {
	case s.committed.has(key):
		me.direct = me.direct.with(key)
		mine.kind = fencesCommitted
	case !m.keeps(Fence):
		mine.kind = doesNotFence
	default:
		if !s.revoked.has(key) {
			next.revoked = next.revoked.with(key)
			m.create(&next, registerNames, key)
		}
		mine.kind = fencesOpen
	}
	if me.pending == 0 {
		m.advance(&next, c)
	}
	f(mine, next)
}

// listRegisters finds the roots of the second mark.
func (m *machine) listRegisters(s *state, c int, mine step, f emit) {
	me := s.collectors[c]
	m.registers(s, func(committed, forgotten set) {
		found := me.seen | me.direct | committed
		if m.keeps(KnownRoots) && !s.recorded(int(me.gen)).within(found|forgotten) {
			m.stop(s, c, mine, f)
			return
		}
		roots := committed
		if m.keeps(DirectRoots) {
			roots |= me.direct
		}
		if m.keeps(UnionRoots) {
			roots |= me.seen
		}
		m.pinned(s, func(pin bool) {
			if !m.keeps(PinsAgain) {
				pin = me.pin
			}
			next := *s
			next.collectors[c] = collector{phase: collectorMarking, gen: me.gen, list: me.list, listed: me.listed, roots: roots &^ forgotten}
			if pin {
				next.collectors[c].roots |= 1
			}
			mine.kind, mine.keys = listsRegisters, next.collectors[c].roots
			f(mine, next)
		})
	})
}

// markAgain lists the packs, reads the footers of those that are new and
// chooses what is finally condemned.
func (m *machine) markAgain(s *state, c int, mine step, f emit) {
	me := s.collectors[c]
	listings := m.listings(s)
	if !m.keeps(NewFooters) || !m.keeps(PacksLast) {
		listings = []set{me.listed}
	}
	for _, all := range listings {
		if m.keeps(FinalsGone) {
			all &^= m.earlier(s, int(me.gen))
		}
		live := m.live(me.roots)
		if m.keeps(Explained) && m.keeps(NewFooters) && !m.explains(s, live, all) {
			m.stop(s, c, mine, f)
			continue
		}
		finalize := func(list set) {
			next := *s
			next.collectors[c] = collector{phase: collectorFinalizing, gen: me.gen, list: list}
			mine.kind, mine.packs = marksAgain, list
			f(mine, next)
		}
		condemned := s.gens[me.gen].condemned
		if !m.keeps(AdoptCondemned) && me.list != 0 {
			condemned = me.list
		}
		if !m.keeps(Remark) {
			finalize(condemned)
			continue
		}
		m.lists(s, all, live, condemned, finalize)
	}
}

// explains tells whether a footer was read for every live chunk and its bases.
func (m *machine) explains(s *state, live, all set) bool {
	for ; live != 0; live = live.rest() {
		if !m.kept(s, live.first(), all) {
			return false
		}
	}
	return true
}

func (m *machine) finalize(s *state, c int, mine step, f emit) {
	next := *s
	me := s.collectors[c]
	next.collectors[c] = collector{}
	g := &next.gens[me.gen]
	mine.kind = finalizes
	switch {
	case !g.isDecided:
		g.final, g.isDecided = me.list, true
		m.create(&next, finalNames, int(me.gen))
	case m.keeps(AdoptFinal):
		mine.kind = losesFinal
	default:
		mine.kind = losesFinal
		g.final |= me.list // it deletes what it has found itself
	}
	mine.packs = g.final
	f(mine, next)
}

// stop ends a run that found something wrong.
func (m *machine) stop(s *state, c int, mine step, f emit) {
	next := *s
	next.collectors[c] = collector{}
	mine.kind = stops
	f(mine, next)
}
