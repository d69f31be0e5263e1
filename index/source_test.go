package index

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

// repository is a Source in memory: packs with directories and no frames.
type repository struct {
	uuid cas.UUID

	mu      sync.Mutex // guards all below
	packs   map[cas.ID]*cas.Pack
	dead    map[cas.ID]struct{}
	failing map[cas.ID]error // whose directories cannot be read
	listErr error
	deadErr error
	reads   int // directories read
	onRead  func(n int)
}

func newRepository(packs ...*cas.Pack) *repository {
	r := &repository{
		uuid:  cas.UUID{0xaa, 1, 2, 3},
		packs: map[cas.ID]*cas.Pack{}, dead: map[cas.ID]struct{}{}, failing: map[cas.ID]error{},
	}
	r.publish(packs...)
	return r
}

func (r *repository) publish(packs ...*cas.Pack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range packs {
		r.packs[p.ID] = p
	}
}

func (r *repository) remove(id cas.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.packs, id)
}

func (r *repository) kill(id cas.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead[id] = struct{}{}
}

// takeReads returns how many directories were read since it was last called.
func (r *repository) takeReads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.reads
	r.reads = 0
	return n
}

func (r *repository) UUID() cas.UUID { return r.uuid }

func (r *repository) PackIDs(ctx context.Context) ([]cas.ID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]cas.ID, 0, len(r.packs))
	for id := range r.packs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, cas.ID.Compare)
	return ids, errors.Join(r.listErr, ctx.Err())
}

func (r *repository) Pack(ctx context.Context, id cas.ID) (*cas.Pack, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.onRead != nil {
		r.onRead(r.reads)
	}
	p, ok := r.packs[id]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok:
		return nil, cas.ErrNotFound
	}
	return p, r.failing[id]
}

func (r *repository) Dead(ctx context.Context) (map[cas.ID]struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dead := map[cas.ID]struct{}{}
	for id := range r.dead {
		dead[id] = struct{}{}
	}
	return dead, errors.Join(r.deadErr, ctx.Err())
}

// chunk returns the ID of the n-th chunk. Chunks n and n+1<<32 share their
// first 8 bytes.
func chunk(n uint64) cas.ID {
	var id cas.ID
	binary.LittleEndian.PutUint32(id[:], uint32(n)*2654435761)
	binary.LittleEndian.PutUint32(id[8:], uint32(n>>32))
	id[31] = 0xc
	return id
}

// pack returns a pack with the n-th pack ID.
func pack(n uint32, frames ...cas.Frame) *cas.Pack {
	id := cas.ID{4: 0xbb}
	binary.BigEndian.PutUint32(id[:], n)
	p := &cas.Pack{ID: id, Kind: cas.KindData, Size: 4096}
	for _, f := range frames {
		f.Offset = p.Size
		p.Size += int64(f.StoredSize) + 84
		p.Frames = append(p.Frames, f)
	}
	return p
}

// full returns a frame that needs no other.
func full(n uint64) cas.Frame {
	return cas.Frame{ID: chunk(n), StoredSize: uint32(n%1000) + 1, PlainSize: 65536, Codec: cas.CodecZstd}
}

// delta returns a frame of a depth that needs a copy of base at a lesser one.
func delta(n, base uint64, depth uint8) cas.Frame {
	return cas.Frame{ID: chunk(n), StoredSize: 190, PlainSize: 65536, Codec: cas.CodecDelta, Depth: depth, Base: chunk(base)}
}

// manyPacks returns packs with all chunks from 0 to packs*frames-1, some also
// in a second pack and some as deltas of the chunk before.
func manyPacks(packs, frames int) []*cas.Pack {
	rng := rand.New(rand.NewPCG(1, 2))
	var all []*cas.Pack
	for p := range packs {
		var list []cas.Frame
		for i := range frames {
			n := uint64(p*frames + i)
			switch {
			case i > 0 && n%3 == 1 && (n-1)%3 == 0:
				list = append(list, delta(n, n-1, 1))
			default:
				list = append(list, full(n))
			}
			if p > 0 && i%5 == 0 {
				list = append(list, full(rng.Uint64N(n)))
			}
		}
		all = append(all, pack(uint32(p), list...))
	}
	return all
}

// fastDir returns a temporary folder in memory if the machine has one, for
// tests that write hundreds of files durably.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shardseed-index-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t testing.TB, dir string, repo Source) *Index {
	t.Helper()
	x, err := Open(t.Context(), dir, repo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeIndex(t, x) })
	return x
}

func closeIndex(t testing.TB, x *Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

// wantPack checks that a chunk is found in the n-th pack, or nowhere if n < 0.
func wantPack(t testing.TB, l cas.Locator, id cas.ID, below uint8, n int) {
	t.Helper()
	got, err := l.Lookup(id, below)
	if n < 0 {
		if !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("chunk %s below %d: got %+v, %v, want ErrNotFound", id.Short(), below, got, err)
		}
		return
	}
	if err != nil || got[0].Pack != pack(uint32(n)).ID || got[0].ID != id {
		t.Errorf("chunk %s below %d: got %+v, %v, want pack %d", id.Short(), below, got, err, n)
	}
}

// wantSame checks that both find the same, for chunks 0 to n, at every depth.
func wantSame(t testing.TB, got, want cas.Locator, n uint64) {
	t.Helper()
	for i := range n {
		for _, below := range []uint8{1, 2, cas.AnyDepth} {
			g, gErr := got.Lookup(chunk(i), below)
			w, wErr := want.Lookup(chunk(i), below)
			if !slices.Equal(g, w) || (gErr == nil) != (wErr == nil) {
				t.Fatalf("chunk %d below %d: got %+v, %v, want %+v, %v", i, below, g, gErr, w, wErr)
			}
		}
	}
}

// inMemory returns an index of all living packs that no file was involved in.
func inMemory(t testing.TB, repo *repository) *Memory {
	t.Helper()
	ids, err := repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids = slices.DeleteFunc(ids, func(id cas.ID) bool { _, dead := repo.dead[id]; return dead })
	m, err := OfPacks(t.Context(), "", repo, ids)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeMemory(t, m) })
	return m
}

func closeMemory(t testing.TB, m *Memory) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
