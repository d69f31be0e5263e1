package walk

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// Manifest reads the record of one backup. It returns cas.ErrNotFound if
// there is no such backup, cas.ErrCorrupt if its record is damaged, and a
// [*manifest.VersionError] if a newer program wrote it.
func Manifest(ctx context.Context, repo *cas.Repository, key cas.Key) (*manifest.Manifest, error) {
	data, err := repo.Record(ctx, key)
	if errors.Is(err, cas.ErrRevoked) {
		return nil, fmt.Errorf("backup %s: %w", key, cas.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	m, err := manifest.Decode(data)
	var newer *manifest.VersionError
	if errors.As(err, &newer) {
		return nil, fmt.Errorf("backup %s: %w", key, err)
	}
	if err == nil && m.Key() != key {
		err = fmt.Errorf("it is the record of %s", m.Key())
	}
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", key, &cas.CorruptError{Name: "manifests/" + string(key), Reason: err.Error()})
	}
	return m, nil
}

// Listed is a backup that is listed.
type Listed struct {
	Key      cas.Key
	Manifest *manifest.Manifest // nil: the record cannot be read, Err says why
	Err      error
}

// EachBackup calls fn for the listed backups of shards, given as keyspace/shard, in
// their order and each shard's oldest first; for those of all shards if none is given.
// A record that cannot be read is no error of the call. Backups that are removed
// meanwhile are left out. An error of fn ends it.
func EachBackup(ctx context.Context, repo *cas.Repository, shards []string, fn func(Listed) error) error {
	if len(shards) == 0 {
		var err error
		if shards, err = repo.Shards(ctx); err != nil {
			return err
		}
	}
	for _, shard := range shards {
		probe, err := cas.ParseKey(shard + "/x")
		if err != nil {
			return err
		}
		keys, err := repo.Keys(ctx, probe.Keyspace(), probe.ShardName())
		if err != nil {
			return err
		}
		for _, key := range keys {
			m, err := Manifest(ctx, repo, key)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, cas.ErrNotFound) {
				continue
			}
			if err := fn(Listed{key, m, err}); err != nil {
				return err
			}
		}
	}
	return nil
}
