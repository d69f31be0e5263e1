package index

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

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
	r := resolver{copies: func(id *cas.ID) ([]cas.Location, error) {
		calls++
		return m.parts.copies(id)
	}}
	if found := r.lookup(question{chunk(cas.MaxDepth), cas.AnyDepth}, 0); found != nil || calls > 100 {
		t.Errorf("got %+v after %d calls, want nothing after few", found, calls)
	}
}

// More packs than are sorted at once give the same, from a file.
func TestMemoryLarge(t *testing.T) {
	t.Parallel()
	const packs, frames = 5, batchFrames/4 + 7
	repo := newRepository(manyPacks(packs, frames)...)
	ids, _ := repo.PackIDs(t.Context())
	m, err := OfPacks(t.Context(), t.TempDir(), repo, slices.Concat(ids, ids))
	if err != nil {
		t.Fatal(err)
	}
	defer closeMemory(t, m)
	want := plainMap{}
	for _, p := range repo.packs {
		want.add(p)
	}
	if got := m.Stats(); got.Packs != packs || got.Chunks != want.frames() {
		t.Errorf("got %+v, want %d chunks in %d packs", got, want.frames(), packs)
	}
	if len(m.parts) != 1 {
		t.Fatalf("%d runs, want one", len(m.parts))
	}
	if _, isFile := m.parts[0].file.(*os.File); !isFile {
		t.Errorf("the run is in a %T", m.parts[0].file)
	}
	want.check(t, m.parts)
}

// plainMap is where chunks are, written down plainly.
type plainMap map[cas.ID][]cas.Location

func (p plainMap) add(pack *cas.Pack) {
	for _, f := range pack.Frames {
		p[f.ID] = append(p[f.ID], cas.Location{Pack: pack.ID, Frame: f})
	}
}

func (p plainMap) frames() (n int64) {
	for _, copies := range p {
		n += int64(len(copies))
	}
	return n
}

// check compares all copies of all chunks.
func (p plainMap) check(t testing.TB, got parts) {
	t.Helper()
	for id, want := range p {
		copies, err := got.copies(&id)
		slices.SortFunc(copies, compareLocations)
		slices.SortFunc(want, compareLocations)
		if err != nil || !slices.Equal(copies, want) {
			t.Fatalf("chunk %s: got %+v, %v, want %+v", id.Short(), copies, err, want)
		}
	}
}

func TestOfPacksErrors(t *testing.T) {
	t.Parallel()
	repo := newRepository(manyPacks(20, 3)...)
	bad := pack(7).ID
	repo.failing[bad] = &cas.CorruptError{Pack: bad, Reason: "cut"}
	ids, _ := repo.PackIDs(t.Context())
	if _, err := OfPacks(t.Context(), "", repo, ids); !errors.Is(err, cas.ErrCorrupt) || !strings.Contains(err.Error(), bad.Short()) {
		t.Errorf("got %v, want the pack named", err)
	}
	if _, err := OfPacks(t.Context(), "", repo, []cas.ID{pack(99).ID}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("a pack that is not there: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OfPacks(ctx, "", repo, ids); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if m, err := OfPacks(t.Context(), "", repo, nil); err != nil || m.Stats() != (Stats{}) {
		t.Errorf("no packs: got %+v, %v", m.Stats(), err)
	}
	repo.kill(pack(1).ID) // for a restore that does not count
	if _, err := OfPacks(t.Context(), "", repo, []cas.ID{pack(1).ID}); err != nil {
		t.Error(err)
	}
}

func TestMemoryConcurrent(t *testing.T) {
	t.Parallel()
	packs := manyPacks(8, 200)
	m := ofPacks(t, packs...)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range uint64(1600) {
				if got, err := m.Lookup(chunk(n), cas.AnyDepth); err != nil || got[0].ID != chunk(n) {
					t.Errorf("chunk %d: got %+v, %v", n, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// A temporary file that cannot be read is no missing chunk.
func TestMemoryGoesBad(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, blockSize / 2} {
		repo := newRepository(manyPacks(2, batchFrames)...)
		ids, _ := repo.PackIDs(t.Context())
		m, err := OfPacks(t.Context(), t.TempDir(), repo, ids)
		if err != nil {
			t.Fatal(err)
		}
		file, isFile := m.parts[0].file.(*os.File)
		if !isFile {
			t.Fatalf("the run is in a %T", m.parts[0].file)
		}
		if err := file.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if got, err := m.Lookup(chunk(1), cas.AnyDepth); err == nil || errors.Is(err, cas.ErrNotFound) {
			t.Errorf("cut to %d bytes: got %+v, %v", size, got, err)
		}
		closeMemory(t, m)
	}
}

// Without a folder for temporary files all stays in memory; with a full one too.
func TestScratch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := func(w io.Writer) (int64, error) {
		if b, ok := w.(*bufio.Writer); ok && b.Available() > 0 {
			return newRunWriter(w, cas.UUID{1}, nil).finish()
		}
		return 0, errors.New("want a buffered writer")
	}
	for _, test := range []struct {
		places scratch
		inFile bool
	}{{nil, false}, {scratch{filepath.Join(dir, "missing")}, false}, {scratch{filepath.Join(dir, "missing"), dir}, true}} {
		r, err := test.places.make(cas.UUID{1}, full)
		if err != nil {
			t.Fatal(err)
		}
		if _, isFile := r.file.(*os.File); isFile != test.inFile {
			t.Errorf("%v: the run is in a %T", test.places, r.file)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
	failures := 0
	r, err := scratch{dir, dir}.make(cas.UUID{1}, func(w io.Writer) (int64, error) {
		if failures++; failures < 3 {
			return 0, unix.ENOSPC
		}
		return full(w)
	})
	if err != nil || failures != 3 {
		t.Fatalf("after %d tries: %v", failures, err)
	}
	if _, inMemory := r.file.(*memoryFile); !inMemory {
		t.Errorf("the run is in a %T", r.file)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestMemoryFile(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	var f memoryFile
	var want []byte
	for len(want) < 3*memoryPage {
		part := make([]byte, rng.IntN(memoryPage*3/2))
		for i := range part {
			part[i] = byte(rng.Uint32())
		}
		want = append(want, part...)
		if n, err := f.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	for range 100 {
		from := rng.IntN(len(want))
		got := make([]byte, rng.IntN(len(want)))
		n, err := f.ReadAt(got, int64(from))
		if left := len(want) - from; n != min(left, len(got)) || (err == nil) != (len(got) <= left) || !bytes.Equal(got[:n], want[from:from+n]) {
			t.Fatalf("%d bytes from %d of %d: got %d, %v", len(got), from, len(want), n, err)
		}
	}
}
