package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/shardseed/shardseed/cas"
)

// Memory is an index of packs that does not change: in memory if they are few,
// else in a temporary file. Safe for concurrent use. The caller closes it.
type Memory struct {
	repo   Source // nil: Reload does nothing
	place  scratch
	loadMu sync.Mutex // held by Reload

	mu    sync.RWMutex // guards what follows; held for reading in a Lookup
	parts parts
	gone  map[cas.ID]struct{} // packs that do not count any more
	lost  error               // of one of the packs that were asked for and could not be read

	lostCount int // of these
}

// OfPacks reads the directories of the packs with these IDs, and no others, in
// parallel. A directory that cannot be read is an error that names the pack.
// Packs that garbage collection or check have given up count as present: for a
// restore, what can be read is welcome.
//
// More than 128 Ki chunks go into a file without a name in the folder; if that
// is empty or takes no file, in the system's; if that does not either, they stay
// in memory, 64 bytes each.
func OfPacks(ctx context.Context, dir string, repo Source, ids []cas.ID) (*Memory, error) {
	m := &Memory{}
	bad := func(id cas.ID, err error) error { return fmt.Errorf("index pack %s: %w", id.Short(), err) }
	if err := m.add(ctx, repo, newScratch(dir), distinct(ids), bad); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// add takes in the packs with these IDs, none of which it has; bad is as in
// eachPack.
func (m *Memory) add(ctx context.Context, repo Source, place scratch, ids []cas.ID, bad func(cas.ID, error) error) error {
	runs, err := gather(ctx, repo, place, batchFrames, ids, bad)
	if err != nil {
		return err
	}
	all := func(cas.ID) bool { return true }
	if len(runs) > 1 {
		together := merge{repo: repo.UUID(), sources: runs, keep: all}
		merged, err := place.make(repo.UUID(), together.write)
		if err = errors.Join(err, closeRuns(runs)); err != nil {
			return fmt.Errorf("index packs: %w", err)
		}
		runs = []*run{merged}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range runs {
		m.parts.add(r, all)
	}
	return nil
}

// newScratch returns the places for what is not kept.
func newScratch(dir string) scratch {
	if dir == "" {
		return scratch{os.TempDir()}
	}
	return scratch{dir, os.TempDir()}
}

// distinct returns each ID once.
func distinct(ids []cas.ID) []cas.ID {
	seen := make(map[cas.ID]struct{}, len(ids))
	out := make([]cas.ID, 0, len(ids))
	for _, id := range ids {
		if _, twice := seen[id]; !twice {
			seen[id] = struct{}{}
			out = append(out, id)
		}
	}
	return out
}

// Lookup finds a copy of a chunk; see [cas.Locator]. An error that is no
// ErrNotFound is one of the temporary file.
func (m *Memory) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	return m.find(id, below, m.copies)
}

// LookupWithout likewise leaves copies out; see [cas.Chooser].
func (m *Memory) LookupWithout(id cas.ID, below uint8, skip func(cas.Location) bool) (cas.Chain, error) {
	return m.find(id, below, without(m.copies, skip))
}

func (m *Memory) find(id cas.ID, below uint8, copies finder) (cas.Chain, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := resolver{copies: copies}
	chain, err := r.find(question{id, below})
	if err != nil {
		err = m.because(err)
	}
	return chain, err
}

// Stats returns how much is in the index.
func (m *Memory) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.parts.stats()
}

// copies returns the copies of a chunk in packs that have not gone. The caller
// holds mu.
func (m *Memory) copies(id *cas.ID) ([]cas.Location, error) {
	copies, err := m.parts.copies(id)
	if len(m.gone) == 0 {
		return copies, err
	}
	return slices.DeleteFunc(copies, func(loc cas.Location) bool { _, gone := m.gone[loc.Pack]; return gone }), err
}

// Close drops the temporary file. No lookup runs, and none may follow.
func (m *Memory) Close() error { return m.parts.close() }
