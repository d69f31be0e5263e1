package commands

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "tells everything about a backup",
		ArgsUsage: "KEYSPACE/SHARD NAME",
		Description: `Tells everything about a backup; with --files also every file, its page check
and the pages that failed it.

Example:
  shardseed show commerce/-80 2026-08-01.131502.zone1-0000000101 --root /backups`,
		Flags: []cli.Flag{
			switchFlag("files", "list the files too"),
		},
		Action: r.show,
	}
}

func (r *run) show(c *cli.Context) error {
	repo, shard, name, err := openBackup(c)
	if err != nil {
		return err
	}
	e, err := mysqlbackup.ReadEntry(c.Context, repo, manifest.Key(shard.keyspace, shard.shard, name))
	if errors.Is(err, cas.ErrNotFound) {
		return unknownBackup("show", shard, name)
	}
	if err != nil {
		return err
	}
	m := e.Manifest
	if m == nil {
		return e.Err
	}
	last, err := r.lastVerified(c.Context, repo, shard)
	if err != nil {
		return err
	}
	verification := last.Of(m)
	r.out.Object(struct {
		Type string `json:"type"` // "manifest"
		*manifest.Manifest
		check.Verification
		standing
	}{"manifest", m, verification, newStanding(e)})
	rows := append(factRows(m), []string{"verified:", verificationText(verification)})
	r.out.Table(nil, append(rows, standingRows(e)...))
	if c.Bool("files") {
		if err := r.showFiles(c.Context, repo, m); err != nil {
			return err
		}
	}
	return errors.Join(e.Err, r.out.Err())
}

// standingRows is what the repository knows of a backup besides its manifest.
func standingRows(e *mysqlbackup.Entry) [][]string {
	var rows [][]string
	if e.Pin != nil {
		rows = append(rows, []string{"pinned:", noteText(e.Pin)})
	}
	if e.Removing {
		rows = append(rows, []string{"removal:", "begun, and not ended"})
	}
	if e.Drill == nil {
		return append(rows, []string{"drill:", "none"})
	}
	rows = append(rows, []string{"drill:", e.Drill.String()})
	for _, problem := range e.Drill.Problems {
		rows = append(rows, []string{"problem:", problem})
	}
	for _, finding := range e.Drill.Findings {
		rows = append(rows, []string{"table:", finding.String()})
	}
	return rows
}

func noteText(n *mysqlbackup.Note) string {
	text := fmt.Sprintf("since %s UTC by %s", n.Time.UTC().Format(time.DateTime), n.Host)
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	return text
}

// factRows is what people are told of a backup.
func factRows(m *manifest.Manifest) [][]string {
	s := m.Summary()
	rows := [][]string{
		{"backup:", m.Key().String()},
		{"taken:", fmt.Sprintf("%s to %s UTC, %s", m.Started.UTC().Format(time.DateTime), m.Finished.UTC().Format(time.DateTime), ui.Seconds(s.Duration))},
		{"server down:", ui.Seconds(m.Downtime)},
		{"engine:", string(m.Engine)},
		{"tool:", "shardseed " + m.ToolVersion},
		{"tablet:", m.TabletAlias.String()},
		{"host:", m.Host},
		{"server:", strings.TrimSpace(fmt.Sprintf("%s %s %s", m.Server.Flavor, m.Server.Version, m.Server.VersionComment))},
		{"server id:", strconv.FormatUint(uint64(m.Server.ID), 10)},
	}
	if m.Server.UUID != "" {
		rows = append(rows, []string{"server uuid:", m.Server.UUID})
	}
	rows = append(rows, []string{"InnoDB:", fmt.Sprintf("%s, pages of %s, lower_case_table_names=%d",
		m.Server.InnoDBDataFilePath, ui.Bytes(int64(m.Server.PageSize)), m.Server.LowerCaseTableNames)})
	rows = append(rows, positionRows(m)...)
	rows = append(rows, []string{"clean stop:", cleanStop(m.CleanStop)})
	for _, root := range m.Roots {
		rows = append(rows, []string{root.Name + ":", string(root.Path)})
	}
	rows = append(rows,
		[]string{"size:", fmt.Sprintf("%s in %d files, folders and links", ui.Bytes(m.Totals.Plain), m.Files.Count)},
		[]string{"new:", fmt.Sprintf("%s, stored as %s", ui.Bytes(m.Totals.New), ui.Bytes(m.Totals.Stored))},
		[]string{"packs:", strconv.Itoa(len(m.Packs))},
		[]string{"pages:", pageCounts(m.Pages)},
	)
	if m.Good() {
		return append(rows, []string{"marks:", "none"})
	}
	for _, mark := range m.Marks {
		rows = append(rows, []string{"mark:", mark.String()})
	}
	return rows
}

// positionRows is where replication stands in the backup.
func positionRows(m *manifest.Manifest) [][]string {
	if !m.PositionKnown {
		return [][]string{{"position:", "not known"}}
	}
	p := m.Position
	gtids := p.GTIDs()
	if gtids == "" {
		gtids = "no GTIDs"
	}
	rows := [][]string{{"position:", gtids}}
	if p.BinlogFile != "" {
		rows = append(rows, []string{"binary log:", fmt.Sprintf("%s at byte %d", p.BinlogFile, p.BinlogOffset)})
	}
	if m.Source != (manifest.Source{}) {
		source := mysqlbackup.HostPort{Host: m.Source.Host, Port: m.Source.Port}.String()
		if p.SourceFile != "" {
			source += fmt.Sprintf(", %s at byte %d", p.SourceFile, p.SourceOffset)
		}
		rows = append(rows, []string{"source:", source})
	}
	return rows
}

func cleanStop(stop manifest.CleanStop) string {
	if !stop.Proved {
		return "not proved"
	}
	return fmt.Sprintf("proved at LSN %d: %s", stop.LSN, strings.Join(stop.Signals, ", "))
}

func pageCounts(p manifest.Pages) string {
	return fmt.Sprintf("%d checked, %d bad, %d empty, %d without a checksum", p.Checked, p.Bad, p.Zero, p.Unchecked)
}
