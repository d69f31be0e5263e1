package cas

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/shardseed/shardseed/internal/sorted"
)

// census is what the packs of a repository hold, in 32 bytes for each frame and 16
// more for a delta: 0.6 GB for 1 TiB of unique chunks of 64 KiB. Of IDs it keeps the
// first half; 128 bits of a hash do not meet by accident. Not safe for concurrent
// use, but for what says so.
type census struct {
	packs   []censusPack
	ordinal map[ID]uint32 // of a pack
	entries *sorted.Table[entry]
	bases   sorted.List[shortID] // of deltas; the first is no delta's
	dirty   bool                 // entries are not in order
}

// tier says how gladly garbage collection keeps a chunk in a pack.
type tier uint8

// The tiers: a copy of a lower one is always taken.
const (
	tierKeep    tier = iota
	tierDoomed       // condemned by this generation, or about to be: kept only if needed
	tierDamaged      // marked as damaged: better than nothing
	tierGone         // about to be deleted, or deleted: does not count
)

const tiers = int(tierGone) // that count

// censusPack is a pack.
type censusPack struct {
	id     ID
	tier   tier
	size   int64  // of the file, bytes
	all    int64  // bytes of all frames
	live   int64  // of those of chunks that are needed, in this pack or in another
	used   int64  // of those that are chosen
	wanted int64  // of those, bytes that are copied if the pack is repacked
	copies uint32 // frames that are copied then
	twice  int64  // of frames of chunks that are needed, but kept in another pack
}

// shortID is the first half of an ID.
type shortID [16]byte

func short(id ID) shortID { return shortID(id[:16]) }

// entry is a frame. What is said of a chunk stands in its first entry.
type entry struct {
	id    [15]byte // second byte of the chunk's ID and on: the first says in which bucket it is
	depth uint8
	pack  uint32
	size  uint32 // of the frame with its header, bytes
	base  uint32 // number in census.bases; 0 unless it is a delta

	// Of the chunk, but for what of marks is of the copy:
	best  [tiers]uint8 // least depth, plus 1, of a copy that can be decoded from packs up to the tier; 0: none
	marks uint8
}

// The marks of a chunk, and of a copy.
const (
	markNeeded uint8 = 1 << tiers // a backup needs it; the lower bits: it is needed from that tier
	markWalked uint8 = 1 << (tiers + 1)
	markTiers  uint8 = 1<<tiers - 1

	// Chosen deltas that have the chunk as base: one in a doomed pack, or any other
	// and more.
	markOneUser uint8 = 1 << (tiers + 2)
	markUsers   uint8 = 1 << (tiers + 3)

	markChosen uint8 = 1 << (tiers + 4) // of a copy: it is the one that is kept
	ofChunk          = ^markChosen
)

func (e *entry) chosen() bool { return e.marks&markChosen != 0 }

func newCensus() *census {
	c := &census{ordinal: map[ID]uint32{}, entries: sorted.NewTable(sorted.Key[entry]{
		Prefix: (*entry).prefix,
		Same:   func(a, b *entry) bool { return a.id == b.id },
		Order:  compareEntries,
	})}
	c.bases.Add(shortID{})
	return c
}

func (e *entry) prefix() uint64 { return binary.BigEndian.Uint64(e.id[:]) }

func compareEntries(a, b entry) int {
	return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.depth, b.depth), cmp.Compare(a.pack, b.pack), cmp.Compare(a.size, b.size))
}

// baseOf returns the ID of a delta's base; zero if it is no delta.
func (c *census) baseOf(e *entry) shortID { return *c.bases.At(e.base) }

// reserve gives a pack that is not known its number. It does not count yet.
func (c *census) reserve(id ID) {
	c.ordinal[id] = uint32(len(c.packs))
	c.packs = append(c.packs, censusPack{id: id, tier: tierGone})
}

