package commands

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) listCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "lists the backups of a shard, oldest first",
		ArgsUsage: "KEYSPACE/SHARD",
		Description: `Lists the backups of a shard, oldest first. "shardseed show" tells more of one.

Example:
  shardseed list commerce/-80 --root /backups`,
		Action: r.list,
	}
}

func (r *run) list(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	shard := parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	summaries, failed := summaries(c.Context, repo, shard)
	if len(summaries) == 0 && failed == nil {
		return r.listNothing(c.Context, repo, shard)
	}
	rows := make([][]string, len(summaries))
	for i, s := range summaries {
		rows[i] = summaryRow(s)
		r.out.Object(newBackupObject(s))
	}
	if len(rows) > 0 {
		r.out.Table([]string{"NAME", "TIME (UTC)", "ALIAS", "SERVER", "ENGINE", "SIZE", "NEW", "TOOK", "POSITION", "MARKS"}, rows)
	}
	return errors.Join(failed, r.out.Err())
}

// listNothing says that a shard has no backups: an error if it never had any,
// for then it is probably a typing error.
func (r *run) listNothing(ctx context.Context, repo *cas.Repository, shard shardName) error {
	shards, err := repo.Shards(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(shards, shard.String()) {
		return noBackup("list", shard, shards)
	}
	r.out.Text("all backups of %s have been removed", shard)
	return r.out.Err()
}

// summaries returns the backups of the shard, oldest first, and why some that
// are listed could not be read.
func summaries(ctx context.Context, repo *cas.Repository, shard shardName) ([]manifest.Summary, error) {
	found, err := manifests(ctx, repo, shard)
	list := make([]manifest.Summary, len(found))
	for i, m := range found {
		list[i] = m.Summary()
	}
	return list, err
}

// manifests likewise returns their whole records.
func manifests(ctx context.Context, repo *cas.Repository, shard shardName) ([]*manifest.Manifest, error) {
	keys, err := repo.Keys(ctx, string(shard.keyspace), string(shard.shard))
	if err != nil {
		return nil, err
	}
	var list []*manifest.Manifest
	var failed []error
	for _, key := range keys {
		m, err := mysqlbackup.ReadManifest(ctx, repo, key)
		switch {
		case err == nil:
			list = append(list, m)
		case errors.Is(err, cas.ErrNotFound): // removed since it was listed
		case ctx.Err() != nil:
			return list, err
		default:
			failed = append(failed, err)
		}
	}
	return list, errors.Join(failed...)
}

// backupObject is a backup in JSON.
type backupObject struct {
	Type string `json:"type"` // "backup"
	manifest.Summary
}

func newBackupObject(s manifest.Summary) backupObject { return backupObject{"backup", s} }

// summaryRow is a backup as a row of the list.
func summaryRow(s manifest.Summary) []string {
	return []string{
		s.Name.String(),
		s.Time.UTC().Format(time.DateTime),
		s.TabletAlias.Short(),
		string(s.Flavor) + " " + s.Version,
		string(s.Engine),
		ui.Bytes(s.Plain),
		ui.Bytes(s.Stored),
		ui.Seconds(s.Duration),
		shortPosition(s),
		markKinds(s.Marks),
	}
}

// shortPosition is a position for people, not in full.
func shortPosition(s manifest.Summary) string {
	if !s.PositionKnown {
		return "not known"
	}
	return s.Position.Short()
}

// markKinds names the kinds of the marks, "-" if there are none.
func markKinds(marks []manifest.Mark) string {
	if len(marks) == 0 {
		return "-"
	}
	kinds := make([]string, len(marks))
	for i, m := range marks {
		kinds[i] = string(m.Kind)
	}
	return strings.Join(kinds, ",")
}
