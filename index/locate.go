package index

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
)

// Source is a repository, as far as an index reads it. [cas.Repository] is one.
type Source interface {
	UUID() cas.UUID
	PackIDs(ctx context.Context) ([]cas.ID, error)
	Pack(ctx context.Context, id cas.ID) (*cas.Pack, error)
	Dead(ctx context.Context) (map[cas.ID]struct{}, error)
}

var (
	_ Source      = (*cas.Repository)(nil)
	_ cas.Chooser = (*Index)(nil)
	_ cas.Chooser = (*Memory)(nil)
)

// packReaders is how many pack directories are read at once.
const packReaders = 8

// finder returns all copies of a chunk, in any order. The caller owns them. With
// an error some may be missing.
type finder func(id *cas.ID) ([]cas.Location, error)

// without leaves copies out.
func without(copies finder, skip func(cas.Location) bool) finder {
	return func(id *cas.ID) ([]cas.Location, error) {
		found, err := copies(id)
		return slices.DeleteFunc(found, skip), err
	}
}

// question asks for a copy of a chunk below a depth.
type question struct {
	id    cas.ID
	below uint8
}

// resolver answers one Lookup by the presence rule.
type resolver struct {
	copies finder                // copies in living packs
	absent map[question]struct{} // answered with no: without it, many copies of deep chains would take exponential time
	err    error                 // the first of copies
}

// lookup returns the chain of the copy of the least depth, among those of the
// one in the pack with the smallest ID, among those of the first; so two runs
// read the same bytes. The chain is nil if there is none. above is the number of
// elements to leave free at its front.
func (r *resolver) lookup(q question, above int) cas.Chain {
	if _, known := r.absent[q]; known {
		return nil
	}
	for _, found := range r.sorted(&q.id) {
		if found.Depth >= q.below {
			break
		}
		var chain cas.Chain
		if found.Codec == cas.CodecDelta {
			chain = r.lookup(question{found.Base, found.Depth}, above+1)
		} else {
			chain = make(cas.Chain, above+1)
		}
		if chain != nil {
			chain[above] = found
			return chain
		}
	}
	if r.absent == nil {
		r.absent = make(map[question]struct{})
	}
	r.absent[q] = struct{}{}
	return nil
}

// sorted returns all copies of a chunk, the best first.
func (r *resolver) sorted(id *cas.ID) []cas.Location {
	copies, err := r.copies(id)
	r.err = cmp.Or(r.err, err)
	if len(copies) > 1 {
		slices.SortFunc(copies, compareLocations)
	}
	return copies
}

// find is lookup with an error for what is not there: ErrNotFound, which names
// the base that is missing if it is not the chunk itself, or the first error of
// copies.
func (r *resolver) find(q question) (cas.Chain, error) {
	if chain := r.lookup(q, 0); chain != nil {
		return chain, nil
	}
	if r.err != nil {
		return nil, fmt.Errorf("chunk %s: %w", q.id.Short(), r.err)
	}
	if len(r.absent) == 1 { // no base was looked for
		return nil, fmt.Errorf("chunk %s: %w", q.id.Short(), cas.ErrNotFound)
	}
	return nil, r.missing(q)
}

// missing follows the copies of the least depth to the chunk that is not there.
func (r *resolver) missing(q question) error {
	copies := r.sorted(&q.id)
	if len(copies) == 0 || copies[0].Depth >= q.below || copies[0].Codec != cas.CodecDelta {
		return fmt.Errorf("chunk %s: %w", q.id.Short(), cas.ErrNotFound)
	}
	first := copies[0]
	return fmt.Errorf("chunk %s in pack %s: base: %w", q.id.Short(), first.Pack.Short(), r.missing(question{first.Base, first.Depth}))
}

func compareLocations(a, b cas.Location) int {
	return cmp.Or(cmp.Compare(a.Depth, b.Depth), a.Pack.Compare(b.Pack), cmp.Compare(a.Offset, b.Offset))
}

// eachPack reads the directories of packs, several at once, and calls use for
// each, or bad where one cannot be read; one call at a time, in any order. The
// first error of a call, or the context's, ends it.
func eachPack(ctx context.Context, repo Source, ids []cas.ID, use func(*cas.Pack) error, bad func(cas.ID, error) error) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(packReaders)
	var mu sync.Mutex // serializes use and bad
	for _, id := range ids {
		if running.Err() != nil {
			break
		}
		group.Go(func() error {
			pack, err := repo.Pack(running, id)
			mu.Lock()
			defer mu.Unlock()
			if running.Err() != nil {
				return running.Err()
			}
			if err != nil {
				return bad(id, err)
			}
			return use(pack)
		})
	}
	return cmp.Or(group.Wait(), ctx.Err())
}
