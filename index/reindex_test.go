package index_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
)

// TestReindexFrames deletes all that a host knows and makes it anew, from the packs
// alone: depth, base, place and size of every frame are as they were, and as the
// packs say themselves. Backups go on with deltas whose depth keeps its bound.
func TestReindexFrames(t *testing.T) {
	s := newSite(t)
	const files = 4
	var state [files][]byte
	var all [][]byte
	for i := range state {
		state[i] = s.random()
	}
	day := 0
	backUp := func() {
		s.backup(cas.Key(fmt.Sprintf("ks/0/day%03d", day)), func(w *cas.Writer) {
			for i := range state {
				old := state[i]
				if day%(i+1) > 0 { // every so often
					continue
				}
				chunk := cas.Chunk{Plain: old}
				if day > 0 {
					state[i] = changed(old, day*100+i)
					chunk = cas.Chunk{Plain: state[i], Like: cas.Sum(old)}
				}
				chunk.ID = cas.Sum(chunk.Plain)
				if _, err := w.PutAll(t.Context(), cas.KindData, []cas.Chunk{chunk}); err != nil {
					t.Fatal(err)
				}
				all = append(all, chunk.Plain)
			}
		})
		day++
	}
	for range 12 {
		backUp()
	}
	x, err := index.Open(t.Context(), s.dir, s.repo)
	if err != nil {
		t.Fatal(err)
	}
	before := s.frames(x)
	s.close(x)
	if diff := cmp.Diff(s.footers(), before); diff != "" {
		t.Errorf("the packs - the index that backups have made +:\n%s", diff)
	}
	if deepest := s.depths(before); deepest != cas.ChainDepth {
		t.Errorf("the deepest frame has depth %d, want %d", deepest, cas.ChainDepth)
	}
	for name, again := range map[string]func() (*index.Index, error){
		"reindex": func() (*index.Index, error) { return index.Rebuild(t.Context(), s.dir, s.repo) },
		"cache deleted": func() (*index.Index, error) {
			return index.Open(t.Context(), s.dir, s.repo)
		},
	} {
		if name == "cache deleted" {
			if err := os.RemoveAll(s.dir); err != nil {
				t.Fatal(err)
			}
		}
		x, err := again()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, s.frames(x)); diff != "" {
			t.Errorf("%s: before - after +:\n%s", name, diff)
		}
		s.wantReadable(x, all...)
		s.close(x)
	}
	for range 12 {
		backUp()
	}
	if x, err = index.Open(t.Context(), s.dir, s.repo); err != nil {
		t.Fatal(err)
	}
	after := s.frames(x)
	s.wantReadable(x, all...)
	s.close(x)
	if diff := cmp.Diff(s.footers(), after); diff != "" {
		t.Errorf("the packs - the index after more backups +:\n%s", diff)
	}
	if deepest := s.depths(after); deepest != cas.ChainDepth || len(after) <= len(before) {
		t.Errorf("%d frames, then %d, the deepest of depth %d, want %d", len(before), len(after), deepest, cas.ChainDepth)
	}
}

func (s *site) close(x *index.Index) {
	s.Helper()
	if err := errors.Join(append(x.Problems(), x.Close())...); err != nil {
		s.Fatal(err)
	}
}

func compareFrames(a, b cas.Location) int {
	if c := a.Pack.Compare(b.Pack); c != 0 {
		return c
	}
	return int(a.Offset - b.Offset)
}

// footers returns all frames as the packs' own directories have them.
func (s *site) footers() []cas.Location {
	s.Helper()
	ids, err := s.repo.PackIDs(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var all []cas.Location
	for _, id := range ids {
		pack, err := s.repo.Pack(s.Context(), id)
		if err != nil {
			s.Fatal(err)
		}
		for _, f := range pack.Frames {
			all = append(all, cas.Location{Pack: id, Frame: f})
		}
	}
	slices.SortFunc(all, compareFrames)
	return all
}

// frames returns all frames that an index gives for the chunks of the packs.
func (s *site) frames(x *index.Index) []cas.Location {
	s.Helper()
	seen := map[cas.Location]bool{}
	for _, f := range s.footers() {
		for {
			chain, err := x.LookupWithout(f.ID, cas.AnyDepth, func(loc cas.Location) bool { return loc.ID == f.ID && seen[loc] })
			if errors.Is(err, cas.ErrNotFound) {
				break
			}
			if err != nil {
				s.Fatal(err)
			}
			seen[chain[0]] = true
		}
	}
	var all []cas.Location
	for loc := range seen {
		all = append(all, loc)
	}
	slices.SortFunc(all, compareFrames)
	return all
}

// depths returns the greatest depth, and fails if that of a frame is not more than
// that of a copy of its base, or out of bounds.
func (s *site) depths(all []cas.Location) (deepest uint8) {
	s.Helper()
	for _, f := range all {
		deepest = max(deepest, f.Depth)
		stands := f.Codec != cas.CodecDelta && f.Depth == 0 && f.Base.IsZero()
		for _, base := range all {
			stands = stands || f.Codec == cas.CodecDelta && base.ID == f.Base && base.Depth < f.Depth && base.PlainSize == f.PlainSize
		}
		if !stands || f.Depth > cas.MaxDepth {
			s.Errorf("frame %+v stands on nothing", f)
		}
	}
	return deepest
}
