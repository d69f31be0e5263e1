package index

import (
	"cmp"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"github.com/shardseed/shardseed/cas"
)

// dropped stands for the ordinal of a pack that is not taken over.
const dropped = math.MaxUint32

// mergeBlocks is how many blocks of all sources are read ahead: 16 MiB.
const mergeBlocks = 4 << 10

// merge describes a run that is made of others.
type merge struct {
	repo    cas.UUID
	sources []*run
	keep    func(pack cas.ID) bool // takes a pack over; one that several sources have is taken from the first
}

// tables returns the new run's table of packs, and for each source the new
// ordinals of its packs.
func (m merge) tables() (packs []tablePack, ordinals [][]uint32) {
	taken := map[cas.ID]struct{}{}
	for _, source := range m.sources {
		list := make([]uint32, len(source.packs))
		for i, pack := range source.packs {
			_, twice := taken[pack.id]
			if twice || !m.keep(pack.id) {
				list[i] = dropped
				continue
			}
			taken[pack.id] = struct{}{}
			list[i] = uint32(len(packs))
			packs = append(packs, pack)
		}
		ordinals = append(ordinals, list)
	}
	return packs, ordinals
}

// write writes the new run, and may be called again.
func (m merge) write(out io.Writer) (size int64, err error) {
	packs, ordinals := m.tables()
	var heap cursors
	for i, source := range m.sources {
		if !slices.ContainsFunc(ordinals[i], func(o uint32) bool { return o != dropped }) {
			continue
		}
		c := &cursor{run: source, ordinals: ordinals[i], ahead: mergeBlocks / len(m.sources)}
		more, err := c.next()
		if err != nil {
			return 0, err
		}
		if more {
			heap = append(heap, c)
		}
	}
	slices.SortFunc(heap, func(a, b *cursor) int {
		return cmp.Or(cmp.Compare(a.key, b.key), compareIDs(a.entry, b.entry))
	})
	w := newRunWriter(out, m.repo, packs)
	for len(heap) > 0 {
		if err := w.take(heap[0]); err != nil {
			return 0, err
		}
		more, err := heap[0].next()
		if err != nil {
			return 0, err
		}
		if !more {
			last := len(heap) - 1
			heap[0], heap = heap[last], heap[:last]
		}
		heap.sink()
	}
	return w.finish()
}

// take adds a cursor's entry under its new ordinal, unless its pack is dropped.
func (w *runWriter) take(c *cursor) error {
	ordinal := c.ordinals[ordinalOf(c.entry)]
	if ordinal == dropped {
		return nil
	}
	binary.BigEndian.PutUint32(c.entry[ordinalAt:], ordinal)
	return w.add(c.entry)
}

// cursors are a heap: none is less than those at 2i+1 and 2i+2.
type cursors []*cursor

func (h cursors) less(i, j int) bool {
	a, b := h[i], h[j]
	return a.key < b.key || a.key == b.key && compareIDs(a.entry, b.entry) < 0
}

// sink puts the first where it belongs.
func (h cursors) sink() {
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
