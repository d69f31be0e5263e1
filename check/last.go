package check

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// Last says when backups were last verified, by the repository's ledger, and which
// the last check has found to be damaged.
type Last struct {
	ledger *cas.Ledger
	known  map[cas.Key]verdict
	living map[cas.ID]struct{} // listed packs that are not marked as damaged
	all    Verification        // of all of them
}

// Verification is when all packs were last verified that something needs: the
// oldest of their verifications counts.
type Verification struct {
	Time   *time.Time `json:"verified_time"` // nil: not all were
	Failed bool       `json:"verify_failed"` // one of them was found to be damaged when it was last read, or the backup when it was last checked
}

// LastVerified reads the ledger, and what is known of a shard's backups, given as
// keyspace/shard. Problems are parts of either that cannot be read.
func LastVerified(ctx context.Context, repo *cas.Repository, shard string) (last *Last, problems []error, err error) {
	l := &Last{living: map[cas.ID]struct{}{}}
	known, unknown, err := readVerdicts(ctx, repo, shard)
	if err != nil {
		return nil, nil, err
	}
	l.known = known
	for _, key := range slices.Sorted(maps.Keys(unknown)) {
		problems = append(problems, unknown[key])
	}
	if l.ledger, err = repo.Ledger(ctx); err != nil {
		return nil, nil, err
	}
	ids, err := repo.PackIDs(ctx)
	if err != nil {
		return nil, nil, err
	}
	damaged, err := repo.DamagedPacks(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		if _, marked := damaged[id]; !marked {
			l.living[id] = struct{}{}
		}
	}
	var oldest cas.Verified
	for id := range l.living {
		if !l.all.add(l.ledger.Last(id), &oldest) {
			break
		}
	}
	return l, append(problems, l.ledger.Problems...), nil
}

// Of returns when a backup was last verified in full. What stood in packs that are
// gone or marked is in others now, and it is not known in which: all count then.
func (l *Last) Of(m *manifest.Manifest) Verification {
	if l.known[m.Key()].Damaged {
		return Verification{Failed: true}
	}
	var v Verification
	var oldest cas.Verified
	for _, id := range m.Packs {
		if _, living := l.living[id]; !living {
			return l.all
		}
	}
	for _, id := range m.Packs {
		if !v.add(l.ledger.Last(id), &oldest) {
			break
		}
	}
	return v
}

// add takes in one more pack; oldest is the one that was verified longest ago. It
// returns false once nothing can change any more.
func (v *Verification) add(e cas.Verified, oldest *cas.Verified) bool {
	switch {
	case e.Order == 0:
		*v = Verification{Failed: v.Failed}
		*oldest = cas.Verified{Order: 1} // nothing is older
		return true
	case !e.Good:
		*v = Verification{Failed: true}
		return false
	case oldest.Order == 0 || e.Order < oldest.Order:
		*oldest = e
		v.Time = &e.Time
	}
	return true
}
