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
	_ cas.Locator = (*Index)(nil)
	_ cas.Locator = (*Memory)(nil)
)

// packReaders is how many pack directories are read at once.
const packReaders = 16

// question asks for a copy of a chunk below a depth.
type question struct {
	id    cas.ID
	below uint8
}

// resolver answers one Lookup by the presence rule.
type resolver struct {
	copies func(id cas.ID) []cas.Location // copies in living packs, in any order
	absent map[question]struct{}          // answered with no: without it, many copies of deep chains would take exponential time
}

// lookup returns the copy of the least depth, among those the one in the pack
// with the smallest ID, among those the first; so two runs read the same bytes.
func (r *resolver) lookup(q question) (cas.Location, bool) {
	copies := r.copies(q.id)
	slices.SortFunc(copies, compareLocations)
	for _, found := range copies {
		if found.Depth >= q.below {
			break
		}
		if found.Codec != cas.CodecDelta || r.present(question{found.Base, found.Depth}) {
			return found, true
		}
	}
	return cas.Location{}, false
}

// present tells whether a base can be read. The depth falls with every step,
// so the recursion ends whatever the directories say.
func (r *resolver) present(q question) bool {
	if _, known := r.absent[q]; known {
		return false
	}
	if _, found := r.lookup(q); found {
		return true
	}
	if r.absent == nil {
		r.absent = make(map[question]struct{})
	}
	r.absent[q] = struct{}{}
	return false
}

func compareLocations(a, b cas.Location) int {
	return cmp.Or(cmp.Compare(a.Depth, b.Depth), a.Pack.Compare(b.Pack), cmp.Compare(a.Offset, b.Offset))
}

// notFound is what Lookup returns for a chunk that is not there.
func notFound(id cas.ID) error { return fmt.Errorf("chunk %s: %w", id.Short(), cas.ErrNotFound) }

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
