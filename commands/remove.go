package commands

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) removeCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "removes a backup from the list",
		ArgsUsage: "KEYSPACE/SHARD NAME",
		Description: `Removes a backup from the list, for good. The space that only it used is not
freed at once: "shardseed prune" does that. A pinned backup and the
newest good one of the shard are only removed with --force.

Example:
  shardseed rm commerce/-80 2026-08-01.131502.zone1-0000000101 --root /backups`,
		Flags:  []cli.Flag{switchFlag("force", "remove it although it is pinned, or the newest good one")},
		Action: r.remove,
	}
}

func (r *run) remove(c *cli.Context) error {
	repo, shard, name, err := openBackup(c)
	if err != nil {
		return err
	}
	err = mysqlbackup.Remove(c.Context, mysqlbackup.RemoveOptions{
		Repo: repo, Keyspace: shard.keyspace, Shard: shard.shard, Name: name, Force: c.Bool("force"), Note: r.note("rm"), Now: r.opts.Now,
	})
	if errors.Is(err, cas.ErrNotFound) {
		return unknownBackup("remove", shard, name)
	}
	if err != nil {
		return err
	}
	r.out.Text("removed %s %s; \"shardseed prune\" frees its space", shard, name)
	r.out.Object(struct {
		Type     string            `json:"type"`
		Keyspace manifest.Keyspace `json:"keyspace"`
		Shard    manifest.Shard    `json:"shard"`
		Name     manifest.Name     `json:"name"`
		Freed    int64             `json:"freed_bytes"` // by this command, which frees none
	}{"removed", shard.keyspace, shard.shard, name, 0})
	return nil
}
