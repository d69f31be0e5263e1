package model

// The phases of a reader.
const (
	readerIdle    = iota
	readerFound   // knows that the backup is not forgotten, has no pin yet: only if PinFirst is dropped
	readerPinned  // has a pin, does not know yet whether the backup is forgotten
	readerListing // its pin counts, from here on
	readerReading
	readerMissed
	readerRestored
	readerFailed
	readerLeft // there is nothing to restore
)

type reader struct {
	phase  uint8
	chunk  uint8 // of the backup: how many are restored
	need   uint8 // the chunk whose frame is read next
	bound  uint8 // below which depth
	waited bool  // d has passed since a pack was missed
	void   bool  // its beat has stood still: nobody minds its pin
	view   set   // packs that it has listed
	before objects
}

// counts tells whether the reader may rely on its pin.
func (r reader) counts() bool {
	return r.phase >= readerListing && r.phase <= readerMissed && !r.void
}

func (m *machine) readerSteps(s *state, f emit) {
	mine := step{actor: "reader", n: -1}
	switch s.reader.phase {
	case readerIdle:
		if m.keeps(PinFirst) {
			m.pin(s, readerPinned, mine, f)
		} else {
			m.find(s, readerFound, mine, f)
		}
	case readerFound:
		m.pin(s, readerListing, mine, f)
	case readerPinned:
		m.find(s, readerListing, mine, f)
	case readerListing:
		m.plan(s, mine, f)
	case readerReading:
		m.read(s, mine, f)
	case readerMissed:
		next := *s
		next.settle(s.reader.before)
		next.reader.before = 0
		next.reader.phase, next.reader.waited = readerListing, true
		mine.kind = looksAgain
		f(mine, next)
	}
	if s.reader.counts() {
		next := *s
		next.reader.void = true
		mine.kind = standsStill
		f(mine, next)
	}
}

func (m *machine) pin(s *state, phase uint8, mine step, f emit) {
	next := *s
	next.pinned = true
	next.reader.phase = phase
	m.create(&next, pinName, 0)
	mine.kind = pins
	f(mine, next)
}

// find looks whether the backup is there and not forgotten.
func (m *machine) find(s *state, phase uint8, mine step, f emit) {
	if !s.forgotten.has(0) || s.fresh.has(forgottenNames, 0) {
		next := *s
		next.reader.phase = phase
		mine.kind = findsBackup
		f(mine, next)
	}
	if s.forgotten.has(0) {
		next := *s
		next.reader = reader{phase: readerLeft}
		mine.kind = findsForgotten
		f(mine, next)
	}
}

// goal returns the chunk that the reader restores now.
func (m *machine) goal(r reader) int {
	chunks := m.recipe[0]
	for range r.chunk {
		chunks = chunks.rest()
	}
	return chunks.first()
}

// plan lists the packs. If they show no whole chain of the chunk, the reader
// waits and lists again, once.
func (m *machine) plan(s *state, mine step, f emit) {
	goal := m.goal(s.reader)
	sure, maybe := s.visible(s.packs, packNames, maxPacks)
	maybe |= s.listable() &^ sure
	maybe.eachSubset(func(seen set) {
		next := *s
		r := &next.reader
		switch {
		case m.present(s, goal, anyDepth, sure|seen):
			r.phase, r.view, r.waited = readerReading, sure|seen, false
			r.need, r.bound = uint8(goal), anyDepth
			mine.kind = plans
		case s.reader.waited || !m.keeps(LookAgain):
			*r = reader{phase: readerFailed, void: r.void}
			mine.kind = fails
		default:
			m.miss(&next)
			mine.kind = missesPack
		}
		f(mine, next)
	})
}

// miss makes the reader wait before it looks again.
func (m *machine) miss(s *state) {
	r := &s.reader
	*r = reader{phase: readerMissed, chunk: r.chunk, void: r.void, before: s.fresh}
}

// read reads a frame of the chain. If its pack is gone, the chunk is planned anew.
func (m *machine) read(s *state, mine step, f emit) {
	r := s.reader
	for copies := m.copiesOf[r.need] & r.view; copies != 0; copies = copies.rest() {
		p := copies.first()
		what := s.frames[p]
		if what.depth() >= int(r.bound) || what.base() != standsAlone && !m.present(s, what.base(), what.depth(), r.view) {
			continue
		}
		next := *s
		mine.kind, mine.packs, mine.chunk = reads, copies&-copies, int(r.need)+1
		switch {
		case !s.packs.has(p):
			mine.kind = missesPack
			m.miss(&next)
		case what.base() != standsAlone:
			next.reader.need, next.reader.bound = uint8(what.base()), uint8(what.depth())
		default:
			m.chunkRestored(&next, &mine)
		}
		f(mine, next)
	}
}

// chunkRestored goes on to the next chunk, if there is one.
func (m *machine) chunkRestored(s *state, mine *step) {
	r := &s.reader
	*r = reader{phase: readerListing, chunk: r.chunk + 1, void: r.void}
	chunks := m.recipe[0]
	for range r.chunk {
		chunks = chunks.rest()
	}
	if chunks == 0 {
		*r = reader{phase: readerRestored}
		mine.kind = restores
	}
}
