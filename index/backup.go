package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/shardseed/shardseed/cas"
)

// OfBackup is [OfBackupIn] with the system's folder for temporary files.
func OfBackup(ctx context.Context, repo Source, ids []cas.ID) (*Memory, error) {
	return OfBackupIn(ctx, "", repo, ids)
}

// OfBackupIn returns where the chunks of backups are whose records name these
// packs: their directories are read, and no others. Only if one of them is gone,
// cannot be read, or was given up (marked damaged, or finally condemned), are
// those of all other packs read too: the chunks may have been stored again, or
// moved. What cannot be read is no error then; chunks that are nowhere are not
// found. For the folder see [OfPacksIn].
func OfBackupIn(ctx context.Context, dir string, repo Source, ids []cas.ID) (*Memory, error) {
	m := &Memory{}
	if err := m.addBackup(ctx, repo, newScratch(dir), distinct(ids)); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Memory) addBackup(ctx context.Context, repo Source, place scratch, ids []cas.ID) error {
	bad := unread{}
	if err := m.add(ctx, repo, place, ids, bad.add); err != nil {
		return err
	}
	dead, err := repo.Dead(ctx)
	if err != nil {
		return err
	}
	doubt := len(bad) > 0 || slices.ContainsFunc(ids, func(id cas.ID) bool { _, found := dead[id]; return found })
	if !doubt {
		return nil
	}
	return m.addOthers(ctx, repo, place, ids, bad)
}

// addOthers reads the directories of all packs but those with these IDs.
func (m *Memory) addOthers(ctx context.Context, repo Source, place scratch, ids []cas.ID, bad unread) error {
	all, err := repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	named := map[cas.ID]bool{}
	for _, id := range ids {
		named[id] = true
	}
	others := slices.DeleteFunc(all, func(id cas.ID) bool { return named[id] })
	if err := m.add(ctx, repo, place, others, unread{}.add); err != nil {
		return err
	}
	for _, id := range slices.SortedFunc(maps.Keys(bad), cas.ID.Compare) {
		m.lost = append(m.lost, bad[id])
	}
	return nil
}

// unread collects the packs whose directories cannot be read, and why.
type unread map[cas.ID]error

func (u unread) add(id cas.ID, err error) error {
	u[id] = err
	return nil
}

// because adds to what was not found that packs could not be read.
func (m *Memory) because(err error) error {
	switch len(m.lost) {
	case 0:
		return err
	case 1:
		return fmt.Errorf("%w; %w", err, m.lost[0])
	}
	return fmt.Errorf("%w; %w, and %d more packs", err, m.lost[0], len(m.lost)-1)
}
