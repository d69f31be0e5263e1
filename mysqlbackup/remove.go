package mysqlbackup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/retention"
)

// RemoveOptions say which backup to remove from the list.
type RemoveOptions struct {
	Repo     *cas.Repository
	Keyspace manifest.Keyspace
	Shard    manifest.Shard
	Name     manifest.Name
	Force    bool // also if it is pinned, or the newest good one
	Note     Note
	Now      func() time.Time
}

// Remove removes a backup from the list, for good. An [ErrRefused] says that it
// is pinned, or the newest good one; it returns cas.ErrNotFound if there is no
// such backup.
//
// A removal says so in the backup's hold first, which nobody can do while the
// backup is pinned, and whoever pins it later is told; then it looks again
// whether a newer good backup is there that nobody is removing; only then it
// creates the mark, after which nothing comes back.
func Remove(ctx context.Context, opts RemoveOptions) error {
	r := remover{RemoveOptions: opts, key: manifest.Key(opts.Keyspace, opts.Shard, opts.Name)}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("remove %s: %w", r.key, err)
	}
	return nil
}

// remover is one removal.
type remover struct {
	RemoveOptions
	key    cas.Key
	good   bool    // a newer good one must be there
	keeper cas.Key // the one to look at first; "": none is known
	joined bool    // another removal of it was begun before
}

// pinnedError says that a backup is pinned.
type pinnedError struct{ note Note }

func (e *pinnedError) Error() string {
	text := "it is pinned since " + e.note.Time.UTC().Format(time.DateTime)
	if e.note.Reason != "" {
		text += ": " + e.note.Reason
	}
	return text
}

// lastGoodError says that there is no newer good backup.
type lastGoodError struct{}

func (*lastGoodError) Error() string { return "it is the newest good backup" }

func (r *remover) run(ctx context.Context) error {
	entry, err := ReadEntry(ctx, r.Repo, r.key)
	if err != nil {
		return err
	}
	if entry.Pin != nil && !r.Force {
		return r.advise(as(ErrRefused, &pinnedError{*entry.Pin}))
	}
	r.good = entry.sound() && !r.Force
	if err := r.checkNewer(ctx); err != nil { // before anything is written
		return r.advise(err)
	}
	gen, err := r.close(ctx)
	if err != nil {
		return r.advise(err)
	}
	if err := r.checkNewer(ctx); err != nil {
		return errors.Join(r.advise(err), r.reopen(ctx, gen))
	}
	note, err := json.Marshal(r.Note)
	if err != nil {
		return err
	}
	return r.Repo.Forget(ctx, r.key, note)
}

// close says in the hold that the backup is being removed, and returns the
// hold's generation. Each removal does so for itself: another's may be taken
// back by that one.
func (r *remover) close(ctx context.Context) (uint64, error) {
	for {
		h, gen, err := readHold(ctx, r.Repo, r.key)
		if err != nil && !r.Force {
			return 0, err
		}
		if h.State == holdPinned && !r.Force {
			return 0, as(ErrRefused, &pinnedError{h.Note})
		}
		r.joined = h.State == holdRemoving
		err = setHold(ctx, r.Repo, r.key, gen, holdRemoving, r.Note)
		if !errors.Is(err, cas.ErrExists) {
			return gen + 1, err
		}
	}
}

// reopen takes the removal back, unless somebody else removes the backup too:
// he may be about to create the mark.
func (r *remover) reopen(ctx context.Context, gen uint64) error {
	if r.joined {
		return nil
	}
	err := setHold(context.WithoutCancel(ctx), r.Repo, r.key, gen, holdOpen, r.Note)
	if errors.Is(err, cas.ErrExists) {
		return nil
	}
	return err
}

// checkNewer refuses to remove a good backup if no newer one is good and stays:
// newer as a restore sees it, whatever the clocks were like.
func (r *remover) checkNewer(ctx context.Context) error {
	if !r.good {
		return nil
	}
	if r.keeper > r.key {
		entry, err := ReadEntry(ctx, r.Repo, r.keeper)
		if err == nil && entry.Good() {
			return nil
		}
	}
	keys, err := r.Repo.Keys(ctx, string(r.Keyspace), string(r.Shard))
	if err != nil {
		return err
	}
	var good []retention.Backup
	for _, key := range keys {
		entry, err := ReadEntry(ctx, r.Repo, key)
		if err == nil && (entry.Good() || key == r.key) {
			good = append(good, entry.retention())
		}
		if err != nil && !errors.Is(err, cas.ErrNotFound) && !errors.Is(err, cas.ErrCorrupt) {
			return err
		}
	}
	if ordered := retention.NewestFirst(good, r.Now()); len(ordered) > 0 && ordered[0].Name != r.Name {
		return nil
	}
	return as(ErrRefused, &lastGoodError{})
}

// advise says what to do about a refusal.
func (r *remover) advise(err error) error {
	var pinned *pinnedError
	var last *lastGoodError
	switch {
	case errors.As(err, &pinned):
		return hint.Wrap(err, fmt.Sprintf("run \"shardseed unpin %s/%s %s\", or give --force", r.Keyspace, r.Shard, r.Name))
	case errors.As(err, &last):
		return hint.Wrap(err, "take a new backup first, or give --force")
	}
	return err
}
