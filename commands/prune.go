package commands

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "deletes what no backup needs any more",
		Description: `Deletes what no backup needs any more, and stores again what is needed of packs
of which little is. It may run beside backups, restores and itself, on any host.

Example:
  shardseed prune --dry-run --root /backups`,
		Flags: []cli.Flag{
			switchFlag("dry-run", "write and delete nothing, tell what would be done"),
			altsrc.NewStringFlag(&cli.StringFlag{
				Name: "max-unused", Value: "10%",
				Usage: "`PERCENT` of what is stored that may be of no use; unlimited: delete whole packs only",
			}),
			timeFlag("wait", time.Hour, "longest `TIME` to wait for backups that are at work"),
			timeFlag("stale-after", cas.DefaultStaleAfter, "`TIME` without a sign of life after which a backup or restore is ended"),
			altsrc.NewDurationFlag(&cli.DurationFlag{
				Name: "visibility-delay", Value: -1, DefaultText: "0s on the host's own file systems, else 1m",
				Usage: "`TIME` after which every host sees what one has created below the root",
			}),
		},
		Action: frugal(r.prune),
	}
}

func (r *run) prune(c *cli.Context) error {
	var k checks
	k.positionals(c)
	root := checkGlobals(c, &k).repository(&k)
	opts := cas.PruneOptions{
		MaxUnused: parsePercent(&k, "max-unused", c.String("max-unused")), DryRun: c.Bool("dry-run"),
		Wait: c.Duration("wait"), StaleAfter: c.Duration("stale-after"),
		Workers: cpus.Count() * 2, Progress: r.out, Now: r.opts.Now,
		Note: fmt.Sprintf("%s, process %d, shardseed %s", hostName(), os.Getpid(), toolVersion()),
	}
	if opts.Wait < 0 {
		k.addf("flag --wait: %s is less than nothing", opts.Wait)
	}
	if opts.StaleAfter < 2*cas.BeatEvery {
		k.addf("flag --stale-after: %s is too short, for there is a sign of life every %s only; at least %s", opts.StaleAfter, cas.BeatEvery, 2*cas.BeatEvery)
	}
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	if opts.Visibility = c.Duration("visibility-delay"); opts.Visibility < 0 {
		if opts.Visibility, err = local.VisibilityDelay(root); err != nil {
			return err
		}
	}
	return r.runPrune(c.Context, repo, opts)
}

func (r *run) runPrune(ctx context.Context, repo *cas.Repository, opts cas.PruneOptions) error {
	result, err := mysqlbackup.Prune(ctx, repo, opts)
	if err != nil {
		return err
	}
	r.tellPruned(result, opts.DryRun)
	return r.out.Err()
}

// parsePercent reads "10%" as 0.1, and "unlimited" as a number below 0.
func parsePercent(k *checks, name, text string) float64 {
	if text == "unlimited" {
		return -1
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !strings.HasSuffix(text, "%") || !(n >= 0 && n <= 100) {
		k.addf("flag --%s: %q is no part such as 10%%, and not \"unlimited\"", name, text)
	}
	return n / 100
}

func (r *run) tellPruned(p *cas.PruneResult, dryRun bool) {
	r.out.Object(struct {
		Type     string    `json:"type"` // "pruned"
		DryRun   bool      `json:"dry_run"`
		Backups  int       `json:"backups"`
		Packs    int       `json:"packs_deleted"`
		Deleted  int64     `json:"deleted_bytes"`
		Repacked int64     `json:"repacked_bytes"`
		Written  int64     `json:"written_bytes"`
		Freed    int64     `json:"freed_bytes"`
		Stored   int64     `json:"stored_bytes"`
		Unused   int64     `json:"unused_bytes"`
		Left     int       `json:"unnamed_files_removed"`
		LeftSize int64     `json:"unnamed_bytes_removed"`
		Revoked  []cas.Key `json:"sessions_revoked"`
		Waited   []cas.Key `json:"sessions_waited_for"`
		Waiting  []cas.Key `json:"sessions_waiting"`
	}{
		"pruned", dryRun, p.Backups, p.Packs, p.Deleted, p.Repacked, p.Written, p.Freed(), p.Stored, p.Unused, p.Left, p.LeftSize,
		orNone(p.Revoked), orNone(p.Waited), orNone(p.Waiting),
	})
	done := []string{"deleted", "repacked", "freed", "left"}
	if dryRun {
		done = []string{"would delete", "would repack", "would free", "would be left"}
	}
	r.out.Text("%s %s, %s; %s %s as %s", done[0], countOf(p.Packs, "pack"), ui.Bytes(p.Deleted), done[1], ui.Bytes(p.Repacked), ui.Bytes(p.Written))
	r.out.Text("%s %s; %s: %s for %s, of which %s are of no use", done[2], ui.Bytes(p.Freed()), done[3], ui.Bytes(p.Stored), countOf(p.Backups, "backup"), ui.Bytes(p.Unused))
	if p.Left > 0 {
		r.out.Text("removed %d files, %s, which writers left behind without a name", p.Left, ui.Bytes(p.LeftSize))
	}
	for _, key := range p.Revoked {
		r.out.Text("ended %s, which gave no sign of life", key)
	}
	if len(p.Waiting) == 0 || dryRun {
		return
	}
	names := make([]string, len(p.Waiting))
	for i, key := range p.Waiting {
		names[i] = string(key)
	}
	r.out.Warn("not all is deleted yet: " + strings.Join(names, ", ") + " may still need some of it; run prune again when it has ended, it goes on from here")
}

// orNone makes a list that is never null in JSON.
func orNone(keys []cas.Key) []cas.Key { return append([]cas.Key{}, keys...) }
