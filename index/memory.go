package index

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/shardseed/shardseed/cas"
)

// Memory is an index in memory. It takes about 100 bytes for each chunk. Safe
// for concurrent use.
type Memory struct {
	mu      sync.RWMutex // guards all below
	packs   []cas.ID
	known   map[cas.ID]struct{} // of packs
	heads   map[uint64]uint32   // an ID's first 8 bytes → number of its newest entry, 1 and up
	blocks  [][]entry           // entry n is blocks[(n-1)/blockSize][(n-1)%blockSize]
	bases   []cas.ID            // of deltas
	entries uint32
}

// entry is one frame.
type entry struct {
	id     cas.ID
	offset int64
	stored uint32
	plain  uint32
	pack   uint32 // index in packs
	base   uint32 // index in bases, plus 1; 0 = none
	next   uint32 // number of the next older entry with the same first 8 bytes; 0 = none
	codec  cas.Codec
	depth  uint8
}

// blockSize is how many entries are allocated at once, so that growing copies
// nothing.
const blockSize = 1 << 14

func newMemory() *Memory {
	return &Memory{known: make(map[cas.ID]struct{}), heads: make(map[uint64]uint32)}
}

// OfPacks reads the directories of the packs with these IDs, and no others, in
// parallel. A directory that cannot be read is an error that names the pack.
// Packs that garbage collection or check have given up count as present: for a
// restore, what can be read is welcome.
func OfPacks(ctx context.Context, repo Source, ids []cas.ID) (*Memory, error) {
	m := newMemory()
	bad := func(id cas.ID, err error) error { return fmt.Errorf("index pack %s: %w", id.Short(), err) }
	if err := eachPack(ctx, repo, ids, m.add, bad); err != nil {
		return nil, err
	}
	return m, nil
}

// Lookup finds a copy of a chunk; see [cas.Locator].
func (m *Memory) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	r := resolver{copies: func(id cas.ID) []cas.Location { return m.appendCopies(nil, id) }}
	return r.find(question{id, below})
}

// Stats returns how much is in the index.
func (m *Memory) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Stats{Packs: len(m.packs), Chunks: int64(m.entries)}
}

// add takes in the frames of a pack, once. It keeps nothing of the pack.
func (m *Memory) add(pack *cas.Pack) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.known[pack.ID]; known {
		return nil
	}
	if uint64(m.entries)+uint64(len(pack.Frames)) > 1<<32-1 {
		return fmt.Errorf("index pack %s: more than %d chunks", pack.ID.Short(), uint32(1<<32-1))
	}
	m.known[pack.ID] = struct{}{}
	m.packs = append(m.packs, pack.ID)
	for _, f := range pack.Frames {
		m.append(f)
	}
	return nil
}

// append adds a frame of the newest pack.
func (m *Memory) append(f cas.Frame) {
	e := entry{
		id: f.ID, offset: f.Offset, stored: f.StoredSize, plain: f.PlainSize, codec: f.Codec, depth: f.Depth,
		pack: uint32(len(m.packs) - 1), next: m.heads[prefix(f.ID)],
	}
	if f.Codec == cas.CodecDelta {
		m.bases = append(m.bases, f.Base)
		e.base = uint32(len(m.bases))
	}
	if m.entries%blockSize == 0 {
		m.blocks = append(m.blocks, make([]entry, 0, blockSize))
	}
	last := &m.blocks[len(m.blocks)-1]
	*last = append(*last, e)
	m.entries++
	m.heads[prefix(f.ID)] = m.entries
}

// appendCopies appends all copies of a chunk.
func (m *Memory) appendCopies(copies []cas.Location, id cas.ID) []cas.Location {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for n := m.heads[prefix(id)]; n != 0; {
		e := &m.blocks[(n-1)/blockSize][(n-1)%blockSize]
		if e.id == id {
			copies = append(copies, m.location(e))
		}
		n = e.next
	}
	return copies
}

func (m *Memory) location(e *entry) cas.Location {
	f := cas.Frame{ID: e.id, Offset: e.offset, StoredSize: e.stored, PlainSize: e.plain, Codec: e.codec, Depth: e.depth}
	if e.base != 0 {
		f.Base = m.bases[e.base-1]
	}
	return cas.Location{Pack: m.packs[e.pack], Frame: f}
}

// has tells whether the pack's frames are in the index.
func (m *Memory) has(pack cas.ID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, known := m.known[pack]
	return known
}

// within tells whether all packs are among known.
func (m *Memory) within(known map[cas.ID]struct{}) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, id := range m.packs {
		if _, ok := known[id]; !ok {
			return false
		}
	}
	return true
}

func prefix(id cas.ID) uint64 { return binary.LittleEndian.Uint64(id[:8]) }
