package check

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/sorted"
)

// catalog knows the frames of all packs: 22 bytes for each, and 16 more for a
// delta. Frames are numbered through all packs. Chunks are told apart by the
// first twelve bytes of their IDs, which is enough to count; whoever reads a
// chunk compares its whole ID.
type catalog struct {
	packs  []*packState
	number map[cas.ID]int      // of packs
	keys   *sorted.Table[key]  // sorted by seal
	states sorted.List[state]  // by frame
	plain  sorted.List[uint32] // by frame: bytes
	bases  sorted.List[key]    // of deltas: the base's ID, the delta's number; in order of that
}

func newCatalog() *catalog {
	return &catalog{number: map[cas.ID]int{}, keys: sorted.NewTable(sorted.Key[key]{
		Prefix: func(k *key) uint64 { return k.high },
		Same:   func(a, b *key) bool { return a.high == b.high && a.low == b.low },
		Order:  key.compare,
	})}
}

// key is a part of a chunk's ID, and a frame.
type key struct {
	high  uint64
	low   uint32
	frame uint32
}

func newKey(id cas.ID, frame uint32) key {
	return key{binary.BigEndian.Uint64(id[:]), binary.BigEndian.Uint32(id[8:]), frame}
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.high, other.high), cmp.Compare(k.low, other.low), cmp.Compare(k.frame, other.frame))
}

// state is what is known of a frame: its depth and flags. What is present can be
// restored, and what can be restored is readable.
type state uint16

const (
	depthMask  state = 0x0f
	present    state = 1 << 4 // it counts as present, with all its bases: backups may rely on it
	restorable state = 1 << 5 // a restore can read it, with all its bases, now and later
	readable   state = 1 << 6 // its bytes can be had, with all its bases
	bad        state = 1 << 7 // its bytes are wrong
	needed     state = 1 << 8 // a backup needs the chunk, or a delta that does
	copied     state = 1 << 9 // a dry run would have copied it into a good pack
)

func (s state) depth() uint8 { return uint8(s & depthMask) }

// packState is a pack and what is known of it.
type packState struct {
	id        cas.ID
	kind      cas.Kind
	size      int64
	first     uint32    // number of its first frame
	count     uint32    // of its frames
	scanned   *cas.Pack // its frames as a search found them, for want of a directory; else nil
	problems  []Problem
	marked    bool              // as damaged
	condemned bool              // finally
	suspect   bool              // reading a chunk has failed: the pack must be read as a whole
	verified  *cas.Verification // in this run; nil: not read
	last      cas.Verified
}

// trusted tells whether what the pack holds may be relied on.
func (p *packState) trusted() bool { return len(p.problems) == 0 && !p.marked && !p.condemned }

// allows returns what can be done, at most, with the pack's frames.
func (p *packState) allows() state {
	switch {
	case p.trusted():
		return present | restorable | readable
	case p.scanned == nil && !p.condemned:
		return restorable | readable
	}
	return readable
}

func (c *catalog) frames() int { return c.states.Len() }

// state returns what is known of a frame.
func (c *catalog) state(frame uint32) state { return *c.states.At(frame) }

// set adds flags to what is known of a frame.
func (c *catalog) set(frame uint32, flags state) { *c.states.At(frame) |= flags }

// eachBase calls fn with the keys of all deltas' bases, in order of the deltas.
func (c *catalog) eachBase(fn func(key)) {
	for n := range c.bases.Len() {
		fn(*c.bases.At(uint32(n)))
	}
}

// ids returns the packs.
func (c *catalog) ids() []cas.ID {
	ids := make([]cas.ID, len(c.packs))
	for n, p := range c.packs {
		ids[n] = p.id
	}
	return ids
}

// add takes in a pack's frames.
func (c *catalog) add(p *packState, frames []cas.Frame) error {
	if uint64(c.frames())+uint64(len(frames)) > math.MaxUint32 {
		return fmt.Errorf("more than %d chunks", uint32(math.MaxUint32))
	}
	p.first, p.count = uint32(c.frames()), uint32(len(frames))
	c.number[p.id] = len(c.packs)
	c.packs = append(c.packs, p)
	for i := range frames {
		f := &frames[i]
		n := uint32(c.frames())
		c.keys.Add(f.ID[0], newKey(f.ID, n))
		c.states.Add(state(f.Depth) & depthMask)
		c.plain.Add(f.PlainSize)
		if f.Codec == cas.CodecDelta {
			c.bases.Add(newKey(f.Base, n))
		}
	}
	return nil
}

// seal sorts what was added.
func (c *catalog) seal() { c.keys.Sort() }

// copies returns the frames of a chunk.
func (c *catalog) copies(k key) []key {
	return c.keys.Find(byte(k.high>>56), k.high, func(other *key) bool { return other.low == k.low })
}

// packOf returns the pack of a frame.
func (c *catalog) packOf(frame uint32) *packState {
	n, found := slices.BinarySearchFunc(c.packs, frame, func(p *packState, frame uint32) int { return cmp.Compare(p.first, frame) })
	if !found {
		n--
	}
	for c.packs[n].count == 0 { // a pack without frames shares its first with the next
		n++
	}
	return c.packs[n]
}

