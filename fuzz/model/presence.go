package model

// present tells whether some packs hold a copy of a chunk of lower depth than
// the bound, with the whole chain of its bases.
func (m *machine) present(s *state, chunk, bound int, packs set) bool {
	for copies := m.copiesOf[chunk] & packs; copies != 0; copies = copies.rest() {
		f := s.frames[copies.first()]
		if f.depth() < bound && (f.base() == standsAlone || m.present(s, f.base(), f.depth(), packs)) {
			return true
		}
	}
	return false
}

// holds tells whether all the chunks are present.
func (m *machine) holds(s *state, chunks, packs set) bool {
	for ; chunks != 0; chunks = chunks.rest() {
		if !m.present(s, chunks.first(), anyDepth, packs) {
			return false
		}
	}
	return true
}

// kept tells whether a collector believes that the packs hold the chunk: as
// present does, unless a rule was dropped.
func (m *machine) kept(s *state, chunk int, packs set) bool {
	switch {
	case !m.keeps(Closure):
		return m.copiesOf[chunk]&packs != 0
	case !m.keeps(DepthRule):
		return m.presentByID(s, packs).has(chunk)
	}
	return m.present(s, chunk, anyDepth, packs)
}

// presentByID returns the chunks that have a copy whose base has a copy and so
// on, whatever the depths: in circles too.
func (m *machine) presentByID(s *state, packs set) set {
	chunks := below(maxChunks)
	for {
		var found set
		for p := packs; p != 0; p = p.rest() {
			f := s.frames[p.first()]
			if f.base() == standsAlone || chunks.has(f.base()) {
				found = found.with(int(m.chunkOf[p.first()]))
			}
		}
		if found&chunks == chunks {
			return chunks
		}
		chunks &= found
	}
}

// chain is a copy of a chunk with the copies of its bases.
type chain struct {
	first int
	packs set
}

// chains calls f with every chain of a chunk below a depth that lies in packs.
func (m *machine) chains(s *state, chunk, bound int, packs set, f func(chain)) {
	for copies := m.copiesOf[chunk] & packs; copies != 0; copies = copies.rest() {
		p := copies.first()
		own := s.frames[p]
		if own.depth() >= bound {
			continue
		}
		if own.base() == standsAlone {
			f(chain{p, set(0).with(p)})
			continue
		}
		m.chains(s, own.base(), own.depth(), packs, func(c chain) { f(chain{p, c.packs.with(p)}) })
	}
}
