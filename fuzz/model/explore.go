package model

import (
	"fmt"
	"hash/maphash"
	"math"
)

// Result is what an exploration found.
type Result struct {
	States int
	Depth  int            // steps of the longest of the shortest ways to a state
	Wrong  string         // what the first bad state violates; empty: nothing
	Trace  []string       // the steps to it: no shorter way leads to a bad state
	Kinds  map[string]int // how many steps of each kind were taken
}

// Explore visits every state of the scope, nearest first, until one is bad. It
// returns an error if there are more than limit states.
//
// States are remembered by hashes of 64 bits: at 100 million states the chance
// that two share one, and the later is not looked at, is below one in 3,000.
func Explore(sc Scope, limit int, dropped ...Rule) (Result, error) {
	var rules ruleSet
	for _, r := range dropped {
		rules |= 1 << r
	}
	return newExplorer(sc, limit, rules).run()
}

type explorer struct {
	m     *machine
	limit int
	seed  maphash.Seed
	seen  visited
	kinds [numKinds]int
	bad   string // what is wrong with the state found last
	ways  *ways  // nil: nobody asks for them
}

func newExplorer(sc Scope, limit int, dropped ruleSet) *explorer {
	return &explorer{m: newMachine(sc, dropped), limit: min(limit, math.MaxInt32), seed: maphash.MakeSeed()}
}

// item is a state to go on from.
type item struct {
	state state
	order uint32 // of its discovery
}

func (e *explorer) hash(s *state) uint64 { return maphash.Comparable(e.seed, *s) }

func (e *explorer) run() (Result, error) {
	first := e.m.start()
	order, _ := e.seen.add(e.hash(&first), 0)
	level, next := []item{{first, order}}, []item(nil)
	var depth int
	for ; len(level) > 0 && e.bad == ""; depth++ {
		next = next[:0]
		for i := range level {
			if e.ways != nil && e.m.freed(&level[i].state) {
				e.ways.freed = append(e.ways.freed, level[i].order)
			}
			e.expand(&level[i], &next)
			if e.bad != "" {
				break
			}
			if len(e.seen.hashes) > e.limit {
				return e.result(depth), fmt.Errorf("explore %s: more than %d states", e.m.Name, e.limit)
			}
		}
		level, next = next, level
	}
	return e.result(depth - 1), nil
}

// expand adds the states that follow and are new.
func (e *explorer) expand(from *item, next *[]item) {
	e.m.steps(&from.state, func(t step, s state) {
		if e.bad != "" {
			return
		}
		e.kinds[t.kind]++
		e.m.canonical(&s)
		order, isNew := e.seen.add(e.hash(&s), from.order)
		if e.ways != nil {
			e.ways.from, e.ways.to = append(e.ways.from, from.order), append(e.ways.to, order)
		}
		if !isNew {
			return
		}
		*next = append(*next, item{s, order})
		e.bad = e.m.safe(&s)
	})
}

func (e *explorer) result(depth int) Result {
	r := Result{States: len(e.seen.hashes), Depth: depth, Wrong: e.bad, Kinds: map[string]int{}}
	for k, n := range e.kinds {
		if n > 0 {
			r.Kinds[kind(k).String()] += n
		}
	}
	if e.bad != "" {
		r.Trace = e.trace(uint32(len(e.seen.hashes) - 1))
		r.Depth = len(r.Trace)
	}
	return r
}

// trace takes the steps to a state once more.
func (e *explorer) trace(to uint32) []string {
	var way []uint64
	for order := to; order != 0; order = e.seen.parents[order] {
		way = append(way, e.seen.hashes[order])
	}
	s := e.m.start()
	var trace []string
	for i := len(way) - 1; i >= 0; i-- {
		var found bool
		var then state
		e.m.steps(&s, func(t step, after state) {
			e.m.canonical(&after)
			if !found && e.hash(&after) == way[i] {
				found, then = true, after
				trace = append(trace, t.String())
			}
		})
		if !found {
			panic("model: internal error: a way cannot be taken again")
		}
		s = then
	}
	return trace
}

// visited is a hash table of states, in the order of their discovery.
type visited struct {
	hashes  []uint64
	parents []uint32
	table   []uint32 // order plus one; 0: free
}

// add adds a state by its hash and returns its order.
func (v *visited) add(hash uint64, parent uint32) (uint32, bool) {
	if 2*len(v.hashes) >= len(v.table) {
		v.grow()
	}
	mask := uint64(len(v.table) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		order := v.table[i]
		if order == 0 {
			v.hashes = append(v.hashes, hash)
			v.parents = append(v.parents, parent)
			v.table[i] = uint32(len(v.hashes))
			return uint32(len(v.hashes) - 1), true
		}
		if v.hashes[order-1] == hash {
			return order - 1, false
		}
	}
}

func (v *visited) grow() {
	v.table = make([]uint32, max(1<<16, 2*len(v.table)))
	mask := uint64(len(v.table) - 1)
	for order, hash := range v.hashes {
		i := hash & mask
		for v.table[i] != 0 {
			i = (i + 1) & mask
		}
		v.table[i] = uint32(order + 1)
	}
}
