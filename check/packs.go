package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shardseed/shardseed/cas"
)

// packReaders is how many packs' ends are read at once.
const packReaders = 16

// readPacks takes the directories of all packs into the catalog. What has none is
// searched for frames.
func (r *run) readPacks(ctx context.Context) error {
	ids, err := r.Repo.PackIDs(ctx)
	if err != nil {
		return err
	}
	var doubtful []*packState
	err = r.Repo.InspectAll(ctx, ids, packReaders, func(id cas.ID, pack *cas.Pack, err error) error {
		p, problem := r.newPack(id, pack, err)
		if problem != nil || p == nil {
			return problem
		}
		if pack == nil {
			doubtful = append(doubtful, p)
			return nil
		}
		return r.catalog.add(p, pack.Frames)
	})
	if err != nil {
		return err
	}
	for _, p := range doubtful {
		if err := r.scan(ctx, p); err != nil {
			return err
		}
	}
	r.catalog.seal()
	return nil
}

// newPack returns what is known of a pack once its ends have been read: nil if it
// has gone meanwhile. A pack of a newer program is an error, for what it holds is
// not known.
func (r *run) newPack(id cas.ID, pack *cas.Pack, err error) (*packState, error) {
	p := &packState{id: id, last: r.ledger.Last(id)}
	_, p.marked = r.marks.Damaged[id]
	_, p.condemned = r.marks.Final[id]
	if pack != nil {
		p.kind, p.size = pack.Kind, pack.Size
	}
	var newer *cas.VersionError
	switch {
	case err == nil:
	case errors.As(err, &newer):
		return nil, err
	case errors.Is(err, cas.ErrNotFound):
		r.early = true
		return nil, nil
	case !errors.Is(err, cas.ErrCorrupt):
		p.problems = append(p.problems, Problem{KindRead, err.Error()})
	case pack == nil:
		p.problems = append(p.problems, Problem{KindDirectory, reason(err)})
	case strings.Contains(err.Error(), "belongs to repository"):
		p.problems = append(p.problems, Problem{KindForeign, reason(err)})
	default:
		p.problems = append(p.problems, Problem{KindHeader, reason(err)})
	}
	return p, nil
}

// reason is what an error about a pack says, without the pack.
func reason(err error) string {
	var corrupt *cas.CorruptError
	if !errors.As(err, &corrupt) {
		return err.Error()
	}
	if corrupt.Reason == "" {
		return "its content hashes to " + corrupt.Got.Short()
	}
	return corrupt.Reason
}

// scan looks for the frames of a pack that has no directory.
func (r *run) scan(ctx context.Context, p *packState) error {
	pack, err := r.Repo.Scan(ctx, p.id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		pack = &cas.Pack{ID: p.id, Kind: cas.KindData, Unread: err}
	}
	if pack.Unread != nil {
		p.problems = append(p.problems, Problem{KindRead, pack.Unread.Error()})
		r.Progress.Warn(fmt.Sprintf("pack %s: what it holds is not found where it can't be read; if it can later, run the same again: %v", p.id.Short(), pack.Unread))
	}
	p.kind, p.size, p.scanned = pack.Kind, pack.Size, pack
	return r.catalog.add(p, pack.Frames)
}

// readData reads packs as a whole: those in doubt, and the part that was asked
// for. Until nothing new is found, packs are added that others' deltas have found
// to be damaged, and those that may still hold what is lacking.
func (r *run) readData(ctx context.Context) error {
	if err := r.chooseData(ctx); err != nil {
		return err
	}
	for {
		work := r.doubtful()
		if len(work) == 0 {
			break
		}
		r.Progress.Step("read", fmt.Sprintf("%d packs in doubt", len(work)))
		if err := r.verifyAll(ctx, work); err != nil {
			return err
		}
	}
	r.catalog.resolve()
	return nil
}

// chooseData reads the part of the data that was asked for.
func (r *run) chooseData(ctx context.Context) error {
	if r.Read == nil {
		return nil
	}
	all := r.catalog.packs
	if len(r.Shards) > 0 {
		r.catalog.needBases()
		all = slices.DeleteFunc(slices.Clone(all), func(p *packState) bool { return r.catalog.count(p, needed) == 0 })
	}
	r.summarize(ctx)
	chosen, bytes := r.Read.choose(all)
	r.Progress.Step("read", fmt.Sprintf("%d of %d packs", len(chosen), len(all)))
	r.Progress.Begin("read", bytes)
	defer r.Progress.End()
	return r.verifyAll(ctx, chosen)
}

// summarize makes one object of the ledger if it has become many. It can wait.
func (r *run) summarize(ctx context.Context) {
	if r.Mute || !r.ledger.Long() {
		return
	}
	if err := r.Repo.SummarizeLedger(ctx, r.ledger, r.catalog.ids()); err != nil {
		r.Progress.Warn(err.Error())
	}
}

// doubtful returns the packs that have not been read and must be: with something
// wrong, a bad verification, or marked or condemned with chunks that are lacking.
func (r *run) doubtful() []*packState {
	r.catalog.resolve()
	inDoubt, seen := map[*packState]struct{}{}, frameSet{}
	r.catalog.eachLacking(present, func(copies []key) {
		for _, copy := range copies {
			r.doubt(copy, inDoubt, seen)
		}
	})
	var work []*packState
	for _, p := range r.catalog.packs {
		_, lacking := inDoubt[p]
		failed := p.last.Order != 0 && !p.last.Good && !p.marked
		if p.verified == nil && (len(p.problems) > 0 || failed || p.suspect || lacking && !p.trusted()) {
			work = append(work, p)
		}
	}
	return work
}

// doubt adds the packs of a copy and of its bases. seen are the frames that were
// added.
func (r *run) doubt(copy key, into map[*packState]struct{}, seen frameSet) {
	if !seen.add(copy.frame) {
		return
	}
	into[r.catalog.packOf(copy.frame)] = struct{}{}
	base, isDelta := r.catalog.base(copy.frame)
	if !isDelta {
		return
	}
	depth := r.catalog.state(copy.frame).depth()
	for _, below := range r.catalog.copies(base) {
		if s := r.catalog.state(below.frame); s.depth() < depth && s&present == 0 {
			r.doubt(below, into, seen)
		}
	}
}
