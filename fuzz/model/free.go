package model

import "fmt"

// Free looks for states from which no way leads on to freed space. It returns
// how many of the scope's states are such, and the steps to the first. A state
// counts as freed when its first generation is decided, or when there is
// nothing that could be condemned. It returns an error if there are more than
// limit states.
func Free(sc Scope, limit int) (stuck int, trace []string, err error) {
	e := newExplorer(sc, limit, 0)
	e.ways = &ways{}
	if _, err := e.run(); err != nil {
		return 0, nil, err
	}
	if e.bad != "" {
		return 0, nil, fmt.Errorf("explore %s: %s", sc.Name, e.bad)
	}
	reached := e.ways.back(len(e.seen.hashes))
	for order := len(reached) - 1; order >= 0; order-- {
		if !reached[order] {
			stuck++
			trace = e.trace(uint32(order))
		}
	}
	return stuck, trace, nil
}

// ways are the steps between states, and the states that are freed.
type ways struct {
	from, to []uint32
	freed    []uint32
}

// back tells of each state whether a way leads from it to one that is freed.
func (w *ways) back(states int) []bool {
	first := make([]uint32, states+1) // of each state, where its list in before begins
	for _, to := range w.to {
		first[to+1]++
	}
	for i := range states {
		first[i+1] += first[i]
	}
	before := make([]uint32, len(w.to))
	filled := append([]uint32(nil), first...)
	for i, to := range w.to {
		before[filled[to]] = w.from[i]
		filled[to]++
	}
	reached := make([]bool, states)
	queue := append([]uint32(nil), w.freed...)
	for _, order := range queue {
		reached[order] = true
	}
	for len(queue) > 0 {
		order := queue[0]
		queue = queue[1:]
		for _, from := range before[first[order]:first[order+1]] {
			if !reached[from] {
				reached[from] = true
				queue = append(queue, from)
			}
		}
	}
	return reached
}

// freed tells whether collectors have nothing left to do in a state, or have
// shown that they could.
func (m *machine) freed(s *state) bool {
	if s.gens[0].isDecided {
		return true
	}
	roots := s.committed &^ s.forgotten
	if s.reader.counts() {
		roots = roots.with(0)
	}
	for p := s.packs; p != 0; p = p.rest() {
		if m.spares(s, s.packs, m.live(roots), p&-p) {
			return false
		}
	}
	return true
}
