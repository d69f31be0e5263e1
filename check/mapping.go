package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

// mapDamage tells which backups, files and ranges hang on what is lacking.
func (r *run) mapDamage(ctx context.Context) error {
	lacking := r.lost || r.catalog.anyLacking(restorable)
	clean := newBits(r.catalog.frames())
	damaged := map[cas.Key]bool{}
	for _, b := range r.backups {
		m := &mapper{run: r, clean: clean, tables: map[string]struct{}{}, found: Backup{
			Keyspace: b.Key.Keyspace(), Shard: b.Key.ShardName(), Name: b.Key.Name(), Tables: []string{},
		}}
		switch {
		case errors.Is(b.Err, cas.ErrCorrupt):
			m.found.State, m.found.Reason = Lost, "its record cannot be read: "+oneLine(b.Err)
			r.adviseRecord(b.Key)
		case b.Err != nil || !lacking:
			continue
		default:
			m.named, m.roots = b.named, b.Manifest.Roots
			if err := walk.Backup(ctx, r.reader, b.Manifest, m); err != nil {
				return fmt.Errorf("map damage to backup %s: %w", b.Key, err)
			}
			m.flush()
		}
		if m.found.State != "" {
			r.summary.Damaged++
			m.found.Tables = append(m.found.Tables, slices.Sorted(maps.Keys(m.tables))...)
			r.Findings.Backup(m.found)
			damaged[b.Key] = true
			r.summary.Repairable = r.summary.Repairable || m.found.State == Salvageable || m.found.Rescue > 0
			r.summary.Lost = r.summary.Lost || m.found.State == Lost && b.Err == nil
		}
	}
	if err := r.Repo.Confirm(ctx); err != nil {
		return err
	}
	r.noteVerdicts(ctx, damaged)
	return nil
}

// adviseRecord says what to do about the first record that cannot be read.
func (r *run) adviseRecord(key cas.Key) {
	const text = "a backup whose record cannot be read is lost, unless its file is brought back from a copy of the repository; give it up with "
	if !slices.ContainsFunc(r.summary.Advice, func(advice string) bool { return strings.HasPrefix(advice, text) }) {
		r.summary.Advice = append(r.summary.Advice, text+fmt.Sprintf("\"shardseed rm %s %s\"", key.Shard(), key.Name()))
	}
}

// mapper is the visitor that tells what hangs on damage in one backup.
type mapper struct {
	*run
	named  []uint32 // packs that the backup's record names
	roots  []manifest.Root
	clean  bits           // leaves below which nothing is damaged, of all backups
	leaf   *uint32        // the leaf that is being walked through, while nothing in it is damaged
	told   cas.ID         // node that was told
	open   Range          // that may go on; its State is "" if there is none
	file   *manifest.File // of the range told last
	tables map[string]struct{}
	found  Backup
}

// Visit implements walk.Visitor.
func (m *mapper) Visit(p walk.Piece) (below bool, err error) {
	best := m.catalog.best(p.ID)
	if p.Kind == walk.Node && best&restorable != 0 {
		return m.enter(p), nil
	}
	if best&restorable != 0 {
		return true, nil
	}
	m.leaf = nil
	state := Lost
	if best&readable != 0 {
		state = Salvageable
	}
	m.tell(p, state)
	return state == Salvageable, nil
}

// enter begins a node; false if it is known that nothing below is damaged.
func (m *mapper) enter(p walk.Piece) bool {
	m.leave()
	copies := m.catalog.copies(newKey(p.ID, 0))
	if p.File == nil || p.Length > int64(p.File.ChunkSize)*cas.NodeFanout {
		return true
	}
	if m.clean.has(copies[0].frame) {
		return false
	}
	m.leaf = &copies[0].frame
	return true
}

// leave ends a leaf.
func (m *mapper) leave() {
	if m.leaf != nil {
		m.clean.add(*m.leaf)
	}
	m.leaf = nil
}

// Lost implements walk.Visitor.
func (m *mapper) Lost(p walk.Piece, err error) error {
	m.leaf = nil
	switch {
	case p.Kind == walk.List:
		m.found.State, m.found.Reason = Lost, "its list of files cannot be read: "+oneLine(err)
	case m.told != p.ID:
		m.tell(p, Lost)
	}
	return nil
}

// tell tells a piece, together with those before it if it goes on where they end.
func (m *mapper) tell(p walk.Piece, state State) {
	m.told = p.ID
	if m.found.State != Lost {
		m.found.State = state
	}
	next := Range{
		Keyspace: m.found.Keyspace, Shard: m.found.Shard, Name: m.found.Name, Part: PartList,
		Offset: p.Offset, Length: p.Length, State: state, Packs: m.blame(p.ID),
	}
	if p.File != nil {
		next.Part, next.Root, next.Path, next.Table = PartData, p.File.Root, p.File.Path, tableOf(p.File.Path, m.externalRoot(p.File.Root))
		m.count(p, &next)
	}
	if p.Kind == walk.Node && p.File != nil {
		next.Part = PartRecipe
	}
	if m.open.goesOn(&next) {
		m.open.Length += next.Length
		return
	}
	m.flush()
	m.open = next
}

// externalRoot returns where a root lies that is a folder of tablespaces outside of
// the data directory, else "".
func (m *mapper) externalRoot(name string) string {
	for _, root := range m.roots {
		if root.Name == name && strings.HasPrefix(name, "external-") {
			return string(root.Path)
		}
	}
	return ""
}

// count adds a range to what is known of the backup. What hangs on a node that can
// be salvaged is told by itself.
func (m *mapper) count(p walk.Piece, next *Range) {
	if m.file != p.File {
		m.file = p.File
		m.found.Files++
	}
	if next.Table != "" {
		m.tables[next.Table] = struct{}{}
	}
	switch {
	case next.State == Lost:
		m.found.Lost += p.Length
	case p.Kind == walk.Data:
		m.found.Rescue += p.Length
	}
}

// goesOn tells whether next continues the range.
func (r *Range) goesOn(next *Range) bool {
	return r.State == next.State && r.Part == next.Part && r.Part == PartData && r.Root == next.Root && r.Path == next.Path &&
		r.Offset+r.Length == next.Offset && slices.Equal(r.Packs, next.Packs)
}

func (m *mapper) flush() {
	m.leave()
	if m.open.State != "" {
		m.Findings.Range(m.open)
	}
	m.open = Range{}
}

// blame returns the packs to blame for a chunk: if it is in none, those that the
// record names and that are not there.
func (m *mapper) blame(id cas.ID) []cas.ID {
	into := map[cas.ID]struct{}{}
	m.catalog.culprits(newKey(id, 0), cas.AnyDepth, restorable, into, frameSet{})
	if len(into) == 0 {
		for _, number := range m.named {
			id := m.recorded[number]
			if _, missing := m.missing[id]; missing {
				into[id] = struct{}{}
			}
		}
	}
	return append([]cas.ID{}, slices.SortedFunc(maps.Keys(into), cas.ID.Compare)...)
}

// oneLine is what an error says, on one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", ": ") }
