package mysqlbackup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

// Outcome is how a drill ended. One that could not be made, or was
// interrupted, has none and leaves no record.
type Outcome string

// The outcomes.
const (
	DrillPassed Outcome = "passed"
	DrillFailed Outcome = "failed" // the backup is not what it should be
)

// Drill is the record of one restore drill: its proof.
type Drill struct {
	Version         int                  `json:"version"` // set when it is written
	Keyspace        manifest.Keyspace    `json:"keyspace"`
	Shard           manifest.Shard       `json:"shard"`
	Name            manifest.Name        `json:"name"`
	Outcome         Outcome              `json:"outcome"`
	Problems        []string             `json:"problems"` // why it failed, one fact each
	Time            time.Time            `json:"time"`     // UTC; when it ended
	Seconds         float64              `json:"duration_seconds"`
	Host            string               `json:"host"`
	ToolVersion     string               `json:"tool_version"`
	Flavor          replication.Flavor   `json:"flavor"`         // of the server that ran the drill
	ServerVersion   string               `json:"server_version"` // likewise
	PlainBytes      int64                `json:"plain_bytes"`    // restored, every byte verified
	Position        replication.Position `json:"position"`       // at which the server stood; zero: it did not start
	PositionChecked bool                 `json:"position_checked"`
	Tables          TableCounts          `json:"tables"`
	Findings        []TableFinding       `json:"findings"` // tables that are not just OK; at most maxFindings
	CaughtUp        *DrillCatchUp        `json:"caught_up,omitempty"`
}

// TableCounts counts tables by what CHECK TABLE said.
type TableCounts struct {
	OK        int `json:"ok"`
	Bad       int `json:"bad"`
	Unchecked int `json:"unchecked"` // their engine can't, or is not there, or has no key
}

// Total is the number of all tables.
func (c TableCounts) Total() int { return c.OK + c.Bad + c.Unchecked }

// TableFinding is what was said of one table.
type TableFinding struct {
	Schema string `json:"schema"`
	Table  string `json:"table"`
	Bad    bool   `json:"bad"` // else it was not checked, or only warned of
	Text   string `json:"text"`
}

// String returns schema.table: text.
func (f TableFinding) String() string { return f.Schema + "." + f.Table + ": " + f.Text }

// DrillCatchUp is what was seen when the drill's server had caught up.
type DrillCatchUp struct {
	Source     string `json:"source"` // HOST:PORT
	LagSeconds int64  `json:"lag_seconds"`
	Position   string `json:"position"`
}

const (
	drillVersion = 1
	maxFindings  = 100
)

// Passed tells whether nothing spoke against the backup.
func (d *Drill) Passed() bool { return d.Outcome == DrillPassed }

// Key returns the key of the backup.
func (d *Drill) Key() cas.Key { return manifest.Key(d.Keyspace, d.Shard, d.Name) }

// String says for people how it ended.
func (d *Drill) String() string {
	date := d.Time.UTC().Format(time.DateOnly)
	if !d.Passed() && d.Tables.Total() == 0 {
		return "FAILED " + date
	}
	text := fmt.Sprintf("%d tables OK", d.Tables.OK)
	if n := d.Tables.Unchecked; n > 0 {
		text += fmt.Sprintf(", %d could not be checked", n)
	}
	if n := d.Tables.Bad; n > 0 {
		text += fmt.Sprintf(", %d BAD", n)
	}
	if !d.Passed() {
		return "FAILED " + date + ": " + text
	}
	if d.CaughtUp != nil {
		text += ", caught up with " + d.CaughtUp.Source
	}
	return "verified " + date + ": " + text
}

func proofsOf(keyspace manifest.Keyspace, shard manifest.Shard) string {
	return "proofs/" + string(keyspace) + "/" + string(shard)
}

func proofName(key cas.Key) string { return "proofs/" + string(key) }

// LastDrill returns the record of a backup's last drill, nil if there was none.
func LastDrill(ctx context.Context, repo *cas.Repository, key cas.Key) (*Drill, error) {
	data, _, err := repo.Value(ctx, proofName(key))
	if errors.Is(err, cas.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeDrill(key, data)
}

func decodeDrill(key cas.Key, data []byte) (*Drill, error) {
	d := new(Drill)
	err := json.Unmarshal(data, d)
	switch {
	case err == nil && d.Version > drillVersion:
		return nil, hint.Wrap(&manifest.VersionError{What: "drill", Got: d.Version, Max: drillVersion}, "install a newer shardseed")
	case err == nil && d.Version < 1:
		err = fmt.Errorf("version %d", d.Version)
	case err == nil:
		err = d.validate(key)
	}
	if err != nil {
		return nil, &cas.CorruptError{Name: "values/" + proofName(key), Reason: err.Error()}
	}
	return d, nil
}

func (d *Drill) validate(key cas.Key) error {
	switch {
	case d.Key() != key:
		return fmt.Errorf("it is the proof of %s", d.Key())
	case d.Outcome != DrillPassed && d.Outcome != DrillFailed:
		return fmt.Errorf("outcome %q", d.Outcome)
	case d.Tables.OK < 0 || d.Tables.Bad < 0 || d.Tables.Unchecked < 0 || len(d.Findings) > maxFindings:
		return fmt.Errorf("tables %+v with %d findings", d.Tables, len(d.Findings))
	case d.Passed() && (d.Tables.Bad > 0 || len(d.Problems) > 0):
		return errors.New("it passed in spite of problems")
	}
	return nil
}

// writeDrill publishes the record.
func writeDrill(ctx context.Context, repo *cas.Repository, d *Drill) error {
	d.Version = drillVersion
	d.Problems = append([]string{}, d.Problems...) // an empty list is [], never null
	d.Findings = append([]TableFinding{}, d.Findings...)
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if _, err := repo.SetValue(ctx, proofName(d.Key()), data); err != nil {
		return fmt.Errorf("write the proof of the drill: %w", err)
	}
	return nil
}
