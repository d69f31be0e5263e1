package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// Version is the version of the manifests that this program writes, and the
// newest that it reads.
const Version = 1

// MaxSize bounds an encoded manifest, in bytes: most of it is the hint of the
// packs, 67 bytes for each 64 MiB stored.
const MaxSize = 64 << 20

// Engine is how a backup was taken.
type Engine string

// The engines.
const (
	EngineOffline Engine = "offline" // the server was stopped for it and started again
	EngineStopped Engine = "stopped" // the server was stopped before and stays so: the position is not known
)

// Manifest is the record of one backup.
type Manifest struct {
	Version       int                  `json:"version"` // set by Encode
	Keyspace      Keyspace             `json:"keyspace"`
	Shard         Shard                `json:"shard"`
	Name          Name                 `json:"name"`
	TabletAlias   TabletAlias          `json:"tablet_alias"` // the one in Name
	Host          string               `json:"host"`
	ToolVersion   string               `json:"tool_version"`
	Engine        Engine               `json:"engine"`
	Server        Server               `json:"server"`
	Started       time.Time            `json:"started"`          // UTC
	Finished      time.Time            `json:"finished"`         // UTC
	Downtime      float64              `json:"downtime_seconds"` // of the server; 0 with EngineStopped
	CleanStop     CleanStop            `json:"clean_stop"`
	Position      replication.Position `json:"position"` // meaningless unless PositionKnown
	PositionKnown bool                 `json:"position_known"`
	Source        Source               `json:"source,omitzero"`    // zero: the server replicated from nowhere
	Channels      []Channel            `json:"channels,omitempty"` // from which the server replicated; the first is Source's
	State         State                `json:"state"`
	MyCnf         string               `json:"my_cnf"` // for information; always through RedactConfig
	Roots         []Root               `json:"roots"`  // sorted by name
	Files         FileList             `json:"files"`
	Packs         []cas.ID             `json:"packs"` // sorted; every pack the backup needs: a hint, repacking may move chunks
	Totals        Totals               `json:"totals"`
	Pages         Pages                `json:"pages"` // of all files
	Marks         []Mark               `json:"marks"` // empty: nothing is wrong with the backup
}

// Server is what the server said of itself. With [EngineStopped] only what its
// files tell is known.
type Server struct {
	Flavor              replication.Flavor `json:"flavor"`
	Version             string             `json:"version"`         // as the server prints it, in full
	VersionComment      string             `json:"version_comment"` // likewise
	UUID                string             `json:"server_uuid"`     // "" on MariaDB
	ID                  uint32             `json:"server_id"`
	DataDir             Path               `json:"datadir"`
	PageSize            int                `json:"page_size_bytes"` // of InnoDB
	InnoDBDataFilePath  string             `json:"innodb_data_file_path"`
	LowerCaseTableNames int                `json:"lower_case_table_names"`
	GTIDMode            string             `json:"gtid_mode"`           // "" on MariaDB
	GTIDDomainID        uint32             `json:"gtid_domain_id"`      // MariaDB
	LogBin              Path               `json:"log_bin"`             // base name of the binary logs; "" = off
	RelayLog            Path               `json:"relay_log,omitempty"` // base name of the relay logs
	CharacterSet        string             `json:"character_set_server"`
}

// CleanStop says how it was proved that the files are those of a server that
// had been shut down in order.
type CleanStop struct {
	Proved  bool     `json:"proved"`
	Signals []string `json:"signals"` // what was checked and found right, for people
	LSN     uint64   `json:"lsn"`     // at which InnoDB stopped
}

// Source is the server from which another replicates.
type Source struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// Channel is one replication channel: its source, and how far the server had
// applied what comes from there. A replica without GTIDs can be seeded from
// File and Offset, of that very source only.
type Channel struct {
	Name         string `json:"name"` // "" is the default channel
	Source       Source `json:"source"`
	ServerUUID   string `json:"server_uuid,omitempty"` // of the source; "" on MariaDB
	ServerID     uint32 `json:"server_id,omitempty"`   // of the source; 0 = not known
	AutoPosition bool   `json:"auto_position"`         // it replicates by GTID
	File         string `json:"file,omitempty"`        // the source's binary log
	Offset       uint64 `json:"offset,omitempty"`      // bytes
	Filters      string `json:"filters,omitempty"`     // what it leaves out; "" if nothing
}

// State is how the server ran before the backup changed anything.
type State struct {
	ReadOnly          bool `json:"read_only"`
	SuperReadOnly     bool `json:"super_read_only"`
	SemiSyncReplica   bool `json:"semi_sync_replica"`
	SemiSyncSource    bool `json:"semi_sync_source"`
	ReplicaConfigured bool `json:"replica_configured"`
	ReplicaIORunning  bool `json:"replica_io_running"`
	ReplicaSQLRunning bool `json:"replica_sql_running"`
}

