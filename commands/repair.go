package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/internal/cpus"
	"github.com/shardseed/shardseed/internal/throttle"
	"github.com/shardseed/shardseed/internal/ui"
)

func (r *run) repairCommand() *cli.Command {
	return &cli.Command{
		Name:  "repair",
		Usage: "marks damaged packs and saves what can be read of them",
		Description: `Checks the repository and reads the packs that are in doubt. Damaged ones are
marked, so that the next backup stores anew what they held; what can still be
read of them is copied into new packs. Nothing is removed.

Example:
  shardseed repair --dry-run --root /backups
  shardseed repair --root /backups`,
		Flags: []cli.Flag{
			switchFlag("dry-run", "say what would be done, and change nothing"),
			rateFlag("read-limit", "read at most so many `BYTES` per second of the repository's data, such as 100MiB"),
		},
		Action: frugal(r.repair),
	}
}

// repairNote says in the repository who marked a pack and when.
type repairNote struct {
	Time        time.Time `json:"time"`
	Host        string    `json:"host"` // "": not known
	ToolVersion string    `json:"tool_version"`
}

func (r *run) repair(c *cli.Context) error {
	var k checks
	k.positionals(c)
	root := checkGlobals(c, &k).repository(&k)
	wait := throttle.New(parseRate(c, &k, "read-limit"), r.opts.Now).Wait
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	note, err := json.Marshal(repairNote{r.opts.Now().UTC().Truncate(time.Second), hostName(), toolVersion()})
	if err != nil {
		return err
	}
	random := make([]byte, 8)
	if _, err := io.ReadFull(r.opts.Random, random); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	after := &damageTeller{out: r.out}
	opts := check.RepairOptions{
		Options: check.Options{
			Repo: repo, Workers: cpus.Count(), Wait: wait, Findings: unsaid{}, Progress: r.out, Now: r.opts.Now,
		},
		Host: sessionHost(hostName()), Random: random, Note: note, After: after, DryRun: c.Bool("dry-run"),
	}
	result, err := check.Repair(c.Context, opts)
	if err != nil {
		return err
	}
	after.end()
	r.tellRepair(result, opts.DryRun)
	left := result.After
	left.Repairable = false // what this could not do, another will not
	advice := lostAdvice(&left)
	if opts.DryRun {
		left = result.Before
		if len(result.Aside)+len(result.Marked)+result.Salvaged > 0 {
			advice = []string{"run \"shardseed repair\" without --dry-run"}
		}
	}
	return failCheck(&left, r.out.Err(), advice)
}

// unsaid drops what was found before a repair: what is left is told.
type unsaid struct{}

func (unsaid) Object(check.Object) {}
func (unsaid) Pack(check.Pack)     {}
func (unsaid) Range(check.Range)   {}
func (unsaid) Backup(check.Backup) {}

// sessionHost makes a host's name fit for the name of a session.
func sessionHost(name string) string {
	fit := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, strings.TrimLeft(name, "."))
	const most = 100
	return fit[:min(len(fit), most)]
}

func (r *run) tellRepair(result *check.Repaired, dry bool) {
	verb := func(done, would string) string {
		if dry {
			return would
		}
		return done
	}
	for _, name := range result.Aside {
		r.out.Object(struct {
			Type   string `json:"type"` // "aside_object"
			Name   string `json:"name"`
			DryRun bool   `json:"dry_run"`
		}{"aside_object", name, dry})
		r.out.Text("%s %s aside: what it said of when packs were read is lost, they are read again first", verb("set", "would set"), name)
	}
	for _, id := range result.Marked {
		r.out.Object(struct {
			Type   string `json:"type"` // "marked_pack"
			Pack   cas.ID `json:"pack"`
			DryRun bool   `json:"dry_run"`
		}{"marked_pack", id, dry})
		r.out.Text("%s pack %s as damaged", verb("marked", "would mark"), id)
	}
	for _, key := range result.Whole {
		r.out.Object(struct {
			Type     string `json:"type"` // "whole_backup"
			Keyspace string `json:"keyspace"`
			Shard    string `json:"shard"`
			Name     string `json:"name"`
			DryRun   bool   `json:"dry_run"`
		}{"whole_backup", key.Keyspace(), key.ShardName(), key.Name(), dry})
		r.out.Text("backup %s %s %s whole again", key.Shard(), key.Name(), verb("is", "would be"))
	}
	r.out.Object(struct {
		Type     string        `json:"type"` // "repair"
		DryRun   bool          `json:"dry_run"`
		Aside    int           `json:"aside_objects"`
		Marked   int           `json:"marked_packs"`
		Salvaged int           `json:"salvaged_chunks"`
		Bytes    int64         `json:"salvaged_bytes"`
		Unsaved  int           `json:"unreadable_frames"`
		NewPacks int           `json:"new_packs"`
		Whole    int           `json:"whole_backups"`
		Before   check.Summary `json:"before"`
		After    check.Summary `json:"after"`
	}{
		"repair", dry, len(result.Aside), len(result.Marked), result.Salvaged, result.Bytes, result.Unsaved, len(result.NewPacks), len(result.Whole),
		result.Before, result.After,
	})
	if len(result.Marked) == 0 && result.Salvaged == 0 {
		if len(result.Aside) == 0 {
			r.out.Text("nothing to repair")
		}
		return
	}
	r.out.Text("%s %s, %s, of damaged packs; %s could not be read", verb("saved", "would save"), countOf(result.Salvaged, "chunk"), ui.Bytes(result.Bytes),
		countOf(result.Unsaved, "chunk"))
}