// base returns the key of a delta's base.
func (c *catalog) base(frame uint32) (key, bool) {
	n, found := sort.Find(c.bases.Len(), func(n int) int { return cmp.Compare(frame, c.bases.At(uint32(n)).frame) })
	if !found {
		return key{}, false
	}
	return *c.bases.At(uint32(n)), true
}

// resolve works out which frames are present, restorable and readable, by the
// depth rule: from those that stand alone upwards.
func (c *catalog) resolve() {
	for _, p := range c.packs {
		for n := p.first; n < p.first+p.count; n++ {
			*c.states.At(n) &^= present | restorable | readable
			if c.state(n).depth() == 0 {
				c.allow(n, p.allows())
			}
		}
	}
	for depth := uint8(1); depth <= cas.MaxDepth; depth++ {
		c.resolveDepth(depth)
	}
}

func (c *catalog) resolveDepth(depth uint8) {
	at := 0 // the pack of the delta
	c.eachBase(func(delta key) {
		n := delta.frame
		if c.state(n).depth() != depth {
			return
		}
		for p := c.packs[at]; n >= p.first+p.count; p = c.packs[at] {
			at++
		}
		var found state
		for _, copy := range c.copies(delta) {
			if s := c.state(copy.frame); s.depth() < depth && *c.plain.At(copy.frame) == *c.plain.At(n) {
				found |= s
			}
		}
		c.allow(n, c.packs[at].allows()&found)
	})
}

// allow sets what can be done with a frame, unless it is bad.
func (c *catalog) allow(n uint32, flags state) {
	switch s := c.state(n); {
	case s&bad != 0:
	case s&copied != 0:
		c.set(n, present|restorable|readable)
	default:
		c.set(n, flags)
	}
}

// need notes that a backup needs the chunk, and tells whether it has copies.
func (c *catalog) need(id cas.ID) bool {
	copies := c.copies(newKey(id, 0))
	for _, copy := range copies {
		c.set(copy.frame, needed)
	}
	return len(copies) > 0
}

// best returns the flags of a chunk's copies together.
func (c *catalog) best(id cas.ID) state {
	var best state
	for _, copy := range c.copies(newKey(id, 0)) {
		best |= c.state(copy.frame)
	}
	return best
}

// eachLacking calls fn for each chunk that is needed and of which no copy has the
// flag, with its copies.
func (c *catalog) eachLacking(flag state, fn func(copies []key)) {
	for copies := range c.keys.Groups() {
		all := state(0)
		for _, copy := range copies {
			all |= c.state(copy.frame)
		}
		if all&needed != 0 && all&flag == 0 {
			fn(copies)
		}
	}
}

// anyLacking tells whether there is such a chunk.
func (c *catalog) anyLacking(flag state) bool {
	found := false
	c.eachLacking(flag, func([]key) { found = true })
	return found
}

// needBases notes that the bases of needed deltas are needed too.
func (c *catalog) needBases() {
	for depth := uint8(cas.MaxDepth); depth > 0; depth-- {
		c.eachBase(func(delta key) {
			if s := c.state(delta.frame); s.depth() != depth || s&needed == 0 {
				return
			}
			for _, copy := range c.copies(delta) {
				if c.state(copy.frame).depth() < depth {
					c.set(copy.frame, needed)
				}
			}
		})
	}
}

// count returns how many frames of a pack have one of the flags.
func (c *catalog) count(p *packState, flags state) int {
	total := 0
	for n := p.first; n < p.first+p.count; n++ {
		if c.state(n)&flags != 0 {
			total++
		}
	}
	return total
}

// apply takes in what reading a pack has found.
func (c *catalog) apply(p *packState, v *cas.Verification) {
	p.verified = v
	for n := range v.Bad {
		c.set(p.first+uint32(n), bad)
	}
}

// suspect notes that reading a chunk from a pack has failed.
func (c *catalog) suspect(pack cas.ID) {
	if n, found := c.number[pack]; found {
		c.packs[n].suspect = true
	}
}

// frameSet remembers frames that were looked at: without it, many copies of deep
// chains would take exponential time.
type frameSet map[uint32]struct{}

// add adds a frame and tells whether it is new.
func (f frameSet) add(frame uint32) bool {
	_, known := f[frame]
	f[frame] = struct{}{}
	return !known
}

// culprits adds the packs that are to blame for a chunk of which no copy below a
// depth has the flag: those of its copies, or of their bases, as far as they are
// not seen.
func (c *catalog) culprits(k key, below uint8, flag state, into map[cas.ID]struct{}, seen frameSet) {
	for _, copy := range c.copies(k) {
		s := c.state(copy.frame)
		if s.depth() >= below || s&flag != 0 || !seen.add(copy.frame) {
			continue
		}
		p := c.packOf(copy.frame)
		base, isDelta := c.base(copy.frame)
		if s&bad != 0 || p.allows()&flag == 0 || !isDelta {
			into[p.id] = struct{}{}
			continue
		}
		c.culprits(base, s.depth(), flag, into, seen)
	}
}
