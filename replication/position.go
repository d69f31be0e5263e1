package replication

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Position is where a server stands in the history of its shard, and where a
// copy of it resumes. The GTID part is Executed for MySQL and Domains for
// MariaDB; only it is compared and printed, the rest is recorded beside it.
// The zero value is an unknown position; a Position with a Flavor only is that
// of a server that has executed nothing.
type Position struct {
	Flavor   Flavor
	Executed GTIDSet         // MySQL: @@gtid_executed
	Purged   GTIDSet         // MySQL: @@gtid_purged
	Domains  MariaDBPosition // MariaDB: @@gtid_slave_pos of a replica, @@gtid_binlog_pos of a primary; one GTID for each domain

	BinlogState  MariaDBPosition // MariaDB: @@gtid_binlog_state
	BinlogFile   string          // own binary log; empty without one
	BinlogOffset uint64          // bytes, end of the last transaction
	SourceFile   string          // the source's binary log: Relay_Source_Log_File
	SourceOffset uint64          // bytes: Exec_Source_Log_Pos
}

// IsZero reports whether nothing is known.
func (p Position) IsZero() bool { return p.Flavor == "" && p.encode() == (positionJSON{}) }

// Contains reports whether a server at p has everything that a server at q has.
// Positions of different flavors never contain each other.
func (p Position) Contains(q Position) bool {
	return p.Flavor == q.Flavor && p.Executed.Contains(q.Executed) && p.Domains.Contains(q.Domains)
}

// Equal reports whether the flavors and GTID parts are the same: files, offsets
// and what is purged may differ, as they do after a restart.
func (p Position) Equal(q Position) bool {
	return p.Flavor == q.Flavor && p.Executed.Equal(q.Executed) && p.Domains.Equal(q.Domains)
}

// Subtract returns the GTID part of p that q lacks, and nothing else.
func (p Position) Subtract(q Position) Position {
	return Position{
		Flavor:   p.Flavor,
		Executed: p.Executed.Subtract(q.Executed),
		Domains:  p.Domains.Subtract(q.Domains),
	}
}

// LogReached reports whether an offset in a binary log is at or behind another
// in the logs of the same server: their names end in ascending numbers, which
// get longer after 999999. Nothing is reached from an unknown place.
func LogReached(file string, offset uint64, wantFile string, wantOffset uint64) bool {
	switch {
	case file == wantFile:
		return offset >= wantOffset
	case len(file) != len(wantFile):
		return len(file) > len(wantFile)
	}
	return file > wantFile
}

// IsEmpty reports whether the GTID part holds nothing.
func (p Position) IsEmpty() bool { return p.Executed.IsEmpty() && p.Domains.IsEmpty() }

// GTIDs is the GTID part as the server takes it, without the flavor.
func (p Position) GTIDs() string {
	if p.Flavor == MariaDB {
		return p.Domains.String()
	}
	return p.Executed.String()
}

// String is the flavor and the GTID part, such as "mariadb:0-1-100", or "" for
// an unknown position. ParsePosition reads it back.
func (p Position) String() string {
	if p.Flavor == "" {
		return ""
	}
	return string(p.Flavor) + ":" + p.GTIDs()
}

// Short is the GTID part for messages: bounded, never empty, not to be parsed.
func (p Position) Short() string {
	text := p.Executed.Short()
	if p.Flavor == MariaDB {
		text = p.Domains.Short()
	}
	if text == "" {
		return "nothing"
	}
	return text
}

// ParsePosition reads what String prints. The result has a GTID part only.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return Position{}, nil
	}
	name, gtids, found := strings.Cut(text, ":")
	if !found {
		return Position{}, fmt.Errorf("parse position %q: want flavor:gtids", clip(text))
	}
	flavor, err := ParseFlavor(name)
	if err != nil {
		return Position{}, fmt.Errorf("parse position: %w", err)
	}
	return ParseGTIDs(flavor, gtids)
}

