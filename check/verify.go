package check

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/throttle"
)

// The ledger is written after so many packs or so much time, and at the end.
const (
	ledgerPacks = 256
	ledgerTime  = 30 * time.Second
)

// reading is a number of packs being read.
type reading struct {
	*run
	mu      sync.Mutex // guards what follows, and the summary
	pending []cas.Verified
	written time.Time
	mute    bool // the ledger cannot be written
	done    []done
}

// done is a pack that has been read. It goes into the catalog when all are: others
// look chunks up meanwhile.
type done struct {
	pack  *packState
	found *cas.Verification
}

// verifyAll reads packs and notes what is found in the catalog and in the ledger.
func (r *run) verifyAll(ctx context.Context, packs []*packState) error {
	v := &reading{run: r, written: r.Now(), mute: r.Mute}
	queue := make(chan *packState)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(queue)
		for _, p := range packs {
			select {
			case queue <- p:
			case <-running.Done():
				return running.Err()
			}
		}
		return nil
	})
	for range max(1, r.Workers) {
		group.Go(func() error {
			throttle.Yield()
			for p := range queue {
				if err := v.verify(running, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	v.record(context.WithoutCancel(ctx))
	for _, d := range v.done {
		r.catalog.apply(d.pack, d.found)
		for _, id := range d.found.Suspects {
			r.catalog.suspect(id)
		}
	}
	return err
}

// verify reads one pack.
func (v *reading) verify(ctx context.Context, p *packState) error {
	pack := p.scanned
	if pack == nil {
		var err error
		if pack, err = v.Repo.Pack(ctx, p.id); err != nil {
			return v.vanished(ctx, p, err)
		}
	}
	found, err := v.reader.Verify(ctx, pack, v.wait)
	if err != nil {
		return err
	}
	if errors.Is(found.Err, cas.ErrNotFound) {
		return v.vanished(ctx, p, found.Err)
	}
	v.mu.Lock()
	v.note(p, found)
	due := len(v.pending) >= ledgerPacks || v.Now().Sub(v.written) >= ledgerTime
	v.mu.Unlock()
	if due {
		v.record(ctx)
	}
	return nil
}

// wait is called before bytes are read.
func (v *reading) wait(ctx context.Context, n int) error {
	v.Progress.Advance(int64(n))
	if v.Wait == nil {
		return nil
	}
	return v.Wait(ctx, n)
}

// note takes in what was found in a pack. The caller holds mu.
func (v *reading) note(p *packState, found *cas.Verification) {
	v.done = append(v.done, done{p, found})
	v.summary.ReadPacks++
	v.summary.ReadBytes += p.size
	switch {
	case found.Err != nil && errors.Is(found.Err, cas.ErrCorrupt):
		p.problems = append(p.problems, Problem{KindContent, reason(found.Err)})
	case found.Err != nil:
		p.problems = append(p.problems, Problem{KindRead, found.Err.Error()})
	case len(found.Bad) > 0:
		p.problems = append(p.problems, Problem{KindContent, fmt.Sprintf("%d frames do not give their chunks", len(found.Bad))})
	}
	p.last = cas.Verified{Pack: p.id, Good: len(p.problems) == 0, Time: v.Now().UTC().Truncate(time.Second), Order: math.MaxUint64}
	v.pending = append(v.pending, p.last)
}

// vanished takes in a pack whose end could be read a moment ago and now cannot.
// One that garbage collection has deleted since is no damage.
func (v *reading) vanished(ctx context.Context, p *packState, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	all := &cas.Verification{Err: err, Bad: map[int]error{}}
	for n := range int(p.count) {
		all.Bad[n] = err
	}
	deleted := false
	if errors.Is(err, cas.ErrNotFound) {
		marks, err := v.Repo.Marks(ctx)
		if err != nil {
			return err
		}
		_, deleted = marks.Final[p.id]
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !deleted {
		v.note(p, all)
		return nil
	}
	p.condemned = true
	v.gone = append(v.gone, p)
	v.done = append(v.done, done{p, all})
	return nil
}

// record writes what was found into the ledger. A repository that cannot be
// written to can be checked all the same.
func (v *reading) record(ctx context.Context) {
	v.mu.Lock()
	entries := v.pending
	v.pending, v.written = nil, v.Now()
	mute := v.mute
	v.mu.Unlock()
	if len(entries) == 0 || mute {
		return
	}
	err := v.Repo.RecordVerified(ctx, entries)
	if err == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.mute {
		v.mute = true
		v.Progress.Warn(fmt.Sprintf("what was read is not remembered, the next run does not know of it: %v", err))
	}
}
