package cas

import (
	"slices"
	"testing"
)

// TestCensusAlike: chunks whose IDs differ late, or in the first byte only, are
// different chunks; and all copies of one are found together.
func TestCensusAlike(t *testing.T) {
	c := newCensus()
	var ids []ID
	for _, at := range []int{0, 1, 8, 9, 12, 15} { // the census knows 16 bytes
		id := Sum([]byte("x"))
		id[at]++
		ids = append(ids, id)
	}
	for pack := range uint32(3) {
		name := ID{byte(pack + 1)}
		c.reserve(name)
		var frames []Frame
		for i, id := range ids {
			f := Frame{ID: id, StoredSize: uint32(100 * i), PlainSize: 1}
			if pack == 2 {
				f.Codec, f.Base, f.Depth = CodecDelta, ids[0], 1
			}
			frames = append(frames, f)
		}
		if err := c.add(&Pack{ID: name, Frames: frames}); err != nil {
			t.Fatal(err)
		}
	}
	c.sort()
	for i, id := range ids {
		var packs []uint32
		for _, e := range c.find(short(id)) {
			packs = append(packs, e.pack)
			if e.size != frameHeaderSize+uint32(100*i) || (e.pack == 2) != (c.baseOf(&e) == short(ids[0])) {
				t.Errorf("chunk %d: entry %+v with base %x", i, e, c.baseOf(&e))
			}
		}
		if want := []uint32{0, 1, 2}; !slices.Equal(packs, want) {
			t.Errorf("chunk %d is in packs %d, want %d", i, packs, want)
		}
	}
	for _, at := range []int{0, 4, 9, 15} {
		id := ids[0]
		id[at] ^= 0x80
		if found := c.find(short(id)); found != nil {
			t.Errorf("a chunk that is not there is found: %+v", found)
		}
	}
}

// TestCensusMarks: what is known of a chunk stays its own when copies come that are
// sorted before those that are there.
func TestCensusMarks(t *testing.T) {
	c := newCensus()
	id, base := Sum([]byte("a")), Sum([]byte("b"))
	add := func(name byte, frames ...Frame) {
		c.reserve(ID{name})
		if err := c.add(&Pack{ID: ID{name}, Frames: frames}); err != nil {
			t.Fatal(err)
		}
		c.packs[len(c.packs)-1].tier = tierKeep
	}
	add(1, Frame{ID: id, Codec: CodecDelta, Base: base, Depth: 1, PlainSize: 1}, Frame{ID: base, PlainSize: 1})
	c.resolve()
	if !c.need(id) || c.walk(id) {
		t.Fatal("a chunk is not there, or was walked before")
	}
	c.choose()
	add(2, Frame{ID: id, PlainSize: 1})
	c.sort()
	copies := c.find(short(id))
	if !copies[1].chosen() || copies[0].chosen() {
		t.Errorf("the choice has moved: %+v", copies)
	}
	if copies[0].marks&markNeeded == 0 || copies[1].marks != markChosen || copies[1].best != ([tiers]uint8{}) || copies[0].best[tierKeep] != 2 {
		t.Errorf("what was known of the chunk is not in its first entry: %+v", copies)
	}
	if !c.walk(id) {
		t.Error("it is not known that the chunk was walked")
	}
}
