package mysqlbackup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
)

// markerName is the file in a data directory that says how far a restore into
// it has come. It is the first file that a restore writes, and the last that it
// removes.
const markerName = ".shardseed-restore"

// stage is how far a restore has come.
type stage string

const (
	stageWriting   stage = "writing"   // files, or where the server stands, may be anything; the redo log is withheld
	stageReleasing stage = "releasing" // all is proved and durable; the redo log may have its place already
	stageWhole     stage = "whole"     // nothing is missing but the start for good and its proof
)

// markerVersion is the version of the markers that this program writes.
const markerVersion = 1

// marker is what the file holds.
type marker struct {
	Version int         `json:"version"`
	Note    string      `json:"note"` // for whoever finds the file
	Stage   stage       `json:"stage"`
	Backup  string      `json:"backup"` // key of what is restored
	Mode    RestoreMode `json:"mode"`
	Primary string      `json:"primary"` // to which the server was pointed; "": to none
}

// note tells people what a stage means.
func (s stage) note() string {
	if s == stageWhole {
		return "shardseed has restored the backup here. Run the same \"shardseed restore\" again to see that it replicates."
	}
	return "shardseed restores the backup here and has not finished. Run the same \"shardseed restore\" again. Do not start a server."
}

// maxMarker bounds what is read of a marker, in bytes.
const maxMarker = 64 << 10

// readMarker returns the marker of a data directory, nil if there is none. One
// that does not make sense says that nothing is whole.
func readMarker(datadir string) (_ *marker, err error) {
	file, err := os.OpenFile(filepath.Join(datadir, markerName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("look for an unfinished restore: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err := io.ReadAll(io.LimitReader(file, maxMarker+1))
	if err != nil {
		return nil, fmt.Errorf("look for an unfinished restore: %w", err)
	}
	return decodeMarker(data), nil
}

// decodeMarker never fails: what it does not understand is a restore that has
// to start over.
func decodeMarker(data []byte) *marker {
	var m marker
	if len(data) > maxMarker || json.Unmarshal(data, &m) != nil || m.Version != markerVersion || !m.Stage.isComplete() || m.Backup == "" {
		return &marker{Stage: stageWriting}
	}
	return &m
}

// isComplete tells the stages at which the files are all there and right.
func (s stage) isComplete() bool { return s == stageReleasing || s == stageWhole }

// mark says how far the restore has come; on return that survives a power cut.
func (t *target) mark(m marker) error {
	m.Version, m.Note = markerVersion, m.Stage.note()
	data, err := json.MarshalIndent(&m, "", " ")
	if err != nil {
		return fmt.Errorf("mark the data directory: %w", err)
	}
	path := filepath.Join(t.layout.datadir, markerName)
	if err := durable.OS().Replace(path, append(data, '\n'), 0o640); err != nil {
		return fmt.Errorf("mark the data directory: %w", err)
	}
	return nil
}

// unmark removes the marker of a data directory, if it has one.
func unmark(datadir string) error {
	err := durable.OS().Remove(filepath.Join(datadir, markerName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the mark of a restore: %w", err)
	}
	return nil
}

// checkUnfinished refuses a data directory that a restore has not finished.
func checkUnfinished(datadir string) error {
	m, err := readMarker(datadir)
	if err != nil || m == nil || m.Stage == stageWhole {
		return err
	}
	return hint.Wrap(refuse("%s holds a restore that was not finished (%s is there)", datadir, markerName), "run the same \"shardseed restore\" again")
}

// isPartial tells a data directory that an interrupted restore has left and
// that is of use to nobody. One that can't be read is taken for somebody's.
func (t *target) isPartial() bool {
	m, err := readMarker(t.layout.datadir)
	return err == nil && m != nil && m.Stage == stageWriting
}

// goesOn reports whether a restore with these options is the one that has left
// the marker, and only has to bring up what is there.
func (m *marker) goesOn(opts *RestoreOptions) bool {
	if m == nil || !m.Stage.isComplete() || opts.Force || m.Mode != opts.Mode {
		return false
	}
	if opts.Backup != nil {
		return cas.Key(m.Backup) == manifest.Key(opts.Keyspace, opts.Shard, *opts.Backup)
	}
	return path.Dir(m.Backup) == path.Join(string(opts.Keyspace), string(opts.Shard))
}
