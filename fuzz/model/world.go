package model

// worldSteps are what happens to a repository from outside, and deletions: any
// collector, however late, may delete what a final list names.
func (m *machine) worldSteps(s *state, f emit) {
	for p := s.finals() & s.packs; p != 0; p = p.rest() {
		next := *s
		next.packs = next.packs.without(p.first())
		next.fresh &^= 1 << (packNames + p.first())
		m.create(&next, packDeletions, p.first())
		f(step{actor: "world: a pack", n: -1, kind: deletes, packs: p & -p}, next)
	}
	for k := s.committed & m.forget &^ s.forgotten; k != 0; k = k.rest() {
		next := *s
		next.forgotten = next.forgotten.with(k.first())
		m.create(&next, forgottenNames, k.first())
		f(step{actor: "world: a backup", n: -1, kind: forgets, keys: k & -k}, next)
	}
	if m.Damage && s.damaged == 0 {
		for p := m.first & s.packs; p != 0; p = p.rest() {
			f(step{actor: "world: a pack", n: -1, kind: damages, packs: p & -p}, m.damage(s, p&-p))
		}
	}
	if m.Vanish && s.vanished == 0 {
		m.vanish(s, f)
	}
}

// damage marks a pack. The backups that cannot do without it are hurt by the
// damage and by nobody's fault.
func (m *machine) damage(s *state, pack set) state {
	next := *s
	next.damaged = pack
	for k := next.committed; k != 0; k = k.rest() {
		if !m.holds(&next, m.recipe[k.first()], m.own(&next, k.first())&^next.damaged) {
			next.hurt |= k & -k
		}
	}
	return next
}

// own returns the packs that a backup has a claim on: not those that a final
// list names, published or about to be, and not those that were condemned when
// it began and still are. The collector may not know of it.
func (m *machine) own(s *state, key int) set {
	packs := s.packs &^ s.finals()
	if w := key - len(m.Backups); w >= 0 {
		for _, g := range s.gens {
			if !g.isDecided {
				packs &^= g.condemned & s.writers[w].dead
			}
		}
	}
	for _, c := range s.collectors {
		if c.phase == collectorFinalizing {
			packs &^= c.list
		}
	}
	return packs
}

// vanish hides keys that a published list has recorded.
func (m *machine) vanish(s *state, f emit) {
	var recorded set
	for _, g := range s.gens {
		recorded |= g.recorded
	}
	for k := recorded &^ s.forgotten; k != 0; k = k.rest() {
		next := *s
		next.vanished = k & -k
		f(step{actor: "world: a backup", n: -1, kind: vanishes, keys: k & -k}, next)
	}
}
