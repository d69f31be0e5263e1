package cas_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/castest"
)

// fakeIDs returns the IDs of a file's chunks; those that zero picks are zero.
func fakeIDs(count int, zero func(n int) bool) []cas.ID {
	ids := make([]cas.ID, count)
	for n := range ids {
		if !zero(n) {
			ids[n] = cas.Sum(fmt.Append(nil, n))
		}
	}
	return ids
}

func putRecipe(t *testing.T, w *cas.Writer, ids []cas.ID) cas.ID {
	t.Helper()
	var leaves []cas.ID
	for run := range slices.Chunk(ids, cas.NodeFanout) {
		leaf, _, err := w.PutLeaf(t.Context(), run)
		if err != nil {
			t.Fatalf("put leaf: %v", err)
		}
		leaves = append(leaves, leaf)
	}
	root, _, err := w.PutRoot(t.Context(), leaves)
	if err != nil {
		t.Fatalf("put root: %v", err)
	}
	return root
}

func readRecipe(t *testing.T, r *cas.Reader, root cas.ID, size int64, chunkSize int) []cas.ID {
	t.Helper()
	leaves, err := r.LeafIDs(t.Context(), root, size, chunkSize)
	if err != nil {
		t.Fatalf("read leaf IDs: %v", err)
	}
	var ids []cas.ID
	for n, leaf := range leaves {
		run, err := r.Leaf(t.Context(), leaf, cas.LeafChunks(size, chunkSize, n))
		if err != nil {
			t.Fatalf("read leaf: %v", err)
		}
		ids = append(ids, run...)
	}
	return ids
}

func TestRecipe(t *testing.T) {
	const chunkSize = cas.MinChunkSize
	const fanout = cas.NodeFanout
	none := func(int) bool { return false }
	tests := []struct {
		chunks int
		zero   func(int) bool
		stored int // nodes, at most
	}{
		{0, none, 0},
		{1, none, 0},
		{2, none, 1},
		{fanout, none, 1},
		{fanout + 1, none, 2}, // the second leaf is its chunk
		{fanout + 2, none, 3},
		{3 * fanout, none, 4},
		{3 * fanout, func(int) bool { return true }, 0},
		{3 * fanout, func(n int) bool { return n/fanout == 1 }, 3},
		{fanout*fanout + 1, func(n int) bool { return n%fanout != 3 || n > 5000 }, 7},
	}
	for n, test := range tests {
		t.Run(fmt.Sprint(n, " of ", test.chunks), func(t *testing.T) {
			repo, _ := newRepo(t)
			session := begin(t, repo, key)
			w := newWriter(t, session, cas.WriterOptions{})
			ids := fakeIDs(test.chunks, test.zero)
			root := putRecipe(t, w, ids)
			if err := session.Commit(t.Context(), w, nil); err != nil {
				t.Fatalf("commit: %v", err)
			}
			if got := len(frames(w)); got > test.stored {
				t.Errorf("%d nodes are stored, want at most %d", got, test.stored)
			}
			reader := newReader(t, repo, castest.NewIndex(t, repo))
			size := int64(test.chunks) * chunkSize
			for _, size := range []int64{size, size - chunkSize + 1} {
				if size <= 0 {
					continue
				}
				if got := readRecipe(t, reader, root, size, chunkSize); !slices.Equal(got, ids) {
					t.Errorf("file of %d bytes: recipe differs", size)
				}
			}
		})
	}
}

// TestRecipeIsShared changes one chunk of a large file: one leaf and the root
// are new.
func TestRecipeIsShared(t *testing.T) {
	repo, _ := newRepo(t)
	w := newWriter(t, begin(t, repo, key), cas.WriterOptions{})
	ids := fakeIDs(5*cas.NodeFanout, func(int) bool { return false })
	putRecipe(t, w, ids)
	flush(t, w)
	before := len(frames(w))
	ids[2000] = cas.Sum([]byte("changed"))
	putRecipe(t, w, ids)
	flush(t, w)
	if got := len(frames(w)) - before; got != 2 {
		t.Errorf("%d nodes are new, want 2", got)
	}
}

func TestRecipeErrors(t *testing.T) {
	repo, _ := newRepo(t)
	session := begin(t, repo, key)
	w := newWriter(t, session, cas.WriterOptions{})
	root := putRecipe(t, w, fakeIDs(3*cas.NodeFanout, func(int) bool { return false }))
	data := putOne(t, w, noise(1, 8+32*3))
	if err := session.Commit(t.Context(), w, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	reader := newReader(t, repo, castest.NewIndex(t, repo))
	const chunk = cas.MinChunkSize
	for name, test := range map[string]struct {
		root cas.ID
		size int64
		want error
	}{
		"more leaves":  {root, 4 * cas.NodeFanout * chunk, cas.ErrCorrupt},
		"fewer leaves": {root, 2 * cas.NodeFanout * chunk, cas.ErrCorrupt},
		"not a node":   {data, 3 * cas.NodeFanout * chunk, cas.ErrCorrupt},
		"unknown root": {cas.ID{1}, 3 * cas.NodeFanout * chunk, cas.ErrNotFound},
	} {
		if _, err := reader.LeafIDs(t.Context(), test.root, test.size, chunk); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
	if _, err := reader.LeafIDs(t.Context(), cas.ID{}, 1<<62, chunk); err == nil {
		t.Error("file of 4 EiB: no error")
	}
	for _, count := range []int{-1, 0, cas.NodeFanout + 1} {
		if _, err := reader.Leaf(t.Context(), root, count); err == nil {
			t.Errorf("leaf of %d: no error", count)
		}
	}
	other := newWriter(t, begin(t, repo, key+"-2"), cas.WriterOptions{})
	if _, _, err := other.PutLeaf(t.Context(), nil); err == nil {
		t.Error("put an empty leaf: no error")
	}
	if _, _, err := other.PutRoot(t.Context(), fakeIDs(2, func(int) bool { return false })); err == nil {
		t.Error("put after an error: no error")
	}
	large := newWriter(t, begin(t, repo, key+"-3"), cas.WriterOptions{})
	if _, _, err := large.PutLeaf(t.Context(), make([]cas.ID, cas.NodeFanout+1)); err == nil {
		t.Error("put a leaf that is too large: no error")
	}
}
