package cas

import (
	"bufio"
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
	slots  []slot
	byID   map[ID]int // chunk → index in slots
	size   int        // plain bytes of the slots
	pieces []piece    // in order of place
	runs   []run      // of the pieces
}

// run is a number of neighboring pieces that are read at once.
type run struct {
	pieces []piece
	size   int64 // bytes
}

// buffers are what a window is decoded in. One goroutine at a time.
type buffers struct {
	plain   []byte        // of all slots
	stored  []byte        // frames as read
	scratch []byte        // a frame decoded
	in      *bufio.Reader // for packs that are read as a whole; nil until there was one
}

// slot is one chunk of a window.
type slot struct {
	indexes []int // the caller's numbers
	chain   Chain
	plain   []byte // XOR of the frames so far
	begun   bool   // plain holds something
	left    int    // frames that are not in plain
	good    bool   // all are, and plain is the chunk
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

// plan sets out what is read, in order of place.
func (w *window) plan() {
	w.pieces, w.runs = w.pieces[:0], w.runs[:0]
	for i := range w.slots {
		s := &w.slots[i]
		s.begun, s.good, s.left = false, false, len(s.chain)
		for n := range s.chain {
			w.pieces = append(w.pieces, piece{&s.chain[n], s})
		}
	}
	slices.SortFunc(w.pieces, comparePieces)
	for pieces := w.pieces; len(pieces) > 0; {
		n, size := nextRun(pieces)
		w.runs = append(w.runs, run{pieces[:n], size})
		pieces = pieces[n:]
	}
}

// share gives the slots their parts of the buffers.
func (w *window) share(b *buffers) {
	b.plain = sized(b.plain, w.size)
	rest := b.plain
	largest := 0
	for i := range w.slots {
		s := &w.slots[i]
		size := int(s.chain[0].PlainSize)
		largest = max(largest, size)
		s.plain, rest = rest[:size:size], rest[size:]
	}
	b.scratch = sized(b.scratch, maxDifference(largest))
}

// combine decodes the frames of one run, each once, into its slots.
func (b *buffers) combine(d *decoders, run []piece) error {
	var content []byte
	for n, p := range run {
		if n == 0 || *p.loc != *run[n-1].loc {
			dst := b.scratch
			if p.loc.Codec == CodecZstd && !p.slot.begun {
				dst = p.slot.plain
			}
			var err error
			if content, err = unpack(d, dst, *p.loc, b.stored[p.loc.Offset-run[0].loc.Offset:]); err != nil {
				return p.slot.chain.with(p.loc, err)
			}
		}
		if err := p.slot.combine(p.loc, content); err != nil {
			return p.slot.chain.with(p.loc, err)
		}
		if p.slot.left--; p.slot.left == 0 { // now, while it is in the processor's cache
			p.slot.good = Sum(p.slot.plain) == p.slot.chain[0].ID
		}
	}
	return nil
}

// combine adds the content of one frame of the chain. It may be in the slot's
// own buffer already if it is the first.
func (s *slot) combine(loc *Location, content []byte) error {
	begun := s.begun
	s.begun = true
	switch {
	case loc.Codec != CodecDelta && begun:
		subtle.XORBytes(s.plain, s.plain, content)
		return nil
	case loc.Codec != CodecDelta:
		copy(s.plain, content) // nothing if it is the same memory
		return nil
	case !begun:
		clear(s.plain)
	}
	if err := applyDifference(s.plain, content); err != nil {
		return corrupt(*loc, ID{}, err.Error())
	}
	return nil
}
