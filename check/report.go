package check

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shardseed/shardseed/cas"
)

// report tells what was found, and sums up.
func (r *run) report(ctx context.Context) error {
	r.sumUp()
	for _, o := range r.objects {
		r.Findings.Object(o)
	}
	blamed := r.blamed()
	r.catalog.needBases()
	for _, p := range r.catalog.packs {
		_, isBlamed := blamed[p]
		if len(p.problems) > 0 && !p.marked || isBlamed && !p.trusted() {
			r.tellPack(p)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.missing), cas.ID.Compare) {
		r.summary.DamagedPacks++
		_, marked := r.marks.Damaged[id]
		r.Findings.Pack(Pack{ID: id, Kinds: []Kind{KindMissing}, Reason: "it is not there", Marked: marked})
	}
	for n := range r.catalog.frames() {
		if r.catalog.state(uint32(n))&needed == 0 {
			r.summary.Unreferenced++
		}
	}
	return r.mapDamage(ctx)
}

func (r *run) sumUp() {
	s := &r.summary
	s.Backups, s.Packs, s.Frames = len(r.backups), len(r.catalog.packs), r.catalog.frames()
	s.DamagedObjects, s.Advice = len(r.objects), slices.Clone(r.advice)
	s.Repairable = slices.ContainsFunc(r.objects, func(o Object) bool { return isLedger(&o) })
	var oldest cas.Verified
	for _, p := range r.catalog.packs {
		s.Bytes += p.size
		if p.marked {
			s.MarkedPacks++
		}
		switch {
		case p.last.Order == 0 || !p.last.Good:
			s.NeverRead++
		case oldest.Order == 0 || p.last.Order < oldest.Order:
			oldest = p.last
		}
	}
	if oldest.Order != 0 {
		s.Oldest = new(time.Time)
		*s.Oldest = oldest.Time
	}
}

// blamed returns the packs to blame for chunks that are needed and do not count as
// present.
func (r *run) blamed() map[*packState]struct{} {
	ids, seen := map[cas.ID]struct{}{}, frameSet{}
	r.catalog.eachLacking(present, func(copies []key) {
		r.catalog.culprits(copies[0], cas.AnyDepth, present, ids, seen)
	})
	blamed := map[*packState]struct{}{}
	for id := range ids {
		blamed[r.catalog.packs[r.catalog.number[id]]] = struct{}{}
	}
	return blamed
}

func (r *run) tellPack(p *packState) {
	r.summary.DamagedPacks++
	r.summary.Repairable = r.summary.Repairable || !p.marked
	found := Pack{
		ID: p.id, Size: p.size, Frames: int(p.count), Marked: p.marked,
		Bad: r.catalog.count(p, bad), Needed: r.catalog.count(p, needed),
	}
	var reasons []string
	for _, problem := range p.problems {
		if !slices.Contains(found.Kinds, problem.Kind) {
			found.Kinds = append(found.Kinds, problem.Kind)
		}
		reasons = append(reasons, problem.Reason)
	}
	if p.marked {
		found.Kinds = append(found.Kinds, KindMarked)
		reasons = append(reasons, "it is marked as damaged")
	}
	if p.condemned {
		found.Kinds = append(found.Kinds, KindCondemned)
		reasons = append(reasons, "garbage collection has given it up")
	}
	found.Reason = strings.Join(reasons, "; ")
	r.Findings.Pack(found)
}
