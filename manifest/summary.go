package manifest

import (
	"time"

	"github.com/shardseed/shardseed/replication"
)

// Summary is what a list of backups shows of one.
type Summary struct {
	Keyspace      Keyspace             `json:"keyspace"`
	Shard         Shard                `json:"shard"`
	Name          Name                 `json:"name"`
	Time          time.Time            `json:"time"` // UTC; when the backup was begun, as in Name
	TabletAlias   TabletAlias          `json:"tablet_alias"`
	Flavor        replication.Flavor   `json:"flavor"`
	Version       string               `json:"server_version"`
	Engine        Engine               `json:"engine"`
	Plain         int64                `json:"plain_bytes"`
	New           int64                `json:"new_bytes"`
	Stored        int64                `json:"stored_bytes"`
	Duration      float64              `json:"duration_seconds"`
	Downtime      float64              `json:"downtime_seconds"`
	Position      replication.Position `json:"position"` // meaningless unless PositionKnown
	PositionKnown bool                 `json:"position_known"`
	Marks         []Mark               `json:"marks"` // never nil; shared with the manifest
}

// Summary returns what a list shows of the backup.
func (m *Manifest) Summary() Summary {
	marks := m.Marks
	if marks == nil {
		marks = []Mark{}
	}
	return Summary{
		Keyspace:      m.Keyspace,
		Shard:         m.Shard,
		Name:          m.Name,
		Time:          m.Name.Time,
		TabletAlias:   m.TabletAlias,
		Flavor:        m.Server.Flavor,
		Version:       m.Server.Version,
		Engine:        m.Engine,
		Plain:         m.Totals.Plain,
		New:           m.Totals.New,
		Stored:        m.Totals.Stored,
		Duration:      max(0, m.Finished.Sub(m.Started).Seconds()),
		Downtime:      m.Downtime,
		Position:      m.Position,
		PositionKnown: m.PositionKnown,
		Marks:         marks,
	}
}
