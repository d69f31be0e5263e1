package cas

import (
	"context"
	"fmt"
	"maps"
	"strings"
)

// marks are the packs that something speaks against.
type marks struct {
	condemned map[ID]struct{} // by a garbage collection that has not decided yet
	final     map[ID]struct{} // decided: about to be deleted, or deleted
	damaged   map[ID]struct{}
}

// Dead returns the packs that no new backup may rely on: condemned, finally
// condemned or damaged. The caller owns the map.
func (r *Repository) Dead(ctx context.Context) (map[ID]struct{}, error) {
	m, err := r.marks(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(m.condemned, m.final)
	maps.Copy(m.condemned, m.damaged)
	return m.condemned, nil
}

func (r *Repository) marks(ctx context.Context) (marks, error) {
	m := marks{condemned: map[ID]struct{}{}, final: map[ID]struct{}{}, damaged: map[ID]struct{}{}}
	if err := r.readDamaged(ctx, m.damaged); err != nil {
		return marks{}, fmt.Errorf("list damaged packs: %w", err)
	}
	if err := r.readCondemned(ctx, m); err != nil {
		return marks{}, fmt.Errorf("read garbage collection: %w", err)
	}
	return m, nil
}

// readDamaged takes the names in damaged/; what the blobs say is for people.
func (r *Repository) readDamaged(ctx context.Context, damaged map[ID]struct{}) error {
	entries, err := r.backend.List(ctx, "damaged")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if id, err := ParseID(entry.Name); err == nil {
			damaged[id] = struct{}{}
		}
	}
	return nil
}

// readCondemned reads the lists of every generation; a final list replaces the
// condemned one of its generation.
func (r *Repository) readCondemned(ctx context.Context, m marks) error {
	entries, err := r.backend.List(ctx, "gc")
	if err != nil {
		return err
	}
	final := map[string]bool{}
	for _, entry := range entries {
		if gen, ok := strings.CutSuffix(entry.Name, ".final"); ok {
			final[gen] = true
		}
	}
	for _, entry := range entries {
		gen, suffix, _ := strings.Cut(entry.Name, ".")
		if _, ok := parseGeneration(gen); !ok {
			continue
		}
		switch {
		case suffix == "final":
			err = r.readPackList(ctx, "gc/"+entry.Name, m.final)
		case suffix == "condemned" && !final[gen]:
			err = r.readPackList(ctx, "gc/"+entry.Name, m.condemned)
		}
		if err != nil {
			return hintList(err)
		}
	}
	return nil
}

// readPackList adds the IDs of a list of packs.
func (r *Repository) readPackList(ctx context.Context, name string, into map[ID]struct{}) error {
	list, err := r.packList(ctx, name)
	if err != nil {
		return err
	}
	for _, id := range list.packs {
		into[id] = struct{}{}
	}
	return nil
}
