package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/retention"
)

// ForgetOptions say which backups of a shard to remove.
type ForgetOptions struct {
	Repo     *cas.Repository
	Keyspace manifest.Keyspace
	Shard    manifest.Shard
	Policy   retention.Policy
	DryRun   bool // decide only
	Note     Note
	Now      func() time.Time
}

// Judged is a backup and what has become of it.
type Judged struct {
	Entry
	Rules   []retention.Rule // that keep it; empty: it is forgotten
	Removed bool             // by this run, or by somebody else meanwhile
}

// Keep tells whether the backup is kept.
func (j *Judged) Keep() bool { return len(j.Rules) > 0 }

// Forget removes the backups that the policy does not keep, oldest first, and
// returns what it decided of each, oldest first, without the packs of their records.
// It removes each as [Remove] does: one that was pinned meanwhile stays, and if the
// newest good backup has gone meanwhile, it stops. With an error the result tells
// how far it came.
func Forget(ctx context.Context, opts ForgetOptions) ([]Judged, error) {
	entries, err := catalog(ctx, opts.Repo, opts.Keyspace, opts.Shard, withoutPacks)
	if err != nil {
		return nil, err
	}
	judged, err := judge(entries, opts.Policy, opts.Now())
	if err != nil {
		return nil, fmt.Errorf("forget %s/%s: %w", opts.Keyspace, opts.Shard, err)
	}
	if opts.DryRun {
		return judged, unreadable(entries)
	}
	keeper := newestGood(judged)
	for i := range judged {
		if j := &judged[i]; !j.Keep() {
			if err := opts.remove(ctx, j, keeper); err != nil {
				return judged, err
			}
		}
	}
	return judged, unreadable(entries)
}

// withoutPacks drops what most of a record's memory is: rules do not ask for it.
func withoutPacks(e *Entry) {
	if e.Manifest != nil {
		e.Manifest.Packs = nil
	}
}

// judge lets the policy decide. Backups whose names are no names are left out:
// the rules can't say anything about them.
func judge(entries []Entry, policy retention.Policy, now time.Time) ([]Judged, error) {
	byName := map[manifest.Name]Entry{}
	var backups []retention.Backup
	for _, entry := range entries {
		if entry.Name == (manifest.Name{}) {
			continue
		}
		byName[entry.Name] = entry
		backups = append(backups, entry.retention())
	}
	verdicts, err := retention.Decide(backups, policy, now)
	judged := make([]Judged, len(verdicts))
	for i, v := range verdicts {
		judged[i] = Judged{Entry: byName[v.Name], Rules: v.Rules}
	}
	return judged, err
}

// retention returns what the rules need to know.
func (e *Entry) retention() retention.Backup {
	b := retention.Backup{Name: e.Name, Pinned: e.Pin != nil}
	switch {
	case e.Err != nil:
		b.State = retention.Unreadable
		return b
	case e.Removing:
		b.State = retention.Leaving
	case !e.Good():
		b.State = retention.Doubtful
	}
	if e.Manifest.PositionKnown {
		b.Position = e.Manifest.Position
	}
	return b
}

// newestGood returns the key of the newest good backup, "" if there is none.
func newestGood(judged []Judged) cas.Key {
	for _, j := range judged {
		if slices.Contains(j.Rules, retention.LastGood) {
			return j.Key
		}
	}
	return ""
}

func (o *ForgetOptions) remove(ctx context.Context, j *Judged, keeper cas.Key) error {
	r := remover{RemoveOptions: RemoveOptions{Repo: o.Repo, Keyspace: o.Keyspace, Shard: o.Shard, Name: j.Name, Note: o.Note, Now: o.Now}, key: j.Key, keeper: keeper}
	err := r.run(ctx)
	var pinned *pinnedError
	var last *lastGoodError
	switch {
	case err == nil || errors.Is(err, cas.ErrNotFound):
		j.Removed = true
		return nil
	case errors.As(err, &pinned):
		j.Pin, j.Rules = &pinned.note, append(j.Rules, retention.Pinned)
		return nil
	case errors.As(err, &last) && j.Removing: // whoever began that may be about to end it
		j.Rules = append(j.Rules, retention.LastGood)
		return nil
	case errors.As(err, &last):
		err = hint.Wrap(errors.New("the newest good backup has been removed meanwhile, so this one stays"), "run the same again")
	}
	return fmt.Errorf("forget %s: %w", j.Key, err)
}

// unreadable returns why backups were kept unread.
func unreadable(entries []Entry) error {
	var errs []error
	for _, entry := range entries {
		errs = append(errs, entry.Err)
	}
	return errors.Join(errs...)
}
