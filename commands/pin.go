package commands

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) pinCommand() *cli.Command {
	return &cli.Command{
		Name:      "pin",
		Usage:     "keeps a backup from being removed",
		ArgsUsage: "KEYSPACE/SHARD NAME",
		Description: `Keeps a backup from being removed, by forget and by rm, until it is unpinned. If
it is being removed at the same moment, pin fails and says so.

Example:
  shardseed pin commerce/-80 2026-08-01.131502.zone1-0000000101 --reason "before the migration" --root /backups`,
		Flags:  []cli.Flag{textFlag("reason", "`TEXT` that list and show will tell")},
		Action: func(c *cli.Context) error { return r.setPin(c, r.pin) },
	}
}

func (r *run) unpinCommand() *cli.Command {
	return &cli.Command{
		Name:      "unpin",
		Usage:     "lets a pinned backup be removed again",
		ArgsUsage: "KEYSPACE/SHARD NAME",
		Description: `Lets a pinned backup be removed again. A backup that is not pinned is left as it
is.

Example:
  shardseed unpin commerce/-80 2026-08-01.131502.zone1-0000000101 --root /backups`,
		Action: func(c *cli.Context) error { return r.setPin(c, r.unpin) },
	}
}

// setPin reads the arguments of pin and unpin and runs do.
func (r *run) setPin(c *cli.Context, do func(context.Context, *cas.Repository, cas.Key, mysqlbackup.Note) error) error {
	repo, shard, name, err := openBackup(c)
	if err != nil {
		return err
	}
	err = do(c.Context, repo, manifest.Key(shard.keyspace, shard.shard, name), r.note(c.String("reason")))
	if errors.Is(err, cas.ErrNotFound) {
		return unknownBackup(c.Command.Name, shard, name)
	}
	if err != nil {
		return err
	}
	r.out.Object(struct {
		Type     string            `json:"type"` // "pinned" or "unpinned"
		Keyspace manifest.Keyspace `json:"keyspace"`
		Shard    manifest.Shard    `json:"shard"`
		Name     manifest.Name     `json:"name"`
	}{c.Command.Name + "ned", shard.keyspace, shard.shard, name})
	return r.out.Err()
}

func (r *run) pin(ctx context.Context, repo *cas.Repository, key cas.Key, note mysqlbackup.Note) error {
	if err := mysqlbackup.Pin(ctx, repo, key, note); err != nil {
		return err
	}
	r.out.Text("pinned %s", key)
	return nil
}

func (r *run) unpin(ctx context.Context, repo *cas.Repository, key cas.Key, note mysqlbackup.Note) error {
	was, err := mysqlbackup.Unpin(ctx, repo, key, note)
	switch {
	case err != nil:
		return err
	case was:
		r.out.Text("%s can be removed again", key)
	default:
		r.out.Text("%s was not pinned", key)
	}
	return nil
}
