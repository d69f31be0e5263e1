package cas

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// census is what the packs of a repository hold, in 48 bytes for each frame: 0.8
// GB for 1 TiB of unique chunks of 64 KiB. Of IDs it keeps the first half; 128
// bits of a hash do not meet by accident. Not safe for concurrent use, but for
// what says so.
type census struct {
	packs   []censusPack
	ordinal map[ID]uint32 // of a pack
	buckets [1 << bucketBits][]entry
	dirty   bool // entries are not in order
}

// bucketBits is how many bits of an ID choose its bucket.
const bucketBits = 12

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
	size   int64 // of the file, bytes
	all    int64 // bytes of all frames
	live   int64 // of those of chunks that are needed, in this pack or in another
	used   int64 // of those that are chosen
	wanted int64 // of those, bytes that are copied if the pack is repacked
	twice  int64 // of frames of chunks that are needed, but kept in another pack
	count  uint32
}

// shortID is the first half of an ID.
type shortID [16]byte

func short(id ID) shortID { return shortID(id[:16]) }

// entry is a frame. What is said of a chunk stands in its first entry.
type entry struct {
	id, base shortID // base: zero unless it is a delta
	pack     uint32
	size     uint32 // of the frame with its header, bytes
	depth    uint8
	chosen   bool // it is the copy that is kept

	// Of the chunk:
	best  [tiers]uint8 // least depth, plus 1, of a copy that can be decoded from packs up to the tier; 0: none
	marks uint8
	users uint8 // chosen deltas that have the chunk as base: one in a doomed pack counts one, any other two; at most 2
}

// The marks of a chunk.
const (
	markNeeded uint8 = 1 << tiers // a backup needs it; the lower bits: it is needed from that tier
	markWalked uint8 = 1 << (tiers + 1)
	markTiers  uint8 = 1<<tiers - 1
)

func newCensus() *census { return &census{ordinal: map[ID]uint32{}} }

// reserve gives a pack that is not known its number. It does not count yet.
func (c *census) reserve(id ID) {
	c.ordinal[id] = uint32(len(c.packs))
	c.packs = append(c.packs, censusPack{id: id, tier: tierGone})
}

// add takes in a pack that has a number, once.
func (c *census) add(pack *Pack) error {
	number := c.ordinal[pack.ID]
	p := &c.packs[number]
	p.size, p.count = pack.Size, uint32(len(pack.Frames))
	for i := range pack.Frames {
		f := &pack.Frames[i]
		if f.Size() > 1<<32-1 {
			return fmt.Errorf("pack %s: frame of %d bytes", pack.ID.Short(), f.Size())
		}
		p.all += f.Size()
		e := entry{id: short(f.ID), pack: number, size: uint32(f.Size()), depth: f.Depth}
		if f.Codec == CodecDelta {
			e.base = short(f.Base)
		}
		b := c.bucket(e.id)
		*b = append(*b, e)
	}
	c.dirty = true
	return nil
}

func (c *census) bucket(id shortID) *[]entry {
	return &c.buckets[binary.BigEndian.Uint16(id[:])>>(16-bucketBits)]
}

// sort puts the entries of a chunk next to each other, and what was said of the
// chunk into the first.
func (c *census) sort() {
	if !c.dirty {
		return
	}
	c.dirty = false
	for i := range c.buckets {
		slices.SortFunc(c.buckets[i], func(a, b entry) int {
			return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.depth, b.depth), cmp.Compare(a.pack, b.pack), cmp.Compare(a.size, b.size))
		})
	}
	c.each(func(copies []entry) {
		for i := 1; i < len(copies); i++ {
			if e := &copies[i]; e.marks != 0 || e.users != 0 || e.best != ([tiers]uint8{}) { // it was the first
				copies[0].marks, copies[0].users, copies[0].best = e.marks, e.users, e.best
				e.marks, e.users, e.best = 0, 0, [tiers]uint8{}
			}
		}
	})
}

// each calls fn with all copies of each chunk.
func (c *census) each(fn func(copies []entry)) {
	for i := range c.buckets {
		rest := c.buckets[i]
		for len(rest) > 0 {
			n := copiesAt(rest)
			fn(rest[:n])
			rest = rest[n:]
		}
	}
}

// copiesAt returns how many of the entries are of the first one's chunk.
func copiesAt(entries []entry) int {
	n := 1
	for n < len(entries) && entries[n].id == entries[0].id {
		n++
	}
	return n
}

// find returns all copies of a chunk, none if there is none. The entries are
// sorted. Safe for concurrent use.
func (c *census) find(id shortID) []entry {
	b := *c.bucket(id)
	at, found := slices.BinarySearchFunc(b, id, func(e entry, id shortID) int { return bytes.Compare(e.id[:], id[:]) })
	if !found {
		return nil
	}
	return b[at : at+copiesAt(b[at:])]
}

// resolve finds for each chunk and tier the copy of the least depth that can be
// decoded. A copy of depth d can be if it stands alone, or if a copy of its base
// of a depth below d can: so one pass for each depth, from 0 up, finds them all.
func (c *census) resolve() {
	c.sort()
	c.each(func(copies []entry) { copies[0].best = [tiers]uint8{} })
	for depth := uint8(0); depth <= MaxDepth; depth++ {
		c.each(func(copies []entry) {
			for i := range copies {
				if copies[i].depth == depth {
					c.resolveCopy(&copies[0], &copies[i])
				}
			}
		})
	}
}

func (c *census) resolveCopy(first, e *entry) {
	from := c.packs[e.pack].tier
	for t := from; t < tierGone; t++ {
		if first.best[t] == 0 && c.decodable(e, t) {
			first.best[t] = e.depth + 1
		}
	}
}

// decodable tells whether a copy can be decoded from packs up to the tier.
func (c *census) decodable(e *entry, t tier) bool {
	if c.packs[e.pack].tier > t {
		return false
	}
	if e.base == (shortID{}) {
		return e.depth == 0
	}
	base := c.find(e.base)
	return base != nil && base[0].best[t] > 0 && base[0].best[t] <= e.depth
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
	c.each(func(copies []entry) { copies[0].marks &^= markWalked })
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
		p.live, p.used, p.wanted, p.twice = 0, 0, 0, 0
	}
	c.each(func(copies []entry) {
		first := &copies[0]
		first.marks &^= markTiers
		first.users = 0
		for i := range copies {
			copies[i].chosen = false
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
	})
	for depth := MaxDepth; depth >= 0; depth-- {
		c.each(func(copies []entry) { c.chooseAt(copies, uint8(depth)) })
	}
	c.each(func(copies []entry) {
		for i := range copies {
			switch e := &copies[i]; {
			case e.chosen && copies[0].isWanted():
				c.packs[e.pack].wanted += int64(e.size)
			case !e.chosen && copies[0].isKept():
				c.packs[e.pack].twice += int64(e.size)
			}
		}
	})
}

// isWanted tells of the first entry of a chunk whether it is needed but for the
// sake of a single delta, which will be repacked.
func (e *entry) isWanted() bool { return e.marks&markNeeded != 0 || e.users > 1 }

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
		if !e.chosen {
			e.chosen = true
			c.packs[e.pack].used += int64(e.size)
			if depth > 0 {
				base := &c.find(e.base)[0]
				base.users++
				if base.users > 1 || c.packs[e.pack].tier != tierDoomed {
					base.users = 2
				}
			}
		}
		if depth > 0 {
			c.find(e.base)[0].marks |= 1 << t
		}
	}
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
		if best == nil || !best.chosen && (e.chosen || c.share(e.pack) > c.share(best.pack)) {
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
