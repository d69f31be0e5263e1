package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
)

// choose returns the backup to restore: the named one, or the newest without
// marks. fits is asked whether it can be restored; if the newest can't be, an
// older one is not taken instead, but named.
func (r *restoreRun) choose(ctx context.Context) (*manifest.Manifest, error) {
	if r.Backup != nil {
		return r.named(ctx)
	}
	keys, err := r.Store.Repo.Keys(ctx, string(r.Keyspace), string(r.Shard))
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, as(ErrNoBackup, fmt.Errorf("%s/%s has no backup", r.Keyspace, r.Shard))
	}
	slices.Reverse(keys)
	var problem error
	for _, key := range keys {
		m, err := ReadManifest(ctx, r.Store.Repo, key)
		if isGone(err) || err == nil && !m.Good() {
			continue
		}
		if err == nil {
			err = r.fits(ctx, m)
		}
		if err == nil && problem == nil {
			return m, nil
		}
		if err == nil {
			return nil, hint.Wrap(problem, "the newest backup that fits is "+m.Name.String()+": give it with --backup")
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if problem == nil {
			problem = err
		}
	}
	if problem == nil {
		return nil, hint.Wrap(as(ErrNoUsableBackup, fmt.Errorf("all backups of %s/%s are marked", r.Keyspace, r.Shard)),
			"look at them with \"shardseed list\"; a marked one can be named with --backup")
	}
	return nil, problem
}

// isGone tells that a backup was removed, perhaps since it was listed, or never
// was one.
func isGone(err error) bool {
	return errors.Is(err, cas.ErrNotFound) || errors.Is(err, cas.ErrRevoked)
}

func (r *restoreRun) named(ctx context.Context) (*manifest.Manifest, error) {
	m, err := ReadManifest(ctx, r.Store.Repo, manifest.Key(r.Keyspace, r.Shard, *r.Backup))
	if isGone(err) {
		return nil, hint.Wrap(as(ErrNoUsableBackup, fmt.Errorf("%s/%s has no backup %s", r.Keyspace, r.Shard, r.Backup)),
			fmt.Sprintf("see \"shardseed list %s/%s\"", r.Keyspace, r.Shard))
	}
	if err != nil {
		return nil, err
	}
	for _, mark := range m.Marks {
		r.Progress.Warn("the backup is marked: " + mark.String())
	}
	return m, r.fits(ctx, m)
}
