package index

import (
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
)

// part is a run of which some packs count.
type part struct {
	*run
	live []bool // by ordinal
}

// parts are runs that are searched together. A pack counts in one of them only.
type parts []part

// add adds a run; those of its packs count that are alive and do not count
// already.
func (p *parts) add(r *run, alive func(cas.ID) bool) {
	live := make([]bool, len(r.packs))
	for i, pack := range r.packs {
		live[i] = alive(pack.id)
	}
	*p = append(*p, part{r, live})
}

// copies returns all copies of a chunk in packs that count, in any order. With
// an error some may be missing.
func (p parts) copies(id *cas.ID) ([]cas.Location, error) {
	var copies []cas.Location
	var errs []error
	for _, part := range p {
		err := part.lookup(id, func(entry []byte) {
			if o := ordinalOf(entry); part.live[o] {
				copies = append(copies, cas.Location{Pack: part.packs[o].id, Frame: decodeEntry(entry)})
			}
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("read index: %w", err))
		}
	}
	return copies, errors.Join(errs...)
}

// packs returns the packs that count.
func (p parts) packs() map[cas.ID]struct{} {
	packs := map[cas.ID]struct{}{}
	for _, part := range p {
		for i, pack := range part.packs {
			if part.live[i] {
				packs[pack.id] = struct{}{}
			}
		}
	}
	return packs
}

// stats counts the packs that count.
func (p parts) stats() Stats {
	var s Stats
	for _, part := range p {
		for i, pack := range part.packs {
			if part.live[i] {
				s.Packs++
				s.Chunks += int64(pack.frames)
			}
		}
		if part.name != "" {
			s.FileBytes += part.size
		}
	}
	return s
}

func (p parts) runs() []*run {
	runs := make([]*run, 0, len(p))
	for _, part := range p {
		runs = append(runs, part.run)
	}
	return runs
}

func (p parts) close() error { return closeRuns(p.runs()) }