// ParseGTIDs reads the GTID part of a position as a server of the flavor prints
// it; for MariaDB, one GTID for each domain.
func ParseGTIDs(flavor Flavor, gtids string) (Position, error) {
	p := Position{Flavor: flavor}
	var err error
	if flavor == MariaDB {
		p.Domains, err = parseDomains(gtids)
	} else {
		p.Executed, err = ParseGTIDSet(gtids)
	}
	if err != nil {
		return Position{}, err
	}
	return p, nil
}

// parseDomains reads a list that has one GTID for each domain.
func parseDomains(text string) (MariaDBPosition, error) {
	p, err := ParseMariaDBPosition(text)
	if err != nil {
		return MariaDBPosition{}, err
	}
	for i := 1; i < len(p.gtids); i++ {
		if p.gtids[i].Domain == p.gtids[i-1].Domain {
			return MariaDBPosition{}, fmt.Errorf("parse MariaDB position: domain %d stands twice", p.gtids[i].Domain)
		}
	}
	return p, nil
}

// positionJSON is a Position in JSON; it is part of the repository's format.
type positionJSON struct {
	Flavor       Flavor `json:"flavor,omitempty"`
	Executed     string `json:"executed,omitempty"` // the GTID part of either flavor
	Purged       string `json:"purged,omitempty"`
	BinlogState  string `json:"binlog_state,omitempty"`
	BinlogFile   string `json:"binlog_file,omitempty"`
	BinlogOffset uint64 `json:"binlog_offset,omitempty"`
	SourceFile   string `json:"source_file,omitempty"`
	SourceOffset uint64 `json:"source_offset,omitempty"`
}

func (p Position) encode() positionJSON {
	return positionJSON{
		Flavor:       p.Flavor,
		Executed:     p.GTIDs(),
		Purged:       p.Purged.String(),
		BinlogState:  p.BinlogState.String(),
		BinlogFile:   p.BinlogFile,
		BinlogOffset: p.BinlogOffset,
		SourceFile:   p.SourceFile,
		SourceOffset: p.SourceOffset,
	}
}

// MarshalJSON returns an object with the fields flavor, executed (the GTID part
// of either flavor), purged, binlog_state, binlog_file, binlog_offset,
// source_file and source_offset; those that are empty are left out.
func (p Position) MarshalJSON() ([]byte, error) { return json.Marshal(p.encode()) }

// UnmarshalJSON reads what MarshalJSON writes and refuses everything else:
// unknown fields, unknown flavors, and fields of the other flavor.
func (p *Position) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var fields positionJSON
	if err := decoder.Decode(&fields); err != nil {
		return fmt.Errorf("decode position: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("decode position: more than one value")
	}
	parsed, err := fields.decode()
	if err != nil {
		return fmt.Errorf("decode position: %w", err)
	}
	*p = parsed
	return nil
}

// Bounds of a position's texts, in bytes. Each transaction's number takes about
// twice as much memory as text.
const (
	maxGTIDText = 4 << 20
	maxLogName  = 4 << 10
)

func (f positionJSON) decode() (Position, error) {
	if f == (positionJSON{}) {
		return Position{}, nil
	}
	if max(len(f.Executed), len(f.Purged), len(f.BinlogState)) > maxGTIDText || max(len(f.BinlogFile), len(f.SourceFile)) > maxLogName {
		return Position{}, fmt.Errorf("GTIDs of more than %d bytes, or a name of more than %d", maxGTIDText, maxLogName)
	}
	flavor, err := ParseFlavor(string(f.Flavor))
	if err != nil {
		return Position{}, err
	}
	if flavor == MariaDB && f.Purged != "" || flavor == MySQL && f.BinlogState != "" {
		return Position{}, fmt.Errorf("a %s position has a field of the other flavor", flavor)
	}
	p, err := ParseGTIDs(flavor, f.Executed)
	if err != nil {
		return Position{}, err
	}
	if p.Purged, err = ParseGTIDSet(f.Purged); err != nil {
		return Position{}, err
	}
	if p.BinlogState, err = ParseMariaDBPosition(f.BinlogState); err != nil {
		return Position{}, err
	}
	p.BinlogFile, p.BinlogOffset = f.BinlogFile, f.BinlogOffset
	p.SourceFile, p.SourceOffset = f.SourceFile, f.SourceOffset
	return p, nil
}