// add takes in a pack that has a number, once.
func (c *census) add(pack *Pack) error {
	number := c.ordinal[pack.ID]
	p := &c.packs[number]
	p.size = pack.Size
	for i := range pack.Frames {
		f := &pack.Frames[i]
		if f.Size() > 1<<32-1 {
			return fmt.Errorf("pack %s: frame of %d bytes", pack.ID.Short(), f.Size())
		}
		p.all += f.Size()
		e := entry{id: [15]byte(f.ID[1:]), pack: number, size: uint32(f.Size()), depth: f.Depth}
		if f.Codec == CodecDelta {
			e.base = uint32(c.bases.Len())
			c.bases.Add(short(f.Base))
		}
		c.entries.Add(f.ID[0], e)
	}
	c.dirty = true
	return nil
}

// sort puts the entries of a chunk next to each other, and what was said of the
// chunk into the first.
func (c *census) sort() {
	if !c.dirty {
		return
	}
	c.dirty = false
	c.entries.Sort()
	for copies := range c.entries.Groups() {
		for i := 1; i < len(copies); i++ {
			if e := &copies[i]; e.marks&ofChunk != 0 || e.best != ([tiers]uint8{}) { // it was the first
				copies[0].marks = copies[0].marks&markChosen | e.marks&ofChunk
				copies[0].best = e.best
				e.marks, e.best = e.marks&markChosen, [tiers]uint8{}
			}
		}
	}
}

// find returns all copies of a chunk, none if there is none. The entries are
// sorted. Safe for concurrent use.
func (c *census) find(id shortID) []entry {
	rest := [15]byte(id[1:])
	return c.entries.Find(id[0], binary.BigEndian.Uint64(rest[:]), func(e *entry) bool { return e.id == rest })
}

// resolve finds for each chunk and tier the copy of the least depth that can be
// decoded. A copy of depth d can be if it stands alone, or if a copy of its base
// of a depth below d can: so one pass for each depth, from 0 up, finds them all.
func (c *census) resolve() {
	c.sort()
	for copies := range c.entries.Groups() {
		copies[0].best = [tiers]uint8{}
	}
	for depth := uint8(0); depth <= MaxDepth; depth++ {
		for copies := range c.entries.Groups() {
			for i := range copies {
				if copies[i].depth == depth {
					c.resolveCopy(&copies[0], &copies[i])
				}
			}
		}
	}
}

func (c *census) resolveCopy(first, e *entry) {
	var base *entry
	for t := c.packs[e.pack].tier; t < tierGone; t++ {
		if first.best[t] != 0 {
			continue
		}
		if base == nil {
			base = c.firstBase(e)
		}
		if e.restsOn(base, t) {
			first.best[t] = e.depth + 1
		}
	}
}

// firstBase returns the first entry of a copy's base; nil if it has none, or that is
// not there.
func (c *census) firstBase(e *entry) *entry {
	if e.base == 0 {
		return nil
	}
	if copies := c.find(c.baseOf(e)); copies != nil {
		return &copies[0]
	}
	return nil
}

// restsOn tells whether a copy can be decoded, given its base's first entry, which is
// looked for in packs up to the tier.
func (e *entry) restsOn(base *entry, t tier) bool {
	if e.base == 0 {
		return e.depth == 0
	}
	return base != nil && base.best[t] > 0 && base.best[t] <= e.depth
}

// decodable tells whether a copy can be decoded from packs up to the tier.
func (c *census) decodable(e *entry, t tier) bool {
	return c.packs[e.pack].tier <= t && e.restsOn(c.firstBase(e), t)
}

// need says that a backup needs the chunk. It returns false if no pack has a
// copy that can be decoded. One goroutine at a time; lookups may run meanwhile.
func (c *census) need(id ID) bool {
	copies := c.find(short(id))
	if copies == nil || copies[0].best[tierDamaged] == 0 {
		return false
	}
	copies[0].marks |= markNeeded
	return true
}

