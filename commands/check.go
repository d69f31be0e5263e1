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
	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/internal/ui"
)

func (r *run) checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "proves that backups can be restored, and says what hangs on damage",
		ArgsUsage: "[KEYSPACE/SHARD ...]",
		Description: `Goes from the records of all backups, or of those of some shards, to the packs
that hold their chunks. Without --read-data it reads records, recipes and the
ends of packs; with it every byte.

Example:
  shardseed check --root /backups
  shardseed check commerce/-80 --read-data-subset 1/7 --root /backups`,
		Flags: []cli.Flag{
			switchFlag("read-data", "read every byte too, the packs that were read longest ago first"),
			textFlag("read-data-subset", "read only a `PART` of the data: 5%, 1/7 or 10GiB"),
			rateFlag("read-limit", "read at most so many `BYTES` per second of the repository's data, such as 100MiB"),
		},
		Action: frugal(r.check),
	}
}

func (r *run) check(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	shards := parseShards(&k, c.Args().Slice())
	opts := check.Options{
		Read:     parseSubset(c, &k),
		Workers:  cpus.Count(),
		Wait:     throttle.New(parseRate(c, &k, "read-limit"), r.opts.Now).Wait,
		Progress: r.out,
		Now:      r.opts.Now,
	}
	if err := k.err(c); err != nil {
		return err
	}
	var err error
	if opts.Repo, err = openRepository(c.Context, root); err != nil {
		return err
	}
	if opts.Shards, err = knownShards(c.Context, opts.Repo, shards); err != nil {
		return err
	}
	damage := &damageTeller{out: r.out}
	opts.Findings = damage
	summary, err := check.Check(c.Context, opts)
	if err != nil {
		return hintRest(c.Context, opts.Read, err)
	}
	damage.end()
	r.tellCheck(summary, opts.Read != nil)
	var advice []string
	if summary.Repairable {
		advice = append(advice, "run \"shardseed repair --dry-run\" to see what can be saved; then \"shardseed repair\", and back up again")
	}
	return failCheck(summary, r.out.Err(), append(advice, lostAdvice(summary)...))
}

// lostAdvice says what to do about what no repair brings back.
func lostAdvice(s *check.Summary) []string {
	advice := slices.Clone(s.Advice)
	if s.Lost && !s.Repairable {
		const text = "what is lost comes back if the same files are backed up again; restore other backups with --backup, and give up those that stay damaged with \"shardseed rm\""
		advice = append([]string{text}, advice...)
	}
	return advice
}

// hintRest says how to go on with reading data that was interrupted.
func hintRest(ctx context.Context, read *check.Subset, err error) error {
	if read == nil || ctx.Err() == nil {
		return err
	}
	return hint.Wrap(err, "what was read is remembered: \"shardseed check --read-data-subset\" goes on with the rest")
}

// parseShards reads the shards of a command that takes any number.
func parseShards(k *checks, args []string) []shardName {
	shards := make([]shardName, len(args))
	for i, arg := range args {
		shards[i] = parseShard(k, arg)
		if arg == "" {
			k.addf("an argument is empty, want KEYSPACE/SHARD")
		}
	}
	return shards
}

// knownShards returns their names; all must have had a backup once.
func knownShards(ctx context.Context, repo *cas.Repository, shards []shardName) ([]string, error) {
	if len(shards) == 0 {
		return nil, nil
	}
	names, err := repo.Shards(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []string
	for _, shard := range shards {
		if !slices.Contains(names, shard.String()) {
			return nil, noBackup("check", shard, names)
		}
		chosen = append(chosen, shard.String())
	}
	return chosen, nil
}

func parseSubset(c *cli.Context, k *checks) *check.Subset {
	text := c.String("read-data-subset")
	if text == "" {
		if !c.Bool("read-data") {
			return nil
		}
		all := check.All()
		return &all
	}
	if c.Bool("read-data") {
		k.addf("flags --read-data and --read-data-subset exclude each other")
	}
	part, err := check.ParseSubset(text)
	if err != nil {
		k.addf("flag --read-data-subset: %v", err)
	}
	return &part
}

// tellCheck sums up.
func (r *run) tellCheck(s *check.Summary, read bool) {
	r.out.Object(struct {
		Type string `json:"type"` // "check"
		*check.Summary
	}{"check", s})
	r.out.Text("checked %s in %s, %s, %d chunks", countOf(s.Backups, "backup"), countOf(s.Packs, "pack"), ui.Bytes(s.Bytes), s.Frames)
	if read || s.ReadPacks > 0 {
		r.out.Text("read %s, %s; %s", countOf(s.ReadPacks, "pack"), ui.Bytes(s.ReadBytes), verifiedText(s))
	}
	if s.MarkedPacks > 0 {
		r.out.Text("%s marked as damaged, by an earlier repair", countOf(s.MarkedPacks, "pack"))
	}
	if s.Whole() {
		r.out.Text("no damage found")
	}
}

// verifiedText says how far the repository is verified.
func verifiedText(s *check.Summary) string {
	switch {
	case s.NeverRead > 0:
		return fmt.Sprintf("%s not verified yet", countOf(s.NeverRead, "pack"))
	case s.Oldest == nil:
		return "nothing to verify"
	}
	return "all packs verified since " + s.Oldest.UTC().Format(time.DateTime) + " UTC"
}

// countOf is a number of things.
func countOf(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// failCheck returns the error of a check that has found damage, or could not look
// at everything.
func failCheck(s *check.Summary, err error, advice []string) error {
	errs := append(slices.Clone(s.Errors), err)
	if !s.Whole() {
		var parts []string
		for _, part := range []struct {
			n     int
			thing string
		}{{s.DamagedObjects, "object"}, {s.DamagedPacks, "pack"}, {s.Damaged, "backup"}} {
			if part.n > 0 {
				parts = append(parts, countOf(part.n, part.thing))
			}
		}
		damaged := error(&codedError{fmt.Errorf("the repository is damaged: %s", strings.Join(parts, ", ")), exitDamaged})
		for _, text := range slices.Backward(advice) {
			damaged = hint.Wrap(damaged, text)
		}
		errs = append([]error{damaged}, errs...)
	}
	return errors.Join(errs...)
}
