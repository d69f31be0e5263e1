package main

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/shardseed/shardseed/cas"
)

// synthetic is a repository that has directories of packs and nothing else: as
// many chunks as asked for, of 64 KiB each and in packs of 64 MiB, 30 % of them
// deltas in chains of up to eight, each base in an earlier pack than its delta.
// It makes them when they are asked for and keeps nothing. It is an index.Source.
type synthetic struct {
	chunks int
	once   sync.Once
	packs  []cas.ID
	number map[cas.ID]int // of a pack
}

const (
	packChunks  = 2_400 // in a pack: 64 MiB of chunks that compress to 27 KiB
	groupChunks = 30    // the same pattern again
	firstDelta  = 21    // of a group
	firstChain  = 29    // and from here a chain of its own
	// baseDistance is how many chunks a base lies before its delta: some packs,
	// and a multiple of a group.
	baseDistance = 7 * packChunks
)

// saltPack makes the IDs of packs others than those of chunks.
const saltPack = 1 << 63

// randomID returns the n-th ID. Source: splitmix64, Steele and others 2014.
func randomID(n uint64) cas.ID {
	var id cas.ID
	state := n * 0x2545f4914f6cdd1d
	for i := 0; i < len(id); i += 8 {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(id[i:], z^z>>31)
	}
	return id
}

// base returns the number of the chunk that a chunk is a delta of.
func base(n int) (int, bool) {
	switch slot := n % groupChunks; {
	case slot < firstDelta:
		return 0, false
	case slot == firstChain:
		n -= firstChain
	default:
		n--
	}
	return n - baseDistance, n >= baseDistance
}

// depth returns how many bases a chunk stands on.
func depth(n int) uint8 {
	on, ok := base(n)
	if !ok {
		return 0
	}
	return depth(on) + 1
}

// frame returns a chunk's frame, but for the offset.
func frame(n int) cas.Frame {
	f := cas.Frame{ID: randomID(uint64(n)), PlainSize: cas.DefaultChunkSize, StoredSize: 27_000, Codec: cas.CodecZstd}
	if on, ok := base(n); ok {
		f.Codec, f.StoredSize, f.Depth, f.Base = cas.CodecDelta, 300, depth(n), randomID(uint64(on))
	}
	return f
}

// list makes the IDs of the packs.
func (s *synthetic) list() {
	s.number = map[cas.ID]int{}
	for n := range (s.chunks + packChunks - 1) / packChunks {
		id := randomID(saltPack | uint64(n))
		s.packs = append(s.packs, id)
		s.number[id] = n
	}
}

// UUID implements index.Source.
func (s *synthetic) UUID() cas.UUID { return cas.UUID{0x5e, 0xed} }

// PackIDs implements index.Source.
func (s *synthetic) PackIDs(context.Context) ([]cas.ID, error) {
	s.once.Do(s.list)
	return s.packs, nil
}

// Pack implements index.Source.
func (s *synthetic) Pack(_ context.Context, id cas.ID) (*cas.Pack, error) {
	s.once.Do(s.list)
	number, ok := s.number[id]
	if !ok {
		return nil, cas.ErrNotFound
	}
	first := number * packChunks
	p := &cas.Pack{ID: id, Kind: cas.KindData, Size: 200, Frames: make([]cas.Frame, 0, packChunks)}
	for n := first; n < min(first+packChunks, s.chunks); n++ {
		f := frame(n)
		f.Offset = p.Size
		p.Size += f.Size()
		p.Frames = append(p.Frames, f)
	}
	return p, nil
}

// Dead implements index.Source.
func (s *synthetic) Dead(context.Context) (map[cas.ID]struct{}, error) { return nil, nil } //nolint:nilnil // there are none
