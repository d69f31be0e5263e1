package model

import "fmt"

// The bounds of every scope.
const (
	maxPacks       = 12
	maxKeys        = 6
	maxChunks      = 6
	maxGenerations = 2
	maxWriters     = 3
	maxCollectors  = 2
	maxDepth       = 2
	anyDepth       = maxDepth + 1
)

// Copy is a frame in a pack of its own.
type Copy struct {
	Chunk int
	Base  int // of a delta; standsAlone: none
	Depth int
}

// standsAlone is the base of a frame that is no delta.
const standsAlone = -1

// Full returns a copy that stands alone.
func Full(chunk int) Copy { return Copy{Chunk: chunk, Base: standsAlone} }

// Delta returns a copy that needs its base at a lower depth.
func Delta(chunk, base, depth int) Copy { return Copy{Chunk: chunk, Base: base, Depth: depth} }

// Backup is one that is there from the start.
type Backup struct {
	Chunks     []int
	Forgetable bool // somebody may remove it at any time
}

// Need is a chunk that a writer stores, or finds stored.
type Need struct {
	Chunk int
	Like  int // the chunk it may become a delta of; standsAlone: none
}

// Writer is a session that stores what it needs in this order.
type Writer struct {
	Needs  []Need
	Repack bool // it copies its chunks whether they are stored or not, and never commits
}

// Scope bounds an exploration. All is deterministic but the order of steps and
// what is said here to be chosen freely.
type Scope struct {
	Name  string
	About string

	Packs       []Copy // there from the start
	Backups     []Backup
	Writers     []Writer
	Collectors  int
	Generations int

	// Delay makes every name and every deletion visible to others late: until
	// an actor's wait of d that began after it has ended, each listing by
	// another actor shows it or not. Without it d is 0.
	Delay bool
	// Reader restores the first backup, with a pin.
	Reader bool
	// Damage lets one of the packs there from the start be found damaged at any time.
	Damage bool
	// Omission lets one listing of sessions leave out one that is there.
	Omission bool
	// Vanish lets the listings of sessions and registers lose, for good, one
	// key that a condemned list has recorded.
	Vanish bool
	// AllLists lets collectors condemn any packs that may be condemned. Without
	// it they condemn as many as they can.
	AllLists bool
}

// machine is a scope with its tables, and the rules dropped.
type machine struct {
	Scope
	dropped   ruleSet
	symmetric bool // collectors are interchangeable: states that differ in that only are one

	chunkOf  [maxPacks]uint8
	copiesOf [maxChunks]set      // packs that hold or may come to hold the chunk
	slots    [maxWriters][]uint8 // the pack that each need goes into
	recipe   [maxKeys]set        // chunks of each key's backup
	keyOf    [maxWriters]uint8   // the writers' keys
	forget   set                 // keys
	first    set                 // packs there from the start
	initial  [maxPacks]frame     // what they hold
}

func newMachine(sc Scope, dropped ruleSet) *machine {
	m := &machine{Scope: sc, dropped: dropped, symmetric: dropped == 0}
	pack := 0
	slot := func(chunk int) int {
		if pack == maxPacks || chunk >= maxChunks {
			panic(fmt.Sprintf("model: internal error: scope %s has too many packs or chunks", sc.Name))
		}
		m.chunkOf[pack] = uint8(chunk)
		m.copiesOf[chunk] = m.copiesOf[chunk].with(pack)
		pack++
		return pack - 1
	}
	for _, c := range sc.Packs {
		p := slot(c.Chunk)
		m.first = m.first.with(p)
		m.initial[p] = newFrame(c.Base, c.Depth)
	}
	key := 0
	for _, b := range sc.Backups {
		for _, c := range b.Chunks {
			m.recipe[key] = m.recipe[key].with(c)
		}
		if b.Forgetable {
			m.forget = m.forget.with(key)
		}
		key++
	}
	for w, plan := range sc.Writers {
		m.keyOf[w] = uint8(key)
		for _, need := range plan.Needs {
			p := slot(need.Chunk)
			m.slots[w] = append(m.slots[w], uint8(p))
			m.recipe[key] = m.recipe[key].with(need.Chunk)
		}
		key++
	}
	if key > maxKeys || len(sc.Writers) > maxWriters || sc.Collectors > maxCollectors || sc.Generations > maxGenerations {
		panic(fmt.Sprintf("model: internal error: scope %s is too large", sc.Name))
	}
	return m
}

// keeps tells whether the rule is in force.
func (m *machine) keeps(r Rule) bool { return !m.dropped.has(r) }

// start returns the state before anybody has done anything.
func (m *machine) start() state {
	s := state{frames: m.initial, packs: m.first}
	for key := range m.Backups {
		s.reserved = s.reserved.with(key)
		s.committed = s.committed.with(key)
	}
	return s
}
