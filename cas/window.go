package cas

import (
	"crypto/subtle"
	"slices"
)

// windowSize is the plain bytes that are decoded together, if a chunk is not
// larger.
const windowSize = 8 << 20

// window is a number of chunks that are decoded together. The frames of all
// their chains are read in the order in which the packs hold them, and each is
// combined at once into the chunks that it is part of: XOR does not mind the
// order. So no base is ever kept or decoded for itself. One goroutine at a time.
type window struct {
	slots   []slot
	byID    map[ID]int // chunk → index in slots
	size    int        // plain bytes of the slots
	pieces  []piece
	plain   []byte // of all slots
	stored  []byte // frames as read
	scratch []byte // a frame decoded
}

// slot is one chunk of a window.
type slot struct {
	indexes []int // the caller's numbers
	chain   Chain
	plain   []byte // XOR of the frames so far
	begun   bool   // plain holds something
}

// piece is a frame and a chunk that it is part of.
type piece struct {
	loc  *Location
	slot *slot
}

func (w *window) add(index int, chain Chain) {
	if at, found := w.byID[chain[0].ID]; found {
		w.slots[at].indexes = append(w.slots[at].indexes, index)
		return
	}
	if w.byID == nil {
		w.byID = map[ID]int{}
	}
	w.byID[chain[0].ID] = len(w.slots)
	w.slots = append(w.slots, slot{indexes: []int{index}, chain: chain})
	w.size += int(chain[0].PlainSize)
}

func (w *window) full() bool { return w.size >= windowSize }

// clear empties the window and keeps its buffers.
func (w *window) clear() {
	clear(w.slots)
	clear(w.byID)
	w.slots, w.size = w.slots[:0], 0
}

// plan gives the slots their buffers and returns the pieces in order of place.
func (w *window) plan() []piece {
	w.plain = sized(w.plain, w.size)
	rest := w.plain
	w.pieces = w.pieces[:0]
	for i := range w.slots {
		s := &w.slots[i]
		s.plain, rest = rest[:s.chain[0].PlainSize], rest[s.chain[0].PlainSize:]
		for n := range s.chain {
			w.pieces = append(w.pieces, piece{&s.chain[n], s})
		}
	}
	slices.SortFunc(w.pieces, comparePieces)
	return w.pieces
}

// combine decodes the frames of one run, each once, into its slots.
func (w *window) combine(d *decoders, run []piece) error {
	var got []byte
	for n, p := range run {
		if n > 0 && *p.loc == *run[n-1].loc {
			p.slot.combine(got)
			continue
		}
		w.scratch = sized(w.scratch, int(p.loc.PlainSize))
		dst := w.scratch
		if !p.slot.begun {
			dst = p.slot.plain
		}
		var err error
		if got, err = unpack(d, dst, *p.loc, w.stored[p.loc.Offset-run[0].loc.Offset:], nil); err != nil {
			return p.slot.chain.with(p.loc, err)
		}
		p.slot.combine(got)
	}
	return nil
}

// combine adds what one frame of the chain holds; it may be in the slot's own
// buffer already if it is the first.
func (s *slot) combine(part []byte) {
	if s.begun {
		subtle.XORBytes(s.plain, s.plain, part)
		return
	}
	copy(s.plain, part) // nothing if it is the same memory
	s.begun = true
}