// walk says that a recipe's node is being followed, and whether it was before.
func (c *census) walk(id ID) (again bool) {
	copies := c.find(short(id))
	again = copies[0].marks&markWalked != 0
	copies[0].marks |= markWalked
	return again
}

// unwalk takes back what walk was told: of a walk that failed nobody knows how
// far below its nodes it came.
func (c *census) unwalk() {
	for copies := range c.entries.Groups() {
		copies[0].marks &^= markWalked
	}
}

// choose chooses the copies that are kept: of each chunk that a backup needs
// one, of the lowest tier and in it of the least depth, and what is needed of
// its chain. In a chain each base is the best copy of its chunk, so that chains
// share what they can; from the greatest depth down, one pass for each depth
// finds them all. Where several copies will do, one in a pack of which much is
// needed is taken.
func (c *census) choose() {
	for i := range c.packs {
		p := &c.packs[i]
		p.live, p.used, p.wanted, p.twice, p.copies = 0, 0, 0, 0, 0
	}
	for copies := range c.entries.Groups() {
		first := &copies[0]
		first.marks &^= markTiers | markOneUser | markUsers
		for i := range copies {
			copies[i].marks &^= markChosen
			if first.marks&markNeeded != 0 {
				c.packs[copies[i].pack].live += int64(copies[i].size)
			}
		}
		for t := range tiers {
			if first.marks&markNeeded != 0 && first.best[t] > 0 {
				first.marks |= 1 << t
				break
			}
		}
	}
	for depth := MaxDepth; depth >= 0; depth-- {
		for copies := range c.entries.Groups() {
			c.chooseAt(copies, uint8(depth))
		}
	}
	for copies := range c.entries.Groups() {
		for i := range copies {
			switch e := &copies[i]; {
			case e.chosen() && copies[0].isWanted():
				c.packs[e.pack].wanted += int64(e.size)
				c.packs[e.pack].copies++
			case !e.chosen() && copies[0].isKept():
				c.packs[e.pack].twice += int64(e.size)
			}
		}
	}
}

// isWanted tells of the first entry of a chunk whether it is needed but for the
// sake of a single delta, which will be repacked.
func (e *entry) isWanted() bool { return e.marks&(markNeeded|markUsers) != 0 }

// isKept tells of the first entry of a chunk whether a copy of it is kept.
func (e *entry) isKept() bool { return e.marks&(markNeeded|markTiers) != 0 }

// chooseAt chooses the copies of a chunk that are needed at that depth.
func (c *census) chooseAt(copies []entry, depth uint8) {
	first := &copies[0]
	for t := range tier(tiers) {
		if first.marks&(1<<t) == 0 || first.best[t] != depth+1 {
			continue
		}
		e := c.pick(copies, t)
		if !e.chosen() {
			e.marks |= markChosen
			c.packs[e.pack].used += int64(e.size)
			if depth > 0 {
				c.use(c.firstBase(e), e)
			}
		}
		if depth > 0 {
			c.firstBase(e).marks |= 1 << t
		}
	}
}

// use counts a chosen delta as a user of its base, given as the first entry of the
// chunk.
func (c *census) use(base, delta *entry) {
	if base.marks&markOneUser != 0 || c.packs[delta.pack].tier != tierDoomed {
		base.marks |= markUsers
	}
	base.marks |= markOneUser
}

// pick returns the copy that is taken at a tier: one that is chosen already, else
// the one in the pack of which the greatest part is needed. Safe for concurrent
// use.
func (c *census) pick(copies []entry, t tier) *entry {
	var best *entry
	for i := range copies {
		e := &copies[i]
		if e.depth+1 != copies[0].best[t] || !c.decodable(e, t) {
			continue
		}
		if best == nil || !best.chosen() && (e.chosen() || c.share(e.pack) > c.share(best.pack)) {
			best = e
		}
	}
	return best
}

// share is the part of a pack that is needed.
func (c *census) share(pack uint32) float64 {
	p := &c.packs[pack]
	return float64(p.live) / float64(max(p.all, 1))
}
