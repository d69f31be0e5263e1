package castest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/shardseed/shardseed/cas"
)

// Index is a cas.Locator in memory that applies the presence rule. It does not
// change once made.
type Index map[cas.ID][]cas.Location

var _ cas.Chooser = Index(nil)

// NewIndex reads the directories of all packs but the dead ones. It may be
// called in a test's clean-up.
func NewIndex(tb testing.TB, repo *cas.Repository) Index {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	ids, err := repo.PackIDs(ctx)
	if err != nil {
		tb.Fatalf("list packs: %v", err)
	}
	dead, err := repo.Dead(ctx)
	if err != nil {
		tb.Fatalf("list dead packs: %v", err)
	}
	index := Index{}
	for _, id := range ids {
		if _, found := dead[id]; found {
			continue
		}
		pack, err := repo.Pack(ctx, id)
		if err != nil {
			tb.Fatalf("read pack: %v", err)
		}
		index.Add(pack)
	}
	return index
}

// Add adds the frames of a pack.
func (x Index) Add(pack *cas.Pack) {
	for _, f := range pack.Frames {
		x[f.ID] = append(x[f.ID], cas.Location{Pack: pack.ID, Frame: f})
	}
}

// Lookup implements cas.Locator.
func (x Index) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	return x.LookupWithout(id, below, func(cas.Location) bool { return false })
}

// LookupWithout implements cas.Chooser.
func (x Index) LookupWithout(id cas.ID, below uint8, skip func(cas.Location) bool) (cas.Chain, error) {
	for _, loc := range x[id] {
		if loc.Depth >= below || skip(loc) {
			continue
		}
		if loc.Codec != cas.CodecDelta {
			return cas.Chain{loc}, nil
		}
		if base, err := x.LookupWithout(loc.Base, loc.Depth, skip); err == nil {
			return append(cas.Chain{loc}, base...), nil
		}
	}
	return nil, fmt.Errorf("chunk %s: %w", id.Short(), cas.ErrNotFound)
}

// chain returns the chain of one copy.
func (x Index) chain(loc cas.Location) (cas.Chain, error) {
	if loc.Codec != cas.CodecDelta {
		return cas.Chain{loc}, nil
	}
	base, err := x.Lookup(loc.Base, loc.Depth)
	return append(cas.Chain{loc}, base...), err
}

// Check proves that the repository is whole: every pack's name is the hash of
// its bytes, and every copy of a chunk that counts as present decodes to its ID.
// It may be called in a test's clean-up.
func Check(tb testing.TB, repo *cas.Repository, backend cas.Backend) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	ids, err := repo.PackIDs(ctx)
	if err != nil {
		tb.Fatalf("list packs: %v", err)
	}
	for _, id := range ids {
		checkPackName(ctx, tb, backend, id)
	}
	index := NewIndex(tb, repo)
	for _, copies := range index {
		for _, loc := range copies {
			if _, err := index.chain(loc); err == nil {
				checkFrame(ctx, tb, repo, index, loc)
			}
		}
	}
}

// checkPackName proves that a pack's name is the hash of its bytes.
func checkPackName(ctx context.Context, tb testing.TB, backend cas.Backend, id cas.ID) {
	tb.Helper()
	blob, err := backend.Open(ctx, "packs/"+id.String()[:2]+"/"+id.String())
	if err != nil {
		tb.Fatalf("open pack: %v", err)
	}
	hash := blake3.New()
	_, err = io.Copy(hash, io.NewSectionReader(blob, 0, blob.Size()))
	if err := errors.Join(err, blob.Close()); err != nil {
		tb.Fatalf("read pack: %v", err)
	}
	if !slices.Equal(hash.Sum(nil), id[:]) {
		tb.Errorf("pack %s hashes to %x", id, hash.Sum(nil))
	}
}

// checkFrame proves that one copy of a chunk decodes to its ID.
func checkFrame(ctx context.Context, tb testing.TB, repo *cas.Repository, index Index, loc cas.Location) {
	tb.Helper()
	reader := repo.NewReader(pinned{index, loc})
	_, err := reader.Chunk(ctx, loc.ID, int(loc.PlainSize))
	if err := errors.Join(err, reader.Close()); err != nil {
		tb.Errorf("read chunk: %v", err)
	}
}

// pinned is an index that knows one copy only of one chunk.
type pinned struct {
	Index
	loc cas.Location
}

// Lookup implements cas.Locator.
func (p pinned) Lookup(id cas.ID, below uint8) (cas.Chain, error) {
	if id == p.loc.ID && p.loc.Depth < below {
		return p.chain(p.loc)
	}
	return p.Index.Lookup(id, below)
}
