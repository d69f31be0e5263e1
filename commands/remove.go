package commands

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

func (r *run) removeCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "removes a backup from the list",
		ArgsUsage: "KEYSPACE/SHARD NAME",
		Description: `Removes a backup from the list, for good. The space that only it used is not
freed at once: garbage collection does that later.

Example:
  shardseed rm commerce/-80 2026-08-01.131502.zone1-0000000101 --root /backups`,
		Action: r.remove,
	}
}

func (r *run) remove(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	args := k.positionals(c, "KEYSPACE/SHARD", "NAME")
	shard, name := parseShard(&k, args[0]), parseName(&k, args[1])
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	if err := r.forget(c.Context, repo, shard, name); err != nil {
		return err
	}
	r.out.Text("removed %s %s; its space is freed later, by garbage collection", shard, name)
	r.out.Object(struct {
		Type     string            `json:"type"`
		Keyspace manifest.Keyspace `json:"keyspace"`
		Shard    manifest.Shard    `json:"shard"`
		Name     manifest.Name     `json:"name"`
		Freed    int64             `json:"freed_bytes"` // by this command, which frees none
	}{"removed", shard.keyspace, shard.shard, name, 0})
	return nil
}

// forgetNote says in the repository who removed a backup and when.
type forgetNote struct {
	Time        time.Time `json:"time"`
	Host        string    `json:"host"` // "": not known
	ToolVersion string    `json:"tool_version"`
}

func (r *run) forget(ctx context.Context, repo *cas.Repository, shard shardName, name manifest.Name) error {
	note, err := json.Marshal(forgetNote{Time: r.opts.Now().UTC().Truncate(time.Second), Host: hostName(), ToolVersion: toolVersion()})
	if err != nil {
		return err
	}
	key := manifest.Key(shard.keyspace, shard.shard, name)
	if err := repo.Forget(ctx, key, note); errors.Is(err, cas.ErrNotFound) {
		return unknownBackup("remove", shard, name)
	} else if err != nil {
		return err
	}
	return nil
}
