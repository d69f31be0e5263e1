package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/internal/hint"
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
	entries, err := mysqlbackup.Catalog(c.Context, repo, shard.keyspace, shard.shard)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return r.listNothing(c.Context, "list", repo, shard)
	}
	last, err := r.lastVerified(c.Context, repo, shard)
	if err != nil {
		return err
	}
	var rows [][]string
	var failed []error
	for i := range entries {
		e := &entries[i]
		failed = append(failed, e.Err)
		if e.Manifest == nil {
			continue
		}
		if r.isFuture(e.Manifest) {
			r.warnFuture(e.Manifest.Name)
		}
		verification := last.Of(e.Manifest)
		rows = append(rows, append(entryRow(e), verificationText(verification)))
		r.out.Object(newEntryObject(e, verification))
	}
	if len(rows) > 0 {
		r.out.Table([]string{"NAME", "TIME (UTC)", "ALIAS", "SERVER", "ENGINE", "SIZE", "NEW", "TOOK", "POSITION", "MARKS", "PINNED", "DRILL", "VERIFIED (UTC)"}, rows)
	}
	return errors.Join(append(failed, r.out.Err())...)
}

// listNothing says that a shard has no backups: an error if it never had any,
// for then it is probably a typing error.
func (r *run) listNothing(ctx context.Context, verb string, repo *cas.Repository, shard shardName) error {
	if err := mysqlbackup.CheckVanished(ctx, repo, shard.keyspace, shard.shard); err != nil {
		return fmt.Errorf("%s %s: %w", verb, shard, err)
	}
	shards, err := repo.Shards(ctx)
	if err != nil {
		return err
	}
	had, err := repo.HadBackups(ctx, string(shard.keyspace), string(shard.shard))
	if err != nil {
		return err
	}
	begun := slices.Contains(shards, shard.String())
	switch {
	case begun && !had:
		return hint.Wrap(fmt.Errorf("%s %s: %w: none that was begun has been published", verb, shard, mysqlbackup.ErrNoBackup), "run \"shardseed status\" on the host that backs it up")
	case !begun:
		return noBackup(verb, shard, shards)
	}
	r.out.Text("all backups of %s have been removed", shard)
	return r.out.Err()
}

// lastVerified reads when backups were last verified.
func (r *run) lastVerified(ctx context.Context, repo *cas.Repository, shard shardName) (*check.Last, error) {
	last, problems, err := check.LastVerified(ctx, repo, shard.String())
	for _, problem := range problems {
		r.out.Warn(problem.Error())
	}
	return last, err
}

// verificationText is when a backup was last verified, for people.
func verificationText(v check.Verification) string {
	switch {
	case v.Failed:
		return "damaged"
	case v.Time == nil:
		return "never"
	}
	return v.Time.UTC().Format(time.DateTime)
}

// manifests returns the records of the shard's backups, oldest first, and why
// some that are listed could not be read.
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

// entryObject is a listed backup in JSON.
type entryObject struct {
	backupObject
	check.Verification
	standing
}

// standing is what the repository knows of a backup besides its manifest.
type standing struct {
	Pin      *mysqlbackup.Note  `json:"pin,omitempty"`      // left out: it is not pinned
	Removing bool               `json:"removing,omitempty"` // its removal was begun
	Drill    *mysqlbackup.Drill `json:"drill,omitempty"`    // the last one; left out: there was none
}

func newStanding(e *mysqlbackup.Entry) standing { return standing{e.Pin, e.Removing, e.Drill} }

func newEntryObject(e *mysqlbackup.Entry, v check.Verification) entryObject {
	return entryObject{newBackupObject(e.Manifest.Summary()), v, newStanding(e)}
}

// entryRow is a backup as a row of the list.
func entryRow(e *mysqlbackup.Entry) []string {
	row := append(summaryRow(e.Manifest.Summary()), "-", "-")
	pinned, drill := &row[len(row)-2], &row[len(row)-1]
	switch {
	case e.Pin != nil:
		*pinned = "yes"
	case e.Removing:
		*pinned = "removing"
	}
	if e.Drill != nil {
		*drill = e.Drill.Time.UTC().Format(time.DateOnly) + " " + string(e.Drill.Outcome)
	}
	return row
}

// summaryRow is a backup's own part of its row.
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
