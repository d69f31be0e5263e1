package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// openRepository opens the repository at root.
func openRepository(ctx context.Context, root string) (*cas.Repository, error) {
	repo, err := openBackend(ctx, root)
	if errors.Is(err, cas.ErrNoRepository) {
		err = hint.Wrap(err, fmt.Sprintf("is it mounted? give the --root of a repository, or run \"shardseed init --root %s\" to make one there", root))
	}
	if err != nil {
		return nil, fmt.Errorf("root %s: %w", root, err)
	}
	return repo, nil
}

func openBackend(ctx context.Context, root string) (*cas.Repository, error) {
	backend, err := local.New(root)
	if err != nil {
		return nil, err
	}
	return cas.Open(ctx, backend)
}

// shardName names a shard.
type shardName struct {
	keyspace manifest.Keyspace
	shard    manifest.Shard
}

// String returns keyspace/shard.
func (s shardName) String() string { return string(s.keyspace) + "/" + string(s.shard) }

// record is where repo keeps the shard's primary.
func (s shardName) record(repo *cas.Repository) mysqlbackup.ShardRecord {
	return mysqlbackup.ShardRecord{Repo: repo, Keyspace: s.keyspace, Shard: s.shard}
}

// parseShard reads KEYSPACE/SHARD; "" has been complained about already.
func parseShard(k *checks, text string) shardName {
	if text == "" {
		return shardName{}
	}
	keyspace, shard, err := manifest.ParseKeyspaceShard(text)
	k.add(err)
	return shardName{keyspace, shard}
}

// parseName likewise reads the name of a backup.
func parseName(k *checks, text string) manifest.Name {
	if text == "" {
		return manifest.Name{}
	}
	name, err := manifest.ParseName(text)
	k.add(err)
	return name
}

// noBackup says that the shard never had a backup, and which shards had some.
func noBackup(verb string, shard shardName, shards []string) error {
	err := fmt.Errorf("%s %s: %w", verb, shard, mysqlbackup.ErrNoBackup)
	if len(shards) == 0 {
		return err
	}
	const most = 10
	more := ""
	if len(shards) > most {
		more = fmt.Sprintf(" and %d more", len(shards)-most)
		shards = shards[:most]
	}
	return hint.Wrap(err, "there are backups of "+strings.Join(shards, ", ")+more)
}

// unknownBackup is what a command says if there is no backup of that name.
func unknownBackup(verb string, shard shardName, name manifest.Name) error {
	return hint.Wrap(fmt.Errorf("%s %s %s: no such backup", verb, shard, name),
		fmt.Sprintf("run \"shardseed list %s\" to see the backups there are", shard))
}

// openBackup reads the arguments KEYSPACE/SHARD and NAME and opens the repository;
// whether there is such a backup is not looked at.
func openBackup(c *cli.Context) (*cas.Repository, shardName, manifest.Name, error) {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	args := k.positionals(c, "KEYSPACE/SHARD", "NAME")
	shard, name := parseShard(&k, args[0]), parseName(&k, args[1])
	if err := k.err(c); err != nil {
		return nil, shard, name, err
	}
	repo, err := openRepository(c.Context, root)
	return repo, shard, name, err
}
