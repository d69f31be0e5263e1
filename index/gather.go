package index

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/shardseed/shardseed/cas"
)

const (
	batchFrames = 128 << 10 // sorted in memory at once: 11 MB at most, and the largest pack
	pageSize    = 1 << 20   // of memory, bytes
)

// gatherer takes packs and makes sorted runs of them. One goroutine at a time.
type gatherer struct {
	repo    cas.UUID
	scratch scratch
	batch   int // frames that are sorted at once
	packs   []tablePack
	pages   [][]byte // entries as they came
	free    [][]byte // pages not in use
	refs    []ref    // to the entries
	runs    []*run   // full batches
}

// ref is where an entry is.
type ref struct {
	key  uint64 // prefix of its ID
	page uint32
	at   uint32 // in the page
}

// gather reads the directories of packs and makes runs of them, none of which
// has the packs of another; bad is as in eachPack. The caller closes the runs.
func gather(ctx context.Context, repo Source, s scratch, batch int, ids []cas.ID, bad func(cas.ID, error) error) ([]*run, error) {
	g := &gatherer{repo: repo.UUID(), scratch: s, batch: batch}
	err := eachPack(ctx, repo, ids, g.add, bad)
	if err == nil {
		err = g.spill()
	}
	if err != nil {
		return nil, errors.Join(err, closeRuns(g.runs))
	}
	return g.runs, nil
}

func closeRuns(runs []*run) error {
	var errs []error
	for _, r := range runs {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}

// add takes in a pack and keeps nothing of it.
func (g *gatherer) add(pack *cas.Pack) error {
	ordinal := uint32(len(g.packs))
	g.packs = append(g.packs, tablePack{pack.ID, uint32(len(pack.Frames))})
	for i := range pack.Frames {
		g.addFrame(ordinal, &pack.Frames[i])
	}
	if len(g.refs) < g.batch {
		return nil
	}
	return g.spill()
}

func (g *gatherer) addFrame(ordinal uint32, f *cas.Frame) {
	last := len(g.pages) - 1
	if last < 0 || cap(g.pages[last])-len(g.pages[last]) < maxEntry {
		g.pages = append(g.pages, g.newPage())
		last++
	}
	page := &g.pages[last]
	g.refs = append(g.refs, ref{key: prefix(f.ID[:]), page: uint32(last), at: uint32(len(*page))})
	*page = appendEntry(*page, ordinal, f)
}

func (g *gatherer) newPage() []byte {
	last := len(g.free) - 1
	if last < 0 {
		return make([]byte, 0, pageSize)
	}
	page := g.free[last]
	g.free = g.free[:last]
	return page[:0]
}

// spill makes a run of what was taken in.
func (g *gatherer) spill() error {
	if len(g.packs) == 0 {
		return nil
	}
	slices.SortFunc(g.refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.key, b.key), compareIDs(g.entry(a), g.entry(b)))
	})
	place := g.scratch
	if len(g.runs) == 0 && len(g.refs) < g.batch { // it is the only one
		place = scratch{}
	}
	r, err := place.make(g.repo, g.write)
	if err != nil {
		return err
	}
	g.runs = append(g.runs, r)
	g.free = append(g.free, g.pages...)
	g.packs, g.refs, g.pages = nil, g.refs[:0], g.pages[:0]
	return nil
}

// entry returns the bytes from an entry on.
func (g *gatherer) entry(r ref) []byte { return g.pages[r.page][r.at:] }

func (g *gatherer) write(out io.Writer) (int64, error) {
	w := newRunWriter(out, g.repo, g.packs)
	for _, r := range g.refs {
		entry, _, err := cutEntry(g.entry(r))
		if err != nil {
			return 0, err
		}
		if err := w.add(entry); err != nil {
			return 0, err
		}
	}
	return w.finish()
}
