package commands

import (
	"context"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/mysqlbackup/vitess"
)

func (r *run) recoverCommand() *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Usage:     "finishes putting a server back",
		ArgsUsage: "[ALIAS]",
		Description: `Finishes putting a server back after a backup that was killed. What others have
changed meanwhile is left as they made it. With --root, a shard's primary is
looked up in the repository, and the backup that was being made is ended there,
so that prune need not wait for it. A server that was taken out of serving is returned
as soon as it has caught up, in the way in which it was taken out.

ALIAS is only for --topo vitess, where it says what the flags need not say then.

Example:
  shardseed recover --defaults-file /etc/mysql/my.cnf --service mysql \
    --password-file /etc/shardseed/password`,
		Flags: slices.Concat(
			[]cli.Flag{defaultsFlag()},
			connectionFlags(), serviceFlags(), catchUpFlags(), replicationFlags(), topologyFlags(), []cli.Flag{stateFlag()},
		),
		Action: r.recover,
	}
}

func (r *run) recover(c *cli.Context) error {
	var k checks
	topo := parseTopology(c, &k)
	if err := tabletOfRecover(c, &k, topo); err != nil {
		return err
	}
	g := checkGlobals(c, &k)
	opts := mysqlbackup.RecoverOptions{
		Server:      parseInstance(c, &k),
		Replication: parseReplication(c, &k),
		CatchUp:     parseCatchUp(c, &k),
		StateDir:    stateDir(c, &k),
		Progress:    r.out,
	}
	if err := k.err(c); err != nil {
		return err
	}
	opts.Repo = r.repositoryIfThere(c.Context, g.root)
	opts.Topology = knownPrimaries(opts.Repo, topo)
	if topo.isVitess() {
		opts.Vitess = &topo.client
	}
	result, err := mysqlbackup.Recover(c.Context, opts)
	r.out.End()
	if err != nil {
		return err
	}
	if result.Pending {
		r.out.Text("put back the server from which %s was being made since %s UTC", result.Backup, result.Started.UTC().Format(time.DateTime))
	} else {
		r.out.Text("there is nothing to put back")
	}
	r.out.Object(newRecoveredObject(result))
	return nil
}

// tabletOfRecover reads the argument of recover.
func tabletOfRecover(c *cli.Context, k *checks, topo topology) error {
	if !topo.isVitess() || c.Args().Len() != 1 {
		k.positionals(c)
		return nil
	}
	alias, err := vitess.ParseAlias(c.Args().First())
	if err != nil {
		k.add(err)
		return nil
	}
	return setTabletFlags(c, alias)
}

// repositoryIfThere opens the repository, if one is given. One that cannot be
// opened must not keep a server from being put back.
func (r *run) repositoryIfThere(ctx context.Context, root string) *cas.Repository {
	if root == "" {
		return nil
	}
	repo, err := openRepository(ctx, root)
	if err != nil {
		r.out.Warn("going on without the repository: " + err.Error())
	}
	return repo
}

// knownPrimaries returns what knows the primaries of shards, nil if nothing
// does.
func knownPrimaries(repo *cas.Repository, topo topology) func(manifest.Keyspace, manifest.Shard) mysqlbackup.Topology {
	if topo.kind == topoStore && repo == nil {
		return nil
	}
	return func(keyspace manifest.Keyspace, shard manifest.Shard) mysqlbackup.Topology {
		if topo.kind == topoStore {
			return shardName{keyspace, shard}.record(repo)
		}
		return topo.of(shardName{keyspace, shard})
	}
}

// recoveredObject is the result of recover in JSON.
type recoveredObject struct {
	Type    string    `json:"type"`             // "recovered"
	Pending bool      `json:"pending"`          // there was something to put back
	Backup  string    `json:"backup,omitempty"` // that was being made: keyspace/shard/name
	Started time.Time `json:"started,omitzero"` // UTC, whole seconds
}

func newRecoveredObject(result *mysqlbackup.RecoverResult) recoveredObject {
	return recoveredObject{"recovered", result.Pending, result.Backup, result.Started.UTC().Truncate(time.Second)}
}
