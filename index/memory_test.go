package index

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
)

func ofPacks(t testing.TB, packs ...*cas.Pack) *Memory {
	t.Helper()
	return inMemory(t, newRepository(packs...))
}

func TestMemoryLookup(t *testing.T) {
	t.Parallel()
	p := pack(1, full(1), delta(2, 1, 1), full(3))
	m := ofPacks(t, p)
	for i, f := range p.Frames {
		got, err := m.Lookup(f.ID, cas.AnyDepth)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(cas.Location{Pack: p.ID, Frame: p.Frames[i]}, got[0]); diff != "" {
			t.Errorf("frame %d (-want +got):\n%s", i, diff)
		}
	}
	wantPack(t, m, chunk(4), cas.AnyDepth, -1)
	wantPack(t, m, cas.ID{}, cas.AnyDepth, -1)
	wantPack(t, m, chunk(2), 1, -1)
	wantPack(t, m, chunk(1), 0, -1)
	if got, want := m.Stats(), (Stats{Packs: 1, Chunks: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := m.Lookup(chunk(4), 1); !strings.Contains(err.Error(), "chunk "+chunk(4).Short()) {
		t.Errorf("got %v, want the chunk named", err)
	}
}

// IDs that share their first bytes are told apart.
func TestMemoryPrefix(t *testing.T) {
	t.Parallel()
	m := ofPacks(t, pack(1, full(7)), pack(2, full(7+1<<32)), pack(3, full(7+2<<32)))
	wantPack(t, m, chunk(7), cas.AnyDepth, 1)
	wantPack(t, m, chunk(7+1<<32), cas.AnyDepth, 2)
	wantPack(t, m, chunk(7+2<<32), cas.AnyDepth, 3)
	wantPack(t, m, chunk(7+3<<32), cas.AnyDepth, -1)
}

// Of several copies the least deep is taken, then the pack with the smallest
// ID, then the first.
func TestMemoryChoice(t *testing.T) {
	t.Parallel()
	m := ofPacks(t, pack(1, full(1), delta(2, 1, 1)), pack(5, full(2)), pack(3, full(9), full(2), full(2)))
	wantPack(t, m, chunk(2), cas.AnyDepth, 3)
	got, err := m.Lookup(chunk(2), cas.AnyDepth)
	if first := pack(3, full(9), full(2)).Frames[1].Offset; err != nil || got[0].Offset != first {
		t.Errorf("got %+v, %v, want offset %d", got, err, first)
	}
}

// A delta counts only with its whole chain, at strictly falling depth.
func TestMemoryPresence(t *testing.T) {
	t.Parallel()
	chain := []*cas.Pack{pack(0, full(0)), pack(1, delta(1, 0, 1)), pack(2, delta(2, 1, 2)), pack(3, delta(3, 2, 3))}
	m := ofPacks(t, chain...)
	for i := range 4 {
		wantPack(t, m, chunk(uint64(i)), cas.AnyDepth, i)
		wantPack(t, m, chunk(uint64(i)), uint8(i), -1)
		wantPack(t, m, chunk(uint64(i)), uint8(i+1), i)
	}
	got, err := m.Lookup(chunk(3), cas.AnyDepth)
	if err != nil || len(got) != 4 {
		t.Fatalf("got %+v, %v, want a chain of 4", got, err)
	}
	for i, loc := range got {
		if p := chain[3-i]; loc.Pack != p.ID || loc.Frame != p.Frames[0] {
			t.Errorf("element %d: got %+v, want pack %s", i, loc, p.ID.Short())
		}
	}
	m = ofPacks(t, chain[1:]...)
	for i := range 4 {
		wantPack(t, m, chunk(uint64(i)), cas.AnyDepth, -1)
	}
	_, err = m.Lookup(chunk(2), cas.AnyDepth)
	want := fmt.Sprintf("chunk %s in pack %s: base: chunk %s in pack %s: base: chunk %s: not found",
		chunk(2).Short(), chain[2].ID.Short(), chunk(1).Short(), chain[1].ID.Short(), chunk(0).Short())
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// Two packs, each with a copy of everything and nothing to read it from.
	m = ofPacks(t, pack(1, delta(1, 2, 1)), pack(2, delta(2, 1, 1)))
	wantPack(t, m, chunk(1), cas.AnyDepth, -1)
	wantPack(t, m, chunk(2), cas.AnyDepth, -1)
	// The base is there, but no deeper copy of it may be used.
	m = ofPacks(t, pack(0, full(0)), pack(1, delta(1, 0, 1)), pack(2, delta(2, 1, 1)))
	wantPack(t, m, chunk(2), cas.AnyDepth, -1)
	// A shallower copy that cannot be read hides no deeper one that can.
	m = ofPacks(t, pack(0, full(0)), pack(1, delta(1, 0, 1)), pack(2, delta(2, 1, 2)), pack(3, delta(2, 77, 1)))
	wantPack(t, m, chunk(2), cas.AnyDepth, 2)
	// Directories that say impossible things end in an answer.
	m = ofPacks(t, pack(1, delta(1, 1, 0), delta(1, 1, 255), delta(2, 2, 1)))
	wantPack(t, m, chunk(1), 255, -1)
	wantPack(t, m, chunk(2), cas.AnyDepth, -1)
}

// Many copies of a deep chain without a root do not take exponential time.
func TestMemoryDeepChain(t *testing.T) {
	t.Parallel()
	var packs []*cas.Pack
	for n := range uint32(40) {
		var frames []cas.Frame
		for depth := uint64(1); depth <= cas.MaxDepth; depth++ {
			frames = append(frames, delta(depth, depth-1, uint8(depth)))
		}
		packs = append(packs, pack(n, frames...))
	}
	m := ofPacks(t, packs...)
	calls := 0
	r := resolver{copies: func(id cas.ID) []cas.Location { calls++; return m.appendCopies(nil, id) }}
	if found := r.lookup(question{chunk(cas.MaxDepth), cas.AnyDepth}, 0); found != nil || calls > 100 {
		t.Errorf("got %+v after %d calls, want nothing after few", found, calls)
	}
}

func TestMemoryBlocks(t *testing.T) {
	t.Parallel()
	packs := manyPacks(5, blockSize/2+7)
	m := ofPacks(t, packs...)
	var chunks int64
	for _, p := range packs {
		chunks += int64(len(p.Frames))
	}
	if got := m.Stats(); got.Chunks != chunks || got.Packs != 5 {
		t.Errorf("got %+v, want %d chunks", got, chunks)
	}
	for n := range uint64(5 * (blockSize/2 + 7)) {
		if _, err := m.Lookup(chunk(n), cas.AnyDepth); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMemoryAddTwice(t *testing.T) {
	t.Parallel()
	m := ofPacks(t, pack(1, full(1)))
	if err := m.add(pack(1, full(1), full(2))); err != nil || m.Stats().Chunks != 1 {
		t.Errorf("got %+v, %v, want what there was", m.Stats(), err)
	}
}

func TestOfPacksErrors(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(20, 3)...)
	bad := pack(7).ID
	repo.failing[bad] = &cas.CorruptError{Pack: bad, Reason: "cut"}
	ids, _ := repo.PackIDs(t.Context())
	if _, err := OfPacks(t.Context(), repo, ids); !errors.Is(err, cas.ErrCorrupt) || !strings.Contains(err.Error(), bad.Short()) {
		t.Errorf("got %v, want the pack named", err)
	}
	if _, err := OfPacks(t.Context(), repo, []cas.ID{pack(99).ID}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("a pack that is not there: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OfPacks(ctx, repo, ids); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if m, err := OfPacks(t.Context(), repo, nil); err != nil || m.Stats() != (Stats{}) {
		t.Errorf("no packs: got %+v, %v", m.Stats(), err)
	}
	repo.kill(pack(1).ID) // for a restore that does not count
	if _, err := OfPacks(t.Context(), repo, []cas.ID{pack(1).ID}); err != nil {
		t.Error(err)
	}
}

func TestMemoryConcurrent(t *testing.T) {
	t.Parallel()
	packs := manyPacks(8, 200)
	m := newMemory()
	var wg sync.WaitGroup
	for _, p := range packs {
		wg.Go(func() {
			if err := m.add(p); err != nil {
				t.Error(err)
			}
			for _, f := range p.Frames {
				if _, err := m.Lookup(f.ID, cas.AnyDepth); err != nil && f.Codec != cas.CodecDelta {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantSame(t, m, ofPacks(t, packs...), 1600)
}
