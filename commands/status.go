package commands

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/mysqlbackup"
)

func (r *run) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "shows what runs on this host, and how the last runs have ended",
		Description: `Shows the backups, restores and recoveries that run on this host, servers that a
killed run has left, and how the last backup and restore of each shard and
server have ended. All of it comes from the state folder.

Example:
  shardseed status`,
		Flags:  []cli.Flag{stateFlag()},
		Action: r.status,
	}
}

// activityObject is something that runs, or was left, in JSON.
type activityObject struct {
	Type    string    `json:"type"` // "activity"
	Running bool      `json:"running"`
	PID     int       `json:"pid,omitempty"`
	Datadir string    `json:"datadir,omitempty"` // known from the moment on in which the server may be changed
	Backup  string    `json:"backup,omitempty"`  // keyspace/shard/name
	Started time.Time `json:"started,omitzero"`
	Phase   string    `json:"phase,omitempty"` // fenced, stopped or started
	Drained bool      `json:"drained"`
}

func (r *run) status(c *cli.Context) error {
	var k checks
	k.positionals(c)
	dir := stateDir(c, &k)
	if err := k.err(c); err != nil {
		return err
	}
	activities, err := mysqlbackup.Activities(dir)
	if err != nil {
		return err
	}
	notes, err := readRuns(dir)
	if err != nil {
		return err
	}
	for _, a := range activities {
		r.out.Object(activityObject{"activity", a.Running, a.PID, a.Datadir, a.Backup, a.Started, a.Phase, a.Drained})
		r.out.Text("%s", describe(a))
	}
	var rows [][]string
	for _, n := range notes {
		r.out.Object(n)
		rows = append(rows, noteRow(n))
	}
	if len(rows) > 0 {
		r.out.Table([]string{"RUN", "SHARD", "ALIAS", "STARTED (UTC)", "TOOK", "EXIT", "BACKUP", "ERROR"}, rows)
	}
	if len(activities)+len(rows) == 0 {
		r.out.Text("nothing runs, and nothing is known of earlier runs")
	}
	return r.out.Err()
}

// describe tells people of an activity.
func describe(a mysqlbackup.Activity) string {
	switch {
	case a.Phase == "":
		return fmt.Sprintf("process %d works on a server; it has not been changed", a.PID)
	case a.Running:
		return fmt.Sprintf("process %d works on %s since %s UTC (%s): the server is %s", a.PID, a.Datadir, a.Started.UTC().Format(time.DateTime), a.Backup, a.Phase)
	}
	return fmt.Sprintf("process %d was killed at work on %s (%s, begun %s UTC): the server is %s; run \"shardseed recover\"",
		a.PID, a.Datadir, a.Backup, a.Started.UTC().Format(time.DateTime), a.Phase)
}

func noteRow(n runNote) []string {
	row := []string{
		n.Command, string(n.Keyspace) + "/" + string(n.Shard), n.Alias, n.Started.UTC().Format(time.DateTime),
		ui.Seconds(n.Finished.Sub(n.Started).Seconds()), fmt.Sprint(n.ExitCode), n.Backup, n.Message,
	}
	for i := range row {
		if row[i] == "" {
			row[i] = "-"
		}
	}
	return row
}
