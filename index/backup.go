package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/shardseed/shardseed/cas"
)

// OfBackup is [OfPacks] for backups whose records name these packs. Only if one
// of them is gone, cannot be read, or was given up, are the directories of all
// other packs read too: the chunks may have been stored again, or moved. What
// cannot be read is no error then; chunks that are nowhere are not found.
func OfBackup(ctx context.Context, dir string, repo Source, ids []cas.ID) (*Memory, error) {
	place := newScratch(dir)
	m := &Memory{repo: repo, place: place, gone: map[cas.ID]struct{}{}}
	named, bad := distinct(ids), unreadable{}
	err := m.add(ctx, repo, place, named, func(id cas.ID, err error) error {
		bad.add(id, err)
		return nil
	})
	if err == nil {
		err = m.addOthers(ctx, repo, place, named, bad)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// unreadable are packs that cannot be read: one of them, and how many. A record may
// name a million.
type unreadable struct {
	first cas.ID // the smallest
	err   error
	count int
}

func (u *unreadable) add(id cas.ID, err error) {
	if u.count++; u.err == nil || id.Compare(u.first) < 0 {
		u.first, u.err = id, err
	}
}

// addOthers takes in all other packs, if one of those that are named is bad or was
// given up.
func (m *Memory) addOthers(ctx context.Context, repo Source, place scratch, named []cas.ID, bad unreadable) error {
	dead, err := repo.Dead(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// A restore does without what garbage collection says, if that cannot be read.
	doubt := bad.count > 0 || err == nil && slices.ContainsFunc(named, func(id cas.ID) bool { _, found := dead[id]; return found })
	if !doubt {
		return nil
	}
	all, err := repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	known := make(map[cas.ID]struct{}, len(named))
	for _, id := range named {
		known[id] = struct{}{}
	}
	others := slices.DeleteFunc(all, func(id cas.ID) bool { _, found := known[id]; return found })
	if err := m.add(ctx, repo, place, others, func(cas.ID, error) error { return nil }); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lostCount += bad.count; bad.count > 0 && m.lost == nil {
		m.lost = fmt.Errorf("index pack %s: %w", bad.first.Short(), bad.err)
	}
	return nil
}

// because adds to what was not found that packs could not be read.
func (m *Memory) because(err error) error {
	switch m.lostCount {
	case 0:
		return err
	case 1:
		return fmt.Errorf("%w; %w", err, m.lost)
	}
	return fmt.Errorf("%w; %w, and %d more packs", err, m.lost, m.lostCount-1)
}

// Reload tells the index that a pack could not be found when it was read: chunks
// are looked for in all other packs from now on, as they are listed now; see
// [cas.Reloader]. Until those are known Lookup still finds the pack: whoever cannot
// find a chunk at all would take it for lost.
func (m *Memory) Reload(ctx context.Context, gone cas.ID) error {
	if m.repo == nil {
		return nil
	}
	m.loadMu.Lock()
	defer m.loadMu.Unlock()
	m.mu.RLock()
	known := slices.Collect(maps.Keys(m.parts.packs()))
	m.mu.RUnlock()
	if err := m.addOthers(ctx, m.repo, m.place, append(known, gone), unreadable{gone, cas.ErrNotFound, 1}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone[gone] = struct{}{}
	return nil
}

var _ cas.Reloader = (*Memory)(nil)
