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

// chooser chooses a backup of a shard.
type chooser struct {
	repo       *cas.Repository
	keyspace   manifest.Keyspace
	shard      manifest.Shard
	name       *manifest.Name // nil: the newest without marks
	heedDrills bool           // pass over one whose last drill has failed
	older      bool           // take an older one if the newest can't be restored
	fits       func(context.Context, *manifest.Manifest) error
	progress   Progress
	now        func() time.Time
}

// candidate is a listed backup.
type candidate struct {
	key      cas.Key
	manifest *manifest.Manifest // nil: err says why it can't be read
	err      error
}

// choose returns the backup to restore.
func (r *restoreRun) choose(ctx context.Context) (*manifest.Manifest, error) {
	c := chooser{
		repo: r.Store.Repo, keyspace: r.Keyspace, shard: r.Shard, name: r.Backup, heedDrills: true, older: r.Older,
		fits: r.fits, progress: r.Progress, now: r.Now,
	}
	return c.choose(ctx)
}

// choose returns the named backup, or the newest without marks: of two, the one
// that has all transactions of the other, whatever their names say. fits is asked
// whether it can be restored; if the newest can't be, an older one is not taken
// instead, but named, unless that is wanted.
func (c *chooser) choose(ctx context.Context) (*manifest.Manifest, error) {
	if c.name != nil {
		return c.named(ctx)
	}
	keys, err := c.repo.Keys(ctx, string(c.keyspace), string(c.shard))
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, noBackup(ctx, c.repo, c.keyspace, c.shard)
	}
	candidates, err := c.newestFirst(ctx, keys)
	if err != nil {
		return nil, err
	}
	var problem error
	var problems []error // of all
	for _, candidate := range candidates {
		m, err := candidate.manifest, candidate.err
		if err == nil && (!m.Good() || c.failedDrill(ctx, candidate.key)) {
			continue
		}
		if err == nil {
			err = c.fits(ctx, m)
		}
		if err == nil && c.older && problem != nil {
			c.progress.Warn("an older backup is taken: " + problem.Error())
		}
		if err == nil && (problem == nil || c.older) {
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
		problems = append(problems, err)
	}
	if c.older && problem != nil {
		return nil, as(ErrNoUsableBackup, &listError{problems})
	}
	if problem == nil {
		return nil, hint.Wrap(as(ErrNoUsableBackup, fmt.Errorf("all backups of %s/%s are marked, or failed their last drill", c.keyspace, c.shard)),
			"look at them with \"shardseed list\"; one of them can be named with --backup")
	}
	return nil, problem
}

// noBackup returns an [ErrNoBackup], or says that there were backups whose records
// are gone.
func noBackup(ctx context.Context, repo *cas.Repository, keyspace manifest.Keyspace, shard manifest.Shard) error {
	if err := CheckVanished(ctx, repo, keyspace, shard); err != nil {
		return err
	}
	return as(ErrNoBackup, fmt.Errorf("%s/%s has no backup", keyspace, shard))
}

// CheckVanished returns a [cas.ErrCorrupt] if a backup of the shard was there and its
// record is gone, as far as garbage collection has seen it.
func CheckVanished(ctx context.Context, repo *cas.Repository, keyspace manifest.Keyspace, shard manifest.Shard) error {
	if began, err := repo.Began(ctx, string(keyspace), string(shard)); err != nil || !began {
		return err // a new shard needs nothing of garbage collection to be readable
	}
	keys, err := repo.Vanished(ctx)
	if err != nil {
		return err
	}
	for _, key := range slices.Backward(keys) {
		if key.Shard() == string(keyspace)+"/"+string(shard) {
			return cas.VanishedError(key)
		}
	}
	return nil
}

// newestFirst reads the records of backups and orders them: see
// [retention.NewestFirst]. Those of the future are warned of.
func (c *chooser) newestFirst(ctx context.Context, keys []cas.Key) ([]candidate, error) {
	now := c.now()
	byName := map[manifest.Name]candidate{}
	var backups []retention.Backup
	for _, key := range keys {
		m, err := ReadManifest(ctx, c.repo, key)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		name, nameErr := manifest.ParseName(key.Name())
		if isGone(err) {
			continue
		}
		if nameErr != nil {
			c.progress.Warn(fmt.Sprintf("%s is passed over: %v", key, nameErr))
			continue
		}
		b := retention.Backup{Name: name}
		if err == nil && m.PositionKnown {
			b.Position = m.Position
		}
		if retention.IsFuture(name, now) {
			c.progress.Warn(FutureText(name))
		}
		byName[name] = candidate{key, m, err}
		backups = append(backups, b)
	}
	var ordered []candidate
	for _, b := range retention.NewestFirst(backups, now) {
		ordered = append(ordered, byName[b.Name])
	}
	return ordered, nil
}

// FutureText tells people that a backup is dated in the future.
func FutureText(name manifest.Name) string {
	return fmt.Sprintf("backup %s is dated in the future: the clock of its host was wrong, or this host's is", name)
}

// failedDrill tells that a backup's last drill has failed, and warns of it. What
// can't be read of a drill proves nothing.
func (c *chooser) failedDrill(ctx context.Context, key cas.Key) bool {
	if !c.heedDrills {
		return false
	}
	d, err := LastDrill(ctx, c.repo, key)
	if err != nil {
		c.progress.Warn(fmt.Sprintf("the last drill of %s can't be read: %v", key, err))
	}
	if d == nil || d.Passed() {
		return false
	}
	c.progress.Warn(fmt.Sprintf("the last drill of backup %s: %s", d.Name, d))
	return true
}

// isGone tells that a backup was removed, perhaps since it was listed, or never
// was one.
func isGone(err error) bool {
	return errors.Is(err, cas.ErrNotFound) || errors.Is(err, cas.ErrRevoked)
}

func (c *chooser) named(ctx context.Context) (*manifest.Manifest, error) {
	m, err := ReadManifest(ctx, c.repo, manifest.Key(c.keyspace, c.shard, *c.name))
	if isGone(err) {
		return nil, hint.Wrap(as(ErrNoUsableBackup, fmt.Errorf("%s/%s has no backup %s", c.keyspace, c.shard, c.name)),
			fmt.Sprintf("see \"shardseed list %s/%s\"", c.keyspace, c.shard))
	}
	if err != nil {
		return nil, err
	}
	for _, mark := range m.Marks {
		c.progress.Warn("the backup is marked: " + mark.String())
	}
	c.failedDrill(ctx, m.Key())
	return m, c.fits(ctx, m)
}
