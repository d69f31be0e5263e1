package cas

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shardseed/shardseed/internal/hint"
)

// packList is what a list in gc/ says; see docs/format.md, "Garbage collection".
type packList struct {
	packs []ID  // sorted
	keys  []Key // sorted: backups that were there and that no earlier list names; condemned lists only
}

func (l packList) encode() []byte {
	buf := binary.LittleEndian.AppendUint32(nil, uint32(len(l.packs)))
	for _, id := range l.packs {
		buf = append(buf, id[:]...)
	}
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(l.keys)))
	for _, key := range l.keys {
		buf = binary.LittleEndian.AppendUint16(buf, uint16(len(key)))
		buf = append(buf, key...)
	}
	return buf
}

// decodePackList reads what encode returned. The part about keys may be missing.
func decodePackList(data []byte) (packList, error) {
	var list packList
	size := len(data)
	count, data, ok := cutCount(data)
	if !ok || int64(count)*int64(len(ID{})) > int64(len(data)) {
		return list, fmt.Errorf("list of %d bytes for %d packs", size, count)
	}
	for range count {
		list.packs = append(list.packs, ID(data))
		data = data[len(ID{}):]
	}
	if len(data) == 0 {
		return list, nil
	}
	count, data, ok = cutCount(data)
	if !ok {
		return list, fmt.Errorf("list of %d bytes ends in a count", size)
	}
	for n := range count {
		if len(data) < 2 || len(data)-2 < int(binary.LittleEndian.Uint16(data)) {
			return list, fmt.Errorf("list of %d bytes ends in key %d of %d", size, n, count)
		}
		end := 2 + int(binary.LittleEndian.Uint16(data))
		key, err := ParseKey(string(data[2:end]))
		if err != nil {
			return list, err
		}
		list.keys, data = append(list.keys, key), data[end:]
	}
	if len(data) > 0 {
		return list, fmt.Errorf("list of %d bytes is %d too long", size, len(data))
	}
	return list, nil
}

func cutCount(data []byte) (count uint32, rest []byte, ok bool) {
	if len(data) < 4 {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint32(data), data[4:], true
}

func (r *Repository) packList(ctx context.Context, name string) (packList, error) {
	o, err := readObject(ctx, r.backend, name, objectPackList)
	if err != nil {
		return packList{}, err
	}
	list, err := decodePackList(o.payload)
	if err != nil {
		return packList{}, &CorruptError{Name: name, Reason: err.Error()}
	}
	return list, nil
}

// The lists of a generation of garbage collection.
const (
	listCondemned = ".condemned"
	listWaiting   = ".waiting"
	listFinal     = ".final"
)

func listName(gen uint64, suffix string) string { return generationName("gc", gen) + suffix }

// putPackList publishes a list, or returns the one that another collector has
// published before.
func (r *Repository) putPackList(ctx context.Context, name string, list packList) (packList, error) {
	err := r.putObject(ctx, name, objectPackList, list.encode())
	if errors.Is(err, ErrExists) {
		return r.packList(ctx, name)
	}
	return list, err
}

// putKeyList likewise publishes a list of keys.
func (r *Repository) putKeyList(ctx context.Context, name string, keys []Key) ([]Key, error) {
	lines := make([]string, len(keys))
	for i, key := range keys {
		lines[i] = string(key) + "\n"
	}
	slices.Sort(lines)
	err := r.putObject(ctx, name, objectKeyList, []byte(strings.Join(lines, "")))
	if errors.Is(err, ErrExists) {
		return r.keyList(ctx, name)
	}
	return keys, err
}

func (r *Repository) keyList(ctx context.Context, name string) ([]Key, error) {
	o, err := readObject(ctx, r.backend, name, objectKeyList)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for line := range strings.Lines(string(o.payload)) {
		key, err := ParseKey(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, &CorruptError{Name: name, Reason: err.Error()}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// collection is what gc/ says.
type collection struct {
	gen       uint64          // first without a final list
	condemned *packList       // of gen; nil: none
	waiting   map[Key]bool    // of gen; nil: none
	final     map[ID]struct{} // named in a final list
	later     map[ID]struct{} // condemned in a later generation, which should not be
	known     map[Key]bool    // backups that condemned lists name
}

// readCollection reads all lists of garbage collection.
func (r *Repository) readCollection(ctx context.Context) (*collection, error) {
	entries, err := r.backend.List(ctx, "gc")
	if err != nil {
		return nil, err
	}
	c := &collection{final: map[ID]struct{}{}, later: map[ID]struct{}{}, known: map[Key]bool{}}
	lists := map[string]bool{}
	for _, entry := range entries {
		lists[entry.Name] = true
	}
	name := func(suffix string) string { return strings.TrimPrefix(listName(c.gen, suffix), "gc/") }
	for c.gen = 1; lists[name(listFinal)]; c.gen++ {
	}
	for _, entry := range entries {
		gen, suffix, _ := strings.Cut(entry.Name, ".")
		number, ok := parseGeneration(gen)
		if !ok || entry.Dir {
			continue
		}
		if err := r.readList(ctx, c, number, "."+suffix); err != nil {
			return nil, hintList(err)
		}
	}
	return c, nil
}

// hintList says what to do about a damaged list. Without the others of its
// generation a collection makes each anew; while a backup runs, it may rely on what
// the lost list had spared.
func hintList(err error) error {
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || !strings.HasPrefix(corrupt.Name, "gc/") {
		return err
	}
	gen, suffix, _ := strings.Cut(corrupt.Name, ".")
	names := corrupt.Name
	if "."+suffix == listFinal {
		names += " and " + gen + listWaiting
	}
	return hint.Wrap(err, "bring back "+corrupt.Name+" from a copy of the repository; if there is none, remove "+names+" while no backup runs, and run \"shardseed prune\"")
}

func (r *Repository) readList(ctx context.Context, c *collection, gen uint64, suffix string) error {
	name := listName(gen, suffix)
	switch suffix {
	case listFinal:
		return r.readPackList(ctx, name, c.final)
	case listWaiting:
		if gen != c.gen {
			return nil
		}
		keys, err := r.keyList(ctx, name)
		c.waiting = map[Key]bool{}
		for _, key := range keys {
			c.waiting[key] = true
		}
		return err
	case listCondemned:
		list, err := r.packList(ctx, name)
		if err != nil {
			return err
		}
		c.learn(list)
		if gen == c.gen {
			c.condemned = &list
		}
		if gen > c.gen {
			for _, id := range list.packs {
				c.later[id] = struct{}{}
			}
		}
	}
	return nil
}

func (c *collection) learn(list packList) {
	for _, key := range list.keys {
		c.known[key] = true
	}
}
