package commands

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) statsCommand() *cli.Command {
	return &cli.Command{
		Name:      "stats",
		Usage:     "measures what backups take in the repository",
		ArgsUsage: "[KEYSPACE/SHARD]",
		Description: `Measures what the backups of a shard, or of all shards, take in the repository:
each by itself, as if it were alone, and all together.

Example:
  shardseed stats commerce/-80 --root /backups`,
		Action: frugal(r.stats),
	}
}

func (r *run) stats(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	var one shardName
	if c.Args().Present() {
		one = parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	}
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	shards, err := chosenShards(c.Context, repo, one)
	if err != nil {
		return err
	}
	var backups []*manifest.Manifest
	var failed []error
	for _, shard := range shards {
		found, err := manifests(c.Context, repo, shard)
		backups = append(backups, found...)
		failed = append(failed, err)
	}
	each, all, err := mysqlbackup.Stats(c.Context, repo, backups)
	if err != nil {
		return err
	}
	r.tellStats(backups, each, all)
	return errors.Join(append(failed, r.out.Err())...)
}

// chosenShards returns the shard that was named, else all that ever had a
// backup.
func chosenShards(ctx context.Context, repo *cas.Repository, one shardName) ([]shardName, error) {
	names, err := repo.Shards(ctx)
	if err != nil {
		return nil, err
	}
	if one != (shardName{}) {
		if !slices.Contains(names, one.String()) {
			return nil, noBackup("stats", one, names)
		}
		return []shardName{one}, nil
	}
	var shards []shardName
	for _, name := range names {
		keyspace, shard, err := manifest.ParseKeyspaceShard(name)
		if err == nil { // else nobody's backups
			shards = append(shards, shardName{keyspace, shard})
		}
	}
	return shards, nil
}

// statsObject is a usage in JSON.
type statsObject struct {
	Plain  int64                 `json:"plain_bytes"`
	Unique int64                 `json:"unique_bytes"`
	Stored int64                 `json:"stored_bytes"`
	Meta   int64                 `json:"metadata_bytes"`
	Ratio  float64               `json:"ratio"`
	Chunks int64                 `json:"chunks"`
	Codecs map[string]codecStats `json:"codecs"`
	Depths []int64               `json:"depths"`
}

type codecStats struct {
	Frames int64 `json:"frames"`
	Plain  int64 `json:"plain_bytes"`
	Stored int64 `json:"stored_bytes"`
}

func newStatsObject(u *mysqlbackup.Usage) statsObject {
	object := statsObject{
		Plain: u.Plain, Unique: u.Unique, Stored: u.Stored, Meta: u.Meta, Ratio: ratio(u.Plain, u.Stored),
		Chunks: u.Chunks, Codecs: map[string]codecStats{}, Depths: u.Depths[:],
	}
	for codec, c := range u.Codecs {
		object.Codecs[cas.Codec(codec).String()] = codecStats{c.Frames, c.Plain, c.Stored}
	}
	return object
}

// ratio is rounded to hundredths; 0 if nothing is stored.
func ratio(plain, stored int64) float64 {
	if stored == 0 {
		return 0
	}
	return math.Round(float64(plain)/float64(stored)*100) / 100
}

func (r *run) tellStats(backups []*manifest.Manifest, each []mysqlbackup.Usage, all mysqlbackup.Usage) {
	rows := [][]string{}
	for i, m := range backups {
		object := struct {
			Type     string            `json:"type"` // "backup_stats"
			Keyspace manifest.Keyspace `json:"keyspace"`
			Shard    manifest.Shard    `json:"shard"`
			Name     manifest.Name     `json:"name"`
			Added    int64             `json:"added_bytes"`
			statsObject
		}{"backup_stats", m.Keyspace, m.Shard, m.Name, m.Totals.Stored, newStatsObject(&each[i])}
		r.out.Object(object)
		rows = append(rows, usageRow(m.Key().String(), ui.Bytes(m.Totals.Stored), &each[i]))
	}
	r.out.Object(struct {
		Type    string `json:"type"` // "stats"
		Backups int    `json:"backups"`
		statsObject
	}{"stats", len(backups), newStatsObject(&all)})
	rows = append(rows, usageRow(fmt.Sprintf("all %d", len(backups)), "", &all))
	r.out.Table([]string{"BACKUP", "ADDED", "SIZE", "UNIQUE", "STORED", "RATIO", "RAW", "ZSTD", "DELTA", "METADATA", "CHUNKS BY DEPTH"}, rows)
}

// usageRow is a usage as a row of the table.
func usageRow(name, added string, u *mysqlbackup.Usage) []string {
	row := []string{name, added, ui.Bytes(u.Plain), ui.Bytes(u.Unique), ui.Bytes(u.Stored), strconv.FormatFloat(ratio(u.Plain, u.Stored), 'f', 2, 64)}
	for _, c := range u.Codecs {
		row = append(row, ui.Bytes(c.Stored))
	}
	depths := make([]string, 0, len(u.Depths))
	last := 0
	for depth, chunks := range u.Depths {
		depths = append(depths, strconv.FormatInt(chunks, 10))
		if chunks > 0 {
			last = depth
		}
	}
	return append(row, ui.Bytes(u.Meta), strings.Join(depths[:last+1], " "))
}