// Root is one of the folders that the files of a server stand in: "datadir",
// "innodb_home", "redo", "undo", "external-1" and so on.
type Root struct {
	Name string `json:"name"` // lower-case letters, digits, "_" and "-"
	Path Path   `json:"path"` // absolute, on the server that was backed up
}

// FileList says where the list of files is stored; see [ReadFiles].
type FileList struct {
	Count     int64  `json:"count"`            // entries: files, folders and symlinks
	Size      int64  `json:"size_bytes"`       // of the encoded list
	ChunkSize int    `json:"chunk_size_bytes"` // of the encoded list
	Root      cas.ID `json:"root"`             // of its recipe
}

// Totals measures what a backup holds and what it cost. "Plain" is before
// compression, "new" is what the repository did not have yet.
type Totals struct {
	Plain     int64 `json:"plain_bytes"`  // sum of the files' sizes
	Zero      int64 `json:"zero_bytes"`   // of Plain: in chunks of zeros, which are not stored
	New       int64 `json:"new_bytes"`    // of Plain: in chunks newly stored
	Stored    int64 `json:"stored_bytes"` // written into the repository for it, everything included
	Chunks    int64 `json:"chunks"`       // of all files, zero chunks included
	NewChunks int64 `json:"new_chunks"`
}

// MarkKind is what is wrong with a marked backup.
type MarkKind string

// The marks of this version. Readers take others too, for they may come from
// a newer program.
const (
	MarkBadPages             MarkKind = "bad-pages"              // pages failed their check and were copied as they are
	MarkPositionNotRechecked MarkKind = "position-not-rechecked" // the position could not be read again after the copy
	MarkServerDidNotRestart  MarkKind = "server-did-not-restart" // the server did not come back after the copy
)

// Mark is one thing that is wrong with a backup.
type Mark struct {
	Kind   MarkKind `json:"kind"`
	Detail string   `json:"detail"` // for people, one line
}

// NewMark returns a mark whose detail is fit for a manifest whatever it was:
// one line, UTF-8, of bounded length.
func NewMark(kind MarkKind, detail string) Mark {
	line := strings.Join(strings.Fields(strings.ToValidUTF8(detail, "?")), " ")
	return Mark{Kind: kind, Detail: strings.ToValidUTF8(line[:min(len(line), maxText)], "")}
}

// String returns the mark for people: its kind, and the detail if there is any.
func (m Mark) String() string {
	return strings.TrimSuffix(string(m.Kind)+": "+m.Detail, ": ")
}

// Good tells whether nothing is wrong with the backup.
func (m *Manifest) Good() bool { return len(m.Marks) == 0 }

// Key returns the key under which the backup is stored in a repository.
func (m *Manifest) Key() cas.Key { return Key(m.Keyspace, m.Shard, m.Name) }

// VersionError says that something was written by a newer program.
type VersionError struct {
	What string // "manifest", "file list"
	Got  int    // version found
	Max  int    // newest version that this program reads
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s version %d is newer than this program (reads up to %d)", e.What, e.Got, e.Max)
}

func checkVersion(what string, got, newest int) error {
	switch {
	case got < 1:
		return fmt.Errorf("%s version %d: versions start at 1", what, got)
	case got > newest:
		return hint.Wrap(&VersionError{What: what, Got: got, Max: newest}, "install a newer shardseed")
	}
	return nil
}

// Encode returns the manifest's JSON form, with Version set. The same manifest
// always gives the same bytes. An invalid manifest is an error.
func (m *Manifest) Encode() ([]byte, error) {
	out := *m
	out.Version = Version
	out.Started, out.Finished = m.Started.UTC(), m.Finished.UTC()
	out.Marks = append([]Mark{}, m.Marks...) // an empty list is [], never null
	out.Packs = append([]cas.ID{}, m.Packs...)
	out.CleanStop.Signals = append([]string{}, m.CleanStop.Signals...)
	if err := out.Validate(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(&out); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if err := checkShape(buf.Bytes()); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if buf.Len() > MaxSize {
		return nil, fmt.Errorf("encode manifest: %d bytes, at most %d are allowed", buf.Len(), MaxSize)
	}
	return buf.Bytes(), nil
}

// Decode reads what [Manifest.Encode] returned and validates it. A manifest of
// a newer version gives a [*VersionError].
func Decode(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("decode manifest: %d bytes, at most %d are allowed", len(data), MaxSize)
	}
	var head struct {
		Version *int `json:"version"`
	}
	err := checkShape(data)
	if err == nil {
		err = json.Unmarshal(data, &head)
	}
	if err == nil && head.Version == nil {
		err = errors.New("no version")
	}
	if err == nil {
		err = checkVersion("manifest", *head.Version, Version)
	}
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return m, nil
}
